/* SPDX-License-Identifier: MIT */
/* triplet_select - one triplet for each anchor that has positives and negatives; ties go to the lowest index.
 *   positive: the farthest, or (`easy`) the closest;  negative: 0 the closest; 1 the closest of those with
 *   lower < d_an - d_ap < upper, if there is none the farthest (no term where upper is finite); 2 the farthest
 * ws: distances of the anchors first, first + 1, ... in; the anchors' sums and what triplet_select_gradient needs out.
 * global (LOCAL, rows), local (LOCAL, 1): a work-group is an anchor; a work-item owns the columns j = lid mod LOCAL.
 * -D CB (floats of a vector) LEARN (1: ROW_TURN out)
 * host src/op/triplet.c   ref tests/ref/ref_loss.c   sources: Hermans et al. 2017, eq. 5 (hardest); Xuan et al. 2020 (easy positive);
 * Schroff et al. 2015, section 3.2 (semi-hard); Balntas et al. 2016, section 3.2 (swap) */
#include "block.clh"
#include "group.clh"
#include "triplet.clh"
#include "triplet_pair.clh"

enum { CLOSEST = 0, SEMI_HARD = 1, FARTHEST = 2 }; /* trine_negative */

__kernel void triplet_select(__global const float *restrict e, __global const float *restrict memory,
                             __global float *ws, const int n, const int m, const int d, const int ld,
                             const int distance, const int first, const int easy, const int negatives,
                             const float lower, const float upper, const int swap, const float margin,
                             const float fixed_temperature, __global const float *restrict learned)
{
    __local float values[LOCAL];
    __local int indices[LOCAL];
    const int lid = (int)get_local_id(0), r = (int)get_group_id(1), i = first + r;
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *dist = ws + WS_MATRIX(n, m) + (size_t)r * m;
    const int label = labels[i];
    const float temperature = temperature_now(fixed_temperature, learned);
    float best_p = 0.0f, near = 0.0f, far = 0.0f;
    int p = -1, closest = -1, farthest = -1;
    for (int j = lid; j < m; j += LOCAL) {
        const float v = dist[j];
        if (labels[j] == label) {
            if (j != i && (p < 0 || (easy ? v < best_p : v > best_p))) {
                best_p = v;
                p = j;
            }
            continue;
        }
        if (closest < 0 || v < near) {
            near = v;
            closest = j;
        }
        if (farthest < 0 || v > far) {
            far = v;
            farthest = j;
        }
    }
    p = group_argmax(easy ? -best_p : best_p, p, values, indices);
    int q = negatives == FARTHEST ? group_argmax(far, farthest, values, indices)
                                  : group_argmax(-near, closest, values, indices);
    if (negatives == SEMI_HARD && p >= 0 && q >= 0) { /* the same for all work-items */
        const float d_ap = dist[p];
        closest = -1;
        for (int j = lid; j < m; j += LOCAL) {
            const float x = dist[j] - d_ap;
            if (labels[j] == label || !(x > lower && x < upper) || (closest >= 0 && !(dist[j] < near))) continue;
            near = dist[j];
            closest = j;
        }
        q = group_argmax(-near, closest, values, indices);
        const int last = group_argmax(far, farthest, values, indices);
        if (q < 0 && isinf(upper)) q = last;
    }
    if (lid != 0) return;
    __global int *chosen = (__global int *)ws;
    chosen[WS_ROW(ROW_POSITIVE, n, m) + i] = -1;
    chosen[WS_ROW(ROW_NEGATIVE, n, m) + i] = -1;
    if (p < 0 || q < 0) {
        store_row(ws, n, m, i, 0.0f, 0.0f, 0.0f, 0, 0);
        store_turn(ws, n, m, i, 0.0f);
        return;
    }
    float d_an = dist[q], share = 1.0f, slope;
    if (swap) {
        const float d_pn = pair_distance(candidate(e, memory, p, n, ld), candidate(e, memory, q, n, ld), ws[p], ws[q],
                                         d, distance);
        share = share_of(d_an, d_pn);
        d_an = fmin(d_an, d_pn);
    }
    const float loss = term(dist[p] - d_an, margin, temperature, &slope);
    store_row(ws, n, m, i, loss, dist[p], d_an, temperature > 0.0f || loss > 0.0f, 1);
#if LEARN
    store_turn(ws, n, m, i, by_temperature(dist[p] - d_an, temperature));
#endif
    ws[WS_ROW(ROW_SLOPE, n, m) + i] = slope;
    ws[WS_ROW(ROW_SHARE, n, m) + i] = share;
    if (slope == 0.0f) return;
    chosen[WS_ROW(ROW_POSITIVE, n, m) + i] = p;
    chosen[WS_ROW(ROW_NEGATIVE, n, m) + i] = q;
}
