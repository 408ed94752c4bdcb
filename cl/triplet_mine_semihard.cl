/* SPDX-License-Identifier: MIT */
/* triplet_mine_semihard - per anchor-positive pair: the closest negative with lower < d_an - d_ap < upper, if there is none the
 * farthest (none where upper is finite); ties go to the lowest index.
 * ws: distances in; matrix 2, of ints, out: in row a and column p, for each positive p of a, the negative or -1.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is an anchor, and takes its positives one after the other; a work-item looks at
 * the columns j = lid mod LOCAL, the first one stores.
 * host src/op/triplet.c   ref tests/ref/ref_loss.c   source: Schroff et al. 2015, section 3.2 (lower 0, upper infinite) */
#include "group.clh"
#include "triplet.clh"

__kernel void triplet_mine_semihard(__global float *ws, const int n, const int m, const float lower,
                                    const float upper)
{
    __local float values[LOCAL];
    __local int indices[LOCAL];
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *dist = ws + WS_MATRIX(n, m) + (size_t)i * m;
    __global int *chosen = (__global int *)ws + WS_MATRIX(n, m) + (2 * (size_t)n + i) * m;
    const int label = labels[i];
    float far = 0.0f;
    int farthest = -1;
    for (int j = lid; j < m; j += LOCAL)
        if (labels[j] != label && (farthest < 0 || dist[j] > far)) {
            far = dist[j];
            farthest = j;
        }
    farthest = group_argmax(far, farthest, values, indices);
    for (int p = 0; p < m; p++) { /* the same for all work-items */
        if (p == i || labels[p] != label) continue;
        const float d = dist[p];
        float near = 0.0f;
        int closest = -1;
        for (int j = lid; j < m; j += LOCAL) {
            const float v = dist[j], x = v - d;
            if (labels[j] == label || !(x > lower && x < upper) || (closest >= 0 && !(v < near))) continue;
            near = v;
            closest = j;
        }
        closest = group_argmax(-near, closest, values, indices);
        if (lid == 0) chosen[p] = closest >= 0 ? closest : isinf(upper) ? farthest : -1;
    }
}
