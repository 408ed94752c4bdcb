/* SPDX-License-Identifier: MIT */
/* triplet_mine_all - every triplet of an anchor with the negatives that triplet_threshold left (all, or the hardest of them): the
 * loss's sums; the coefficient of a pair is the sum of the slopes of the triplets that it is in, negative for a negative pair.
 *   with swap, d_an is the smaller of d(a,n) and d(p,n): the pair (i, n) is in triplets of the anchor i and in those of i's positives;
 *   positives without a row of distances, the remembered ones, are then left to triplet_mine_all_past
 * ws: distances and thresholds in; matrix 1, the coefficients (not yet divided by the number of terms), and the anchors' sums out.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is an anchor; a work-item owns the columns j = lid mod LOCAL: their slopes as
 * negatives over all positives, then as positives over all negatives, so 2 * positives * negatives steps and no shared sums.
 * -D LEARN (1: ROW_TURN out)
 * host src/op/triplet.c   ref tests/ref/ref_loss.c, ref_triplet.c   source: Hermans et al. 2017, eq. 7, mean over non-zero terms */
#include "group.clh"
#include "triplet.clh"
#include "triplet_taken.clh"

__kernel void triplet_mine_all(__global float *ws, const int n, const int m, const int swap, const float margin,
                               const float fixed_temperature, __global const float *restrict learned)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *matrix = ws + WS_MATRIX(n, m), *dist = matrix + (size_t)i * m;
    __global const uint *keys = (__global const uint *)ws + WS_ROW(ROW_KEY, n, m);
    __global const int *ends = (__global const int *)ws + WS_ROW(ROW_INDEX, n, m);
    __global float *coef = ws + WS_MATRIX(n, m) + ((size_t)n + i) * m;
    const int label = labels[i], end = ends[i], rows = swap ? n : m; /* positives whose triplets are ours */
    const uint key = keys[i];
    const float temperature = temperature_now(fixed_temperature, learned);
    float turn = 0.0f, loss = 0.0f, active = 0.0f, d_an = 0.0f, d_ap = 0.0f, positives = 0.0f, negatives = 0.0f, slope;
    for (int j = lid; j < m; j += LOCAL) {
        coef[j] = 0.0f;
        if (labels[j] != label && taken(dist[j], j, key, end)) negatives += 1.0f;
    }
    for (int p = 0; p < rows; p++) { /* the same for all work-items */
        if (p == i || labels[p] != label) continue;
        __global const float *dist_p = matrix + (size_t)p * m;
        for (int j = lid; j < m; j += LOCAL) {
            if (labels[j] == label) continue;
            const bool mine = taken(dist[j], j, key, end);
            if (!swap && !mine) continue;
            const float far = swap ? fmin(dist[j], dist_p[j]) : dist[j], share = swap ? share_of(dist[j], dist_p[j]) : 1.0f;
            const float value = term(dist[p] - far, margin, temperature, &slope);
            if (mine) {
#if LEARN
                turn += by_temperature(dist[p] - far, temperature);
#endif
                loss += value;
                d_an += far;
                active += temperature > 0.0f || value > 0.0f ? 1.0f : 0.0f;
                coef[j] -= slope * share;
            }
            if (swap && taken(dist_p[j], j, keys[p], ends[p])) coef[j] -= slope * share;
        }
    }
    for (int p = lid; p < m; p += LOCAL) {
        if (p == i || labels[p] != label) continue;
        __global const float *dist_p = matrix + (size_t)p * m;
        positives += 1.0f;
        d_ap += dist[p];
        if (p >= rows) continue;
        float sum = 0.0f;
        for (int j = 0; j < m; j++) {
            if (labels[j] == label || !taken(dist[j], j, key, end)) continue;
            term(dist[p] - (swap ? fmin(dist[j], dist_p[j]) : dist[j]), margin, temperature, &slope);
            sum += slope;
        }
        coef[p] = sum;
    }
    loss = group_sum(loss, scratch);
    active = group_sum(active, scratch);
    d_ap = group_sum(d_ap, scratch);
    d_an = group_sum(d_an, scratch);
    positives = group_sum(positives, scratch);
    negatives = group_sum(negatives, scratch);
#if LEARN
    turn = group_sum(turn, scratch);
    if (lid == 0) store_turn(ws, n, m, i, turn);
#endif
    if (lid == 0)
        store_row(ws, n, m, i, loss, d_ap * negatives, d_an, (uint)active, (uint)positives * (uint)negatives);
}
