/* SPDX-License-Identifier: MIT */
/* bn_apply - normalise, scale, add the residual, rectify, in one pass.
 *   y = relu?( (x - mean)*a + b + residual )     a = gamma*rstd, b = beta
 * x, residual (or null), y [N][blocks][HW][CB], y may be x or residual; mean, a, b [blocks*CB]; stream: y goes past the caches (STREAMX)
 * global (ceil(HW / run), ceil(blocks / span), N): one work-item is `run` pixels of `span` blocks (cl/bn_run.clh)
 * -D CB X_HALF.  host src/op/batchnorm.c   ref tests/ref/ref_batchnorm.c
 * Minimal filtering that reads x instead does the same to it: winograd_normalise (cl/conv2d_winograd_patch.clh). */
#include "block.clh"
#include "bn_run.clh"

__kernel void bn_apply(__global const x_t *x, __global const float *restrict mean, __global const float *restrict a,
                       __global const float *restrict b, __global const x_t *residual, __global x_t *y, const int pixels,
                       const int blocks, const int run, const int span, const int relu, const int stream)
{
    FOR_BLOCKS(block, blocks, span)
    {
        const size_t plane = ((size_t)get_global_id(2) * blocks + block) * pixels;
        const floatV center = LOADV(block, mean), scale = LOADV(block, a), shift = LOADV(block, b);
        FOR_PIXELS(i, pixels, run)
        {
            const size_t at = plane + i;
            PREFETCH(x + (at + AHEAD) * CB);
            floatV v = fma(LOADX(at, x) - center, scale, shift);
            if (residual) {
                PREFETCH(residual + (at + AHEAD) * CB);
                v += LOADX(at, residual);
            }
            if (relu) v = SELECTV(v, (floatV)(0.0f), v < (floatV)(0.0f)); /* NaN stays */
            if (stream)
                STREAMX(v, at, y);
            else
                STOREX(v, at, y);
        }
    }
}
