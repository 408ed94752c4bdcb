/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_filter - 3x3 filters in the transformed domain: U = G g Gt (see conv2d_winograd.clh).
 * weights as in conv2d_weights.clh; u [out blocks / KV][A*A][in_blocks*CB][KV*CB], every element written, zero in padding channels
 * transposed: of the gradient of the input, whose filters are turned by half a turn with the channels' roles exchanged
 * global (in_blocks, out blocks / KV), local (1, 1, 1): one work-item is CB x KV*CB filters
 * -D CB KV MO STRIDE LANES WKB WCB   host src/op/conv2d_winograd.c   ref: tested through the convolution */
#include "block.clh"
#include "conv2d_weights.clh"
#include "conv2d_winograd.clh"
#include "exchange.clh"
#ifndef KV
#define KV 1
#endif

/* Filters k .. k + CB - 1 of channels c .. c + CB - 1 as g[channel][tap][filter]; zero where there are none. */
static inline void load_filters(__global const float *restrict weights, const int k, const int c, const int in_channels,
                                const int out_channels, const int transposed, float g[CB][9][CB])
{
#if WKB % CB == 0 /* side by side, padding zero */
    if (!transposed && c + CB <= in_channels) {
        for (int l = 0; l < CB; l++) {
            __global const float *from = weights + weight_index(k, c + l, in_channels, 9);
#pragma unroll
            for (int tap = 0; tap < 9; tap++) STOREV(LOADV(0, from + tap * WEIGHT_TAP), 0, g[l][tap]);
        }
        return;
    }
#endif
#if CB > 1 && WKB % CB == 0 && WCB % CB == 0 /* tiles of both, all there, with rows and columns exchanged */
    if (transposed && c + CB <= in_channels && k + CB <= out_channels) {
        __global const float *from = weights + weight_index(c, k, out_channels, 9) + 8 * WEIGHT_TAP;
#pragma unroll 1
        for (int tap = 0; tap < 9; tap++, from -= WEIGHT_TAP) {
            floatV rows[CB];
#pragma unroll
            for (int i = 0; i < CB; i++) rows[i] = LOADV(0, from + i * WKB);
            exchange(rows);
#pragma unroll
            for (int i = 0; i < CB; i++) STOREV(rows[i], 0, g[i][tap]);
        }
        return;
    }
#endif
    for (int l = 0; l < CB; l++)
        for (int lane = 0; lane < CB; lane++) {
            const int there = c + l < in_channels && k + lane < out_channels;
            __global const float *from = weights + (transposed ? weight_index(c + l, k + lane, out_channels, 9)
                                                               : weight_index(k + lane, c + l, in_channels, 9));
            for (int tap = 0; tap < 9; tap++) g[l][tap][lane] = there ? from[(transposed ? 8 - tap : tap) * WEIGHT_TAP] : 0.0f;
        }
}

__kernel void conv2d_winograd_filter(__global const float *restrict weights, __global float *restrict u, const int in_channels,
                                     const int out_channels, const int transposed)
{
    const int cb = (int)get_global_id(0), in_blocks = (int)get_global_size(0), kb = (int)get_global_id(1);
    const size_t plane = FILTER_PLANE_FLOATS(in_blocks, KV);
    float half_way[KV][CB][3 * A][CB] __attribute__((aligned(64)));
    for (int v = 0; v < KV; v++) {
        float g[CB][9][CB] __attribute__((aligned(64)));
        load_filters(weights, (kb * KV + v) * CB, cb * CB, in_channels, out_channels, transposed, g);
#pragma unroll 1
        for (int l = 0; l < CB; l++) {
#pragma unroll 1
            for (int lane = 0; lane < CB; lane += LANES) {
#pragma unroll
                for (int s = 0; s < 3; s++) {
                    floatL d[A];
                    winograd_filter(LOADL(g[l][s] + lane), LOADL(g[l][3 + s] + lane), LOADL(g[l][6 + s] + lane), d, 1);
#pragma unroll
                    for (int i = 0; i < A; i++) STOREL(d[i], half_way[v][l][3 * i + s] + lane);
                }
            }
        }
    }
    __global float *to = u + (size_t)kb * PLANES * plane + (size_t)cb * CB * KV * CB;
#pragma unroll 1
    for (int i = 0; i < A; i++, to += A * plane) {
#pragma unroll 1
        for (int l = 0; l < CB; l++)
#pragma unroll
            for (int v = 0; v < KV; v++)
#pragma unroll 1
                for (int lane = 0; lane < CB; lane += LANES) {
                    floatL d[A];
                    winograd_filter(LOADL(half_way[v][l][3 * i] + lane), LOADL(half_way[v][l][3 * i + 1] + lane),
                                    LOADL(half_way[v][l][3 * i + 2] + lane), d, 1);
#pragma unroll
                    for (int j = 0; j < A; j++) STREAML(d[j], to + j * plane + (l * KV + v) * CB + lane);
                }
    }
}
