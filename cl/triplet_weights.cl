/* SPDX-License-Identifier: MIT */
/* triplet_weights - coefficients to the weights with which triplet_gradient sums differences, symmetric within the batch.
 *   w[i][j] = (G[i][j] + G[j][i]) * scale * f;  f = 1/d (0 where d was clamped), 2, or 1 / (max(|a|,1e-8) * max(|b|,1e-8));
 *   without G[j][i] for a candidate j of the memory
 * ws: norms, scale, distances in; matrix 1, coefficients in and weights out.
 * global (ceil(M/TILE), ceil(N/TILE)): a work-item with i < j does both places.
 * -D TILE (rows and columns of a work-item: lines of a cache, both ways)
 * host src/op/triplet.c */
#include "triplet.clh"
#ifndef TILE
#define TILE 16
#endif

__kernel void triplet_weights(__global float *ws, const int n, const int m, const int distance)
{
    const int j0 = (int)get_global_id(0) * TILE, i0 = (int)get_global_id(1) * TILE;
    if (j0 >= m || j0 + TILE - 1 <= i0) return;
    __global const float *dist = ws + WS_MATRIX(n, m);
    __global float *coef = ws + WS_MATRIX(n, m) + (size_t)n * m;
    const float scale = ws[WS_SCALE(n, m)];
    for (int i = i0; i < min(i0 + TILE, n); i++)
        for (int j = max(j0, i + 1); j < min(j0 + TILE, m); j++) {
            const size_t ij = (size_t)i * m + j, ji = (size_t)j * m + i;
            const float w = weight_of((coef[ij] + (j < n ? coef[ji] : 0.0f)) * scale, dist[ij], distance, ws[i], ws[j]);
            coef[ij] = w;
            if (j < n) coef[ji] = w;
        }
}
