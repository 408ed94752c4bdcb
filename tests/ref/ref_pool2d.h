/* SPDX-License-Identifier: MIT */
/* 2-D pooling in double (torch.nn.MaxPool2d, AvgPool2d, AdaptiveAvgPool2d); dense NCHW. Shares nothing with
 * src/. */
#ifndef TRINE_REF_POOL2D_H
#define TRINE_REF_POOL2D_H

#include <stdint.h>

typedef struct ref_pool2d {
    enum { REF_POOL_MAX, REF_POOL_AVERAGE, REF_POOL_ADAPTIVE } kind;
    int n, c, h, w;
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int ceil_mode, count_include_pad;
    int output_h, output_w; /* adaptive */
} ref_pool2d;

int ref_pool2d_p(const ref_pool2d *d);
int ref_pool2d_q(const ref_pool2d *d);
/* index: for maximum, the winning h*W + w of each output; may be NULL. */
void ref_pool2d_forward(const ref_pool2d *d, const double *x, double *y, int32_t *index);
/* index: from forward for maximum. */
void ref_pool2d_backward(const ref_pool2d *d, const double *dy, const int32_t *index, double *dx);

#endif
