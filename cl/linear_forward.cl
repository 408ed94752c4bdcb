/* SPDX-License-Identifier: MIT */
/* linear_forward - y[n][k] = b[k] + sum over c of x[n][c] * w[k][c].
 * x [N] rows of ldx floats; w [K][C]; b [K] or null; y [N][K]
 * global (ceil(K / KT), ceil(N / NT)): one work-item is a tile of NT images x KT features, each with a vector accumulator along
 * c. Tiles that overhang compute the last row again and do not store it.
 * -D V (1, 4, 8, 16) NT KT     host src/op/linear_plain.c   ref tests/ref/ref_linear.c */
#define CB V
#include "block.clh"

static float lanes_sum(const floatV v)
{
    float lanes[V], sum = 0.0f;
    STOREV(v, 0, lanes);
    for (int i = 0; i < V; i++) sum += lanes[i];
    return sum;
}

__kernel void linear_forward(__global const float *restrict x, __global const float *restrict w, __global const float *restrict b,
                             __global float *restrict y, const int images, const int in_features, const int out_features,
                             const int ldx)
{
    const int k0 = (int)get_global_id(0) * KT, n0 = (int)get_global_id(1) * NT;
    if (k0 >= out_features) return;
    __global const float *xr[NT], *wr[KT];
    floatV acc[NT][KT];
#pragma unroll
    for (int i = 0; i < NT; i++) xr[i] = x + (size_t)min(n0 + i, images - 1) * ldx;
#pragma unroll
    for (int j = 0; j < KT; j++) wr[j] = w + (size_t)min(k0 + j, out_features - 1) * in_features;
#pragma unroll
    for (int i = 0; i < NT; i++)
#pragma unroll
        for (int j = 0; j < KT; j++) acc[i][j] = (floatV)(0.0f);
    const int vectors = in_features / V;
#pragma unroll 1
    for (int c = 0; c < vectors; c++) {
        floatV wv[KT];
#pragma unroll
        for (int j = 0; j < KT; j++) wv[j] = LOADV(c, wr[j]);
#pragma unroll
        for (int i = 0; i < NT; i++) {
            const floatV xv = LOADV(c, xr[i]);
#pragma unroll
            for (int j = 0; j < KT; j++) acc[i][j] = fma(xv, wv[j], acc[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < NT; i++)
#pragma unroll
        for (int j = 0; j < KT; j++) {
            float sum = lanes_sum(acc[i][j]);
            for (int c = vectors * V; c < in_features; c++) sum = fma(xr[i][c], wr[j][c], sum);
            if (n0 + i < images && k0 + j < out_features) {
                if (b) sum += b[k0 + j];
                y[(size_t)(n0 + i) * out_features + k0 + j] = sum;
            }
        }
}
