/* SPDX-License-Identifier: MIT */
/* triplet_mine_hard - per anchor with both: the farthest positive and the closest negative; ties go to the lowest index.
 * labels [N]; ws: distances in; coefficients (not yet divided by the number of terms) and the anchors' sums out.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is an anchor; a work-item owns the columns j = lid mod LOCAL.
 * host src/op/triplet.c   ref tests/ref/ref_loss.c   source: Hermans et al. 2017, eq. 5 */
#include "group.clh"
#include "triplet.clh"

__kernel void triplet_mine_hard(__global const int *restrict labels, __global float *ws, const int n, const float margin,
                                const int soft)
{
    __local float values[LOCAL];
    __local int indices[LOCAL];
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1), label = labels[i];
    __global const float *dist = ws + WS_MATRIX(n) + (size_t)i * n;
    __global float *coef = ws + WS_MATRIX(n) + (size_t)n * n + (size_t)i * n;
    float far = 0.0f, near = 0.0f;
    int positive = -1, negative = -1;
    for (int j = lid; j < n; j += LOCAL) {
        coef[j] = 0.0f;
        if (j == i) continue;
        const float v = dist[j];
        if (labels[j] == label) {
            if (positive < 0 || v > far) {
                far = v;
                positive = j;
            }
        } else if (negative < 0 || v < near) {
            near = v;
            negative = j;
        }
    }
    positive = group_argmax(far, positive, values, indices);
    negative = group_argmax(-near, negative, values, indices);
    if (positive < 0 || negative < 0) {
        if (lid == 0) store_row(ws, n, i, 0.0f, 0.0f, 0.0f, 0, 0);
        return;
    }
    const float d_ap = dist[positive], d_an = dist[negative];
    float slope;
    const float loss = term(d_ap - d_an + (soft ? 0.0f : margin), soft, &slope);
    if (positive % LOCAL == lid) coef[positive] = slope;
    if (negative % LOCAL == lid) coef[negative] = -slope;
    if (lid == 0) store_row(ws, n, i, loss, d_ap, d_an, soft || loss > 0.0f, 1);
}
