/* SPDX-License-Identifier: MIT */
/* bn_backward_apply - the input's gradient, in one pass.
 *   g = y ? (y > 0 ? dy : 0), stored over dy : relu ? ((x - mean)*k1 + b > 0 ? dy : 0) : dy
 *   dx = batch ? k1*g - k2 - (x - mean)*k3 : k1*g
 * x (read with batch or relu only), y (or null), dy, dx (or null; may be dy) [N][blocks][HW][CB]; mean, b, k1, k2, k3 [blocks*CB]:
 * k1 and b are bn_apply's a and b, so that the mask is that of its y; b is read with relu only, k2 and k3 with batch only
 * global (HW, blocks, N), local (64, 1, 1).  -D CB X_HALF.  host src/op/batchnorm.c   ref tests/ref/ref_batchnorm.c */
#include "block.clh"

__kernel void bn_backward_apply(__global const x_t *x, __global const x_t *y, __global x_t *dy, __global x_t *dx,
                                __global const float *restrict mean, __global const float *restrict b,
                                __global const float *restrict k1, __global const float *restrict k2,
                                __global const float *restrict k3, const int pixels, const int relu, const int batch)
{
    const int i = (int)get_global_id(0), block = (int)get_global_id(1);
    if (i >= pixels) return;
    const size_t at = ((size_t)get_global_id(2) * get_global_size(1) + block) * pixels + i;
    const floatV d = relu || batch ? LOADX(at, x) - LOADV(block, mean) : (floatV)(0.0f);
    floatV g = LOADX(at, dy);
    if (y) {
        g = SELECTV((floatV)(0.0f), g, LOADX(at, y) > (floatV)(0.0f));
        STOREX(g, at, dy);
    } else if (relu) {
        g = SELECTV((floatV)(0.0f), g, fma(d, LOADV(block, k1), LOADV(block, b)) > (floatV)(0.0f));
    }
    if (!dx) return;
    floatV v = LOADV(block, k1) * g;
    if (batch) v -= fma(d, LOADV(block, k3), LOADV(block, k2));
    STOREX(v, at, dx);
}
