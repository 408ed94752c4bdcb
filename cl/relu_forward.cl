/* SPDX-License-Identifier: MIT */
/* relu_forward - y = x < 0 ? 0 : x; NaN stays NaN. y may be x.
 * x, y: `count` elements in any layout; vectors of V, the tail by the first work-item
 * global (ceil(vectors / run)); one work-item is `run` consecutive vectors.
 * -D V (1, 4, 8, 16) X_HALF     host src/op/elementwise.c   ref tests/ref/ref_elementwise.c */
#define CB V
#include "block.clh"

__kernel void relu_forward(__global const x_t *x, __global x_t *y, const int count, const int run)
{
    const int vectors = count / V, first = (int)get_global_id(0) * run;
    const int last = min(first + run, vectors);
    for (int i = first; i < last; i++) {
        const floatV value = LOADX(i, x);
        STOREX(SELECTV(value, (floatV)(0.0f), value < (floatV)(0.0f)), i, y);
    }
    if (first == 0)
        for (int i = vectors * V; i < count; i++) STOREX1(LOADX1(i, x) < 0.0f ? 0.0f : LOADX1(i, x), i, y);
}
