/* SPDX-License-Identifier: MIT */
/* linear_backward_weights - dw[k][c] = beta*dw + sum over n of dy[n][k] * x[n][c];  db[k] = beta*db + sum over n of dy[n][k].
 * x [N] rows of ldx floats; dy [N][K]; dw [K][C]; db [K] or null
 * global (ceil(ceil(C / V) / run), ceil(K / KT)): one work-item is KT features x `run` consecutive vectors along c; the
 * first along c also does db. The vector that overhangs C goes channel by channel.
 * -D V (1, 4, 8, 16) KT     host src/op/linear_plain.c   ref tests/ref/ref_linear.c */
#define CB V
#include "block.clh"

static void last_columns(__global const float *x, __global const float *dy, __global float *dw, const int c0, const int k0,
                         const int images, const int in_features, const int out_features, const int ldx, const int beta)
{
    for (int k = k0; k < min(k0 + KT, out_features); k++)
        for (int c = c0; c < in_features; c++) {
            const size_t at = (size_t)k * in_features + c;
            float sum = 0.0f;
            for (int n = 0; n < images; n++) sum = fma(dy[(size_t)n * out_features + k], x[(size_t)n * ldx + c], sum);
            dw[at] = beta ? dw[at] + sum : sum;
        }
}

static void bias_sums(__global const float *dy, __global float *db, const int k0, const int images, const int out_features,
                      const int beta)
{
    for (int k = k0; k < min(k0 + KT, out_features); k++) {
        float sum = 0.0f;
        for (int n = 0; n < images; n++) sum += dy[(size_t)n * out_features + k];
        db[k] = beta ? db[k] + sum : sum;
    }
}

__kernel void linear_backward_weights(__global const float *restrict x, __global const float *restrict dy,
                                      __global float *restrict dw, __global float *restrict db, const int images,
                                      const int in_features, const int out_features, const int ldx, const int beta, const int run)
{
    const int first = (int)get_global_id(0) * run, k0 = (int)get_global_id(1) * KT;
    if (k0 >= out_features) return;
    if (first == 0 && db) bias_sums(dy, db, k0, images, out_features, beta);
    int at[KT]; /* columns of dy */
#pragma unroll
    for (int j = 0; j < KT; j++) at[j] = min(k0 + j, out_features - 1);
    for (int c0 = first * V; c0 < min((first + run) * V, in_features); c0 += V) {
        if (c0 + V > in_features) {
            last_columns(x, dy, dw, c0, k0, images, in_features, out_features, ldx, beta);
            break;
        }
        floatV acc[KT];
#pragma unroll
        for (int j = 0; j < KT; j++) acc[j] = (floatV)(0.0f);
        __global const float *xp = x + c0, *yr = dy;
#pragma unroll 1
        for (int n = 0; n < images; n++) {
            const floatV xv = LOADV(0, xp);
#pragma unroll
            for (int j = 0; j < KT; j++) acc[j] = fma(xv, (floatV)(yr[at[j]]), acc[j]);
            xp += ldx;
            yr += out_features;
        }
#pragma unroll
        for (int j = 0; j < KT; j++) {
            if (k0 + j >= out_features) break;
            __global float *to = dw + (size_t)(k0 + j) * in_features + c0;
            STOREV(beta ? LOADV(0, to) + acc[j] : acc[j], 0, to);
        }
    }
}
