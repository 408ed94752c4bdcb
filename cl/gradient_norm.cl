/* SPDX-License-Identifier: MIT */
/* gradient_norm - partial sums of squares of gradients: partials[slot + i] of work-item i.
 * gradients: elements [first, first + count); work-item i takes `chunk` vectors, i*begin and every `step`-th from there: neighbours on
 * CPUs, interleaved with the other work-items' elsewhere. The last vector may be partial.
 * global (items).   -D CB (floats of a vector)   host src/op/gradient_norm.c */
#include "block.clh"

__kernel void gradient_norm(__global const float *restrict gradients, __global float *restrict partials, const int first, const int count,
                            const int items, const int chunk, const int begin, const int step, const int slot)
{
    const int item = (int)get_global_id(0);
    if (item >= items) return;
    __global const float *g = gradients + first;
    floatV sum = (floatV)(0.0f);
    float rest = 0.0f, lanes[CB];
    for (int k = 0; k < chunk; k++) {
        const int block = item * begin + k * step;
        if (block > (count - 1) / CB) break;
        if (block * CB + CB <= count) {
            const floatV v = LOADV(block, g);
            sum = fma(v, v, sum);
        } else {
            for (int i = block * CB; i < count; i++) rest = fma(g[i], g[i], rest);
        }
    }
    STOREV(sum, 0, lanes);
    for (int l = 0; l < CB; l++) rest += lanes[l];
    partials[slot + item] = rest;
}
