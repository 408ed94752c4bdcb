/* SPDX-License-Identifier: MIT */
/* The temperature of a loss as a parameter of its own, one float on the device: what CLIP's logit scale is, as log(temperature), so
 * that a step multiplies it and its sign cannot change. Source: Radford et al. 2021, sections 2.3 and 2.5. */
#include "op/triplet_private.h"

#include <math.h>

#include "op/optimizer.h"
#include "rt/buffer.h"

trine_status trine__temperature_create(trine_context *context, float start, trine__temperature *out)
{
    const float log_start = logf(start), zero = 0, scaling[3] = {1, 1, 0};
    trine__temperature t = {0};
    trine_status status;
    TRINE_TRY_GOTO(trine__buffer_from_host(context, &log_start, sizeof log_start, &t.log));
    TRINE_TRY_GOTO(trine__buffer_from_host(context, &zero, sizeof zero, &t.gradient));
    TRINE_TRY_GOTO(trine__buffer_from_host(context, scaling, sizeof scaling, &t.scaling));
    TRINE_TRY_GOTO(trine__kernel_create(context, "triplet_temperature", "", &t.clamp));
    *out = t;
    return TRINE_OK;
cleanup:
    trine__temperature_release(&t);
    return status;
}

void trine__temperature_release(trine__temperature *t)
{
    trine_buffer_release(&t->log);
    trine_buffer_release(&t->gradient);
    trine_buffer_release(&t->scaling);
    trine__kernel_destroy(&t->clamp);
}

static trine_status find(const trine_triplet *op, const trine__temperature **out)
{
    *out = op ? trine__triplet_temperature(op) : NULL;
    TRINE_CHECK(*out, TRINE_ERR_ARG, "triplet: this loss learns no temperature");
    return TRINE_OK;
}

trine_status trine_triplet_step_temperature(trine_triplet *op, trine_stream *stream,
                                            trine_optimizer *optimizer, float lr)
{
    const trine__temperature *t;
    TRINE_TRY(find(op, &t));
    TRINE_CHECK(optimizer, TRINE_ERR_ARG, "triplet: the temperature's optimizer is missing");
    trine_optimizer_advance(optimizer);
    TRINE_TRY(trine__optimizer_step_number(optimizer, stream, t->log, t->gradient, t->scaling, 0, 1, lr,
                                           trine__optimizer_steps(optimizer)));
    const trine__arg args[] = {trine__arg_buffer(t->log), trine__arg_f32(logf(TRINE_LEAST_TEMPERATURE))};
    return trine__launch(stream, t->clamp, args, TRINE_COUNTOF(args), trine__grid_tiles(1, 1, 1), NULL);
}

trine_status trine_triplet_read_temperature(const trine_triplet *op, trine_stream *stream, float *temperature,
                                            float *gradient)
{
    const trine__temperature *t;
    float log_now;
    TRINE_TRY(find(op, &t));
    TRINE_TRY(trine_buffer_read(stream, t->log, 0, &log_now, sizeof log_now));
    if (gradient) TRINE_TRY(trine_buffer_read(stream, t->gradient, 0, gradient, sizeof *gradient));
    if (temperature) *temperature = expf(log_now);
    return TRINE_OK;
}

trine_status trine__triplet_temperature_read(const trine_triplet *op, trine_stream *stream, float *log)
{
    return trine_buffer_read(stream, trine__triplet_temperature(op)->log, 0, log, sizeof *log);
}

trine_status trine__triplet_temperature_write(trine_triplet *op, trine_stream *stream, float log)
{
    return trine_buffer_write(stream, trine__triplet_temperature(op)->log, 0, &log, sizeof log);
}
