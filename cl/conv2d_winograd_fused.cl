/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_fused - minimal filtering in one pass, for few channels: patches are transformed where they are multiplied, and
 * never leave the cache (see conv2d_winograd_tiles.clh).
 * x [N][in_blocks][H][W][CB], normalised on the way if mean, a, b [in_blocks*CB] are there;
 * u [out blocks / KV][A*A][in_blocks*CB][KV*CB]; y, residual [N][out_blocks][P][Q][CB];
 * partials: batch statistics of y (cl/bn_parts.clh), a part TT tiles, or null; scale, shift [out_blocks*CB] or null; local: v A*A*in_blocks*T*CB floats, m A*A*KV*T*CB, T = groups * TT
 * global (ceil(tiles / T), parts), local (1, 1, 1): one work-item is T tiles of a part of the channel blocks; several parts, which
 * transform the same patches, where tiles alone leave the device short of work. Tiles go along rows, then columns, then images.
 * -D CB KV TT MO STRIDE LANES VSPACE=__local   host src/op/conv2d_winograd.c   ref tests/ref/ref_conv2d.c */
#include "block.clh"
#include "conv2d_winograd.clh"
#include "conv2d_winograd_patch.clh"
#include "conv2d_winograd_tiles.clh"

__kernel void conv2d_winograd_fused(__global const float *restrict x, __global const float *restrict mean,
                                    __global const float *restrict a, __global const float *restrict b,
                                    __global const float *restrict u, __global const float *restrict scale,
                                    __global const float *restrict shift, __global const float *residual, __global float *y,
                                    __global float *partials, __local float *restrict v, __local float *restrict m, const int h,
                                    const int width, const int pad_h, const int pad_w, const int p_count, const int q_count,
                                    const int tile_rows, const int tile_columns, const int tiles, const int groups,
                                    const int in_blocks, const int out_blocks, const int flags SUMS_PARAMETERS)
{
    SUMS_OF(bn);
    const int t_count = groups * TT, first = (int)get_global_id(0) * t_count;
    const size_t v_plane = PLANE_FLOATS(in_blocks, t_count), m_plane = PLANE_FLOATS(KV, t_count);
    const int kbs = out_blocks / KV, part = (int)get_global_id(1), parts = (int)get_global_size(1);
    const tile_place start = place_of_tile(first, tile_rows, tile_columns);
    for (int c = 0; c < in_blocks; c++) {
        tile_place at = start;
        for (int t = 0; t < t_count; t++) {
            winograd_patch(x + ((size_t)at.image * in_blocks + c) * h * width * CB, mean, a, b, c * CB, h, width,
                           PATCH_AT(at.row) - pad_h, PATCH_AT(at.column) - pad_w, v + (c * t_count + t) * CB, v_plane);
            if (first + t + 1 < tiles) at = next_place(at, tile_rows, tile_columns); /* what is beyond the last one is not stored */
        }
    }
    for (int kb = part * kbs / parts; kb < (part + 1) * kbs / parts; kb++) {
        tile_row next = {start, 0};
        for (int p = 0, announced = 0; p < PLANES; p++) {
            for (; announced < t_count * MO * (p + 1) / PLANES; announced++)
                next = announce_row(next, residual, y, kb * KV, out_blocks, tile_rows, tile_columns, p_count, q_count SUMS_ARGUMENT(&bn));
            winograd_products(v + p * v_plane, u + ((size_t)kb * PLANES + p) * FILTER_PLANE_FLOATS(in_blocks, KV),
                              m + p * m_plane, groups, in_blocks);
        }
        for (int k = 0; k < KV; k++) {
            tile_place at = start;
            for (int t = 0; t < t_count && first + t < tiles; t += TT)
                at = winograd_tiles(m + (k * t_count + t) * CB, m_plane, scale, shift, residual, y, partials, kb * KV + k,
                                    out_blocks, first + t, at, tiles, tile_rows, tile_columns, p_count, q_count, flags SUMS_ARGUMENT(&bn));
        }
    }
}
