/* SPDX-License-Identifier: MIT */
/* triplet_distance - distances between all embeddings, by differences: |a|^2 + |b|^2 - 2<a,b> would lose the small ones.
 *   s = sum_c (a[c] - b[c])^2;  euclidean sqrt(max(s, 1e-12));  squared s
 *   cosine: a, b are divided by max(|.|, 1e-8) first;  1 - <a,b> = s/2 + 1 - (|a|^2 + |b|^2)/2, the last part zero for unit rows
 * e [N][ld], d of them counted; ws: norms in (cosine), distances out; the pairs i < j are computed and stored at both places.
 * global (ceil(N/JT), N); a work-item is JT columns j of row i.  Nothing is contracted: equal rows get equal distances.
 * -D CB (floats of a vector) JT
 * host src/op/triplet.c   ref tests/ref/ref_loss.c */
#include "block.clh"
#include "triplet.clh"
#pragma OPENCL FP_CONTRACT OFF
#ifndef JT
#define JT 4
#endif

__kernel void triplet_distance(__global const float *restrict e, __global float *ws, const int n, const int d,
                               const int ld, const int distance)
{
    const int j0 = (int)get_global_id(0) * JT, i = (int)get_global_id(1);
    if (j0 >= n || j0 + JT - 1 <= i) return;
    const bool cosine = distance == COSINE;
    const float norm = cosine ? ws[i] : 1.0f, scale = cosine ? 1.0f / fmax(norm, MIN_NORM) : 1.0f;
    __global const float *ei = e + (size_t)i * ld;
    __global const float *ej[JT];
    float scales[JT], sums[JT];
    floatV acc[JT];
    for (int t = 0; t < JT; t++) {
        const int j = min(j0 + t, n - 1);
        ej[t] = e + (size_t)j * ld;
        scales[t] = cosine ? 1.0f / fmax(ws[j], MIN_NORM) : 1.0f;
        acc[t] = 0.0f;
    }
    const int vectors = d / CB;
    for (int k = 0; k < vectors; k++) {
        const floatV a = LOADV(k, ei) * scale;
#pragma unroll
        for (int t = 0; t < JT; t++) {
            const floatV x = a - LOADV(k, ej[t]) * scales[t];
            acc[t] = fma(x, x, acc[t]);
        }
    }
    for (int t = 0; t < JT; t++) {
        float lanes[CB];
        STOREV(acc[t], 0, lanes);
        sums[t] = 0.0f;
        for (int l = 0; l < CB; l++) sums[t] += lanes[l];
        for (int c = vectors * CB; c < d; c++) {
            const float a = ei[c] * scale, x = a - ej[t][c] * scales[t];
            sums[t] = fma(x, x, sums[t]);
        }
    }
    __global float *dist = ws + WS_MATRIX(n);
    for (int t = 0; t < JT; t++) {
        const int j = j0 + t;
        if (j <= i || j >= n) continue;
        float value = sums[t];
        if (distance == EUCLIDEAN) value = value < 1e-12f ? MIN_DISTANCE : sqrt(value);
        if (cosine) {
            const float li = norm < MIN_NORM ? norm / MIN_NORM : 1.0f, lj = ws[j] < MIN_NORM ? ws[j] / MIN_NORM : 1.0f;
            value = 0.5f * value + (1.0f - 0.5f * (li * li + lj * lj));
        }
        dist[(size_t)i * n + j] = value;
        dist[(size_t)j * n + i] = value;
    }
}
