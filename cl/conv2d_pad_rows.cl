/* SPDX-License-Identifier: MIT */
/* conv2d_pad_rows - rows of an NCHW image with zeros at either end, so that the taps of a row need no border check.
 *   (y + y_at)[row][i] = x[row][i - pad] inside, 0 outside
 * x [rows][W]; y [rows][width], rows = N*C*H
 * global (rows), local (64, 1, 1): one work-item is one row.   host src/op/conv2d_direct.c   ref: tested through the convolution */
__kernel void conv2d_pad_rows(__global const float *restrict x, __global float *restrict y, const int y_at, const int rows, const int w,
                              const int width, const int pad)
{
    const int row = (int)get_global_id(0);
    if (row >= rows) return;
    __global const float *from = x + (size_t)row * w;
    __global float *to = y + y_at + (size_t)row * width;
    for (int i = 0; i < pad; i++) to[i] = 0.0f;
    for (int i = 0; i < w; i++) to[pad + i] = from[i];
    for (int i = pad + w; i < width; i++) to[i] = 0.0f;
}
