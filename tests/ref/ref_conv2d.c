/* SPDX-License-Identifier: MIT */
#include "ref/ref_conv2d.h"

#include <stddef.h>
#include <string.h>

int ref_conv2d_p(const ref_conv2d *d)
{
    return (d->h + 2 * d->pad_h - d->dilation_h * (d->r - 1) - 1) / d->stride_h + 1;
}

int ref_conv2d_q(const ref_conv2d *d)
{
    return (d->w + 2 * d->pad_w - d->dilation_w * (d->s - 1) - 1) / d->stride_w + 1;
}

static size_t at(int a, int b, int b_count, int c, int c_count, int e, int e_count)
{
    return (((size_t)a * (size_t)b_count + (size_t)b) * (size_t)c_count + (size_t)c) * (size_t)e_count +
           (size_t)e;
}

/* Which of the three tensors a multiply-add writes. */
typedef enum target { TARGET_Y, TARGET_DX, TARGET_DW } target;

/* All three passes are the same sum of products over (n, k, c, p, q, r, s): y += x*w, dx += y*w, dw += x*y. */
static void every_product(const ref_conv2d *d, target into, double *x, double *weights, double *y)
{
    const int p_count = ref_conv2d_p(d), q_count = ref_conv2d_q(d);
    const int group_c = d->c / d->groups, group_k = d->k / d->groups;
    for (int n = 0; n < d->n; n++)
        for (int k = 0; k < d->k; k++)
            for (int i = 0; i < group_c; i++)
                for (int p = 0; p < p_count; p++)
                    for (int r = 0; r < d->r; r++) {
                        const int c = k / group_k * group_c + i;
                        const int row = p * d->stride_h - d->pad_h + r * d->dilation_h;
                        if (row < 0 || row >= d->h) continue;
                        for (int q = 0; q < q_count; q++)
                            for (int s = 0; s < d->s; s++) {
                                const int column = q * d->stride_w - d->pad_w + s * d->dilation_w;
                                if (column < 0 || column >= d->w) continue;
                                double *xv = &x[at(n, c, d->c, row, d->h, column, d->w)];
                                double *wv = &weights[at(k, i, group_c, r, d->r, s, d->s)];
                                double *yv = &y[at(n, k, d->k, p, p_count, q, q_count)];
                                if (into == TARGET_Y) *yv += *xv * *wv;
                                if (into == TARGET_DX) *xv += *yv * *wv;
                                if (into == TARGET_DW) *wv += *xv * *yv;
                            }
                    }
}

void ref_conv2d_forward(const ref_conv2d *d, const double *x, const double *weights, const double *bias,
                        double *y)
{
    const size_t plane = (size_t)ref_conv2d_p(d) * (size_t)ref_conv2d_q(d);
    for (int n = 0; n < d->n; n++)
        for (int k = 0; k < d->k; k++)
            for (size_t i = 0; i < plane; i++)
                y[((size_t)n * (size_t)d->k + (size_t)k) * plane + i] = bias ? bias[k] : 0.0;
    every_product(d, TARGET_Y, (double *)x, (double *)weights, y);
}

void ref_conv2d_backward_data(const ref_conv2d *d, const double *dy, const double *weights, double *dx)
{
    memset(dx, 0, sizeof *dx * (size_t)d->n * (size_t)d->c * (size_t)d->h * (size_t)d->w);
    every_product(d, TARGET_DX, dx, (double *)weights, (double *)dy);
}

void ref_conv2d_backward_weights(const ref_conv2d *d, const double *x, const double *dy, double *dw)
{
    memset(dw, 0, sizeof *dw * (size_t)d->k * (size_t)(d->c / d->groups) * (size_t)d->r * (size_t)d->s);
    every_product(d, TARGET_DW, (double *)x, dw, (double *)dy);
}
