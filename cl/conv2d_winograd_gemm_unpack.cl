/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_gemm_unpack - adds up the filters' gradient in the transformed domain and brings it back: dw = beta * dw + Gt dU G
 * du = work + du_at [splits][A*A][out_channels][stride] of conv2d_winograd_gemm_multiply; dw as in conv2d_weights.clh, its padding left
 * alone
 * global (in_channels, out_channels), local (64, 1): one work-item is one filter of one channel; splits are added in order
 * (deterministic).
 * -D MO WKB WCB   host src/op/conv2d_winograd_gemm.c   ref: tested through the convolution */
#include "conv2d_weights.clh"
#include "conv2d_winograd_gemm.clh"

__kernel void conv2d_winograd_gemm_unpack(__global const float *restrict work, const int du_at, __global float *restrict dw,
                                          const int in_channels, const int out_channels, const int stride, const int splits,
                                          const int beta)
{
    const int c = (int)get_global_id(0), k = (int)get_global_id(1);
    if (c >= in_channels) return;
    __global const float *from = work + du_at + k * stride + c;
    float d[PLANES], half_way[3 * A];
#pragma unroll
    for (int p = 0; p < PLANES; p++) d[p] = 0.0f;
#pragma unroll 1
    for (int split = 0; split < splits; split++)
#pragma unroll
        for (int p = 0; p < PLANES; p++) d[p] += from[(split * PLANES + p) * out_channels * stride];
#pragma unroll
    for (int j = 0; j < A; j++) winograd_filter_gradient(d + j, A, half_way + j, A);
    __global float *to = dw + weight_index(k, c, in_channels, 9);
#pragma unroll
    for (int r = 0; r < 3; r++) {
        float o[3];
        winograd_filter_gradient(half_way + r * A, 1, o, 1);
#pragma unroll
        for (int s = 0; s < 3; s++, to += WEIGHT_TAP) *to = beta ? *to + o[s] : o[s];
    }
}
