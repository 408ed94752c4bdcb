/* SPDX-License-Identifier: MIT */
/* l2norm_forward - |x| of every row, and the rows divided by it: y = x / max(|x|, 1e-12).
 * x, y [N][ld], d of them counted; norms [N] out.  y may be x, or null: norms only.  Padding of y is written zero.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is a row.
 * host src/op/l2norm.c, src/op/triplet.c   ref tests/ref/ref_loss.c   torch.nn.functional.normalize */
#include "group.clh"

#define MIN_NORM 1e-12f

__kernel void l2norm_forward(__global const float *x, __global float *y, __global float *restrict norms, const int d,
                             const int ld)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0);
    const size_t row = get_group_id(1);
    __global const float *xr = x + row * ld;
    float sum = 0.0f;
    for (int c = lid; c < d; c += LOCAL) sum = fma(xr[c], xr[c], sum);
    const float norm = sqrt(group_sum(sum, scratch));
    if (lid == 0) norms[row] = norm;
    if (!y) return;
    const float divisor = norm < MIN_NORM ? MIN_NORM : norm; /* NaN stays NaN */
    for (int c = lid; c < ld; c += LOCAL) y[row * ld + c] = c < d ? xr[c] / divisor : 0.0f;
}
