/* SPDX-License-Identifier: MIT */
/* 2-D convolution in double, straight from the definition; dense NCHW. Shares nothing with src/. */
#ifndef TRINE_REF_CONV2D_H
#define TRINE_REF_CONV2D_H

/* torch.nn.Conv2d's parameters. */
typedef struct ref_conv2d {
    int n, c, h, w; /* input */
    int k, r, s;    /* output channels, kernel rows and columns */
    int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
} ref_conv2d;

/* Output rows and columns. */
int ref_conv2d_p(const ref_conv2d *d);
int ref_conv2d_q(const ref_conv2d *d);

/* y [N,K,P,Q] = conv(x [N,C,H,W], weights [K,C/groups,R,S]) + bias [K] (or NULL). */
void ref_conv2d_forward(const ref_conv2d *d, const double *x, const double *weights, const double *bias,
                        double *y);
/* dx [N,C,H,W] from dy [N,K,P,Q]. */
void ref_conv2d_backward_data(const ref_conv2d *d, const double *dy, const double *weights, double *dx);
/* dw [K,C/groups,R,S]. */
void ref_conv2d_backward_weights(const ref_conv2d *d, const double *x, const double *dy, double *dw);

#endif
