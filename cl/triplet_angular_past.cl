/* SPDX-License-Identifier: MIT */
/* triplet_angular_past - d loss / d d(p, i) of remembered positives p and the batch's negatives i, which triplet_angular has no row for:
 *   coef[i][p] -= sum_a 4 tan^2(angle) exp(f(a,p,i) - log(1 + sum_n exp(f(a,p,n)))) over the anchors a of p's class
 * ws: distances and, in matrix 2, these logarithms in; matrix 1, the coefficients, in and out.  factor: tan^2(angle).
 * global (LOCAL, N), local (LOCAL, 1): a work-group is a row i; a work-item owns the columns p = lid mod LOCAL.
 * host src/op/triplet.c   ref tests/ref/ref_triplet.c   source: Wang et al. 2017, eq. 8 */
#include "triplet.clh"
#ifndef LOCAL
#define LOCAL 64 /* TRINE__LOCAL */
#endif

__kernel void triplet_angular_past(__global float *ws, const int n, const int m, const float factor)
{
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *matrix = ws + WS_MATRIX(n, m), *past = matrix + 2 * (size_t)n * m;
    __global float *coef = ws + WS_MATRIX(n, m) + ((size_t)n + i) * m;
    for (int p = lid; p < m; p += LOCAL) {
        if (p < n || labels[p] == labels[i]) continue;
        const float s_pn = 1.0f - matrix[(size_t)i * m + p];
        float sum = 0.0f;
        for (int a = 0; a < n; a++) {
            if (labels[a] != labels[p]) continue;
            __global const float *dist_a = matrix + (size_t)a * m;
            const float f = 4.0f * factor * ((1.0f - dist_a[i]) + s_pn) - 2.0f * (1.0f + factor) * (1.0f - dist_a[p]);
            sum += exp(f - past[(size_t)a * m + p]);
        }
        coef[p] -= 4.0f * factor * sum;
    }
}
