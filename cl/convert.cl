/* SPDX-License-Identifier: MIT */
/* convert - y = x, from one storage to another.
 * x, y: `count` elements in any layout; vectors of V, the tail by the first work-item
 * global (ceil(vectors / run)); one work-item is `run` consecutive vectors.
 * -D V (1, 4, 8, 16) X_HALF Y_HALF     host src/op/elementwise.c */
#define CB V
#include "block.clh"

__kernel void convert(__global const x_t *restrict x, __global y_t *restrict y, const int count, const int run)
{
    const int vectors = count / V, first = (int)get_global_id(0) * run;
    const int last = min(first + run, vectors);
    for (int i = first; i < last; i++) STOREY(LOADX(i, x), i, y);
    if (first == 0)
        for (int i = vectors * V; i < count; i++) STOREY1(LOADX1(i, x), i, y);
}
