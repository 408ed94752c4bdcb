/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_input - patches of the image in the transformed domain: V = Bt d B (see conv2d_winograd.clh).
 * x [N][blocks][H][W][CB], normalised on the way if mean, a, b [blocks*CB] are there;
 * v [tile blocks][A*A][blocks][T][CB], written for the tiles that exist, zero for the rest
 * global (blocks, tile blocks), local (1, 1, 1): one work-item is T tiles of one channel block. Tiles go along rows, then
 * columns, then images; tile block b holds tiles first + b*T ... Pixels beyond the border are 0.
 * -D CB MO STRIDE LANES   host src/op/conv2d_winograd.c   ref: tested through the convolution */
#include "block.clh"
#include "conv2d_winograd.clh"
#include "conv2d_winograd_patch.clh"

__kernel void conv2d_winograd_input(__global const float *restrict x, __global const float *restrict mean,
                                    __global const float *restrict a, __global const float *restrict b, __global float *restrict v,
                                    const int h, const int width, const int tile_rows, const int tile_columns, const int tiles,
                                    /* in all */ const int first, const int t_count, const int pad_h, const int pad_w)
{
    const int cb = (int)get_global_id(0), blocks = (int)get_global_size(0), tb = (int)get_global_id(1);
    const size_t plane = PLANE_FLOATS(blocks, t_count);
    __global float *out = v + tb * PLANES * plane + (size_t)cb * t_count * CB;
    tile_place at = place_of_tile(first + tb * t_count, tile_rows, tile_columns);
    for (int t = 0; t < t_count; t++, out += CB, at = next_place(at, tile_rows, tile_columns)) {
        if (first + tb * t_count + t < tiles) {
            winograd_patch(x + ((size_t)at.image * blocks + cb) * h * width * CB, mean, a, b, cb * CB, h, width,
                           PATCH_AT(at.row) - pad_h, PATCH_AT(at.column) - pad_w, out, plane);
        } else {
            for (int p = 0; p < PLANES; p++) STOREV((floatV)(0.0f), 0, out + p * plane);
        }
    }
}
