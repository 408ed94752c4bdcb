/* SPDX-License-Identifier: MIT */
/* cross_entropy_reduce - means over the rows.  rows [2][N] from cross_entropy_rows; stats[at], stats[at + 1] out: mean loss,
 * share of hits.
 * global (LOCAL), local (LOCAL): one work-group, fixed order of summation.
 * host src/op/cross_entropy.c */
#include "group.clh"

__kernel void cross_entropy_reduce(__global const float *restrict rows, __global float *restrict stats, const int n,
                                   const int at)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0);
    float loss = 0.0f, hits = 0.0f;
    for (int i = lid; i < n; i += LOCAL) {
        loss += rows[i];
        hits += rows[n + i];
    }
    loss = group_sum(loss, scratch);
    hits = group_sum(hits, scratch);
    if (lid == 0) {
        stats[at] = loss / n;
        stats[at + 1] = hits / n;
    }
}
