/* SPDX-License-Identifier: MIT */
#include "ref/ref_batchnorm.h"

#include <math.h>
#include <stddef.h>

/* First element of the plane of image n, channel c. */
static size_t plane_at(const ref_batchnorm *d, int n, int c)
{
    return ((size_t)n * (size_t)d->c + (size_t)c) * (size_t)d->h * (size_t)d->w;
}

static size_t plane_size(const ref_batchnorm *d)
{
    return (size_t)d->h * (size_t)d->w;
}

void ref_batchnorm_statistics(const ref_batchnorm *d, const double *x, double *mean, double *variance)
{
    const double m = (double)d->n * (double)plane_size(d);
    for (int c = 0; c < d->c; c++) {
        double sum = 0, squares = 0;
        for (int n = 0; n < d->n; n++)
            for (size_t i = 0; i < plane_size(d); i++) sum += x[plane_at(d, n, c) + i];
        mean[c] = sum / m;
        for (int n = 0; n < d->n; n++)
            for (size_t i = 0; i < plane_size(d); i++) {
                const double difference = x[plane_at(d, n, c) + i] - mean[c];
                squares += difference * difference;
            }
        variance[c] = squares / m;
    }
}

void ref_batchnorm_update(const ref_batchnorm *d, const double *mean, const double *variance, double factor,
                          double *running_mean, double *running_var)
{
    const double m = (double)d->n * (double)plane_size(d);
    for (int c = 0; c < d->c; c++) {
        running_mean[c] = (1 - factor) * running_mean[c] + factor * mean[c];
        running_var[c] = (1 - factor) * running_var[c] + factor * variance[c] * m / (m - 1);
    }
}

void ref_batchnorm_apply(const ref_batchnorm *d, const double *x, const double *mean, const double *variance,
                         const double *gamma, const double *beta, const double *residual, int relu, double *y)
{
    for (int n = 0; n < d->n; n++)
        for (int c = 0; c < d->c; c++)
            for (size_t i = 0; i < plane_size(d); i++) {
                const size_t e = plane_at(d, n, c) + i;
                double value = (x[e] - mean[c]) / sqrt(variance[c] + d->eps);
                if (gamma) value *= gamma[c];
                if (beta) value += beta[c];
                if (residual) value += residual[e];
                y[e] = relu && value < 0 ? 0 : value;
            }
}

void ref_batchnorm_backward(const ref_batchnorm *d, const double *x, const double *mean,
                            const double *variance, const double *gamma, const double *g, int batch,
                            double *dx, double *dgamma, double *dbeta)
{
    const double m = (double)d->n * (double)plane_size(d);
    for (int c = 0; c < d->c; c++) {
        const double rstd = 1 / sqrt(variance[c] + d->eps), scale = gamma ? gamma[c] : 1;
        double sum = 0, product = 0;
        for (int n = 0; n < d->n; n++)
            for (size_t i = 0; i < plane_size(d); i++) {
                const size_t e = plane_at(d, n, c) + i;
                sum += g[e];
                product += g[e] * (x[e] - mean[c]) * rstd;
            }
        for (int n = 0; n < d->n; n++)
            for (size_t i = 0; i < plane_size(d); i++) {
                const size_t e = plane_at(d, n, c) + i;
                const double through_statistics = batch ? (sum + (x[e] - mean[c]) * rstd * product) / m : 0;
                dx[e] = scale * rstd * (g[e] - through_statistics);
            }
        dgamma[c] = product;
        dbeta[c] = sum;
    }
}
