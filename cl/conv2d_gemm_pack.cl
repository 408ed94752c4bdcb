/* SPDX-License-Identifier: MIT */
/* conv2d_gemm_pack - weights into conv2d_gemm's layout (conv2d_gemm_layout.clh), rows and columns exchanged for backward_data.
 *   packed[g][m / 32][c / B][tap][c % B][m % 32] = w[g*results + m][c][tap], or transposed w[g*sources + c][m][tap]; B = 1 << source_shift
 * weights as in conv2d_weights.clh; packed: every element written
 * global (32 * B * taps, source blocks, groups * result blocks), local (64, 1, 1): one weight a work-item
 * -D WKB WCB   host src/op/conv2d_gemm.c   ref: tested through the convolution */
#include "conv2d_gemm_layout.clh"
#include "conv2d_weights.clh"

__kernel void conv2d_gemm_pack(__global const float *restrict weights, __global float *restrict packed, const int results,
                               const int sources, const int taps, const int source_shift, const int transposed)
{
    const int i = (int)get_global_id(0), block = (int)get_global_id(1), row = (int)get_global_id(2);
    if (i >= (LANES * taps) << source_shift) return;
    const int result_blocks = (results + LANES - 1) / LANES, group = row / result_blocks;
    const int m = row % result_blocks * LANES + i % LANES, tap = (i / LANES) >> source_shift;
    const int c = (block << source_shift) + (i / LANES & ((1 << source_shift) - 1));
    float value = 0.0f;
    if (m < results && c < sources) {
        const int at = transposed ? weight_index(group * sources + c, m, results, taps)
                                  : weight_index(group * results + m, c, sources, taps);
        value = weights[at + tap * WEIGHT_TAP];
    }
    packed[((size_t)row * get_global_size(1) + block) * ((LANES * taps) << source_shift) + i] = value;
}
