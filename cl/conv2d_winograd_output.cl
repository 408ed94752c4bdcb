/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_output - from the transformed domain to the result: y tile = epilogue( At M A ) (see conv2d_winograd_tiles.clh)
 * m = work + m_at [tile blocks][A*A][out_blocks][TT][CB] of conv2d_winograd_multiply; y, residual [N][out_blocks][P][Q][CB];
 * scale, shift [out_blocks*CB] or null; partials: batch statistics of y (cl/bn_parts.clh), a part a work-item, or null
 * global (out_blocks, tile blocks), local (1, 1, 1): one work-item is TT tiles of one channel block.
 * -D CB TT MO STRIDE LANES   host src/op/conv2d_winograd.c   ref tests/ref/ref_conv2d.c */
#include "block.clh"
#include "conv2d_winograd.clh"
#include "conv2d_winograd_tiles.clh"

__kernel void conv2d_winograd_output(__global const float *restrict work, __global const float *restrict scale,
                                     __global const float *restrict shift, __global const float *residual, __global float *y,
                                     __global float *partials, const int m_at, const int p_count, const int q_count,
                                     const int tile_rows, const int tile_columns, const int tiles, const int first, const int flags SUMS_PARAMETERS)
{
    SUMS_OF(bn);
    const int kb = (int)get_global_id(0), blocks = (int)get_global_size(0), tb = (int)get_global_id(1);
    const size_t plane = PLANE_FLOATS(blocks, TT);
    winograd_tiles(work + m_at + tb * PLANES * plane + kb * (TT * CB), plane, scale, shift, residual, y, partials, kb, blocks,
                   first + tb * TT, place_of_tile(first + tb * TT, tile_rows, tile_columns), tiles, tile_rows, tile_columns, p_count,
                   q_count, flags SUMS_ARGUMENT(&bn));
}
