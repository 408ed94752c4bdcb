/* SPDX-License-Identifier: MIT */
/* conv2d_plain_backward_weights - one weight a work-item, summing over batch and image in order.
 *   dw[k][c][r][s] = beta*dw + sum_{n,p,q} dy[n][k][p][q] * x[n][c][p*st_h - pad_h + r*dil_h][q*st_w - pad_w + s*dil_w]
 * x [N,C,H,W] block cb_x; dy [N,K,P,Q] block cb_y; dw as in conv2d_weights.clh, its padding left alone
 * Each output row is summed apart, then added: the error grows with rows and columns, not with their product.
 * global (C/groups * R * S, K), local (64, 1, 1)
 * -D WKB WCB X_HALF Y_HALF (dy)   host src/op/conv2d_plain.c   ref tests/ref/ref_conv2d.c */
#include "conv2d_problem.clh"
#include "conv2d_weights.clh"

__kernel void conv2d_plain_backward_weights(__global const x_t *restrict x, __global const y_t *restrict dy,
                                            __global float *restrict dw, const int batch, const int channels,
                                            const int filters, const int h, const int w, const int p, const int q,
                                            const int rows, const int columns, const int st_h, const int st_w,
                                            const int pad_h, const int pad_w, const int dil_h, const int dil_w,
                                            const int groups, const int cb_x, const int cb_y, const int beta)
{
    const int i = (int)get_global_id(0), k = (int)get_global_id(1);
    const int per_group = channels / groups;
    if (i >= per_group * rows * columns) return;
    const int s = i % columns, r = i / columns % rows, c = k / (filters / groups) * per_group + i / (rows * columns);
    float sum = 0.0f;
    for (int n = 0; n < batch; n++)
        for (int py = 0; py < p; py++) {
            const int iy = py * st_h - pad_h + r * dil_h;
            if (iy < 0 || iy >= h) continue;
            float row = 0.0f;
            for (int qx = 0; qx < q; qx++) {
                const int ix = qx * st_w - pad_w + s * dil_w;
                if (ix < 0 || ix >= w) continue;
                row = fma(LOADX(block_index(n, c, iy, ix, channels, h, w, cb_x), x),
                          LOADY(block_index(n, k, py, qx, filters, p, q, cb_y), dy), row);
            }
            sum += row;
        }
    const int to = weight_index(k, i / (rows * columns), per_group, rows * columns) + i % (rows * columns) * WEIGHT_TAP;
    dw[to] = beta ? dw[to] + sum : sum;
}
