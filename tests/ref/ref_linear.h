/* SPDX-License-Identifier: MIT */
/* torch.nn.Linear in double; all arrays dense. Shares nothing with src/. */
#ifndef TRINE_REF_LINEAR_H
#define TRINE_REF_LINEAR_H

/* y [N,K] = x [N,C] * w [K,C]^T + b [K] (or NULL). */
void ref_linear_forward(int n, int c, int k, const double *x, const double *w, const double *b, double *y);
/* dx [N,C] = dy [N,K] * w. */
void ref_linear_backward_data(int n, int c, int k, const double *dy, const double *w, double *dx);
/* dw [K,C] = dy^T * x;  db [K] = sum of dy's rows. */
void ref_linear_backward_weights(int n, int c, int k, const double *x, const double *dy, double *dw,
                                 double *db);

#endif
