/* SPDX-License-Identifier: MIT */
/* triplet_distance - distances of some anchors to all candidates, by differences: |a|^2 + |b|^2 - 2<a,b> would lose the small ones.
 *   s = sum_c (a[c] - b[c])^2;  euclidean sqrt(max(s, 1e-12));  squared s
 *   cosine: a, b are divided by max(|.|, 1e-8) first;  1 - <a,b> = s/2 + 1 - (|a|^2 + |b|^2)/2, the last part zero for unit rows
 * e [N][ld], memory [M-N][ld] or null, d of each row counted; ws: norms in (cosine), row r of the distances out for the anchor first + r.
 * global (ceil(M/JT), ceil(rows/IT)); a work-item is IT anchors and JT candidates.  Nothing is contracted.
 * -D CB (floats of a vector) IT JT
 * host src/op/triplet.c   ref tests/ref/ref_loss.c */
#include "block.clh"
#include "triplet.clh"
#include "triplet_pair.clh"
#ifndef JT
#define JT 4
#define IT 4
#endif

__kernel void triplet_distance(__global const float *restrict e, __global const float *restrict memory,
                               __global float *ws, const int n, const int m, const int d, const int ld,
                               const int distance, const int first, const int rows)
{
    const int j0 = (int)get_global_id(0) * JT, r0 = (int)get_global_id(1) * IT;
    if (j0 >= m || r0 >= rows) return;
    __global const float *a[IT], *b[JT];
    float scale_a[IT], scale_b[JT];
    floatV acc[IT][JT];
#pragma unroll
    for (int s = 0; s < IT; s++) {
        const int i = first + min(r0 + s, rows - 1);
        a[s] = e + (size_t)i * ld;
        scale_a[s] = scale_of(distance, ws[i]);
    }
#pragma unroll
    for (int t = 0; t < JT; t++) {
        const int j = min(j0 + t, m - 1);
        b[t] = candidate(e, memory, j, n, ld);
        scale_b[t] = scale_of(distance, ws[j]);
#pragma unroll
        for (int s = 0; s < IT; s++) acc[s][t] = 0.0f;
    }
    for (int k = 0; k < d / CB; k++) {
        floatV x[IT];
#pragma unroll
        for (int s = 0; s < IT; s++) x[s] = LOADV(k, a[s]) * scale_a[s];
#pragma unroll
        for (int t = 0; t < JT; t++) {
            const floatV y = LOADV(k, b[t]) * scale_b[t];
#pragma unroll
            for (int s = 0; s < IT; s++) {
                const floatV z = x[s] - y;
                acc[s][t] = fma(z, z, acc[s][t]);
            }
        }
    }
    __global float *dist = ws + WS_MATRIX(n, m);
#pragma unroll
    for (int s = 0; s < IT; s++) {
#pragma unroll
        for (int t = 0; t < JT; t++) {
            const int r = r0 + s, j = j0 + t;
            if (r >= rows || j >= m) continue;
            const float sum = add_rest(sum_lanes(acc[s][t]), a[s], b[t], scale_a[s], scale_b[t], d);
            dist[(size_t)r * m + j] = distance_of(sum, distance, ws[first + r], ws[j]);
        }
    }
}
