/* SPDX-License-Identifier: MIT */
/* Batch normalization in double (Ioffe & Szegedy 2015; conventions of torch.nn.BatchNorm2d); dense NCHW.
 * Shares nothing with src/. */
#ifndef TRINE_REF_BATCHNORM_H
#define TRINE_REF_BATCHNORM_H

typedef struct ref_batchnorm {
    int n, c, h, w;
    double eps;
} ref_batchnorm;

/* mean [C] and biased variance [C] of x. */
void ref_batchnorm_statistics(const ref_batchnorm *d, const double *x, double *mean, double *variance);
/* running = (1-factor)*running + factor*batch, with the unbiased variance. */
void ref_batchnorm_update(const ref_batchnorm *d, const double *mean, const double *variance, double factor,
                          double *running_mean, double *running_var);
/* y = relu?(gamma*(x-mean)/sqrt(variance+eps) + beta + residual); gamma, beta, residual may be NULL. */
void ref_batchnorm_apply(const ref_batchnorm *d, const double *x, const double *mean, const double *variance,
                         const double *gamma, const double *beta, const double *residual, int relu,
                         double *y);
/* Gradients, given the gradient g of the affine output (after the ReLU's mask). batch: the statistics are x's
 * own, and dx includes their gradient. gamma may be NULL (1). */
void ref_batchnorm_backward(const ref_batchnorm *d, const double *x, const double *mean,
                            const double *variance, const double *gamma, const double *g, int batch,
                            double *dx, double *dgamma, double *dbeta);

#endif
