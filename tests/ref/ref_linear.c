/* SPDX-License-Identifier: MIT */
#include "ref/ref_linear.h"

#include <stddef.h>

void ref_linear_forward(int n, int c, int k, const double *x, const double *w, const double *b, double *y)
{
    for (int row = 0; row < n; row++)
        for (int out = 0; out < k; out++) {
            double sum = b ? b[out] : 0;
            for (int in = 0; in < c; in++)
                sum += x[(size_t)row * (size_t)c + (size_t)in] * w[(size_t)out * (size_t)c + (size_t)in];
            y[(size_t)row * (size_t)k + (size_t)out] = sum;
        }
}

void ref_linear_backward_data(int n, int c, int k, const double *dy, const double *w, double *dx)
{
    for (int row = 0; row < n; row++)
        for (int in = 0; in < c; in++) {
            double sum = 0;
            for (int out = 0; out < k; out++)
                sum += dy[(size_t)row * (size_t)k + (size_t)out] * w[(size_t)out * (size_t)c + (size_t)in];
            dx[(size_t)row * (size_t)c + (size_t)in] = sum;
        }
}

void ref_linear_backward_weights(int n, int c, int k, const double *x, const double *dy, double *dw,
                                 double *db)
{
    for (int out = 0; out < k; out++) {
        for (int in = 0; in < c; in++) {
            double sum = 0;
            for (int row = 0; row < n; row++)
                sum += dy[(size_t)row * (size_t)k + (size_t)out] * x[(size_t)row * (size_t)c + (size_t)in];
            dw[(size_t)out * (size_t)c + (size_t)in] = sum;
        }
        db[out] = 0;
        for (int row = 0; row < n; row++) db[out] += dy[(size_t)row * (size_t)k + (size_t)out];
    }
}
