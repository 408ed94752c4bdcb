/* SPDX-License-Identifier: MIT */
/* conv2d_grouped - convolution of groups that fill a channel block or share it; serves forward and backward_data.
 *   forward:  y[n][k][p][q] = epilogue( sum over r, s, l of x[n][k'(l)][p*S - pad_h + r*DH][q*S - PAD + s*DW] * w[k][r][s][l] )
 *   BACKWARD: y[n][k][h][w] = epilogue( sum over r, s, l of x[n][k'(l)][p][q] * w[k][r][s][l] ), p*S = h + pad_h - r*DH, q*S = w + PAD - s*DW
 *   k'(l): channel l of k's group
 * x [N][blocks][H][W][BLOCK]; y, residual [N][blocks][P][Q][BLOCK]; w [blocks][KH][KW][GROUP][BLOCK] of conv2d_pack, transposed if BACKWARD;
 * scale, shift [blocks*BLOCK] or null
 * global (ceil(P / row_count), blocks, N), local (1, 1, 1): one work-item is row_count rows of a block.
 * A row of taps at a time: its KW weights and TW sums are in registers, and each pixel, spread over the lanes once, serves all KW taps.
 * -D CB (lanes of a register) BLOCK GROUP KH KW S DH DW PAD TW (a multiple of S if BACKWARD) BACKWARD
 * host src/op/conv2d_direct_grouped.c   ref tests/ref/ref_conv2d.c */
#include "conv2d_grouped.clh"
#include "conv2d_epilogue.clh"
#ifndef KW
#define KH 3
#define KW 3
#define S 1
#define DH 1
#define DW 1
#define PAD 1
#define TW 8
#endif

/* A tile's columns from q on read PIXELS of x's from FIRST(q) on; pixel j meets tap s in column COLUMN(j, s), if there is one. */
#if BACKWARD
#define LOWEST ((PAD - (KW - 1) * DW + 1024 * S) / S - 1024) /* floor */
#define FIRST(q) ((q) / S + LOWEST)
#define PIXELS ((TW - 1 + PAD - LOWEST * S) / S + 1)
#define COLUMN(j, s) (((j) + LOWEST) * S - PAD + (s) * DW)
#else
#define FIRST(q) ((q) * S - PAD)
#define PIXELS ((TW - 1) * S + (KW - 1) * DW + 1)
#define COLUMN(j, s) (((j) - (s) * DW) % S == 0 ? ((j) - (s) * DW) / S : -1)
#endif

/* Row of x that tap r of result row p reads; -1: none. */
static inline int source_row(const int p, const int r, const int pad_h, const int h)
{
#if BACKWARD
    const int at = p + pad_h - r * DH, row = at % S == 0 ? at / S : -1;
#else
    const int row = p * S - pad_h + r * DH;
#endif
    return row >= 0 && row < h ? row : -1;
}

__kernel void conv2d_grouped(__global const float *restrict x, __global const float *restrict w, __global const float *restrict scale,
                             __global const float *restrict shift, __global const float *residual, __global float *y, const int h,
                             const int width, const int p_count, const int q_count, const int pad_h, const int row_count,
                             const int flags)
{
    const int block = (int)get_global_id(1);
    const size_t image = get_global_id(2) * get_global_size(1) + block;
    const int end = min(((int)get_global_id(0) + 1) * row_count, p_count);
    __global const float *xi = x + image * h * width * BLOCK, *wb = w + (size_t)block * (KH * KW * GROUP * BLOCK);
    float pixels[PIXELS * SEEN] __attribute__((aligned(64)));

#pragma unroll 1
    for (int p = (int)get_global_id(0) * row_count; p < end; p++)
#pragma unroll 1
        for (int q = 0; q < q_count; q += TW)
#pragma unroll 1
            for (int lane = 0; lane < BLOCK; lane += CB) {
                floatV acc[TW];
#pragma unroll
                for (int i = 0; i < TW; i++) acc[i] = 0.0f;
#pragma unroll 1
                for (int r = 0; r < KH; r++) {
                    const int row = source_row(p, r, pad_h, h);
                    if (row < 0) continue;
                    copy_row(xi + (size_t)row * width * BLOCK, width, FIRST(q), PIXELS, lane, pixels);
                    __global const float *wr = wb + r * (KW * GROUP * BLOCK) + lane;
                    UNROLL_CHANNELS for (int l = 0; l < GROUP; l++)
                    {
                        floatV wv[KW];
#pragma unroll
                        for (int s = 0; s < KW; s++) wv[s] = LOADV(0, wr + (s * GROUP + l) * BLOCK);
#pragma unroll
                        for (int j = 0; j < PIXELS; j++) {
                            const floatV value = spread(pixels + j * SEEN, l);
#pragma unroll
                            for (int s = 0; s < KW; s++)
                                if (COLUMN(j, s) >= 0 && COLUMN(j, s) < TW) acc[COLUMN(j, s)] = fma(value, wv[s], acc[COLUMN(j, s)]);
                        }
                    }
                }
                const floatV a = scale ? LOADV(0, scale + block * BLOCK + lane) : (floatV)(1.0f),
                             b = shift ? LOADV(0, shift + block * BLOCK + lane) : (floatV)(0.0f);
                const size_t at = ((image * p_count + p) * q_count + q) * BLOCK + lane;
#pragma unroll
                for (int i = 0; i < TW; i++)
                    if (q + i < q_count)
                        STOREV(epilogue(acc[i], scale != 0, a, b, residual, y, at + i * BLOCK, flags), 0, y + at + i * BLOCK);
            }
}
