/* SPDX-License-Identifier: MIT */
/* SGD, Adam and AdamW: one launch steps a range of the flat buffers. Bias corrections are computed here, in
 * double. */
#include "op/optimizer.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "rt/launch.h"

enum { MAX_STATES = 2 };
enum { CHUNK_CPU = 4096 }; /* floats of a work-item on CPUs: 16 KiB of each buffer */

struct trine_optimizer {
    trine_optimizer_desc desc;
    double beta1, beta2; /* what the floats were written as */
    size_t count;
    uint64_t steps;
    const trine__caps *caps;
    int states;
    trine_buffer *state[MAX_STATES];
    trine__kernel *kernel;
    uint64_t *counts; /* steps of each parameter tensor of a network; NULL until asked for */
};

trine_optimizer_desc trine_optimizer_desc_default(trine_optimizer_kind kind)
{
    return (trine_optimizer_desc){.kind = kind,
                                  .weight_decay = kind == TRINE_ADAMW ? 1e-2f : 0.0f,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.999f,
                                  .eps = 1e-8f};
}

/* The shortest decimal that reads as `value`, as a double. PyTorch's 1 - 0.999 is 1e-3; 1 - 0.999f would
 * be 1.3e-5 of itself smaller, and exp_avg_sq with it. */
static double written_as(float value)
{
    char text[40];
    snprintf(text, sizeof text, "%.*g", trine__shortest_digits(value, true), (double)value);
    return strtod(text, NULL);
}

static trine_status check_desc(const trine_optimizer_desc *d)
{
    TRINE_CHECK((unsigned)d->kind <= TRINE_ADAMW, TRINE_ERR_ARG, "optimizer: unknown kind %d", (int)d->kind);
    TRINE_CHECK(isfinite(d->weight_decay) && d->weight_decay >= 0, TRINE_ERR_ARG,
                "optimizer: weight decay %g, want a number >= 0", (double)d->weight_decay);
    if (d->kind == TRINE_SGD) {
        TRINE_CHECK(d->momentum >= 0 && d->momentum < 1, TRINE_ERR_ARG,
                    "optimizer: momentum %g, want 0 <= momentum < 1", (double)d->momentum);
        TRINE_CHECK(!d->nesterov || d->momentum > 0, TRINE_ERR_ARG,
                    "optimizer: Nesterov needs a momentum > 0");
        return TRINE_OK;
    }
    TRINE_CHECK(d->beta1 >= 0 && d->beta1 < 1 && d->beta2 >= 0 && d->beta2 < 1, TRINE_ERR_ARG,
                "optimizer: betas %g and %g, want 0 <= beta < 1", (double)d->beta1, (double)d->beta2);
    TRINE_CHECK(isfinite(d->eps) && d->eps >= 0, TRINE_ERR_ARG, "optimizer: eps %g, want a number >= 0",
                (double)d->eps);
    return TRINE_OK;
}

static trine_status create_states(trine_optimizer *op, trine_context *context)
{
    void *zeros;
    TRINE_TRY(trine__calloc(op->count, sizeof(float), &zeros));
    trine_status status = TRINE_OK;
    for (int i = 0; i < op->states && status == TRINE_OK; i++)
        status = trine__buffer_from_host(context, zeros, op->count * sizeof(float), &op->state[i]);
    free(zeros);
    return status;
}

