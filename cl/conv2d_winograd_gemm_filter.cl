/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_gemm_filter - 3x3 filters in the transformed domain: U = G g Gt (see conv2d_winograd.clh).
 * weights as in conv2d_weights.clh; u [A*A][in_channels][stride], zero from out_channels on: what conv2d_winograd_gemm_multiply calls a
 * transposed: of the gradient of the input, whose filters are turned by half a turn with the channels' roles exchanged
 * global (stride, in_channels), local (64, 1): one work-item is one filter of one channel
 * -D MO WKB WCB   host src/op/conv2d_winograd_gemm.c   ref: tested through the convolution */
#include "conv2d_weights.clh"
#include "conv2d_winograd_gemm.clh"

__kernel void conv2d_winograd_gemm_filter(__global const float *restrict weights, __global float *restrict u, const int in_channels,
                                          const int out_channels, const int transposed)
{
    const int k = (int)get_global_id(0), stride = (int)get_global_size(0), c = (int)get_global_id(1);
    const int filter = min(k, out_channels - 1), there = k < out_channels;
    const int from = transposed ? weight_index(c, filter, out_channels, 9) + 8 * WEIGHT_TAP : weight_index(filter, c, in_channels, 9);
    const int step = transposed ? -WEIGHT_TAP : WEIGHT_TAP;
    float g[9], half_way[3 * A], o[PLANES];
#pragma unroll
    for (int tap = 0; tap < 9; tap++) {
        const float value = weights[from + tap * step];
        g[tap] = there ? value : 0.0f;
    }
#pragma unroll
    for (int s = 0; s < 3; s++) winograd_filter(g[s], g[3 + s], g[6 + s], half_way + s, 3);
#pragma unroll
    for (int i = 0; i < A; i++) winograd_filter(half_way[3 * i], half_way[3 * i + 1], half_way[3 * i + 2], o + i * A, 1);
    store_planes(o, u + c * stride + k, in_channels * stride);
}
