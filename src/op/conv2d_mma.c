/* SPDX-License-Identifier: MIT */
#include "op/conv2d_mma.h"

#include <stdio.h>

/* By their names in cl/conv2d_mma_units.clh. */
static const char *unit_of(const trine_conv2d *op)
{
    static const char *const of_halves[TRINE__MATRIX_UNITS] = {NULL,   "MMA_F16", "MFMA",
                                                               "WMMA", "DPAS8",   "DPAS16"};
    const trine_conv2d_desc *d = &op->desc;
    const trine__matrix_unit unit = op->context->caps.matrix_unit;
    if (d->in_dtype != d->out_dtype) return NULL;
    if (d->in_dtype == TRINE_F16) return of_halves[unit];
    return d->allow_tf32 && unit == TRINE__MMA ? "MMA_TF32" : NULL;
}

trine__mma_options trine__conv2d_mma_options(const trine_conv2d *op)
{
    const char *unit = unit_of(op);
    trine__mma_options o = {""};
    if (unit)
        snprintf(o.text, sizeof o.text, " -DMMA=%s%s", unit,
                 op->context->caps.matrix_imitated ? " -DMMA_IMITATED" : "");
    return o;
}

bool trine__conv2d_mma_builds(const trine_conv2d *op, const char *options)
{
    trine_context *context = op->context;
    atomic_int *trial = &context->matrix_trials[op->desc.in_dtype == TRINE_F16];
    int known = *trial;
    if (context->rehearsal) return true;
    if (known) return known > 0;
    trine__kernel *kernel = NULL;
    const trine_status status = trine__kernel_create(context, "conv2d_gemm", options, &kernel);
    trine__kernel_destroy(&kernel);
    if (status == TRINE_OK) known = 1;
    if (status == TRINE_ERR_BUILD) known = -1;
    if (known < 0) trine__log(context, "conv2d: conv2d_mma left out: %s", trine_last_error());
    *trial = known;
    return known > 0;
}
