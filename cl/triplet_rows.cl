/* SPDX-License-Identifier: MIT */
/* triplet_rows - norms and labels of the candidates, those of the batch before those of the memory.
 * e [N][ld], memory [M-N][ld], d of each row counted; labels [N], memory_labels [M-N];  ws: norms and labels out.  memory and
 * memory_labels may be null where M is N.
 * global (LOCAL, M), local (LOCAL, 1): a work-group is a row.
 * host src/op/triplet.c   ref tests/ref/ref_loss.c */
#include "group.clh"
#include "triplet.clh"

__kernel void triplet_rows(__global const float *restrict e, __global const float *restrict memory,
                           __global const int *restrict labels, __global const int *restrict memory_labels,
                           __global float *ws, const int n, const int m, const int d, const int ld)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0), j = (int)get_group_id(1);
    __global const float *x = candidate(e, memory, j, n, ld);
    float sum = 0.0f;
    for (int c = lid; c < d; c += LOCAL) sum = fma(x[c], x[c], sum);
    sum = group_sum(sum, scratch);
    if (lid != 0) return;
    ws[j] = sqrt(sum);
    ((__global int *)ws)[WS_LABELS(n, m) + j] = j < n ? labels[j] : memory_labels[j - n];
}
