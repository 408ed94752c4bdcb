/* SPDX-License-Identifier: MIT */
/* triplet_swap - distances of remembered positives to the negatives that were chosen for them, for swap: the matrix of distances has
 * rows for the batch alone.
 * e [N][ld], memory [M-N][ld], d of each row counted; ws: distances in; matrix 2, of ints, in: the negatives; matrix 3 out: in row a
 * and column p >= n d(p, negative) where there is one, nothing elsewhere.
 * global (M, N): a work-item is an anchor a and a candidate p.
 * -D CB (floats of a vector)
 * host src/op/triplet.c   ref tests/ref/ref_triplet.c   source: Balntas et al. 2016, section 3.2 */
#include "block.clh"
#include "triplet.clh"
#include "triplet_pair.clh"

__kernel void triplet_swap(__global const float *restrict e, __global const float *restrict memory, __global float *ws,
                           const int n, const int m, const int d, const int ld, const int distance)
{
    const int p = (int)get_global_id(0), a = (int)get_global_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global float *matrix = ws + WS_MATRIX(n, m);
    if (p < n || p >= m || labels[p] != labels[a]) return;
    const size_t at = (size_t)a * m + p, size = (size_t)n * m;
    const int q = ((__global const int *)matrix)[2 * size + at];
    if (q < 0) return;
    matrix[3 * size + at] = q < n ? matrix[(size_t)q * m + p]
                                  : pair_distance(candidate(e, memory, p, n, ld), candidate(e, memory, q, n, ld), ws[p],
                                                  ws[q], d, distance);
}
