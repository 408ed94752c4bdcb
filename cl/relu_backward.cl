/* SPDX-License-Identifier: MIT */
/* relu_backward - dx = y > 0 ? dy : 0. dx may be dy.
 * y, dy, dx: `count` floats in any layout; vectors of V, the tail by the first work-item
 * global (ceil(vectors / run)); one work-item is `run` consecutive vectors.
 * -D V (1, 4, 8, 16)     host src/op/elementwise.c   ref tests/ref/ref_elementwise.c */
#define CB V
#include "block.clh"

__kernel void relu_backward(__global const float *y, __global const float *dy, __global float *dx, const int count, const int run)
{
    const int vectors = count / V, first = (int)get_global_id(0) * run;
    const int last = min(first + run, vectors);
    for (int i = first; i < last; i++)
        STOREV(SELECTV((floatV)(0.0f), LOADV(i, dy), LOADV(i, y) > (floatV)(0.0f)), i, dx);
    if (first == 0)
        for (int i = vectors * V; i < count; i++) dx[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}
