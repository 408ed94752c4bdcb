/* SPDX-License-Identifier: MIT */
/* conv2d_plain_backward_data - one input element a work-item, gathering from the outputs that it fed.
 *   dx[n][c][h][w] = beta*dx + sum_{k,r,s} dy[n][k][(h + pad_h - r*dil_h)/st_h][(w + pad_w - s*dil_w)/st_w] * weights[k][c][r][s]
 *                    over taps whose division leaves no remainder and whose output exists
 * dy [N,K,P,Q] block cb_y; dx [N,C,H,W] block cb_x; weights as in conv2d_weights.clh
 * global (H*W, C rounded up to cb_x, N), local (64, 1, 1); padding channels of dx are written as zero
 * -D WKB WCB X_HALF (dy) Y_HALF (dx)   host src/op/conv2d_plain.c   ref tests/ref/ref_conv2d.c */
#include "conv2d_problem.clh"
#include "conv2d_weights.clh"

__kernel void conv2d_plain_backward_data(__global const x_t *restrict dy, __global const float *restrict weights,
                                         __global y_t *restrict dx, const int channels, const int filters, const int h,
                                         const int w, const int p, const int q, const int rows, const int columns,
                                         const int st_h, const int st_w, const int pad_h, const int pad_w, const int dil_h,
                                         const int dil_w, const int groups, const int cb_x, const int cb_y, const int beta)
{
    const int pixel = (int)get_global_id(0), c = (int)get_global_id(1), n = (int)get_global_id(2);
    if (pixel >= h * w) return;
    const int iy = pixel / w, ix = pixel % w;
    const size_t to = block_index(n, c, iy, ix, channels, h, w, cb_x);
    if (c >= channels) {
        STOREY(0.0f, to, dx);
        return;
    }
    const int per_group = channels / groups, filters_per_group = filters / groups, first = c / per_group * filters_per_group;
    float sum = 0.0f;
    for (int r = 0; r < rows; r++) {
        const int ty = iy + pad_h - r * dil_h;
        if (ty < 0 || ty % st_h != 0 || ty / st_h >= p) continue;
        for (int s = 0; s < columns; s++) {
            const int tx = ix + pad_w - s * dil_w;
            if (tx < 0 || tx % st_w != 0 || tx / st_w >= q) continue;
            for (int k = first; k < first + filters_per_group; k++)
                sum = fma(LOADX(block_index(n, k, ty / st_h, tx / st_w, filters, p, q, cb_y), dy),
                          weights[weight_index(k, c % per_group, per_group, rows * columns) + (r * columns + s) * WEIGHT_TAP], sum);
        }
    }
    STOREY(beta ? LOADY(to, dx) + sum : sum, to, dx);
}
