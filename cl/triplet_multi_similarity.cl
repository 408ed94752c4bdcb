/* SPDX-License-Identifier: MIT */
/* triplet_multi_similarity - for each anchor, S = 1 - d:
 *   log(1 + sum_{P} exp(-alpha (S - base))) / alpha + log(1 + sum_{N} exp(beta (S - base))) / beta
 * over the positives less similar than the most similar negative + epsilon and the negatives more similar than the least similar
 * positive - epsilon (epsilon infinite: all); 0 where the anchor lacks one or the other, or none is left.
 * ws: distances in; matrix 1, the coefficients (not yet divided by the number of anchors), and the anchors' sums out; a term is an
 * anchor, active if pairs are left; its d_ap and d_an are means over them.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is an anchor; a work-item owns the columns j = lid mod LOCAL.
 * host src/op/triplet.c   ref tests/ref/ref_triplet.c   source: Wang et al. 2019, eq. 11 to 13 */
#include "group.clh"
#include "triplet.clh"

__kernel void triplet_multi_similarity(__global float *ws, const int n, const int m, const float alpha,
                                       const float beta, const float base, const float epsilon)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *dist = ws + WS_MATRIX(n, m) + (size_t)i * m;
    __global float *coef = ws + WS_MATRIX(n, m) + ((size_t)n + i) * m;
    const int label = labels[i];
    float far = -INFINITY, near = -INFINITY; /* d of the farthest positive, -d of the closest negative */
    for (int j = lid; j < m; j += LOCAL) {
        coef[j] = 0.0f;
        if (labels[j] != label)
            near = fmax(near, -dist[j]);
        else if (j != i)
            far = fmax(far, dist[j]);
    }
    far = group_max(far, scratch);
    near = -group_max(near, scratch);
    if (far == -INFINITY || near == INFINITY) { /* the same for all work-items */
        if (lid == 0) store_row(ws, n, m, i, 0.0f, 0.0f, 0.0f, 0, 1);
        return;
    }
    /* Exponents, of which the largest is taken out: those of the farthest positive and the closest negative. */
    const float top_p = fmax(-alpha * (1.0f - far - base), 0.0f), top_n = fmax(beta * (1.0f - near - base), 0.0f);
    float sum_p = 0.0f, sum_n = 0.0f, d_ap = 0.0f, d_an = 0.0f, positives = 0.0f, negatives = 0.0f;
    for (int j = lid; j < m; j += LOCAL) {
        const float v = dist[j];
        if (labels[j] != label) {
            if (!(v < far + epsilon)) continue;
            coef[j] = -exp(beta * (1.0f - v - base) - top_n);
            sum_n -= coef[j];
            negatives += 1.0f;
            d_an += v;
        } else if (j != i && v > near - epsilon) {
            coef[j] = exp(-alpha * (1.0f - v - base) - top_p);
            sum_p += coef[j];
            positives += 1.0f;
            d_ap += v;
        }
    }
    sum_p = group_sum(sum_p, scratch);
    sum_n = group_sum(sum_n, scratch);
    d_ap = group_sum(d_ap, scratch);
    d_an = group_sum(d_an, scratch);
    positives = group_sum(positives, scratch);
    negatives = group_sum(negatives, scratch);
    const float all_p = exp(-top_p) + sum_p, all_n = exp(-top_n) + sum_n;
    for (int j = lid; j < m; j += LOCAL) coef[j] /= labels[j] == label ? all_p : all_n;
    if (lid != 0) return;
    const float loss_p = top_p > 0.0f ? top_p + log(all_p) : log1p(sum_p), loss_n = top_n > 0.0f ? top_n + log(all_n) : log1p(sum_n);
    store_row(ws, n, m, i, loss_p / alpha + loss_n / beta, d_ap / fmax(positives, 1.0f), d_an / fmax(negatives, 1.0f),
              positives > 0.0f, 1);
}
