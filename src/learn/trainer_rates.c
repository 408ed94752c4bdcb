/* SPDX-License-Identifier: MIT */
/* The learning rate of each parameter at each step: the schedule over the rates that the options give. */
#include <math.h>
#include <stdlib.h>

#include "base/text.h"
#include "learn/trainer_private.h"
#include "net/session_private.h"

trine_status trine__trainer_open_rates(trine_trainer *t)
{
    const size_t count = (size_t)t->net->parameter_count;
    const char *globs = t->options.lr_globs;
    double most = t->options.lr;
    t->temperature_lr = t->options.lr;
    void *memory;
    t->options.lr_globs = NULL; /* the caller's */
    if (globs && globs[0]) {
        char *copy;
        TRINE_TRY(trine__strdup(globs, &copy));
        t->lr_globs = copy;
        TRINE_TRY(trine__calloc(count, sizeof *t->lrs, &memory));
        t->lrs = memory;
        TRINE_TRY(trine__trainer_temperature_rate(t, copy));
        globs = copy;
        TRINE_TRY(trine__calloc(count, sizeof *t->rates, &memory));
        t->rates = memory;
        for (size_t i = 0; i < count; i++) t->lrs[i] = t->options.lr;
        TRINE_TRY(trine__parameter_numbers(t->net, "lr", globs, t->lrs));
        for (size_t i = 0; i < count; i++) most = fmax(most, t->lrs[i]);
    }
    t->plateau_lr = most;
    t->plateau = trine__plateau_start(most);
    return TRINE_OK;
}

double trine__trainer_rate_of(const trine_trainer *t, double lr)
{
    const trine_trainer_options *o = &t->options;
    /* A plateau cuts the largest rate; the others keep their part of it. */
    if (o->schedule == TRINE_SCHEDULE_PLATEAU)
        lr = lr == t->plateau_lr ? t->plateau.lr : lr * (t->plateau.lr / t->plateau_lr);
    return trine_schedule_lr_warmed(o->schedule, lr, t->step, t->steps, o->warmup);
}

double trine__trainer_rate(trine_trainer *t)
{
    for (int i = 0; t->rates && i < t->net->parameter_count; i++)
        t->rates[i] = (float)trine__trainer_rate_of(t, t->lrs[i]);
    return trine__trainer_rate_of(t, t->options.lr);
}

void trine__trainer_close_rates(trine_trainer *t)
{
    free(t->lr_globs);
    free(t->lrs);
    free(t->rates);
}
