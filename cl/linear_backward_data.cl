/* SPDX-License-Identifier: MIT */
/* linear_backward_data - dx[n][c] = sum over k of dy[n][k] * w[k][c]; zero in the padding of dx's rows.
 * dy [N][K]; w [K][C]; dx [N] rows of ldx floats
 * global (ceil(ldx / V), ceil(N / NT)): one work-item is NT images x one vector along c. The vector that overhangs C goes channel
 * by channel. Tiles that overhang N compute the last image again and do not store it.
 * -D V (1, 4, 8, 16) NT     host src/op/linear_plain.c   ref tests/ref/ref_linear.c */
#define CB V
#include "block.clh"

static void last_columns(__global const float *dy, __global const float *w, __global float *dx, const int c0, const int n0,
                         const int images, const int in_features, const int out_features, const int ldx)
{
    for (int n = n0; n < min(n0 + NT, images); n++)
        for (int c = c0; c < min(c0 + V, ldx); c++) {
            float sum = 0.0f;
            if (c < in_features)
                for (int k = 0; k < out_features; k++)
                    sum = fma(dy[(size_t)n * out_features + k], w[(size_t)k * in_features + c], sum);
            dx[(size_t)n * ldx + c] = sum;
        }
}

__kernel void linear_backward_data(__global const float *restrict dy, __global const float *restrict w,
                                   __global float *restrict dx, const int images, const int in_features, const int out_features,
                                   const int ldx)
{
    const int c0 = (int)get_global_id(0) * V, n0 = (int)get_global_id(1) * NT;
    if (c0 >= ldx) return;
    if (c0 + V > in_features) {
        last_columns(dy, w, dx, c0, n0, images, in_features, out_features, ldx);
        return;
    }
    __global const float *yr[NT];
    floatV acc[NT];
#pragma unroll
    for (int i = 0; i < NT; i++) {
        yr[i] = dy + (size_t)min(n0 + i, images - 1) * out_features;
        acc[i] = (floatV)(0.0f);
    }
    __global const float *wp = w + c0;
#pragma unroll 1
    for (int k = 0; k < out_features; k++) {
        const floatV wv = LOADV(0, wp);
        wp += in_features;
#pragma unroll
        for (int i = 0; i < NT; i++) acc[i] = fma((floatV)(yr[i][k]), wv, acc[i]);
    }
#pragma unroll
    for (int i = 0; i < NT; i++)
        if (n0 + i < images) STOREV(acc[i], 0, dx + (size_t)(n0 + i) * ldx + c0);
}
