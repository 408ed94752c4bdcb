/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_multiply - the products of the transformed domain, summed over channels, and back (see conv2d_winograd_tiles.clh):
 *   y tile = epilogue( At [ sum over c of U[k][c] * V[c][tile] ] A )
 * v [tile blocks][A*A][in_blocks][T][CB], T = groups * TT; u [out blocks / KV][A*A][in_blocks*CB][KV*CB]
 * y, residual [N][out_blocks][P][Q][CB]; scale, shift [out_blocks*CB] or null; m local, A*A*KV*T*CB floats
 * global (out blocks / KV, tile blocks), local (1, 1, 1): one work-item is T tiles of KV channel blocks.
 * -D CB KV TT MO   host src/op/conv2d_winograd.c   ref tests/ref/ref_conv2d.c */
#include "block.clh"
#include "conv2d_winograd.clh"
#include "conv2d_winograd_tiles.clh"

__kernel void conv2d_winograd_multiply(__global const float *restrict v, __global const float *restrict u,
                                       __global const float *restrict scale, __global const float *restrict shift,
                                       __global const float *residual, __global float *y, __local float *restrict m,
                                       const int p_count, const int q_count, const int tile_rows, const int tile_columns,
                                       const int tiles, const int first, const int groups, const int in_blocks,
                                       const int out_blocks, const int flags)
{
    const int kb = (int)get_global_id(0), tb = (int)get_global_id(1), t_count = groups * TT;
    winograd_products(v + (size_t)tb * PLANES * in_blocks * t_count * CB, u + (size_t)kb * PLANES * in_blocks * (CB * KV * CB), m,
                      groups, in_blocks);
    winograd_tiles(m, scale, shift, residual, y, kb, out_blocks, first + tb * t_count, t_count, tiles, tile_rows, tile_columns,
                   p_count, q_count, flags);
}
