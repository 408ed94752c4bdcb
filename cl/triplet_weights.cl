/* SPDX-License-Identifier: MIT */
/* triplet_weights - coefficients to the symmetric weights with which triplet_gradient sums differences.
 *   w[i][j] = (G[i][j] + G[j][i]) * scale * f;  f = 1/d (0 where d was clamped), 2, or 1 / (max(|a|,1e-8) * max(|b|,1e-8))
 * ws: norms, scale, distances in; coefficients in and out.
 * global (N, N): a work-item with i < j does both places.
 * host src/op/triplet.c */
#include "triplet.clh"

__kernel void triplet_weights(__global float *ws, const int n, const int distance)
{
    const int j = (int)get_global_id(0), i = (int)get_global_id(1);
    if (j >= n || j <= i) return;
    __global float *coef = ws + WS_MATRIX(n) + (size_t)n * n;
    const size_t ij = (size_t)i * n + j, ji = (size_t)j * n + i;
    const float d = ws[WS_MATRIX(n) + ij];
    float w = (coef[ij] + coef[ji]) * ws[WS_SCALE(n)];
    if (distance == EUCLIDEAN)
        w = d <= MIN_DISTANCE ? 0.0f : w / d;
    else if (distance == SQUARED)
        w = 2.0f * w;
    else
        w = w / (fmax(ws[i], MIN_NORM) * fmax(ws[j], MIN_NORM));
    coef[ij] = w;
    coef[ji] = w;
}
