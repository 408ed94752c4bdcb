/* SPDX-License-Identifier: MIT */
/* l2norm_backward - dx = (dy - y * <y, dy>) / |x|;  dy / 1e-12 where |x| < 1e-12 (the divisor was a constant).
 * y, dy, dx [N][ld], d of them counted; norms [N].  dx may be dy.  Padding of dx is written zero.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is a row.
 * host src/op/l2norm.c   ref tests/ref/ref_loss.c */
#include "group.clh"

#define MIN_NORM 1e-12f

__kernel void l2norm_backward(__global const float *restrict y, __global const float *restrict norms,
                              __global const float *dy, __global float *dx, const int d, const int ld)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0);
    const size_t row = get_group_id(1), base = row * ld;
    float sum = 0.0f;
    for (int c = lid; c < d; c += LOCAL) sum = fma(y[base + c], dy[base + c], sum);
    sum = group_sum(sum, scratch);
    const float norm = norms[row];
    const float along = norm < MIN_NORM ? 0.0f : sum, divisor = norm < MIN_NORM ? MIN_NORM : norm;
    for (int c = lid; c < ld; c += LOCAL)
        dx[base + c] = c < d ? (dy[base + c] - y[base + c] * along) / divisor : 0.0f;
}
