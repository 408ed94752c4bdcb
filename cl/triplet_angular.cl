/* SPDX-License-Identifier: MIT */
/* triplet_angular - a softmax over all negatives for each anchor-positive pair:  log(1 + sum_n exp(f(a,p,n))),
 *   f = 4 tan^2(angle) (S_an + S_pn) - 2 (1 + tan^2(angle)) S_ap,  S = 1 - d.  As f(a,p,n) = f(p,a,n), row i gets from the pair (p, i)
 *   what it gets from (i, p), so that no other row is written.
 * ws: distances in; matrix 1, the coefficients (not yet divided by the number of pairs), and the anchors' sums out; a term is a pair,
 * active if f > 0 for one of its negatives, and its d_an the mean over them.  factor: tan^2(angle).  With a memory matrix 2 is written
 * for triplet_angular_past, which adds what remembered positives give to the rows of their negatives.
 * e [N][ld], memory [M-N][ld] or null, d of each row counted.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is an anchor, and takes its positives one after the other; a work-item owns the
 * columns j = lid mod LOCAL.
 * -D CB (floats of a vector)
 * host src/op/triplet.c   ref tests/ref/ref_triplet.c   source: Wang et al. 2017, eq. 8 */
#include "block.clh"
#include "group.clh"
#include "triplet.clh"
#include "triplet_pair.clh"

__kernel void triplet_angular(__global const float *restrict e, __global const float *restrict memory, __global float *ws,
                              const int n, const int m, const int d, const int ld, const float factor)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *matrix = ws + WS_MATRIX(n, m), *dist = matrix + (size_t)i * m;
    __global float *coef = ws + WS_MATRIX(n, m) + ((size_t)n + i) * m;
    __global float *past = coef + (size_t)n * m; /* with a memory: d(p, j), and in the columns of positives log(1 + sum exp(f)) */
    const int label = labels[i];
    float loss = 0.0f, d_ap = 0.0f, d_an = 0.0f, negatives = 0.0f;
    uint active = 0, terms = 0;
    for (int j = lid; j < m; j += LOCAL) {
        coef[j] = 0.0f;
        if (labels[j] == label) continue;
        negatives += 1.0f;
        d_an += dist[j];
    }
    negatives = group_sum(negatives, scratch);
    d_an = group_sum(d_an, scratch) / fmax(negatives, 1.0f);
    for (int p = 0; p < m && negatives > 0.0f; p++) { /* the same for all work-items */
        if (p == i || labels[p] != label) continue;
        __global const float *dist_p = p < n ? matrix + (size_t)p * m : past;
        for (int j = lid; j < m && p >= n; j += LOCAL)
            if (labels[j] != label)
                past[j] = j < n ? matrix[(size_t)j * m + p]
                                : pair_distance(candidate(e, memory, p, n, ld), candidate(e, memory, j, n, ld), ws[p], ws[j],
                                                d, COSINE);
        const float own = 2.0f * (1.0f + factor) * (1.0f - dist[p]);
#define F(j) (4.0f * factor * ((1.0f - dist[j]) + (1.0f - dist_p[j])) - own)
        float largest = 0.0f, violation = -1.0f, sum = 0.0f;
        for (int j = lid; j < m; j += LOCAL)
            if (labels[j] != label) violation = fmax(violation, F(j));
        violation = group_max(violation, scratch);
        largest = fmax(violation, 0.0f);
        for (int j = lid; j < m; j += LOCAL)
            if (labels[j] != label) sum += exp(F(j) - largest);
        sum = group_sum(sum, scratch);
        const float rest = exp(-largest), all = rest + sum; /* times exp(largest) */
        const float value = largest > 0.0f ? largest + log(all) : log1p(sum);
        const float share = (p < n ? 8.0f : 4.0f) * factor / all; /* the pair (p, i) is a term only if p is an anchor */
        loss += value;
        for (int j = lid; j < m; j += LOCAL)
            if (labels[j] != label) coef[j] -= share * exp(F(j) - largest);
        if (p % LOCAL == lid) {
            coef[p] = 2.0f * (1.0f + factor) * sum / all;
            if (p >= n) past[p] = value;
        }
        d_ap += dist[p];
        active += violation > 0.0f;
        terms++;
    }
    if (lid == 0) store_row(ws, n, m, i, loss, d_ap, d_an * (float)terms, active, terms);
}