trine_status trine_optimizer_create(trine_context *context, const trine_optimizer_desc *desc, size_t count,
                                    trine_optimizer **out)
{
    TRINE_CHECK(context && desc && out, TRINE_ERR_ARG,
                "optimizer: context, description or result is missing");
    TRINE_CHECK(count > 0 && count <= INT_MAX - CHUNK_CPU, TRINE_ERR_ARG,
                "optimizer: %zu parameters, want 1 to %d", count, INT_MAX - CHUNK_CPU);
    TRINE_TRY(check_desc(desc));
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_optimizer), &memory));
    trine_optimizer *op = memory;
    const bool sgd = desc->kind == TRINE_SGD;
    op->desc = *desc;
    op->beta1 = written_as(desc->beta1);
    op->beta2 = written_as(desc->beta2);
    op->count = count;
    op->caps = &context->caps;
    op->states = sgd ? desc->momentum > 0 : 2;
    char options[96];
    int length = snprintf(options, sizeof options, "-DCB=%d", trine__flat_grid_of(op->caps, count).vector);
    if (sgd)
        snprintf(options + length, sizeof options - (size_t)length, " -DMOMENTUM=%d -DNESTEROV=%d",
                 op->states, desc->nesterov != 0);
    trine_status status;
    TRINE_TRY_GOTO(trine__kernel_create(context, sgd ? "sgd" : "adam", options, &op->kernel));
    TRINE_TRY_GOTO(create_states(op, context));
    *out = op;
    return TRINE_OK;
cleanup:
    trine_optimizer_destroy(&op);
    return status;
}

void trine_optimizer_advance(trine_optimizer *op)
{
    op->steps++;
}

/* On CPUs a work-item is a long run of memory; elsewhere neighbouring work-items take neighbouring vectors. */
trine__flat_grid trine__flat_grid_of(const trine__caps *caps, size_t count)
{
    trine__flat_grid flat = {.vector = !caps->cpu ? 4 : caps->vector_width >= 16 ? 16 : 8, .chunk = 1};
    if (caps->cpu) {
        flat.chunk = CHUNK_CPU / flat.vector;
        flat.grid = trine__grid_tiles((count + CHUNK_CPU - 1) / CHUNK_CPU, 1, 1);
    } else {
        const size_t vector = (size_t)flat.vector;
        flat.grid = trine__grid_lines((count + vector - 1) / vector, 1, 1, TRINE__LOCAL);
    }
    return flat;
}

trine_status trine_optimizer_step(trine_optimizer *op, trine_stream *stream, trine_buffer *parameters,
                                  const trine_buffer *gradients, size_t first, size_t count, float lr)
{
    TRINE_CHECK(op->steps > 0, TRINE_ERR_STATE, "optimizer: a step before trine_optimizer_advance()");
    return trine__optimizer_step_number(op, stream, parameters, gradients, NULL, first, count, lr, op->steps);
}

