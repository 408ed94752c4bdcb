/* SPDX-License-Identifier: MIT */
/* conv2d_plain_forward - one output element a work-item; every case that the tiled kernels leave out.
 *   y[n][k][p][q] = relu?( scale[k] * sum_{c,r,s} x[n][c][p*st_h - pad_h + r*dil_h][q*st_w - pad_w + s*dil_w] * w[k][c][r][s]
 *                   + shift[k] + residual )
 * x [N,C,H,W] block cb_x; y, residual [N,K,P,Q] block cb_y; weights as in conv2d_weights.clh; scale, shift [K] or null
 * global (P*Q, K rounded up to cb_y, N), local (64, 1, 1); padding channels of y are written as zero
 * -D WKB WCB X_HALF Y_HALF   host src/op/conv2d_plain.c   ref tests/ref/ref_conv2d.c */
#include "conv2d_problem.clh"
#include "conv2d_weights.clh"

__kernel void conv2d_plain_forward(__global const x_t *restrict x, __global const float *restrict weights,
                                   __global const float *restrict scale, __global const float *restrict shift,
                                   __global const y_t *residual, __global y_t *y, const int channels,
                                   const int filters, const int h, const int w, const int p, const int q, const int rows,
                                   const int columns, const int st_h, const int st_w, const int pad_h, const int pad_w,
                                   const int dil_h, const int dil_w, const int groups, const int cb_x, const int cb_y,
                                   const int relu)
{
    const int pixel = (int)get_global_id(0), k = (int)get_global_id(1), n = (int)get_global_id(2);
    if (pixel >= p * q) return;
    const int py = pixel / q, qx = pixel % q;
    const size_t to = block_index(n, k, py, qx, filters, p, q, cb_y);
    if (k >= filters) {
        STOREY(0.0f, to, y);
        return;
    }
    const int per_group = channels / groups, first = k / (filters / groups) * per_group;
    float sum = 0.0f;
    for (int c = 0; c < per_group; c++)
        for (int r = 0; r < rows; r++) {
            const int iy = py * st_h - pad_h + r * dil_h;
            if (iy < 0 || iy >= h) continue;
            for (int s = 0; s < columns; s++) {
                const int ix = qx * st_w - pad_w + s * dil_w;
                if (ix < 0 || ix >= w) continue;
                sum = fma(LOADX(block_index(n, first + c, iy, ix, channels, h, w, cb_x), x),
                          weights[weight_index(k, c, per_group, rows * columns) + (r * columns + s) * WEIGHT_TAP], sum);
            }
        }
    float value = scale ? sum * scale[k] : sum;
    if (shift) value += shift[k];
    if (residual) value += LOADY(to, residual);
    STOREY(relu && value < 0.0f ? 0.0f : value, to, y); /* NaN stays */
}
