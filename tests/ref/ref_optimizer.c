/* SPDX-License-Identifier: MIT */
#include "ref/ref_optimizer.h"

#include <math.h>

static void sgd(ref_optimizer *o, double *p, double g, size_t i, double lr)
{
    g += o->weight_decay * *p;
    if (o->momentum != 0) {
        o->first[i] =
            o->step == 1 ? g : o->momentum * o->first[i] + g; /* the first step copies the gradient */
        g = o->nesterov ? g + o->momentum * o->first[i] : o->first[i];
    }
    *p -= lr * g;
}

static void adam(ref_optimizer *o, double *p, double g, size_t i, double lr)
{
    if (o->kind == 2)
        *p -= lr * o->weight_decay * *p;
    else
        g += o->weight_decay * *p;
    o->first[i] = o->beta1 * o->first[i] + (1 - o->beta1) * g;
    o->second[i] = o->beta2 * o->second[i] + (1 - o->beta2) * g * g;
    const double m = o->first[i] / (1 - pow(o->beta1, (double)o->step));
    const double v = o->second[i] / (1 - pow(o->beta2, (double)o->step));
    *p -= lr * m / (sqrt(v) + o->eps);
}

void ref_optimizer_step(ref_optimizer *o, double *parameters, const double *gradients, size_t count,
                        double lr)
{
    o->step++;
    for (size_t i = 0; i < count; i++) {
        if (o->kind == 0)
            sgd(o, &parameters[i], gradients[i], i, lr);
        else
            adam(o, &parameters[i], gradients[i], i, lr);
    }
}
