/* SPDX-License-Identifier: MIT */
/* bn_backward_statistics - adds the chunks' sums up, stores the affine gradients and the coefficients of the last pass.
 *   dbeta = sum g   dgamma = rstd * sum g*(x - mean)   k1 = gamma*rstd
 *   batch statistics: k2 = k1*sum(g)/m, k3 = k1*rstd^2*sum(g*(x - mean))/m;  running statistics: k2 = k3 = 0
 * partials [blocks][parts][2][CB]; rstd [blocks*CB]; gamma, dgamma, dbeta [C] or null; k1, k2, k3 [blocks*CB], padding 0
 * global (C rounded up), local (64, 1, 1); parts are added in order, compensated (Kahan).  -D CB.  host src/op/batchnorm.c */
#include "block.clh"

__kernel void bn_backward_statistics(__global const float *restrict partials, __global const float *restrict rstd,
                                     __global const float *restrict gamma, __global float *restrict dgamma,
                                     __global float *restrict dbeta, __global float *restrict k1, __global float *restrict k2,
                                     __global float *restrict k3, const int channels, const int parts, const float m,
                                     const int batch, const int accumulate)
{
    const int c = (int)get_global_id(0), padded = (channels + CB - 1) / CB * CB;
    if (c >= padded) return;
    if (c >= channels) {
        k1[c] = k2[c] = k3[c] = 0.0f;
        return;
    }
    __global const float *part = partials + (size_t)(c / CB) * parts * (2 * CB) + c % CB;
    float sum = 0.0f, sum_error = 0.0f, product = 0.0f, product_error = 0.0f;
    for (int i = 0; i < parts; i++, part += 2 * CB) {
        const float a = part[0] - sum_error, a_sum = sum + a;
        sum_error = (a_sum - sum) - a;
        sum = a_sum;
        const float b = part[CB] - product_error, b_sum = product + b;
        product_error = (b_sum - product) - b;
        product = b_sum;
    }
    const float r = rstd[c], scale = (gamma ? gamma[c] : 1.0f) * r;
    if (dbeta) dbeta[c] = accumulate ? dbeta[c] + sum : sum;
    if (dgamma) dgamma[c] = accumulate ? dgamma[c] + product * r : product * r;
    k1[c] = scale;
    k2[c] = batch ? scale * (sum / m) : 0.0f;
    k3[c] = batch ? scale * r * r * (product / m) : 0.0f;
}
