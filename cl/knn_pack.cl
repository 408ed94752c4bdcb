/* SPDX-License-Identifier: MIT */
/* knn_pack - rows of vectors into panels: out[i / PANEL][d][i % PANEL] = x[min(i, n - 1)][d], for the cosine over max(|x[i]|, 1e-8).
 * x [n][dim]; out = work + at, every place of its last panel written
 * global (ceil(n / PANEL) * PANEL): one work-item is a vector
 * The norm is taken of x / max|x|: no square overflows or vanishes.
 * -D PANEL COSINE (0, 1)     host src/op/knn.c   ref tests/ref/ref_knn.c */
#include "knn.clh"

__kernel void knn_pack(__global const float *restrict x, __global float *restrict work, const int at, const int n, const int dim)
{
    const int i = (int)get_global_id(0);
    if (i >= (n + PANEL - 1) / PANEL * PANEL) return;
    x += (size_t)min(i, n - 1) * dim;
    __global float *out = work + at + (size_t)(i / PANEL) * dim * PANEL + i % PANEL;
    float first = 1.0f, second = 1.0f;
#if COSINE
    float largest = 0.0f, square = 0.0f;
    for (int d = 0; d < dim; d++) largest = fmax(largest, fabs(x[d]));
    first = largest > 0.0f ? 1.0f / largest : 1.0f;
    for (int d0 = 0; d0 < dim; d0 += CHUNK) {
        float part = 0.0f;
        for (int d = d0; d < min(d0 + CHUNK, dim); d++) part = fma(x[d] * first, x[d] * first, part);
        square += part;
    }
    const float length = sqrt(square); /* of x / max|x|, at least 1 */
    if (largest * length < 1e-8f)
        first = 1e8f;
    else
        second = 1.0f / length;
#endif
    for (int d = 0; d < dim; d++) out[(size_t)d * PANEL] = x[d] * first * second;
}
