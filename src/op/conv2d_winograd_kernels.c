/* SPDX-License-Identifier: MIT */
/* The kernels of minimal filtering on CPUs, and what they are compiled with. */
#include <stdio.h>

#include "op/conv2d_winograd.h"

void trine__winograd_destroy(void *state)
{
    trine__winograd *s = state;
    trine__kernel **const kernels[] = {&s->filter,     &s->input,  &s->multiply, &s->output, &s->gradient,
                                       &s->accumulate, &s->unpack, &s->fused,    &s->sums};
    for (size_t i = 0; i < TRINE_COUNTOF(kernels); i++) trine__kernel_destroy(kernels[i]);
}

/* Options of all kernels. */
static void plain_options(const trine_conv2d *op, const trine__winograd *s, char plain[80])
{
    const int width = op->context->caps.vector_width < 4 ? 4 : op->context->caps.vector_width;
    snprintf(plain, 80, "-DCB=%d -DMO=%d -DSTRIDE=%d -DLANES=%d", s->cb, s->shape.mo, s->shape.stride,
             width < s->cb ? width : s->cb);
}

/* The kernel that writes the result. */
static trine_status create_last(const trine_conv2d *op, const trine__winograd *s, bool fused,
                                const char *more, trine__kernel **out)
{
    char plain[80], options[160];
    plain_options(op, s, plain);
    if (fused)
        snprintf(options, sizeof options, "%s -DKV=%d -DTT=%d -DVSPACE=__local%s", plain, s->kv, s->tt, more);
    else
        snprintf(options, sizeof options, "%s -DTT=%d%s", plain, s->tt, more);
    return trine__kernel_create(op->context, fused ? "conv2d_winograd_fused" : "conv2d_winograd_output",
                                options, out);
}

trine_status trine__winograd_create_sums(trine_conv2d *op, bool made)
{
    (void)made;
    trine__winograd *s = op->state[TRINE_BACKWARD_DATA];
    return s->sums ? TRINE_OK : create_last(op, s, s->fused != NULL, " -DSUMS", &s->sums);
}

trine_status trine__winograd_create(const trine_conv2d *op, trine_direction direction, bool fused,
                                    trine__winograd *s)
{
    char plain[80], tiled[140], filter[160];
    trine_context *ctx = op->context;
    const trine__weight_options weights = trine__conv2d_weight_options(op);
    plain_options(op, s, plain);
    if (!fused) TRINE_TRY(trine__kernel_create(ctx, "conv2d_winograd_input", plain, &s->input));
    if (direction == TRINE_BACKWARD_WEIGHTS) {
        snprintf(tiled, sizeof tiled, "%s -DKV=%d -DCT=%d%s", plain, s->kv, s->ct,
                 fused ? " -DVSPACE=__local" : "");
        if (fused) {
            TRINE_TRY(trine__kernel_create(ctx, "conv2d_winograd_fused_gradient", tiled, &s->fused));
        } else {
            TRINE_TRY(trine__kernel_create(ctx, "conv2d_winograd_gradient", plain, &s->gradient));
            TRINE_TRY(trine__kernel_create(ctx, "conv2d_winograd_accumulate", tiled, &s->accumulate));
        }
        snprintf(filter, sizeof filter, "%s %s", plain, weights.text);
        return trine__kernel_create(ctx, "conv2d_winograd_unpack", filter, &s->unpack);
    }
    snprintf(filter, sizeof filter, "%s -DKV=%d %s", plain, s->kv, weights.text);
    TRINE_TRY(trine__kernel_create(ctx, "conv2d_winograd_filter", filter, &s->filter));
    if (fused) return create_last(op, s, true, "", &s->fused);
    snprintf(tiled, sizeof tiled, "%s -DKV=%d -DTT=%d", plain, s->kv, s->tt);
    TRINE_TRY(trine__kernel_create(ctx, "conv2d_winograd_multiply", tiled, &s->multiply));
    return create_last(op, s, false, "", &s->output);
}
