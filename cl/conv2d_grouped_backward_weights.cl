/* SPDX-License-Identifier: MIT */
/* conv2d_grouped_backward_weights - filter gradient of groups that fill a channel block or share it, one partial sum per split of the batch.
 *   dw[k][r][s][l] = sum over n, p, q of dy[n][k][p][q] * x[n][k'(l)][p*S - pad_h + r*DH][q*S - PAD + s*DW], k'(l): channel l of k's group
 * x [N][blocks][H][W][BLOCK], dy [N][blocks][P][Q][BLOCK]; partial [splits][blocks][KH][KW][GROUP][BLOCK], every element written, added to
 * if `beta`; conv2d_unpack or conv2d_add_splits adds the splits up, if there are several
 * global (blocks, splits), local (1, 1): one work-item is a block of a part of the batch.
 * The sums of a row of taps, CT input channels at a time, are in registers while part of a row of pixels goes by. No atomics.
 * -D CB (lanes of a register) BLOCK GROUP KH KW S DH DW PAD CT   host src/op/conv2d_direct_grouped.c   ref tests/ref/ref_conv2d.c */
#include "conv2d_grouped.clh"
#ifndef KW
#define KH 3
#define KW 3
#define S 1
#define DH 1
#define DW 1
#define PAD 1
#define CT 4
#endif
#define COLUMNS 32 /* of dy at a time */

__kernel void conv2d_grouped_backward_weights(__global const float *restrict x, __global const float *restrict dy,
                                              __global float *partial, const int h, const int width, const int p_count,
                                              const int q_count, const int pad_h, const int batch, const int beta)
{
    const int block = (int)get_global_id(0), blocks = (int)get_global_size(0);
    const int split = (int)get_global_id(1), splits = (int)get_global_size(1);
    float sum[KH * KW * GROUP * BLOCK] __attribute__((aligned(64)));
    float pixels[((COLUMNS - 1) * S + (KW - 1) * DW + 1) * SEEN] __attribute__((aligned(64)));
#pragma unroll 1
    for (int i = 0; i < KH * KW * GROUP * BLOCK; i++) sum[i] = 0.0f;

    for (int n = split; n < batch; n += splits) {
        __global const float *xn = x + (size_t)(n * blocks + block) * h * width * BLOCK;
        __global const float *gn = dy + (size_t)(n * blocks + block) * p_count * q_count * BLOCK;
#pragma unroll 1
        for (int p = 0; p < p_count; p++)
#pragma unroll 1
            for (int q0 = 0; q0 < q_count; q0 += COLUMNS) {
                const int columns = min(COLUMNS, q_count - q0);
#pragma unroll 1
                for (int r = 0; r < KH; r++) {
                    const int row = p * S - pad_h + r * DH;
                    if (row < 0 || row >= h) continue;
#pragma unroll 1
                    for (int lane = 0; lane < BLOCK; lane += CB) {
                        copy_row(xn + (size_t)row * width * BLOCK, width, q0 * S - PAD, (columns - 1) * S + (KW - 1) * DW + 1, lane,
                                 pixels);
                        float *sr = sum + r * (KW * GROUP * BLOCK) + lane;
                        UNROLL_CHANNELS for (int l = 0; l < GROUP; l += CT)
                        {
                            __global const float *g = gn + (size_t)(p * q_count + q0) * BLOCK + lane;
                            const float *px = pixels;
                            floatV acc[KW][CT];
#pragma unroll
                            for (int s = 0; s < KW; s++)
#pragma unroll
                                for (int i = 0; i < CT; i++) acc[s][i] = LOADV(0, sr + (s * GROUP + l + i) * BLOCK);
#pragma unroll 1
                            for (int q = 0; q < columns; q++, g += BLOCK, px += S * SEEN) {
                                const floatV d = LOADV(0, g);
#pragma unroll
                                for (int s = 0; s < KW; s++)
#pragma unroll
                                    for (int i = 0; i < CT; i++) acc[s][i] = fma(spread(px + s * DW * SEEN, l + i), d, acc[s][i]);
                            }
#pragma unroll
                            for (int s = 0; s < KW; s++)
#pragma unroll
                                for (int i = 0; i < CT; i++) STOREV(acc[s][i], 0, sr + (s * GROUP + l + i) * BLOCK);
                        }
                    }
                }
            }
    }
    __global float *to = partial + (size_t)(split * blocks + block) * (KH * KW * GROUP * BLOCK);
#pragma unroll 1
    for (int i = 0; i < KH * KW * GROUP * BLOCK; i += CB) {
        const floatV total = LOADV(0, sum + i);
        STOREV(beta ? LOADV(0, to + i) + total : total, 0, to + i);
    }
}
