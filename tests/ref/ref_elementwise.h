/* SPDX-License-Identifier: MIT */
/* ReLU, sum, subsampling and channel sums in double; dense NCHW. Shares nothing with src/. */
#ifndef TRINE_REF_ELEMENTWISE_H
#define TRINE_REF_ELEMENTWISE_H

#include <stddef.h>

/* y = max(0, x), NaN stays. */
void ref_relu_forward(size_t count, const double *x, double *y);
/* dx = dy where y > 0, else 0. */
void ref_relu_backward(size_t count, const double *y, const double *dy, double *dx);
void ref_add(size_t count, const double *a, const double *b, double *y);

/* He et al. 2016, shortcut option A. */
typedef struct ref_subsample {
    int n, c, h, w; /* input */
    int k, stride, first;
} ref_subsample;

/* y [N,K,ceil(H/stride),ceil(W/stride)]: y[c + first] = x[c] at every stride-th pixel, other channels 0. */
void ref_subsample_forward(const ref_subsample *d, const double *x, double *y);
void ref_subsample_backward(const ref_subsample *d, const double *dy, double *dx);
/* sum[c] over n and pixels. */
void ref_channel_sum(int n, int c, size_t pixels, const double *x, double *sum);

#endif
