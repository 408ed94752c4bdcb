/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_gemm_input - patches of the image in the transformed domain: V = Bt d B (see conv2d_winograd_gemm.clh).
 * x [N][channels][h][width] in blocks of 1 << x_shift; v [A*A][channels][t_count]: tiles first .. first + t_count - 1 of `tiles`, zero
 * where there are none. Pixels beyond the border are 0.
 * global (t_count, channels), local (64, 1): one work-item is one patch
 * -D MO X_HALF   host src/op/conv2d_winograd_gemm.c   ref: tested through the convolution */
#include "conv2d_winograd_gemm.clh"

__kernel void conv2d_winograd_gemm_input(__global const x_t *restrict x, __global float *restrict v, const int h, const int width,
                                         const int tile_rows, const int tile_columns, const int tiles, const int first,
                                         const int t_count, const int pad_h, const int pad_w, const int x_shift)
{
    const int t = (int)get_global_id(0), c = (int)get_global_id(1), channels = (int)get_global_size(1);
    const tile_place at = place_of_tile(min(first + t, tiles - 1), tile_rows, tile_columns);
    float d[PLANES];
    load_square(d, A, x, at.image * IMAGE(channels, h * width, x_shift) + CHANNEL(c, h * width, x_shift), at.row - pad_h,
                at.column - pad_w, h, width, x_shift, first + t < tiles);
#pragma unroll
    for (int j = 0; j < A; j++) winograd_input(d + j, A, d + j, A);
#pragma unroll
    for (int i = 0; i < A; i++) winograd_input(d + i * A, 1, d + i * A, 1);
    store_planes(d, v + c * t_count + t, channels * t_count);
}
