/* SPDX-License-Identifier: MIT */
/* pool2d_max_forward - y[n][c][p][q] = max over a window of x[n][c]; index = the winner's h*W + w.
 * The first in row order wins among equals; NaN wins over everything (torch.nn.MaxPool2d).
 * x [N][blocks][H][W][CB]; y, index [N][blocks][P][Q][CB] (index may be null)
 * rows [P][3], columns [Q][3]: first and end of each window, clipped to the image (third number not used)
 * global (ceil(P*Q / run), blocks, N); one work-item is `run` consecutive outputs. Border checks were done by the host, once, in
 * the window tables.
 * -D CB X_HALF     host src/op/pool2d.c   ref tests/ref/ref_pool2d.c */
#include "block.clh"

__kernel void pool2d_max_forward(__global const x_t *restrict x, __global const int *restrict rows,
                                 __global const int *restrict columns, __global x_t *restrict y, __global int *restrict index,
                                 const int h, const int w, const int p, const int q, const int step_h, const int step_w,
                                 const int run)
{
    const int first = (int)get_global_id(0) * run;
    if (first >= p * q) return;
    const int last = min(first + run, p * q);
    const size_t plane = (size_t)get_global_id(2) * get_global_size(1) + get_global_id(1);
    __global const x_t *xp = x + plane * h * w * CB;
    __global x_t *yp = y + plane * p * q * CB;
    __global int *ip = index + plane * p * q * CB;
    int i = first / q, j = first % q;
    for (int o = first; o < last; o++) {
        const int top = rows[3 * i], bottom = rows[3 * i + 1], left = columns[3 * j], right = columns[3 * j + 1];
        floatV best = (floatV)(-INFINITY);
        intV winner = (intV)(top * w + left);
        for (int r = top; r < bottom; r += step_h)
            for (int s = left; s < right; s += step_w) {
                const int at = r * w + s;
                const floatV value = LOADX(at, xp);
                const intV wins = (value > best) | (value != value);
                best = SELECTV(best, value, wins);
                winner = SELECTV(winner, (intV)(at), wins);
            }
        STOREX(best, o, yp);
        if (index) STOREV(winner, o, ip);
        if (++j == q) {
            j = 0;
            i++;
        }
    }
}
