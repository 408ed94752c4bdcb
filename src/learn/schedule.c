/* SPDX-License-Identifier: MIT */
/* Learning-rate schedules: PyTorch's, in double. */
#include "learn/schedule.h"

#include <math.h>

#include "trine/trainer.h"

static const double factor = 0.1;     /* of each reduction; gamma in torch */
static const double threshold = 1e-4; /* relative fall that counts */
static const double least_cut = 1e-8; /* smaller reductions are not made; eps in torch */
static const double pi = 3.14159265358979323846;
enum { PATIENCE = 10 };

double trine_schedule_lr(trine_schedule schedule, double lr, int step, int steps)
{
    switch (schedule) {
    case TRINE_SCHEDULE_STEP: /* milestones at steps / 2 and steps * 3 / 4, rounded up */
        if (2 * (int64_t)step >= steps) lr *= factor;
        if (4 * (int64_t)step >= 3 * (int64_t)steps) lr *= factor;
        return lr;
    case TRINE_SCHEDULE_COSINE:
        return lr * (1.0 + cos(pi * step / steps)) / 2.0;
    case TRINE_SCHEDULE_CONSTANT:
    case TRINE_SCHEDULE_PLATEAU:
        break;
    }
    return lr;
}

double trine_schedule_lr_warmed(trine_schedule schedule, double lr, int step, int steps, int warmup)
{
    if (step < warmup) return lr * (step + 1.0) / (warmup + 1.0);
    return trine_schedule_lr(schedule, lr, step - warmup, steps - warmup);
}

trine__plateau trine__plateau_start(double lr)
{
    return (trine__plateau){lr, INFINITY, 0};
}

void trine__plateau_update(trine__plateau *p, double mean_loss)
{
    if (mean_loss < p->best * (1.0 - threshold)) { /* false for NaN */
        p->best = mean_loss;
        p->bad = 0;
    } else {
        p->bad++;
    }
    if (p->bad > PATIENCE) {
        if (p->lr - p->lr * factor > least_cut) p->lr *= factor;
        p->bad = 0;
    }
}
