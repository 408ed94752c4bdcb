/* SPDX-License-Identifier: MIT */
/* triplet_threshold - which negatives of an anchor are among the closest ceil(fraction * negatives), of equal ones the lowest indices:
 * the largest of their distances, as an ordered integer, and the last index that is one of them at that distance.  fraction 1: all.
 * ws: distances in; ROW_KEY (uint) and ROW_INDEX (int) out: a negative j is taken if ordered(dist) < key, or if it is equal and
 * j <= index.  Bisection over the 32 bits of a distance, then over indices: no order is stored.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is an anchor.
 * host src/op/triplet.c   ref tests/ref/ref_triplet.c */
#include "group.clh"
#include "triplet.clh"
#include "triplet_taken.clh"

/* Negatives with low <= key <= high and index <= last, counted by the whole group. */
int count(__global const float *dist, __global const int *labels, int label, int m, uint low, uint high, int last,
          __local float *scratch)
{
    float found = 0.0f; /* exact: m < 2^24 */
    for (int j = (int)get_local_id(0); j <= last; j += LOCAL) {
        const uint key = ordered(dist[j]);
        found += labels[j] != label && key >= low && key <= high ? 1.0f : 0.0f;
    }
    return (int)group_sum(found, scratch);
}

__kernel void triplet_threshold(__global float *ws, const int n, const int m, const float fraction)
{
    __local float scratch[LOCAL];
    const int i = (int)get_group_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *dist = ws + WS_MATRIX(n, m) + (size_t)i * m;
    const int label = labels[i], negatives = count(dist, labels, label, m, 0u, 0xffffffffu, m - 1, scratch);
    uint key = 0xffffffffu;
    int index = m - 1;
    if (fraction < 1.0f && negatives > 0) {
        const int want = clamp((int)ceil(fraction * (float)negatives), 1, negatives);
        uint low = 0u, high = 0xffffffffu; /* the smallest key that so many are not above */
        while (low < high) {
            const uint middle = low + (high - low) / 2u;
            if (count(dist, labels, label, m, 0u, middle, m - 1, scratch) >= want)
                high = middle;
            else
                low = middle + 1u;
        }
        key = low;
        const int below = key > 0u ? count(dist, labels, label, m, 0u, key - 1u, m - 1, scratch) : 0;
        int first = 0;
        while (first < index) {
            const int middle = (first + index) / 2;
            if (below + count(dist, labels, label, m, key, key, middle, scratch) >= want)
                index = middle;
            else
                first = middle + 1;
        }
    }
    if (get_local_id(0) != 0) return;
    ((__global uint *)ws)[WS_ROW(ROW_KEY, n, m) + i] = key;
    ((__global int *)ws)[WS_ROW(ROW_INDEX, n, m) + i] = index;
}
