/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_filter - 3x3 filters in the transformed domain: U = G g Gt (see conv2d_winograd.clh).
 * weights as in conv2d_weights.clh; u [out blocks / KV][A*A][in_blocks*CB][KV*CB], every element written, zero in padding channels
 * transposed: of the gradient of the input, whose filters are turned by half a turn with the channels' roles exchanged
 * global (in_blocks, out blocks / KV), local (1, 1, 1): one work-item is CB x KV*CB filters
 * -D CB KV MO WKB WCB   host src/op/conv2d_winograd.c   ref: tested through the convolution */
#include "block.clh"
#include "conv2d_weights.clh"
#include "conv2d_winograd.clh"
#ifndef KV
#define KV 1
#endif

__kernel void conv2d_winograd_filter(__global const float *restrict weights, __global float *restrict u, const int in_channels,
                                     const int out_channels, const int transposed)
{
    const int cb = (int)get_global_id(0), in_blocks = (int)get_global_size(0), kb = (int)get_global_id(1);
    const size_t plane = (size_t)in_blocks * CB * KV * CB;
    for (int l = 0; l < CB; l++) {
        const int c = cb * CB + l;
        for (int v = 0; v < KV; v++) {
            __global float *to = u + (size_t)kb * PLANES * plane + ((size_t)c * KV + v) * CB;
            float g[9][CB];
            for (int lane = 0; lane < CB; lane++) {
                const int k = (kb * KV + v) * CB + lane;
                const int there = c < in_channels && k < out_channels;
                __global const float *from =
                    weights + (transposed ? weight_index(c, k, out_channels, 9) : weight_index(k, c, in_channels, 9));
                for (int tap = 0; tap < 9; tap++)
                    g[tap][lane] = there ? from[(transposed ? 8 - tap : tap) * WEIGHT_TAP] : 0.0f;
            }
            floatV half_way[3 * A], d[PLANES];
#pragma unroll
            for (int s = 0; s < 3; s++)
                winograd_filter(LOADV(0, g[s]), LOADV(0, g[3 + s]), LOADV(0, g[6 + s]), half_way + s, 3);
#pragma unroll
            for (int i = 0; i < A; i++)
                winograd_filter(half_way[3 * i], half_way[3 * i + 1], half_way[3 * i + 2], d + i * A, 1);
#pragma unroll
            for (int p = 0; p < PLANES; p++) STOREV(d[p], 0, to + p * plane);
        }
    }
}
