/* SPDX-License-Identifier: MIT */
/* triplet_mine_all_past - with swap and a memory, what triplet_mine_all leaves out: triplets of an anchor with remembered positives, added
 * to its sums, and the pairs (p, i) of remembered positives p and the batch's negatives i, which are in triplets of p's class:
 *   coef[i][p] -= sum_a slope(a,p,i) * (part of d_pn)   over the anchors a of p's class that i is taken by
 * Distances from remembered positives to remembered negatives are measured here, once for each anchor: no matrix of remembered pairs.
 * e [N][ld], memory [M-N][ld], d of each row counted; ws: distances, thresholds, |candidate|; sums and coefficients in and out.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is a row i; a work-item owns the columns = lid mod LOCAL.
 * A kernel of its own, its reductions not unrolled: otherwise AMD's compiler spills scalar registers for gfx9.
 * -D CB (floats of a vector) LEARN (1: ROW_TURN in and out)
 * host src/op/triplet.c   ref tests/ref/ref_triplet.c   source: Hermans et al. 2017, eq. 7; Balntas et al. 2016; Wang et al. 2020 */
#define GROUP_ROLLED
#include "block.clh"
#include "group.clh"
#include "triplet.clh"
#include "triplet_pair.clh"
#include "triplet_taken.clh"

__kernel void triplet_mine_all_past(__global const float *restrict e, __global const float *restrict memory, __global float *ws,
                                    const int n, const int m, const int d, const int ld, const int distance, const float margin,
                                    const float fixed_temperature, __global const float *restrict learned)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *matrix = ws + WS_MATRIX(n, m), *dist = matrix + (size_t)i * m;
    __global const uint *keys = (__global const uint *)ws + WS_ROW(ROW_KEY, n, m);
    __global const int *ends = (__global const int *)ws + WS_ROW(ROW_INDEX, n, m);
    __global float *coef = ws + WS_MATRIX(n, m) + ((size_t)n + i) * m;
    const int label = labels[i], end = ends[i];
    const uint key = keys[i];
    const float temperature = temperature_now(fixed_temperature, learned);
    float turn = 0.0f, loss = 0.0f, active = 0.0f, d_an = 0.0f, slope;
    for (int p = n; p < m; p++) { /* the same for all work-items */
        if (labels[p] != label) continue;
        __global const float *x = memory + (size_t)(p - n) * ld;
        float slopes = 0.0f;
        for (int j = lid; j < m; j += LOCAL) {
            if (labels[j] == label || !taken(dist[j], j, key, end)) continue;
            const float d_pn = j < n ? matrix[(size_t)j * m + p]
                                     : pair_distance(x, memory + (size_t)(j - n) * ld, ws[p], ws[j], d, distance);
            const float far = fmin(dist[j], d_pn), value = term(dist[p] - far, margin, temperature, &slope);
#if LEARN
            turn += by_temperature(dist[p] - far, temperature);
#endif
            loss += value;
            d_an += far;
            active += LEARN || temperature > 0.0f || value > 0.0f ? 1.0f : 0.0f;
            slopes += slope;
            coef[j] -= slope * share_of(dist[j], d_pn);
        }
        slopes = group_sum(slopes, scratch);
        if (lid == 0) coef[p] = slopes;
    }
    for (int p = lid; p < m; p += LOCAL) {
        if (p < n || labels[p] == label) continue;
        float sum = 0.0f;
        for (int a = 0; a < n; a++) {
            __global const float *dist_a = matrix + (size_t)a * m;
            if (labels[a] != labels[p] || !taken(dist_a[i], i, keys[a], ends[a])) continue;
            const float share = share_of(dist_a[i], dist[p]);
            if (share == 1.0f) continue;
            term(dist_a[p] - fmin(dist_a[i], dist[p]), margin, temperature, &slope);
            sum += slope * (1.0f - share);
        }
        coef[p] -= sum;
    }
    loss = group_sum(loss, scratch);
    active = group_sum(active, scratch);
    d_an = group_sum(d_an, scratch);
#if LEARN
    turn = group_sum(turn, scratch);
    if (lid == 0) ws[WS_ROW(ROW_TURN, n, m) + i] += turn;
#endif
    if (lid == 0) {
        ws[WS_ROW(ROW_LOSS, n, m) + i] += loss;
        ws[WS_ROW(ROW_AN, n, m) + i] += d_an;
        ((__global uint *)ws)[WS_ROW(ROW_ACTIVE, n, m) + i] += (uint)active;
    }
}
