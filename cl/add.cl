/* SPDX-License-Identifier: MIT */
/* add - y = a + b. y may be a or b.
 * a, b, y: `count` elements in any layout; vectors of V, the tail by the first work-item
 * global (ceil(vectors / run)); one work-item is `run` consecutive vectors.
 * -D V (1, 4, 8, 16) X_HALF     host src/op/elementwise.c   ref tests/ref/ref_elementwise.c */
#define CB V
#include "block.clh"

__kernel void add(__global const x_t *a, __global const x_t *b, __global x_t *y, const int count, const int run)
{
    const int vectors = count / V, first = (int)get_global_id(0) * run;
    const int last = min(first + run, vectors);
    for (int i = first; i < last; i++) STOREX(LOADX(i, a) + LOADX(i, b), i, y);
    if (first == 0)
        for (int i = vectors * V; i < count; i++) STOREX1(LOADX1(i, a) + LOADX1(i, b), i, y);
}
