/* SPDX-License-Identifier: MIT */
/* loss_scale - y = scale * x: a gradient on its way into half precision, which ends at 6e-8.
 * x, y: `count` floats in any layout; y may be x; state: {scale, 1/scale, overflow, steps, skipped} (src/op/loss_scale.c)
 * global (count), local (64, 1, 1).   host src/op/loss_scale.c   Micikevicius et al. 2018, arXiv 1710.03740 */
__kernel void loss_scale(__global const float *x, __global const float *restrict state, __global float *y, const int count)
{
    const int i = (int)get_global_id(0);
    if (i < count) y[i] = state[0] * x[i];
}
