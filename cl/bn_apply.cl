/* SPDX-License-Identifier: MIT */
/* bn_apply - normalise, scale, add the residual, rectify, in one pass.
 *   y = relu?( (x - mean)*a + b + residual )     a = gamma*rstd, b = beta
 * x, residual (or null), y [N][blocks][HW][CB], y may be x or residual; mean, a, b [blocks*CB]
 * global (HW, blocks, N), local (64, 1, 1).  -D CB X_HALF.  host src/op/batchnorm.c   ref tests/ref/ref_batchnorm.c */
#include "block.clh"

__kernel void bn_apply(__global const x_t *x, __global const float *restrict mean, __global const float *restrict a,
                       __global const float *restrict b, __global const x_t *residual, __global x_t *y, const int pixels,
                       const int relu)
{
    const int i = (int)get_global_id(0), block = (int)get_global_id(1);
    if (i >= pixels) return;
    const size_t at = ((size_t)get_global_id(2) * get_global_size(1) + block) * pixels + i;
    floatV v = fma(LOADX(at, x) - LOADV(block, mean), LOADV(block, a), LOADV(block, b));
    if (residual) v += LOADX(at, residual);
    if (relu) v = SELECTV(v, (floatV)(0.0f), v < (floatV)(0.0f)); /* NaN stays */
    STOREX(v, at, y);
}
