/* SPDX-License-Identifier: MIT */
/* bn_backward_statistics - adds the chunks' sums up, stores the affine gradients and the coefficients of the last pass.
 *   dbeta = sum g   dgamma = rstd * sum g*(x - mean)   k1 = gamma*rstd
 *   batch statistics: k2 = k1*sum(g)/m, k3 = k1*rstd^2*sum(g*(x - mean))/m;  running statistics: k2 = k3 = 0
 * partials [blocks][parts][2][CB]; rstd [blocks*CB]; gamma, dgamma, dbeta [C] or null; k1, k2, k3 [blocks*CB], padding 0
 * global (blocks): one work-item is one channel block; parts are added in order, compensated (Kahan). With -D GROUP global (blocks*LOCAL),
 * local (LOCAL, 1, 1): a work-group is a block, and its work-items' sums are added as a tree.  -D CB GROUP.  host src/op/batchnorm_backward.c */
#include "block.clh"
#include "bn_group.clh"

__kernel void bn_backward_statistics(__global const float *restrict partials, __global const float *restrict rstd,
                                     __global const float *restrict gamma, __global float *restrict dgamma,
                                     __global float *restrict dbeta, __global float *restrict k1, __global float *restrict k2,
                                     __global float *restrict k3, const int channels, const int parts, const float m,
                                     const int batch, const int accumulate)
{
    const int block = MERGED_BLOCK, first = block * CB;
    MERGE_GUARD(first < channels);
    __global const float *part = partials + (size_t)block * parts * (2 * CB);
    GROUP_SCRATCH(scratch);
    floatV sum = (floatV)(0.0f), sum_error = sum, product = sum, product_error = sum;
    for (int i = MEMBER; i < parts; i += MEMBERS) {
        const floatV a = LOADV(2 * i, part) - sum_error, a_sum = sum + a;
        sum_error = (a_sum - sum) - a;
        sum = a_sum;
        const floatV b = LOADV(2 * i + 1, part) - product_error, b_sum = product + b;
        product_error = (b_sum - product) - b;
        product = b_sum;
    }
    sum = GROUP_SUM(sum, scratch);
    product = GROUP_SUM(product, scratch);
    if (MEMBER != 0) return;
    float sums[CB], products[CB];
    STOREV(sum, 0, sums);
    STOREV(product, 0, products);
    for (int l = 0; l < CB; l++) {
        const int c = first + l, there = c < channels;
        const float r = rstd[c], scale = (gamma && there ? gamma[c] : 1.0f) * r;
        if (dbeta && there) dbeta[c] = accumulate ? dbeta[c] + sums[l] : sums[l];
        if (dgamma && there) dgamma[c] = accumulate ? dgamma[c] + products[l] * r : products[l] * r;
        k1[c] = there ? scale : 0.0f;
        k2[c] = there && batch ? scale * (sums[l] / m) : 0.0f;
        k3[c] = there && batch ? scale * r * r * (products[l] / m) : 0.0f;
    }
}
