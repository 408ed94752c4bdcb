/* SPDX-License-Identifier: MIT */
/* triplet_margin_reduce - total[0] = scale * sum of loss[N].
 * global (LOCAL), local (LOCAL): one work-group, fixed order of summation.
 * host src/op/triplet_margin.c */
#include "group.clh"

__kernel void triplet_margin_reduce(__global const float *restrict loss, __global float *restrict total, const int n,
                                    const float scale)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0);
    float sum = 0.0f;
    for (int i = lid; i < n; i += LOCAL) sum += loss[i];
    sum = group_sum(sum, scratch);
    if (lid == 0) total[0] = sum * scale;
}
