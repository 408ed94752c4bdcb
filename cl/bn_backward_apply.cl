/* SPDX-License-Identifier: MIT */
/* bn_backward_apply - the input's gradient, in one pass.
 *   g = y ? (y > 0 ? dy : 0), stored over dy : relu ? ((x - mean)*k1 + b > 0 ? dy : 0) : dy
 *   dx = batch ? k1*g - k2 - (x - mean)*k3 : k1*g
 * x (read with batch or relu only), y (or null), dy, dx (or null; may be dy) [N][blocks][HW][CB]; mean, b, k1, k2, k3 [blocks*CB]:
 * k1 and b are bn_apply's a and b, so that the mask is that of its y; b is read with relu only, k2 and k3 with batch only;
 * stream: dx goes past the caches (STREAMX)
 * global (ceil(HW / run), ceil(blocks / span), N): one work-item is `run` pixels of `span` blocks (cl/bn_run.clh)
 * -D CB X_HALF.  host src/op/batchnorm_backward.c   ref tests/ref/ref_batchnorm.c */
#include "block.clh"
#include "bn_run.clh"

__kernel void bn_backward_apply(__global const x_t *x, __global const x_t *y, __global x_t *dy, __global x_t *dx,
                                __global const float *restrict mean, __global const float *restrict b,
                                __global const float *restrict k1, __global const float *restrict k2,
                                __global const float *restrict k3, const int pixels, const int blocks, const int run, const int span,
                                const int relu, const int batch, const int stream)
{
    FOR_BLOCKS(block, blocks, span)
    {
        const size_t plane = ((size_t)get_global_id(2) * blocks + block) * pixels;
        const floatV zero = 0.0f, center = LOADV(block, mean), factor = LOADV(block, k1);
        const floatV shift = relu ? LOADV(block, b) : zero, mean_term = batch ? LOADV(block, k2) : zero,
                     slope = batch ? LOADV(block, k3) : zero;
        FOR_PIXELS(i, pixels, run)
        {
            const size_t at = plane + i;
            PREFETCH(x + (at + AHEAD) * CB);
            PREFETCH(dy + (at + AHEAD) * CB);
            const floatV d = relu || batch ? LOADX(at, x) - center : zero;
            floatV g = LOADX(at, dy);
            if (y) {
                g = SELECTV(zero, g, LOADX(at, y) > zero);
                STOREX(g, at, dy);
            } else if (relu) {
                g = SELECTV(zero, g, fma(d, factor, shift) > zero);
            }
            if (!dx) continue;
            floatV v = factor * g;
            if (batch) v -= fma(d, slope, mean_term);
            if (stream)
                STREAMX(v, at, dx);
            else
                STOREX(v, at, dx);
        }
    }
}
