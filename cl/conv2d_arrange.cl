/* SPDX-License-Identifier: MIT */
/* conv2d_arrange - images padded with zeros and taken apart by the stride's phases, so that every tap of a convolution lies at a
 * constant distance from its pixel and no tap needs a border check.
 *   (y + y_at)[n][block][a][b][i][j] = x[n][block][i*stride_h + a - top][j*stride_w + b - left] inside the image, 0 outside
 * x [N][blocks][H][W][CB]; y [N][blocks][phases_h][phases_w][rows*width + tail][CB], every element written
 * global (phases_h * phases_w * rows, blocks, N), local (1, 1, 1): one work-item is one row of a phase.
 * -D CB     host src/op/conv2d_arrange.c   ref: tested through the convolution */
#include "block.clh"

__kernel void conv2d_arrange(__global const float *restrict x, __global float *restrict y, const int y_at, const int h, const int w,
                             const int stride_h, const int stride_w, const int phases_h, const int phases_w, const int top,
                             const int left, const int rows, const int width, const int tail)
{
    const int i = (int)get_global_id(0) % rows, phase = (int)get_global_id(0) / rows;
    const int b = phase % phases_w, row = i * stride_h + phase / phases_w - top;
    const size_t image = (size_t)get_global_id(2) * get_global_size(1) + get_global_id(1);
    const size_t plane = (size_t)rows * width + tail;
    __global float *to = y + y_at + ((image * (phases_h * phases_w) + phase) * plane + (size_t)i * width) * CB;
    const int count = i == rows - 1 ? width + tail : width;
    const int inside = row >= 0 && row < h;
    const int first = !inside ? count : b < left ? min((left - b + stride_w - 1) / stride_w, count) : 0;
    const int end = max(first, min(count, (w + left - b + stride_w - 1) / stride_w));
    for (int j = 0; j < first; j++) STOREV((floatV)(0.0f), j, to);
    if (inside) {
        __global const float *from = x + (image * h + row) * w * CB;
        for (int j = first; j < end; j++) STOREV(LOADV(j * stride_w + b - left, from), j, to);
    }
    for (int j = end; j < count; j++) STOREV((floatV)(0.0f), j, to);
}
