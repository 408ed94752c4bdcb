/* SPDX-License-Identifier: MIT */
/* bn_partials - mean and sum of squared differences of one chunk of one image, per channel (pass 1 of batch statistics).
 *   s = first value   mean = s + sum(x - s)/count   m2 = sum((x - mean)^2) - (sum(x - mean))^2/count
 * x [N][blocks][HW][CB]; partials [blocks][N*chunks][2][CB] {mean, m2}; count follows from the chunk's position
 * global (ceil(chunks / run), ceil(blocks / span), N): one work-item is `run` chunks of `span` blocks (cl/bn_run.clh); with -D GROUP
 * global (chunks*LOCAL, blocks, N), local (LOCAL, 1, 1): a work-group is a chunk. Two passes over a chunk that fits the first-level
 * cache: E[x^2]-E[x]^2 would cancel where |mean| >> std, and the shift makes a constant channel's mean exact.
 * -D CB X_HALF GROUP.  host src/op/batchnorm.c   ref tests/ref/ref_batchnorm.c   Chan, Golub, LeVeque 1983 */
#include "block.clh"
#include "bn_group.clh"
#include "bn_run.clh"

__kernel void bn_partials(__global const x_t *restrict x, __global float *restrict partials, const int pixels, const int chunk,
                          const int chunks, const int blocks, const int run, const int span)
{
    const int n = (int)get_global_id(2), images = (int)get_global_size(2);
    GROUP_SCRATCH(scratch);
    FOR_BLOCKS(block, blocks, span)
    {
        FOR_CHUNKS(part, chunks, run)
        {
            const int first = part * chunk, count = min(chunk, pixels - first);
            __global const x_t *xp = x + ((size_t)(n * blocks + block) * pixels + first) * CB;
            const floatV shift = LOADX(0, xp);
            floatV a0 = 0.0f, a1 = 0.0f, a2 = 0.0f, a3 = 0.0f;
            int i = LANE;
            for (; i + 3 * LANES < count; i += 4 * LANES) {
                PREFETCH(xp + (i + AHEAD) * CB);
                PREFETCH(xp + (i + 1 + AHEAD) * CB);
                PREFETCH(xp + (i + 2 + AHEAD) * CB);
                PREFETCH(xp + (i + 3 + AHEAD) * CB);
                a0 += LOADX(i, xp) - shift;
                a1 += LOADX(i + LANES, xp) - shift;
                a2 += LOADX(i + 2 * LANES, xp) - shift;
                a3 += LOADX(i + 3 * LANES, xp) - shift;
            }
            for (; i < count; i += LANES) a0 += LOADX(i, xp) - shift;
            const floatV mean = shift + GROUP_SUM((a0 + a1) + (a2 + a3), scratch) / (float)count;
            floatV q0 = 0.0f, q1 = 0.0f, e0 = 0.0f, e1 = 0.0f;
            for (i = LANE; i + LANES < count; i += 2 * LANES) {
                const floatV d0 = LOADX(i, xp) - mean, d1 = LOADX(i + LANES, xp) - mean;
                q0 = fma(d0, d0, q0);
                q1 = fma(d1, d1, q1);
                e0 += d0;
                e1 += d1;
            }
            for (; i < count; i += LANES) {
                const floatV d = LOADX(i, xp) - mean;
                q0 = fma(d, d, q0);
                e0 += d;
            }
            const floatV q = GROUP_SUM(q0 + q1, scratch), e = GROUP_SUM(e0 + e1, scratch);
            if (LANE == 0) {
                __global float *out = partials + (((size_t)block * images + n) * chunks + part) * (2 * CB);
                STOREV(mean, 0, out);
                STOREV(fmax(q - e * e / (float)count, (floatV)(0.0f)), 1, out);
            }
        }
    }
}
