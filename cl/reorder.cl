/* SPDX-License-Identifier: MIT */
/* reorder - y = x, from channel blocks of CBX to blocks of CB, and from one storage to another; y's padding channels become zero.
 * x [N][x_blocks][pixels][CBX]; y [N][y_blocks][pixels][CB]
 * global (pixels, y_blocks, N); one work-item is one block of y.
 * -D CB (of y) CBX (of x) X_HALF Y_HALF     host src/op/elementwise.c   ref: the layout's formula, in tests/support/device.c */
#include "block.clh"

__kernel void reorder(__global const x_t *restrict x, __global y_t *restrict y, const int channels, const int pixels,
                      const int x_blocks)
{
    const int i = (int)get_global_id(0), block = (int)get_global_id(1), n = (int)get_global_id(2);
    if (i >= pixels) return;
    __global const x_t *xn = x + (size_t)n * x_blocks * pixels * CBX;
    __global y_t *to = y + (((size_t)n * get_global_size(1) + block) * pixels + i) * CB;
    for (int l = 0; l < CB; l++) {
        const int c = block * CB + l;
        STOREY1(c < channels ? LOADX1(((size_t)(c / CBX) * pixels + i) * CBX + c % CBX, xn) : 0.0f, l, to);
    }
}
