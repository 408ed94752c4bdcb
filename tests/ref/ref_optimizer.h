/* SPDX-License-Identifier: MIT */
/* One optimizer step in double, as torch.optim documents it. */
#ifndef TRINE_TESTS_REF_OPTIMIZER_H
#define TRINE_TESTS_REF_OPTIMIZER_H

#include <stddef.h>

typedef struct ref_optimizer {
    int kind; /* 0 SGD, 1 Adam, 2 AdamW */
    double momentum, weight_decay, beta1, beta2, eps;
    int nesterov;
    long step;      /* steps done */
    double *first;  /* momentum_buffer or exp_avg [count] */
    double *second; /* exp_avg_sq [count] */
} ref_optimizer;

/* Counts the step and applies it. first, second: zero before the first step. */
void ref_optimizer_step(ref_optimizer *o, double *parameters, const double *gradients, size_t count,
                        double lr);

#endif
