/* SPDX-License-Identifier: MIT */
/* bn_backward_partials - the two sums of batch normalization's backward pass over one chunk, and the rectifier's mask.
 *   g = y ? (y > 0 ? dy : 0), stored over dy : relu ? ((x - mean)*a + b > 0 ? dy : 0) : dy      sums: sum(g), sum(g*(x - mean))
 * x, y (or null), dy [N][blocks][HW][CB]; mean, a, b [blocks*CB], a and b as in bn_apply, so that the mask is that of its y
 * (read with relu only); partials [blocks][N*chunks][2][CB]
 * global (ceil(chunks / run), ceil(blocks / span), N): one work-item is `run` chunks of `span` blocks (cl/bn_run.clh); with -D GROUP
 * global (chunks*LOCAL, blocks, N), local (LOCAL, 1, 1): a work-group is a chunk.
 * -D CB X_HALF GROUP.  host src/op/batchnorm_backward.c   ref tests/ref/ref_batchnorm.c */
#include "block.clh"
#include "bn_group.clh"
#include "bn_run.clh"

__kernel void bn_backward_partials(__global const x_t *restrict x, __global const x_t *restrict y, __global x_t *dy,
                                   __global const float *restrict mean, __global const float *restrict a,
                                   __global const float *restrict b, __global float *restrict partials, const int pixels,
                                   const int chunk, const int chunks, const int blocks, const int run, const int span, const int relu)
{
    const int n = (int)get_global_id(2), images = (int)get_global_size(2);
    GROUP_SCRATCH(scratch);
    FOR_BLOCKS(block, blocks, span)
    {
        const floatV zero = 0.0f, center = LOADV(block, mean);
        const floatV scale = relu ? LOADV(block, a) : zero, shift = relu ? LOADV(block, b) : zero;
        __global float *out = partials + ((size_t)block * images + n) * chunks * (2 * CB);
        FOR_CHUNKS(part, chunks, run)
        {
            const int first = part * chunk, count = min(chunk, pixels - first);
            const size_t base = (size_t)(n * blocks + block) * pixels + first;
            floatV s0 = zero, s1 = zero, t0 = zero, t1 = zero;
            for (int i = MEMBER; i < count; i += MEMBERS) {
                const size_t at = base + i;
                PREFETCH(x + (at + AHEAD) * CB);
                PREFETCH(dy + (at + AHEAD) * CB);
                const floatV d = LOADX(at, x) - center;
                floatV g = LOADX(at, dy);
                if (y) {
                    g = SELECTV(zero, g, LOADX(at, y) > zero);
                    STOREX(g, at, dy);
                } else if (relu) {
                    g = SELECTV(zero, g, fma(d, scale, shift) > zero);
                }
                if (i / MEMBERS & 1) {
                    s1 += g;
                    t1 = fma(g, d, t1);
                } else {
                    s0 += g;
                    t0 = fma(g, d, t0);
                }
            }
            const floatV s = GROUP_SUM(s0 + s1, scratch), t = GROUP_SUM(t0 + t1, scratch);
            if (MEMBER == 0) {
                STOREV(s, 0, out + part * (2 * CB));
                STOREV(t, 1, out + part * (2 * CB));
            }
        }
    }
}
