/* SPDX-License-Identifier: MIT */
/* linear_bias - y[n][k] += b[k], after a matrix product that knows no bias.
 * y [N][K]; b [K]     global (K, N)
 * host src/op/linear_clblast.c   ref tests/ref/ref_linear.c */
__kernel void linear_bias(__global float *restrict y, __global const float *restrict b, const int out_features)
{
    const int k = (int)get_global_id(0);
    if (k < out_features) y[(size_t)get_global_id(1) * out_features + k] += b[k];
}
