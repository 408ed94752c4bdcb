/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_fused_gradient - the filters' gradient in the transformed domain in one pass, for few channels: patches of x and tiles of dy are
 * transformed where they are multiplied, and never leave the cache.   dU[k][c] = sum over tiles of V[c] * M[k]
 * x [N][in_blocks][H][W][CB], normalised on the way if mean, a, b [in_blocks*CB] are there;
 * dy [N][out_blocks][P][Q][CB]; du [splits] of du_count floats, each [out_blocks][A*A][in_blocks*CB][CB], every
 * element written; local: v A*A*in_blocks*T*CB floats, m A*A*out_blocks*T*CB (PLANE_FLOATS)
 * global (splits, parts), local (1, 1, 1): one work-item is a part of the pairs of a split's tiles with KV blocks of filters, T tiles at a time; several
 * parts, which transform the same patches of x, where the splits leave the device short of work. What a split has does not depend on
 * the device; tiles are added in order: no atomics.
 * -D CB CT KV MO STRIDE LANES VSPACE=__local   host src/op/conv2d_winograd_gradient.c   ref tests/ref/ref_conv2d.c */
#include "block.clh"
#include "conv2d_winograd.clh"
#include "conv2d_winograd_accumulate.clh"
#include "conv2d_winograd_patch.clh"

__kernel void conv2d_winograd_fused_gradient(__global const float *restrict x, __global const float *restrict mean,
                                             __global const float *restrict a, __global const float *restrict b,
                                             __global const float *restrict dy, __global float *du, __local float *restrict v,
                                             __local float *restrict m, const int du_count, const int h, const int width,
                                             const int pad_h, const int pad_w, const int p_count, const int q_count,
                                             const int tile_rows, const int tile_columns, const int tiles, const int t_count,
                                             const int in_blocks, const int out_blocks)
{
    const int split = (int)get_global_id(0), splits = (int)get_global_size(0), part = (int)get_global_id(1);
    const int pairs = out_blocks / KV, parts = (int)get_global_size(1);
    const int k0 = part * pairs / parts * KV, k1 = (part + 1) * pairs / parts * KV;
    const int first = (int)((long)tiles * split / splits), last = (int)((long)tiles * (split + 1) / splits);
    const size_t v_plane = PLANE_FLOATS(in_blocks, t_count), m_plane = PLANE_FLOATS(out_blocks, t_count);
    const size_t du_plane = FILTER_PLANE_FLOATS(in_blocks, 1);
    du += (size_t)split * du_count;
    for (int from = first; from < last; from += t_count) {
        const int count = min(t_count, last - from);
        const tile_place start = place_of_tile(from, tile_rows, tile_columns);
        for (int c = 0; c < in_blocks; c++) {
            tile_place at = start;
            for (int t = 0; t < count; t++, at = next_place(at, tile_rows, tile_columns))
                winograd_patch(x + ((size_t)at.image * in_blocks + c) * h * width * CB, mean, a, b, c * CB, h, width,
                               PATCH_AT(at.row) - pad_h, PATCH_AT(at.column) - pad_w, v + (c * t_count + t) * CB, v_plane);
        }
        for (int k = k0; k < k1; k++) {
            tile_place at = start;
            for (int t = 0; t < count; t++, at = next_place(at, tile_rows, tile_columns))
                winograd_gradient_patch(dy + ((size_t)at.image * out_blocks + k) * p_count * q_count * CB, p_count, q_count, at.row,
                                        at.column, m + (k * t_count + t) * CB, m_plane);
        }
        for (int p = 0; p < PLANES; p++)
            for (int k = k0; k < k1; k += KV)
                for (int c = 0; c < in_blocks; c++)
                    winograd_accumulate(v + p * v_plane + c * t_count * CB, m + p * m_plane + k * t_count * CB,
                                        du + ((size_t)k * PLANES + p) * du_plane + c * (CB * CB), 0, 0, PLANES * du_plane, 1, count,
                                        t_count, from > first);
    }
}
