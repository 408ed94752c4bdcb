/* SPDX-License-Identifier: MIT */
/* weight_average - a running average of weights: average += rest * (weight - average), rest = 1 - decay. Equal values stay equal to the last bit,
 * so that what does not train does not move.
 * weights in, averages in and out: `count` floats
 * global (ceil(count / (chunk*CB))): a work-item is `chunk` neighbouring vectors; the last vector may be partial.
 * -D CB (floats of a vector)   host src/op/weight_average.c   source: Polyak & Juditsky 1992; timm's ModelEmaV2 */
#include "block.clh"

__kernel void weight_average(__global const float *restrict weights, __global float *restrict averages, const int count, const int chunk,
                             const float rest)
{
    for (int k = 0; k < chunk; k++) {
        const int block = (int)get_global_id(0) * chunk + k;
        if (block > (count - 1) / CB) return;
        if (block * CB + CB <= count) {
            const floatV a = LOADV(block, averages);
            STOREV(fma((floatV)(rest), LOADV(block, weights) - a, a), block, averages);
            continue;
        }
        for (int i = block * CB; i < count; i++) averages[i] = fma(rest, weights[i] - averages[i], averages[i]);
    }
}
