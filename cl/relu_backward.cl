/* SPDX-License-Identifier: MIT */
/* relu_backward - dx = y > 0 ? dy : 0. dx may be dy.
 * y, dy, dx: `count` elements in any layout; vectors of V, the tail by the first work-item
 * global (ceil(vectors / run)); one work-item is `run` consecutive vectors.
 * -D V (1, 4, 8, 16) X_HALF     host src/op/elementwise.c   ref tests/ref/ref_elementwise.c */
#define CB V
#include "block.clh"

__kernel void relu_backward(__global const x_t *y, __global const x_t *dy, __global x_t *dx, const int count, const int run)
{
    const int vectors = count / V, first = (int)get_global_id(0) * run;
    const int last = min(first + run, vectors);
    for (int i = first; i < last; i++)
        STOREX(SELECTV((floatV)(0.0f), LOADX(i, dy), LOADX(i, y) > (floatV)(0.0f)), i, dx);
    if (first == 0)
        for (int i = vectors * V; i < count; i++) STOREX1(LOADX1(i, y) > 0.0f ? LOADX1(i, dy) : 0.0f, i, dx);
}
