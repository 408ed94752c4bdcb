/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_gradient - tiles of the output's gradient in the transformed domain: M = A dy At (see conv2d_winograd.clh).
 * dy [N][blocks][P][Q][CB]; m = work + m_at [tile blocks][A*A][blocks][T][CB], zero for the tiles that do not exist
 * global (blocks, tile blocks), local (1, 1, 1): one work-item is T tiles of one channel block, in conv2d_winograd_input's order.
 * -D CB MO STRIDE LANES   host src/op/conv2d_winograd.c   ref: tested through the convolution */
#include "block.clh"
#include "conv2d_winograd.clh"
#include "conv2d_winograd_patch.clh"

__kernel void conv2d_winograd_gradient(__global const float *restrict dy, __global float *restrict work, const int m_at, const int p_count,
                                       const int q_count, const int tile_rows, const int tile_columns, const int tiles,
                                       const int first, const int t_count)
{
    const int cb = (int)get_global_id(0), blocks = (int)get_global_size(0), tb = (int)get_global_id(1);
    const size_t plane = PLANE_FLOATS(blocks, t_count);
    __global float *out = work + m_at + tb * PLANES * plane + (size_t)cb * t_count * CB;
    tile_place at = place_of_tile(first + tb * t_count, tile_rows, tile_columns);
    for (int t = 0; t < t_count; t++, out += CB, at = next_place(at, tile_rows, tile_columns)) {
        if (first + tb * t_count + t < tiles) {
            winograd_gradient_patch(dy + ((size_t)at.image * blocks + cb) * p_count * q_count * CB, p_count, q_count, at.row,
                                    at.column, out, plane);
        } else {
            for (int p = 0; p < PLANES; p++) STOREV((floatV)(0.0f), 0, out + p * plane);
        }
    }
}
