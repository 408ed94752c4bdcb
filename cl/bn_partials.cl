/* SPDX-License-Identifier: MIT */
/* bn_partials - mean and sum of squared differences of one chunk of one image, per channel (pass 1 of batch statistics).
 * x [N][blocks][HW][CB]; partials as in bn_parts.clh, where the formula is: parts are [N*chunks], each of up to `chunk` pixels
 * global (ceil(chunks / run), ceil(blocks / span), N): one work-item is `run` chunks of `span` blocks (cl/bn_run.clh); with -D GROUP
 * global (chunks*LOCAL, blocks, N), local (LOCAL, 1, 1): a work-group is a chunk.
 * -D CB X_HALF GROUP.  host src/op/batchnorm.c   ref tests/ref/ref_batchnorm.c */
#include "block.clh"
#include "bn_parts.clh"
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
            const int first = part * chunk;
            part_of_pixels(x, partials, block, blocks, n * chunks + part, images * chunks, n, first,
                           min(chunk, pixels - first), pixels, AHEAD GROUP_ARGUMENT(scratch));
        }
    }
}
