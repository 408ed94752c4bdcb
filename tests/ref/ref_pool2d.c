/* SPDX-License-Identifier: MIT */
#include "ref/ref_pool2d.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static int output_size(int size, int kernel, int stride, int pad, int dilation, int ceil_mode)
{
    const double span = size + 2.0 * pad - dilation * (kernel - 1.0) - 1.0;
    int count = (int)(ceil_mode ? ceil(span / stride) : floor(span / stride)) + 1;
    if (ceil_mode && (count - 1) * stride >= size + pad) count--; /* starts in the right padding */
    return count;
}

int ref_pool2d_p(const ref_pool2d *d)
{
    if (d->kind == REF_POOL_ADAPTIVE) return d->output_h;
    return output_size(d->h, d->kernel_h, d->stride_h, d->pad_h, d->dilation_h, d->ceil_mode);
}

int ref_pool2d_q(const ref_pool2d *d)
{
    if (d->kind == REF_POOL_ADAPTIVE) return d->output_w;
    return output_size(d->w, d->kernel_w, d->stride_w, d->pad_w, d->dilation_w, d->ceil_mode);
}

/* One dimension of an average's window: input positions [start, end), and how many positions it divides by. */
static void average_window(const ref_pool2d *d, int vertical, int out, int *start, int *end, int *divide)
{
    const int size = vertical ? d->h : d->w;
    if (d->kind == REF_POOL_ADAPTIVE) {
        const double step = (double)size / (vertical ? d->output_h : d->output_w);
        *start = (int)floor(out * step + 1e-9);
        *end = (int)ceil((out + 1) * step - 1e-9);
        *divide = *end - *start;
        return;
    }
    const int pad = vertical ? d->pad_h : d->pad_w;
    const int first = out * (vertical ? d->stride_h : d->stride_w) - pad;
    int last = first + (vertical ? d->kernel_h : d->kernel_w);
    if (last > size + pad) last = size + pad;
    *start = first < 0 ? 0 : first;
    *end = last > size ? size : last;
    *divide = d->count_include_pad ? last - first : *end - *start;
}

static void max_plane(const ref_pool2d *d, const double *x, double *y, int32_t *index)
{
    for (int p = 0; p < ref_pool2d_p(d); p++)
        for (int q = 0; q < ref_pool2d_q(d); q++) {
            int winner = -1;
            for (int r = 0; r < d->kernel_h; r++)
                for (int s = 0; s < d->kernel_w; s++) {
                    const int h = p * d->stride_h - d->pad_h + r * d->dilation_h;
                    const int w = q * d->stride_w - d->pad_w + s * d->dilation_w;
                    if (h < 0 || h >= d->h || w < 0 || w >= d->w) continue;
                    const double value = x[h * d->w + w];
                    if (winner < 0 || isnan(value) || value > x[winner]) winner = h * d->w + w;
                }
            y[p * ref_pool2d_q(d) + q] = x[winner];
            if (index) index[p * ref_pool2d_q(d) + q] = winner;
        }
}

static void average_plane(const ref_pool2d *d, const double *x, double *y)
{
    for (int p = 0; p < ref_pool2d_p(d); p++)
        for (int q = 0; q < ref_pool2d_q(d); q++) {
            int top, bottom, rows, left, right, columns;
            average_window(d, 1, p, &top, &bottom, &rows);
            average_window(d, 0, q, &left, &right, &columns);
            double sum = 0;
            for (int h = top; h < bottom; h++)
                for (int w = left; w < right; w++) sum += x[h * d->w + w];
            y[p * ref_pool2d_q(d) + q] = sum / ((double)rows * columns);
        }
}

void ref_pool2d_forward(const ref_pool2d *d, const double *x, double *y, int32_t *index)
{
    const size_t in = (size_t)d->h * (size_t)d->w, out = (size_t)ref_pool2d_p(d) * (size_t)ref_pool2d_q(d);
    for (size_t i = 0; i < (size_t)d->n * (size_t)d->c; i++) {
        if (d->kind == REF_POOL_MAX)
            max_plane(d, x + i * in, y + i * out, index ? index + i * out : NULL);
        else
            average_plane(d, x + i * in, y + i * out);
    }
}

static void average_plane_backward(const ref_pool2d *d, const double *dy, double *dx)
{
    for (int p = 0; p < ref_pool2d_p(d); p++)
        for (int q = 0; q < ref_pool2d_q(d); q++) {
            int top, bottom, rows, left, right, columns;
            average_window(d, 1, p, &top, &bottom, &rows);
            average_window(d, 0, q, &left, &right, &columns);
            for (int h = top; h < bottom; h++)
                for (int w = left; w < right; w++)
                    dx[h * d->w + w] += dy[p * ref_pool2d_q(d) + q] / ((double)rows * columns);
        }
}

void ref_pool2d_backward(const ref_pool2d *d, const double *dy, const int32_t *index, double *dx)
{
    const size_t in = (size_t)d->h * (size_t)d->w, out = (size_t)ref_pool2d_p(d) * (size_t)ref_pool2d_q(d);
    memset(dx, 0, sizeof *dx * (size_t)d->n * (size_t)d->c * in);
    for (size_t i = 0; i < (size_t)d->n * (size_t)d->c; i++) {
        if (d->kind == REF_POOL_MAX)
            for (size_t o = 0; o < out; o++) dx[i * in + (size_t)index[i * out + o]] += dy[i * out + o];
        else
            average_plane_backward(d, dy + i * out, dx + i * in);
    }
}
