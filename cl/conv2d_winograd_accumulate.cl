/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_accumulate - the filters' gradient in the transformed domain: dU[k][c] = (dU +) sum over tiles of V[c] * M[k]
 * v = work [tile blocks][A*A][in_blocks][T][CB] of conv2d_winograd_input; m = work + m_at [tile blocks][A*A][out_blocks][T][CB] of
 * conv2d_winograd_gradient; du = work + du_at [out_blocks][A*A][in_blocks*CB][CB], every element written, added to if `add`
 * global (in_blocks, out_blocks / KV, A*A), local (1, 1, 1): one work-item is CB x KV*CB products of one plane
 * (conv2d_winograd_accumulate.clh). No atomics.
 * -D CB CT KV MO STRIDE   host src/op/conv2d_winograd.c   ref tests/ref/ref_conv2d.c */
#include "block.clh"
#include "conv2d_winograd.clh"
#include "conv2d_winograd_accumulate.clh"

__kernel void conv2d_winograd_accumulate(__global float *work, const int m_at, const int du_at, const int tile_blocks,
                                         const int t_count, const int add)
{
    const int cb = (int)get_global_id(0), in_blocks = (int)get_global_size(0);
    const int kb = (int)get_global_id(1) * KV, out_blocks = (int)get_global_size(1) * KV, p = (int)get_global_id(2);
    const size_t tiles = (size_t)t_count * CB, v_plane = PLANE_FLOATS(in_blocks, t_count), m_plane = PLANE_FLOATS(out_blocks, t_count);
    const size_t du_plane = FILTER_PLANE_FLOATS(in_blocks, 1);
    __global float *out = work + du_at + ((size_t)kb * PLANES + p) * du_plane + cb * (CB * CB);
    __global const float *v = work + p * v_plane + cb * tiles;
    __global const float *m = work + m_at + p * m_plane + kb * tiles;
    const size_t v_step = PLANES * v_plane, m_step = PLANES * m_plane, out_step = PLANES * du_plane;
    winograd_accumulate(v, m, out, v_step, m_step, out_step, tile_blocks, t_count, t_count, add);
}
