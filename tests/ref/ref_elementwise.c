/* SPDX-License-Identifier: MIT */
#include "ref/ref_elementwise.h"

#include <string.h>

void ref_relu_forward(size_t count, const double *x, double *y)
{
    for (size_t i = 0; i < count; i++) y[i] = x[i] < 0 ? 0 : x[i];
}

void ref_relu_backward(size_t count, const double *y, const double *dy, double *dx)
{
    for (size_t i = 0; i < count; i++) dx[i] = y[i] > 0 ? dy[i] : 0;
}

void ref_add(size_t count, const double *a, const double *b, double *y)
{
    for (size_t i = 0; i < count; i++) y[i] = a[i] + b[i];
}

static size_t at(int n, int c, int c_count, int h, int h_count, int w, int w_count)
{
    return (((size_t)n * (size_t)c_count + (size_t)c) * (size_t)h_count + (size_t)h) * (size_t)w_count +
           (size_t)w;
}

/* Copies x to y or, backward, y to x; what has no partner is zero. */
static void subsample(const ref_subsample *d, double *x, double *y, int backward)
{
    const int p = (d->h + d->stride - 1) / d->stride, q = (d->w + d->stride - 1) / d->stride;
    const size_t x_count = at(d->n, 0, d->c, 0, d->h, 0, d->w), y_count = at(d->n, 0, d->k, 0, p, 0, q);
    if (backward)
        memset(x, 0, x_count * sizeof *x);
    else
        memset(y, 0, y_count * sizeof *y);
    for (int n = 0; n < d->n; n++)
        for (int c = 0; c < d->c; c++)
            for (int i = 0; i < p; i++)
                for (int j = 0; j < q; j++) {
                    double *from = &x[at(n, c, d->c, i * d->stride, d->h, j * d->stride, d->w)];
                    double *to = &y[at(n, c + d->first, d->k, i, p, j, q)];
                    if (backward)
                        *from = *to;
                    else
                        *to = *from;
                }
}

void ref_subsample_forward(const ref_subsample *d, const double *x, double *y)
{
    subsample(d, (double *)x, y, 0);
}

void ref_subsample_backward(const ref_subsample *d, const double *dy, double *dx)
{
    subsample(d, dx, (double *)dy, 1);
}

void ref_channel_sum(int n, int c, size_t pixels, const double *x, double *sum)
{
    for (int channel = 0; channel < c; channel++) {
        sum[channel] = 0;
        for (int image = 0; image < n; image++)
            for (size_t i = 0; i < pixels; i++)
                sum[channel] += x[((size_t)image * (size_t)c + (size_t)channel) * pixels + i];
    }
}
