/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_unpack - the filters' gradient back from the transformed domain: dw = beta * dw + Gt dU G
 * du = work + du_at [out_blocks][A*A][in_blocks*CB][CB] of conv2d_winograd_accumulate; dw as in conv2d_weights.clh, its padding left alone
 * global (in_blocks, out_blocks), local (1, 1, 1): one work-item is CB x CB filters
 * -D CB MO WKB WCB   host src/op/conv2d_winograd.c   ref: tested through the convolution */
#include "block.clh"
#include "conv2d_weights.clh"
#include "conv2d_winograd.clh"

__kernel void conv2d_winograd_unpack(__global const float *restrict work, const int du_at, __global float *restrict dw, const int in_channels,
                                     const int out_channels, const int beta)
{
    const int cb = (int)get_global_id(0), in_blocks = (int)get_global_size(0), kb = (int)get_global_id(1);
    const size_t plane = (size_t)in_blocks * CB * CB;
    for (int l = 0; l < CB && cb * CB + l < in_channels; l++) {
        const int c = cb * CB + l;
        __global const float *from = work + du_at + (size_t)kb * PLANES * plane + (size_t)c * CB;
        floatV u[PLANES], half_way[3 * A], g[9];
        float lanes[9][CB];
#pragma unroll
        for (int p = 0; p < PLANES; p++) u[p] = LOADV(0, from + p * plane);
#pragma unroll
        for (int j = 0; j < A; j++) winograd_filter_gradient(u + j, A, half_way + j, A);
#pragma unroll
        for (int r = 0; r < 3; r++) winograd_filter_gradient(half_way + r * A, 1, g + 3 * r, 1);
#pragma unroll
        for (int tap = 0; tap < 9; tap++) STOREV(g[tap], 0, lanes[tap]);
        for (int lane = 0; lane < CB && kb * CB + lane < out_channels; lane++) {
            __global float *to = dw + weight_index(kb * CB + lane, c, in_channels, 9);
            for (int tap = 0; tap < 9; tap++, to += WEIGHT_TAP) *to = beta ? *to + lanes[tap][lane] : lanes[tap][lane];
        }
    }
}
