/* SPDX-License-Identifier: MIT */
/* pool2d_average_backward - dx[n][c][h][w] = sum over the windows (p,q) that hold (h,w) of dy[n][c][p][q] / what p,q divided by.
 * A gather, as pool2d_max_backward.
 * dy [N][blocks][P][Q][CB]; dx [N][blocks][H][W][CB], every element written
 * rows [P][3], columns [Q][3]: the third number is the window's divisor; holders_h [H][2], holders_w [W][2]: first and end of
 * the windows that hold a row or column
 * global (ceil(H*W / run), blocks, N); one work-item is `run` consecutive inputs.
 * -D CB X_HALF (dx) Y_HALF (dy)     host src/op/pool2d.c   ref tests/ref/ref_pool2d.c */
#include "block.clh"

__kernel void pool2d_average_backward(__global const y_t *restrict dy, __global const int *restrict rows,
                                      __global const int *restrict columns, __global const int *restrict holders_h,
                                      __global const int *restrict holders_w, __global x_t *restrict dx, const int h,
                                      const int w, const int p, const int q, const int run)
{
    const int first = (int)get_global_id(0) * run;
    if (first >= h * w) return;
    const int last = min(first + run, h * w);
    const size_t plane = (size_t)get_global_id(2) * get_global_size(1) + get_global_id(1);
    __global const y_t *yp = dy + plane * p * q * CB;
    __global x_t *xp = dx + plane * h * w * CB;
    int i = first / w, j = first % w;
    for (int at = first; at < last; at++) {
        const int top = holders_h[2 * i], bottom = holders_h[2 * i + 1], left = holders_w[2 * j], right = holders_w[2 * j + 1];
        floatV sum = (floatV)(0.0f);
        for (int r = top; r < bottom; r++)
            for (int s = left; s < right; s++)
                sum += LOADY(r * q + s, yp) / (float)(rows[3 * r + 2] * columns[3 * s + 2]);
        STOREX(sum, at, xp);
        if (++j == w) {
            j = 0;
            i++;
        }
    }
}