trine_status trine__optimizer_step_number(trine_optimizer *op, trine_stream *stream, trine_buffer *parameters,
                                          const trine_buffer *gradients, const trine_buffer *scaling,
                                          size_t first, size_t count, float lr, uint64_t number)
{
    TRINE_CHECK(parameters && gradients, TRINE_ERR_ARG, "optimizer: parameters or gradients are missing");
    const size_t bytes = op->count * sizeof(float);
    TRINE_CHECK(trine_buffer_bytes(parameters) >= bytes && trine_buffer_bytes(gradients) >= bytes,
                TRINE_ERR_SHAPE, "optimizer: %zu bytes of parameters and %zu of gradients, want %zu",
                trine_buffer_bytes(parameters), trine_buffer_bytes(gradients), bytes);
    TRINE_CHECK(first <= op->count && count <= op->count - first, TRINE_ERR_ARG,
                "optimizer: elements [%zu, %zu + %zu) of %zu", first, first, count, op->count);
    TRINE_CHECK(isfinite(lr) && lr >= 0, TRINE_ERR_ARG, "optimizer: learning rate %g, want a number >= 0",
                (double)lr);
    if (count == 0) return TRINE_OK;
    const trine__flat_grid flat = trine__flat_grid_of(op->caps, count);
    const trine_optimizer_desc *d = &op->desc;
    if (d->kind == TRINE_SGD) {
        const trine__arg args[] = {trine__arg_buffer(parameters),
                                   trine__arg_buffer(gradients),
                                   trine__arg_buffer(op->state[0]),
                                   trine__arg_i32((int)first),
                                   trine__arg_i32((int)count),
                                   trine__arg_i32(flat.chunk),
                                   trine__arg_f32(lr),
                                   trine__arg_f32(d->momentum),
                                   trine__arg_f32(d->weight_decay),
                                   trine__arg_buffer(scaling)};
        return trine__launch(stream, op->kernel, args, TRINE_COUNTOF(args), flat.grid, NULL);
    }
    const bool decoupled = d->kind == TRINE_ADAMW;
    const double t = (double)number;
    const double step = (double)lr / (1 - pow(op->beta1, t)), root = 1 / sqrt(1 - pow(op->beta2, t));
    const trine__arg args[] = {trine__arg_buffer(parameters),
                               trine__arg_buffer(gradients),
                               trine__arg_buffer(op->state[0]),
                               trine__arg_buffer(op->state[1]),
                               trine__arg_i32((int)first),
                               trine__arg_i32((int)count),
                               trine__arg_i32(flat.chunk),
                               trine__arg_f32((float)step),
                               trine__arg_f32((float)root),
                               trine__arg_f32((float)(1 - op->beta1)),
                               trine__arg_f32((float)op->beta2),
                               trine__arg_f32((float)(1 - op->beta2)),
                               trine__arg_f32(d->eps),
                               trine__arg_f32(decoupled ? lr * d->weight_decay : 0.0f),
                               trine__arg_f32(decoupled ? 0.0f : d->weight_decay),
                               trine__arg_buffer(scaling)};
    return trine__launch(stream, op->kernel, args, TRINE_COUNTOF(args), flat.grid,
                         decoupled ? "adamw" : NULL);
}

int trine__optimizer_state_count(const trine_optimizer *op)
{
    return op->states;
}

const char *trine__optimizer_state_name(const trine_optimizer *op, int i)
{
    static const char *const adam_names[] = {"exp_avg", "exp_avg_sq"};
    if (i < 0 || i >= op->states) return NULL;
    return op->desc.kind == TRINE_SGD ? "momentum_buffer" : adam_names[i];
}

trine_status trine__optimizer_state_export(const trine_optimizer *op, trine_stream *stream, int i,
                                           float *host)
{
    TRINE_CHECK(i >= 0 && i < op->states, TRINE_ERR_ARG, "optimizer: no state buffer %d of %d", i,
                op->states);
    return trine_buffer_read(stream, op->state[i], 0, host, op->count * sizeof(float));
}

trine_status trine__optimizer_state_import(trine_optimizer *op, trine_stream *stream, int i,
                                           const float *host)
{
    TRINE_CHECK(i >= 0 && i < op->states, TRINE_ERR_ARG, "optimizer: no state buffer %d of %d", i,
                op->states);
    return trine_buffer_write(stream, op->state[i], 0, host, op->count * sizeof(float));
}

uint64_t trine__optimizer_steps(const trine_optimizer *op)
{
    return op->steps;
}

void trine__optimizer_set_steps(trine_optimizer *op, uint64_t steps)
{
    op->steps = steps;
}

trine_status trine__optimizer_counts(trine_optimizer *op, size_t tensors, size_t floats, uint64_t **out)
{
    TRINE_CHECK(floats == op->count, TRINE_ERR_ARG,
                "optimizer: made for %zu floats of parameters, the network has %zu", op->count, floats);
    if (!op->counts) {
        void *memory = NULL;
        TRINE_TRY(trine__calloc(tensors, sizeof *op->counts, &memory));
        op->counts = memory;
    }
    *out = op->counts;
    return TRINE_OK;
}

void trine_optimizer_destroy(trine_optimizer **op)
{
    if (!op || !*op) return;
    free((*op)->counts);
    trine__kernel_destroy(&(*op)->kernel);
    for (int i = 0; i < MAX_STATES; i++) trine_buffer_release(&(*op)->state[i]);
    free(*op);
    *op = NULL;
}
