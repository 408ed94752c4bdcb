/* SPDX-License-Identifier: MIT */
/* triplet_mine_all - every triplet of an anchor: sum of the positive losses; the coefficient of a pair is the number of triplets
 * with positive loss that it is in, negative for a negative pair.
 * labels [N]; ws: distances in; coefficients (not yet divided by the number of positive terms) and the anchors' sums out.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is an anchor; a work-item owns the columns j = lid mod LOCAL: their counts as
 * negatives over all positives, then as positives over all negatives, so 2 * positives * negatives steps and no shared counters.
 * host src/op/triplet.c   ref tests/ref/ref_loss.c   source: Hermans et al. 2017, eq. 7, mean over non-zero terms */
#include "group.clh"
#include "triplet.clh"

__kernel void triplet_mine_all(__global const int *restrict labels, __global float *ws, const int n, const float margin,
                               const int soft)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1), label = labels[i];
    __global const float *dist = ws + WS_MATRIX(n) + (size_t)i * n;
    __global float *coef = ws + WS_MATRIX(n) + (size_t)n * n + (size_t)i * n;
    float loss = 0.0f, active = 0.0f, d_an = 0.0f, d_ap = 0.0f, positives = 0.0f, negatives = 0.0f;
    for (int j = lid; j < n; j += LOCAL) {
        coef[j] = 0.0f;
        if (labels[j] != label) {
            negatives += 1.0f;
            d_an += dist[j];
        }
    }
    for (int p = 0; p < n; p++) { /* the same for all work-items */
        if (p == i || labels[p] != label) continue;
        const float reach = dist[p] + margin;
        for (int j = lid; j < n; j += LOCAL) {
            const float x = reach - dist[j];
            if (labels[j] == label || !(x > 0.0f)) continue;
            loss += x;
            active += 1.0f;
            coef[j] -= 1.0f;
        }
    }
    for (int p = lid; p < n; p += LOCAL) {
        if (p == i || labels[p] != label) continue;
        positives += 1.0f;
        d_ap += dist[p];
        const float reach = dist[p] + margin;
        float count = 0.0f;
        for (int j = 0; j < n; j++) count += labels[j] != label && reach - dist[j] > 0.0f ? 1.0f : 0.0f;
        coef[p] = count;
    }
    loss = group_sum(loss, scratch);
    active = group_sum(active, scratch);
    d_ap = group_sum(d_ap, scratch);
    d_an = group_sum(d_an, scratch);
    positives = group_sum(positives, scratch);
    negatives = group_sum(negatives, scratch);
    if (lid == 0)
        store_row(ws, n, i, loss, d_ap * negatives, d_an * positives, (uint)active, (uint)positives * (uint)negatives);
}
