/* SPDX-License-Identifier: MIT */
/* conv2d_direct - convolution by register tiles of TW pixels x KV channel blocks; serves forward and backward_data.
 *   y[n][k][oy + row*os][ox + col*os] = epilogue( sum over c, taps t of x[n][c][f + taps[t].x] * w[k][c][taps[t].y] )
 *   f = (row*flat + col)*IS pixels, col < columns;   epilogue(v) = relu?( v * scale[k] + shift[k] + residual + beta * y )
 * x is arranged (cl/conv2d_arrange.cl) so that a tap is a constant distance from the flat pixel index, whatever the kernel, stride,
 * padding and dilation; between the rows are flat - columns pixels that are computed and not stored.
 * backward_data: x is the output's gradient, w transposed (c <-> k); one launch for each phase (h mod stride, w mod stride) of the
 * input with the taps that reach it: no multiplication by inserted zeros.
 * x [N][in_blocks] of x_block floats, pixels XS apart; y, residual [N][out_blocks][out_h][out_w][CB]; scale, shift [out_blocks*CB] or null
 * w [groups*group_kb][group_in] of w_block floats, a tap's [CBI][KV*CB], packed by conv2d_pack
 * global (ceil(tiles/chunk), groups * group_kb, N), local (1, 1, 1): one work-item is `chunk` tiles.
 * Each tap and channel: KV weight vectors, TW broadcasts, TW*KV fused multiply-adds; only the tile is unrolled, because unrolled
 * taps make compilers share loads across taps and spill. A last tile that would overhang is shifted back and stores its new part.
 * The next channel block's pixels are prefetched, because no hardware prefetcher follows the step from plane to plane. POINTWISE:
 * one tap, at 0.
 * Images in NCHW (the stem): CBI = S and XS = 1 make the taps of a row a pixel's channels, w's layout being the same; one column of
 * taps is left, and pixels are IS apart.
 * Groups of 4 and 8 channels, several to a block: GROUP = CBI channels of each group at a time, spread over its lanes; XS = CB, KV = 1.
 * -D CB (output block) CBI (input block) XS KV TW IS POINTWISE GROUP
 * host src/op/conv2d_direct.c   ref tests/ref/ref_conv2d.c   after: Georganas et al., SC 2018 (direct convolution) */
#include "block.clh"
#include "spread.clh"
#ifndef CBI
#define CBI CB /* values of a pixel */
#endif
#ifndef XS
#define XS CBI /* floats from a pixel to its neighbour */
#endif
#ifndef KV
#define KV 2 /* channel blocks of a tile */
#endif
#ifndef TW
#define TW 6 /* pixels of a tile: TW*KV + KV + 1 vector registers */
#endif
#ifndef IS
#define IS 1 /* input pixels from one of the tile to the next */
#endif

enum { FLAG_RELU = 1, FLAG_BETA = 2 };

/* One tap of one channel block: CBI channels of TW pixels. */
static inline void multiply_add(floatV acc[KV][TW], __global const float *restrict xp, __global const float *restrict wp)
{
#if GROUP < CB
#pragma unroll
#else
#pragma unroll 1
#endif
    for (int l = 0; l < CBI; l++, wp += KV * CB) {
        floatV wv[KV];
#pragma unroll
        for (int v = 0; v < KV; v++) wv[v] = LOADV(v, wp);
#pragma unroll
        for (int i = 0; i < TW; i++) {
            const floatV value = spread(xp + i * IS * XS, l);
#pragma unroll
            for (int v = 0; v < KV; v++) acc[v][i] = fma(value, wv[v], acc[v][i]);
        }
    }
}

__kernel void conv2d_direct(__global const float *restrict x, __global const float *restrict w, __global const int2 *restrict taps,
                            __global const float *restrict scale, __global const float *restrict shift,
                            __global const float *residual, __global float *y, const int x_block, const int w_block,
                            const int first_tap, const int tap_count, const int flat, const int columns,
                            const int pixels, /* of the result, with those between the rows */
                            const int tiles, const int chunk, const int in_blocks, const int group_in, const int out_blocks,
                            const int group_kb, const int out_h, const int out_w, const int oy, const int ox, const int os,
                            const int flags)
{
    const int first = (int)get_global_id(0) * chunk, kb = (int)get_global_id(1), n = (int)get_global_id(2);
    const int group = kb / group_kb;
    __global const float *xn = x + (size_t)(n * in_blocks + group * group_in) * x_block;
    __global const float *wk = w + (size_t)kb * group_in * w_block;
    const size_t plane = (size_t)out_h * out_w;

    for (int tile = first; tile < min(first + chunk, tiles); tile++) {
        const int f = min(tile * TW, pixels - TW); /* first pixel; shifted back at the end */
        __global const float *xc = xn + (size_t)f * IS * XS, *wc = wk;
        floatV acc[KV][TW];
#pragma unroll
        for (int i = 0; i < TW; i++)
#pragma unroll
            for (int v = 0; v < KV; v++) acc[v][i] = 0.0f;
#pragma unroll 1
        for (int c = 0; c < group_in; c++, xc += x_block, wc += w_block) {
#ifdef POINTWISE
#pragma unroll
            for (int i = 0; i < TW; i++) PREFETCH(xc + x_block + i * IS * XS);
            multiply_add(acc, xc, wc);
#else
#pragma unroll 1
            for (int t = first_tap; t < first_tap + tap_count; t++) {
                __global const float *xp = xc + taps[t].x;
#if XS > 1
#pragma unroll
                for (int i = 0; i < TW * IS; i++) PREFETCH(xp + x_block + i * XS);
#endif
                multiply_add(acc, xp, wc + taps[t].y);
            }
#endif
        }
        const int skip = tile * TW - f; /* pixels that the tile before has stored */
        floatV a[KV], b[KV];
#pragma unroll
        for (int v = 0; v < KV; v++) {
            a[v] = scale ? LOADV(kb * KV + v, scale) : (floatV)(1.0f);
            b[v] = shift ? LOADV(kb * KV + v, shift) : (floatV)(0.0f);
        }
        int row = f / flat, column = f % flat;
#pragma unroll
        for (int i = 0; i < TW; i++) {
            if (i >= skip && column < columns) {
                const size_t at = ((size_t)n * out_blocks + kb * KV) * plane + (size_t)(oy + row * os) * out_w + ox + column * os;
#pragma unroll
                for (int v = 0; v < KV; v++) {
                    floatV value = scale ? fma(acc[v][i], a[v], b[v]) : acc[v][i] + b[v];
                    if (residual) value += LOADV(at + v * plane, residual);
                    if (flags & FLAG_BETA) value += LOADV(at + v * plane, y);
                    if (flags & FLAG_RELU) value = SELECTV(value, (floatV)(0.0f), value < (floatV)(0.0f));
                    STOREV(value, at + v * plane, y);
                }
            }
            if (++column == flat) {
                column = 0;
                row++;
            }
        }
    }
}
