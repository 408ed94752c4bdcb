/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_gemm_output - from the transformed domain to the result: y tile = epilogue( At M A ) (see conv2d_winograd_gemm.clh),
 *   epilogue(v) = relu?( v * scale[k] + shift[k] + residual + beta * y ): with BatchNorm folded into scale and shift
 * m = work + m_at [A*A][channels][t_count] of conv2d_winograd_gemm_multiply; y, residual [N][channels][p_count][q_count] in blocks of
 * 1 << y_shift, whose padding is written with zeros; scale, shift [channels of y's blocks] or null
 * global (t_count, channels of y's blocks), local (64, 1): one work-item is one tile
 * -D MO Y_HALF   host src/op/conv2d_winograd_gemm.c   ref tests/ref/ref_conv2d.c */
#include "conv2d_winograd_gemm.clh"
#include "conv2d_epilogue.clh"

__kernel void conv2d_winograd_gemm_output(__global const float *restrict work, __global const float *restrict scale,
                                          __global const float *restrict shift, __global const y_t *residual, __global y_t *y,
                                          const int m_at, const int channels, const int p_count, const int q_count, const int tile_rows,
                                          const int tile_columns, const int tiles, const int first, const int t_count, const int y_shift,
                                          const int flags)
{
    const int t = (int)get_global_id(0), k = (int)get_global_id(1);
    if (first + t >= tiles) return;
    const tile_place at = place_of_tile(first + t, tile_rows, tile_columns);
    const int to = at.image * IMAGE(channels, p_count * q_count, y_shift) + CHANNEL(k, p_count * q_count, y_shift);
    const float a = scale ? scale[k] : 1.0f, b = shift ? shift[k] : 0.0f;
    __global const float *m = work + m_at + min(k, channels - 1) * t_count + t;
    float half_way[MO * A];
#pragma unroll
    for (int j = 0; j < A; j++) {
        float d[A];
#pragma unroll
        for (int i = 0; i < A; i++) {
            const float value = m[(i * A + j) * channels * t_count];
            d[i] = k < channels ? value : 0.0f;
        }
        winograd_output(d, 1, half_way + j, A);
    }
#pragma unroll
    for (int i = 0; i < MO; i++) {
        float o[MO];
        winograd_output(half_way + i * A, 1, o, 1);
#pragma unroll
        for (int j = 0; j < MO; j++) {
            const int pixel = to + (((at.row + i) * q_count + at.column + j) << y_shift);
            if (at.row + i < p_count && at.column + j < q_count)
                STOREY(epilogue(o[j], scale != 0, a, b, residual, y, pixel, flags), pixel, y);
        }
    }
}
