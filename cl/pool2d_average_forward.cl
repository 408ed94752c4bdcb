/* SPDX-License-Identifier: MIT */
/* pool2d_average_forward - y[n][c][p][q] = sum over a window of x[n][c] / (rows counted * columns counted).
 * Serves torch.nn.AvgPool2d and AdaptiveAvgPool2d, which differ in the window tables only.
 * x [N][blocks][H][W][CB]; y [N][blocks][P][Q][CB]
 * rows [P][3], columns [Q][3]: first and end of each window, clipped to the image, and the number to divide by
 * global (ceil(P*Q / run), blocks, N); one work-item is `run` consecutive outputs. Each row of a window is summed by itself
 * first: the error of a global average over 112 x 112 pixels is that of 224 additions.
 * -D CB X_HALF Y_HALF     host src/op/pool2d.c   ref tests/ref/ref_pool2d.c */
#include "block.clh"

/* Sum of pixels [left, right) of one row. */
static floatV row_sum(__global const x_t *row, int left, const int right)
{
    floatV sum = (floatV)(0.0f);
#if CB == 1
    if (right - left >= 8) {
        float8 lanes = (float8)(0.0f);
        for (; left + 8 <= right; left += 8) lanes += LOADX8(0, row + left);
        const float4 half_ = lanes.lo + lanes.hi;
        sum = (half_.x + half_.y) + (half_.z + half_.w);
    }
#endif
    for (; left < right; left++) sum += LOADX(left, row);
    return sum;
}

__kernel void pool2d_average_forward(__global const x_t *restrict x, __global const int *restrict rows,
                                     __global const int *restrict columns, __global y_t *restrict y, const int h, const int w,
                                     const int p, const int q, const int run)
{
    const int first = (int)get_global_id(0) * run;
    if (first >= p * q) return;
    const int last = min(first + run, p * q);
    const size_t plane = (size_t)get_global_id(2) * get_global_size(1) + get_global_id(1);
    __global const x_t *xp = x + plane * h * w * CB;
    __global y_t *yp = y + plane * p * q * CB;
    int i = first / q, j = first % q;
    for (int o = first; o < last; o++) {
        floatV sum = (floatV)(0.0f);
        for (int r = rows[3 * i]; r < rows[3 * i + 1]; r++)
            sum += row_sum(xp + (size_t)r * w * CB, columns[3 * j], columns[3 * j + 1]);
        STOREY(sum / (float)(rows[3 * i + 2] * columns[3 * j + 2]), o, yp);
        if (++j == q) {
            j = 0;
            i++;
        }
    }
}
