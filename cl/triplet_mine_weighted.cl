/* SPDX-License-Identifier: MIT */
/* triplet_mine_weighted - per anchor-positive pair a negative drawn by its distance: the weight is 1 / q(d), where
 *   q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2)   is how often points on the unit sphere of D dimensions are d apart,
 * with d taken as `lower` below it and no weight from `upper` on.  Where no negative has a weight, all have the same.
 * The draw is a hash of (key, anchor, positive), the key of seed and step: the first negative, in order of index, at which the sum of
 * the weights exceeds a 24-bit uniform number times their total.  Distances are those of unit vectors: |a-b|, its square or its half.
 * ws: distances in; matrix 2: in row a and column p, for each positive p of a, the negative or -1 out (int); the columns of the
 * negatives hold the weights meanwhile.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is an anchor; a work-item owns the columns [lid * span, (lid + 1) * span).
 * host src/op/triplet.c   ref tests/ref/ref_triplet.c   source: Wu et al. 2017, section 3.2; hash: Steele, Lea, Flood 2014 */
#include "group.clh"
#include "triplet.clh"

ulong mix(ulong z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebul;
    return z ^ (z >> 31);
}

__kernel void triplet_mine_weighted(__global float *ws, const int n, const int m, const int d,
                                    const int distance, const float lower, const float upper, const int key_low,
                                    const int key_high)
{
    __local float sums[LOCAL];
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *dist = ws + WS_MATRIX(n, m) + (size_t)i * m;
    __global float *weights = ws + WS_MATRIX(n, m) + (2 * (size_t)n + i) * m;
    __global int *chosen = (__global int *)weights;
    const int label = labels[i], span = (m + LOCAL - 1) / LOCAL, begin = min(lid * span, m), end = min(begin + span, m);
    const ulong key = (ulong)(uint)key_low | ((ulong)(uint)key_high << 32);
    float largest = -INFINITY, total = 0.0f, sum = 0.0f;
    for (int j = begin; j < end; j++) {
        if (labels[j] == label) continue;
        const float v = distance == EUCLIDEAN ? dist[j] : sqrt(fmax(distance == COSINE ? 2.0f * dist[j] : dist[j], 0.0f));
        const float x = fmax(v, lower);
        weights[j] = v < upper ? -(float)(d - 2) * log(x) - 0.5f * (float)(d - 3) * log(1.0f - 0.25f * x * x) : -INFINITY;
        largest = fmax(largest, weights[j]);
    }
    largest = group_max(largest, sums);
    for (int j = begin; j < end; j++) {
        if (labels[j] == label) continue;
        weights[j] = largest > -INFINITY ? exp(weights[j] - largest) : 1.0f;
        sum += weights[j];
    }
    sums[lid] = sum;
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
#pragma unroll 1
    for (int l = 0; l < LOCAL; l++) total += sums[l];
    for (int p = begin; p < end; p++) { /* a work-item draws for its own columns */
        if (p == i || labels[p] != label) continue;
        const ulong bits = mix(key + 0x9e3779b97f4a7c15ul * ((((ulong)(uint)i << 32) | (uint)p) + 1ul));
        const float target = (float)(bits >> 40) * 0x1p-24f * total;
        float before = 0.0f;
        int l = 0, q = -1;
#pragma unroll 1
        while (l < LOCAL - 1 && before + sums[l] <= target) before += sums[l++];
        for (int j = min(l * span, m); j < m; j++) {
            if (labels[j] == label || weights[j] == 0.0f) continue;
            q = j;
            before += weights[j];
            if (before > target) break;
        }
        if (q < 0) /* rounding: past the last */
            for (int j = 0; j < m; j++)
                if (labels[j] != label && weights[j] > 0.0f) q = j;
        chosen[p] = q;
    }
}
