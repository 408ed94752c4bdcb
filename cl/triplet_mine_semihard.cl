/* SPDX-License-Identifier: MIT */
/* triplet_mine_semihard - per anchor-positive pair: the closest negative strictly farther than the positive, else the farthest;
 * ties go to the lowest index.
 * labels [N]; ws: distances in; coefficients (not yet divided by the number of terms) and the anchors' sums out.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is an anchor, and takes its positives one after the other; a work-item owns
 * the columns j = lid mod LOCAL.
 * host src/op/triplet.c   ref tests/ref/ref_loss.c   source: Schroff et al. 2015, section 3.2 */
#include "group.clh"
#include "triplet.clh"

__kernel void triplet_mine_semihard(__global const int *restrict labels, __global float *ws, const int n,
                                    const float margin, const int soft)
{
    __local float values[LOCAL];
    __local int indices[LOCAL];
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1), label = labels[i];
    __global const float *dist = ws + WS_MATRIX(n) + (size_t)i * n;
    __global float *coef = ws + WS_MATRIX(n) + (size_t)n * n + (size_t)i * n;
    float far = 0.0f;
    int farthest = -1;
    for (int j = lid; j < n; j += LOCAL) {
        coef[j] = 0.0f;
        if (labels[j] != label && (farthest < 0 || dist[j] > far)) {
            far = dist[j];
            farthest = j;
        }
    }
    farthest = group_argmax(far, farthest, values, indices);
    float loss = 0.0f, d_ap = 0.0f, d_an = 0.0f;
    uint active = 0, terms = 0;
    for (int p = 0; p < n && farthest >= 0; p++) { /* the same for all work-items */
        if (p == i || labels[p] != label) continue;
        const float d = dist[p];
        float near = 0.0f, slope;
        int closest = -1;
        for (int j = lid; j < n; j += LOCAL) {
            const float v = dist[j];
            if (labels[j] == label || !(v > d) || (closest >= 0 && !(v < near))) continue;
            near = v;
            closest = j;
        }
        closest = group_argmax(-near, closest, values, indices);
        const int negative = closest >= 0 ? closest : farthest;
        const float value = term(d - dist[negative] + (soft ? 0.0f : margin), soft, &slope);
        if (p % LOCAL == lid) coef[p] = slope;
        if (negative % LOCAL == lid) coef[negative] -= slope;
        loss += value;
        d_ap += d;
        d_an += dist[negative];
        active += soft || value > 0.0f;
        terms++;
    }
    if (lid == 0) store_row(ws, n, i, loss, d_ap, d_an, active, terms);
}
