/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_multiply - the products of the transformed domain (see conv2d_winograd_tiles.clh): M[k][tile] = sum over c of U[k][c] * V[c][tile]
 * v = work [tile blocks][A*A][in_blocks][TT][CB]; u [out blocks / KV][A*A][in_blocks*CB][KV*CB];
 * m = work + m_at [tile blocks][A*A][out_blocks][TT][CB], every element written
 * global (out blocks / KV, A*A), local (1, 1, 1): one work-item is all tiles of KV channel blocks of a plane, so that u is read once, and
 * the plane's v stays in a core's own cache while the blocks go by.
 * -D CB KV TT MO STRIDE   host src/op/conv2d_winograd.c   ref tests/ref/ref_conv2d.c */
#include "block.clh"
#include "conv2d_winograd.clh"
#include "conv2d_winograd_tiles.clh"

__kernel void conv2d_winograd_multiply(__global float *work, __global const float *restrict u, const int m_at, const int tile_blocks,
                                       const int in_blocks)
{
    const int kb = (int)get_global_id(0), p = (int)get_global_id(1);
    const size_t v_plane = PLANE_FLOATS(in_blocks, TT), m_plane = PLANE_FLOATS(get_global_size(0) * KV, TT);
    __global const float *v = work + p * v_plane;
    __global float *m = work + m_at + p * m_plane + kb * (KV * TT * CB);
    u += ((size_t)kb * PLANES + p) * FILTER_PLANE_FLOATS(in_blocks, KV);
    for (int tb = 0; tb < tile_blocks; tb++, v += PLANES * v_plane, m += PLANES * m_plane) winograd_products(v, u, m, 1, in_blocks);
}
