/* SPDX-License-Identifier: MIT */
/* reorder - y = x, from channel blocks of CBX to blocks of CB; y's padding channels become zero.
 * x [N][x_blocks][pixels][CBX]; y [N][y_blocks][pixels][CB]
 * global (pixels, y_blocks, N); one work-item is one block of y.
 * -D CB (of y) CBX (of x)     host src/op/elementwise.c   ref: the layout's formula, in tests/support/device.c */
#include "block.clh"

__kernel void reorder(__global const float *restrict x, __global float *restrict y, const int channels, const int pixels,
                      const int x_blocks)
{
    const int i = (int)get_global_id(0), block = (int)get_global_id(1), n = (int)get_global_id(2);
    if (i >= pixels) return;
    __global const float *xn = x + (size_t)n * x_blocks * pixels * CBX;
    __global float *to = y + (((size_t)n * get_global_size(1) + block) * pixels + i) * CB;
    for (int l = 0; l < CB; l++) {
        const int c = block * CB + l;
        to[l] = c < channels ? xn[((size_t)(c / CBX) * pixels + i) * CBX + c % CBX] : 0.0f;
    }
}
