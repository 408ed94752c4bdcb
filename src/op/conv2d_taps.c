/* SPDX-License-Identifier: MIT */
#include "op/conv2d_taps.h"

#include "base/memory.h"

/* Taps r with (offset + pad - r*dilation) divisible by stride form an arithmetic progression. */
trine__axis trine__backward_axis(int in, int offset, int kernel, int stride, int pad, int dilation)
{
    trine__axis a = {.count = trine__ceil_div(in - offset, stride), .step = 1};
    for (int r = 0; r < kernel; r++) {
        const int reach = offset + pad - r * dilation;
        if (reach % stride != 0) continue;
        if (a.taps == 0) {
            a.first = r;
            a.base = reach / stride;
        } else if (a.taps == 1) {
            a.step = r - a.first;
        }
        a.taps++;
    }
    a.delta = -(a.step * dilation) / stride;
    return a;
}
