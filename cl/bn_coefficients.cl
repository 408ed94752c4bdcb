/* SPDX-License-Identifier: MIT */
/* bn_coefficients - what the passes over pixels need per channel, padded to whole blocks.
 *   a = gamma*rstd, b = beta (kind 0, from saved mean and rstd)
 *   mean, rstd = running_mean, 1/sqrt(running_var + eps) (kind 1)
 *   a = gamma*rstd, b = beta - running_mean*a with rstd as in kind 1 (kind 2: for a convolution's epilogue)
 * first, second: mean and rstd, or running mean and variance; gamma, beta [C] or null (1, 0); out0, out1 [C rounded up], padding 0
 * global (C rounded up), local (64, 1, 1).  host src/op/batchnorm.c */

__kernel void bn_coefficients(__global const float *first, __global const float *second, __global const float *gamma,
                              __global const float *beta, __global float *out0, __global float *out1, const int channels,
                              const int padded, const float eps, const int kind)
{
    const int c = (int)get_global_id(0);
    if (c >= padded) return;
    float v0 = 0.0f, v1 = 0.0f;
    if (c < channels) {
        const float g = gamma ? gamma[c] : 1.0f, b = beta ? beta[c] : 0.0f;
        const float rstd = kind == 0 ? second[c] : 1.0f / sqrt(second[c] + eps);
        v0 = kind == 1 ? first[c] : g * rstd;
        v1 = kind == 0 ? b : kind == 1 ? rstd : b - first[c] * v0;
    }
    out0[c] = v0;
    out1[c] = v1;
}
