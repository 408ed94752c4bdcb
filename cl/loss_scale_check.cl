/* SPDX-License-Identifier: MIT */
/* loss_scale_check - state[2] = 1 if one of the gradients is infinite or not a number; else it stays.
 * gradients: elements [first, first + count); state as in loss_scale
 * global (ceil(count / (chunk*CB))): a work-item is `chunk` neighbouring vectors; the last vector may be partial.
 * -D CB (floats of a vector)   host src/op/loss_scale.c */
#include "block.clh"

enum { MAGNITUDE = 0x7fffffff, INFINITE = 0x7f800000 };

#if CB == 1
#define AS_INTV(v)  as_int(v)
#else
#define AS_INTV(v)  PASTE(as_int, CB)(v)
#endif

__kernel void loss_scale_check(__global const float *restrict gradients, __global float *restrict state, const int first, const int count,
                               const int chunk)
{
    __global const float *g = gradients + first;
    intV worst = (intV)(0);
    int rest = 0;
    for (int k = 0; k < chunk; k++) {
        const int block = (int)get_global_id(0) * chunk + k;
        if (block > (count - 1) / CB) break;
        if (block * CB + CB <= count)
            worst = max(worst, AS_INTV(LOADV(block, g)) & MAGNITUDE);
        else
            for (int i = block * CB; i < count; i++) rest = max(rest, as_int(g[i]) & MAGNITUDE);
    }
    int lanes[CB];
    STOREV(worst, 0, lanes);
    for (int l = 0; l < CB; l++) rest = max(rest, lanes[l]);
    if (rest >= INFINITE) atomic_xchg((volatile __global float *)state + 2, 1.0f);
}
