/* SPDX-License-Identifier: MIT */
/* triplet_gradient - de[i] = sum_j w[i][j] * (q * e[i] - c[j]) over the candidates c;  q = 1, for cosine cos(i,j) * |c[j]| / |e[i]| (0
 * where |e[i]| was clamped), from d(1 - <a,b>/(|a||b|))/da = (cos * |b|/|a| * a - b) / (|a||b|).
 * e, de [N][ld], memory [M-N][ld] or null, d of each row counted, padding of de written zero; ws: norms, distances and weights
 * (triplet_weights) in.
 * global (ceil(ld/(CH*CB)), N): a work-item is CH vectors of a row.  j runs upwards: fixed order.
 * -D CB (floats of a vector) CH
 * host src/op/triplet.c   ref tests/ref/ref_loss.c */
#include "block.clh"
#include "triplet.clh"
#ifndef CH
#define CH 4
#endif

__kernel void triplet_gradient(__global const float *restrict e, __global const float *restrict memory,
                               __global const float *restrict ws, __global float *restrict de, const int n,
                               const int m, const int d, const int ld, const int distance)
{
    const int first = (int)get_global_id(0) * (CH * CB), i = (int)get_global_id(1);
    if (first >= ld) return;
    __global const float *dist = ws + WS_MATRIX(n, m) + (size_t)i * m;
    __global const float *weights = dist + (size_t)n * m;
    __global const float *ei = e + (size_t)i * ld + first;
    __global float *out = de + (size_t)i * ld + first;
    const int here = min(CH * CB, ld - first); /* floats of this work-item */
    if (first + CH * CB <= d) {
        floatV a[CH], acc[CH];
#pragma unroll
        for (int v = 0; v < CH; v++) {
            a[v] = LOADV(v, ei);
            acc[v] = 0.0f;
        }
        for (int j = 0; j < m; j++) {
            const float w = j == i ? 0.0f : weights[j];
            if (w == 0.0f) continue;
            const float q = turn_of(dist[j], distance, ws[i], ws[j]);
            __global const float *ej = candidate(e, memory, j, n, ld) + first;
#pragma unroll
            for (int v = 0; v < CH; v++) acc[v] += w * (q * a[v] - LOADV(v, ej));
        }
#pragma unroll
        for (int v = 0; v < CH; v++) STOREV(acc[v], v, out);
        return;
    }
    for (int c = 0; c < here; c++) {
        float acc = 0.0f;
        for (int j = 0; j < m && first + c < d; j++) {
            const float w = j == i ? 0.0f : weights[j];
            if (w == 0.0f) continue;
            const float q = turn_of(dist[j], distance, ws[i], ws[j]);
            acc += w * (q * ei[c] - candidate(e, memory, j, n, ld)[first + c]);
        }
        out[c] = acc;
    }
}
