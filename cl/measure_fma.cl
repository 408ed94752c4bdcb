/* SPDX-License-Identifier: MIT */
/* measure_fma - multiply-adds on registers and nothing else: the rate that no kernel can beat.
 *   each of CHAINS independent values: v = v * a + b, `count` times
 * global (items), local (1, 1, 1) on CPUs and (64, 1, 1) on GPUs; out [items*CB], written so that the work is not left out
 * -D CB (floats of a value) CHAINS   host src/op/measure.c */
#include "block.clh"
#ifndef CHAINS
#define CHAINS 12
#endif

__kernel void measure_fma(__global float *out, const float a, const float b, const int count)
{
    floatV value[CHAINS], sum = 0.0f;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) value[i] = (floatV)((float)i);
#pragma unroll 1
    for (int k = 0; k < count; k++) {
#pragma unroll
        for (int i = 0; i < CHAINS; i++) value[i] = fma(value[i], (floatV)(a), (floatV)(b));
    }
#pragma unroll
    for (int i = 0; i < CHAINS; i++) sum += value[i];
    STOREV(sum, get_global_id(0), out);
}
