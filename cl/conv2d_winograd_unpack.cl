/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_unpack - the filters' gradient back from the transformed domain: dw = beta * dw + Gt dU G
 * du = work + du_at [out_blocks][A*A][in_blocks*CB][CB] of conv2d_winograd_accumulate; dw as in conv2d_weights.clh, its padding left alone
 * du of several splits, du_count floats each, is added up in order.
 * global (in_blocks * SHARES, out_blocks), local (1, 1, 1): one work-item is the filters of a share of a block's channels
 * -D CB MO STRIDE LANES WKB WCB   host src/op/conv2d_winograd.c   ref: tested through the convolution */
#include "block.clh"
#include "conv2d_weights.clh"
#include "conv2d_winograd.clh"
#define CHANNELS 4 /* of a work-item: a part of CB */
#define AHEAD    (CHANNELS * CB) /* floats of a plane that are prefetched: there are more planes than a hardware prefetcher follows */

__kernel void conv2d_winograd_unpack(__global const float *restrict work, const int du_at, __global float *restrict dw, const int in_channels,
                                     const int out_channels, const int splits, const int du_count, const int beta)
{
    const int first = (int)get_global_id(0) * CHANNELS, kb = (int)get_global_id(1);
    const size_t plane = FILTER_PLANE_FLOATS(get_global_size(0) * CHANNELS / CB, 1);
    for (int c = first; c < min(first + CHANNELS, in_channels); c++) {
        __global const float *from = work + du_at + (size_t)kb * PLANES * plane + (size_t)c * CB;
        float g[9][CB];
#pragma unroll 1
        for (int lane = 0; lane < CB; lane += LANES) {
            floatL half_way[3 * A];
#pragma unroll 1
            for (int j = 0; j < A; j++) {
                floatL d[A], o[3];
#pragma unroll
                for (int i = 0; i < A; i++) {
                    d[i] = LOADL(from + (i * A + j) * plane + lane);
                    if (lane == 0) PREFETCH(from + (i * A + j) * plane + AHEAD);
                }
#pragma unroll 1
                for (int split = 1; split < splits; split++) {
                    __global const float *other = from + (size_t)split * du_count + lane;
#pragma unroll
                    for (int i = 0; i < A; i++) d[i] += LOADL(other + (i * A + j) * plane);
                }
                winograd_filter_gradient(d, 1, o, 1);
#pragma unroll
                for (int r = 0; r < 3; r++) half_way[r * A + j] = o[r];
            }
#pragma unroll 1
            for (int r = 0; r < 3; r++) {
                floatL o[3];
                winograd_filter_gradient(half_way + r * A, 1, o, 1);
#pragma unroll
                for (int s = 0; s < 3; s++) STOREL(o[s], g[3 * r + s] + lane);
            }
        }
#if WKB % CB == 0 /* filters side by side; padding's gradient is zero */
        __global float *side = dw + weight_index(kb * CB, c, in_channels, 9);
        for (int tap = 0; tap < 9; tap++, side += WEIGHT_TAP)
            STOREV(beta ? LOADV(0, side) + LOADV(0, g[tap]) : LOADV(0, g[tap]), 0, side);
#else
        for (int lane = 0; lane < CB && kb * CB + lane < out_channels; lane++) {
            __global float *to = dw + weight_index(kb * CB + lane, c, in_channels, 9);
            for (int tap = 0; tap < 9; tap++, to += WEIGHT_TAP) *to = beta ? *to + g[tap][lane] : g[tap][lane];
        }
#endif
    }
}
