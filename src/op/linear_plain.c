/* SPDX-License-Identifier: MIT */
/* linear_plain: own kernels with register tiles. At a network's batch sizes the layer is bound by reading w:
 * each kernel reads it once for every NT images. */
#include <stdio.h>
#include <stdlib.h>

#include "op/linear_private.h"

/* Tiles, in images and output features: NT*KT accumulators, of 16 vector registers at least. */
enum { FORWARD_NT = 4, FORWARD_KT = 2, DATA_NT = 8, WEIGHTS_KT = 4 };

typedef struct state {
    int v; /* floats of a vector along c */
    trine__kernel *kernel;
} state;

static void destroy(void *s)
{
    trine__kernel_destroy(&((state *)s)->kernel);
    free(s);
}

static trine_status create(trine_linear *op, void **out)
{
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(state), &memory));
    ((state *)memory)->v = op->context->caps.cpu ? op->context->caps.vector_width : 1;
    *out = memory;
    return TRINE_OK;
}

/* The kernel of a direction, made at its first use. */
static trine_status get(trine_linear *op, trine_direction direction, trine__kernel **out)
{
    static const char *const stems[] = {"linear_forward", "linear_backward_data", "linear_backward_weights"};
    static const int nt[] = {FORWARD_NT, DATA_NT, 1}, kt[] = {FORWARD_KT, 1, WEIGHTS_KT};
    state *s = op->state[direction];
    if (!s->kernel) {
        char options[64];
        /* forward's work-items go along features: their loads lie apart on any device, so a vector each is
         * best */
        const int v = direction == TRINE_FORWARD && s->v == 1 ? 4 : s->v;
        snprintf(options, sizeof options, "-DV=%d -DNT=%d -DKT=%d", v, nt[direction], kt[direction]);
        TRINE_TRY(trine__kernel_create(op->context, stems[direction], options, &s->kernel));
    }
    *out = s->kernel;
    return TRINE_OK;
}

static trine__grid grid(const trine_linear *op, int x, int y)
{
    return op->context->caps.cpu ? trine__grid_tiles((size_t)x, (size_t)y, 1)
                                 : trine__grid_lines((size_t)x, (size_t)y, 1, TRINE__LOCAL);
}

static trine_status forward(trine_linear *op, trine_stream *stream, const trine__linear_call *call)
{
    trine__kernel *kernel;
    TRINE_TRY(get(op, TRINE_FORWARD, &kernel));
    const trine__arg args[] = {trine__arg_tensor(call->x),       trine__arg_buffer(call->w),
                               trine__arg_buffer(call->b),       trine__arg_tensor(call->out),
                               trine__arg_i32(call->images),     trine__arg_i32(op->in_features),
                               trine__arg_i32(op->out_features), trine__arg_i32(call->ldx)};
    return trine__launch(
        stream, kernel, args, TRINE_COUNTOF(args),
        grid(op, trine__ceil_div(op->out_features, FORWARD_KT), trine__ceil_div(call->images, FORWARD_NT)),
        NULL);
}

static trine_status backward_data(trine_linear *op, trine_stream *stream, const trine__linear_call *call)
{
    trine__kernel *kernel;
    TRINE_TRY(get(op, TRINE_BACKWARD_DATA, &kernel));
    const trine__arg args[] = {trine__arg_tensor(call->dy),     trine__arg_buffer(call->w),
                               trine__arg_tensor(call->out),    trine__arg_i32(call->images),
                               trine__arg_i32(op->in_features), trine__arg_i32(op->out_features),
                               trine__arg_i32(call->ldx)};
    const int v = ((const state *)op->state[TRINE_BACKWARD_DATA])->v;
    return trine__launch(stream, kernel, args, TRINE_COUNTOF(args),
                         grid(op, trine__ceil_div(call->ldx, v), trine__ceil_div(call->images, DATA_NT)),
                         NULL);
}

static trine_status backward_weights(trine_linear *op, trine_stream *stream, const trine__linear_call *call)
{
    trine__kernel *kernel;
    TRINE_TRY(get(op, TRINE_BACKWARD_WEIGHTS, &kernel));
    const int v = ((const state *)op->state[TRINE_BACKWARD_WEIGHTS])->v,
              vectors = trine__ceil_div(op->in_features, v);
    const int run = op->context->caps.cpu
                        ? vectors
                        : 1; /* whole rows: a work-group costs as much as a few hundred floats */
    const trine__arg args[] = {trine__arg_tensor(call->x),       trine__arg_tensor(call->dy),
                               trine__arg_buffer(call->dw),      trine__arg_buffer(call->db),
                               trine__arg_i32(call->images),     trine__arg_i32(op->in_features),
                               trine__arg_i32(op->out_features), trine__arg_i32(call->ldx),
                               trine__arg_i32(call->beta),       trine__arg_i32(run)};
    return trine__launch(
        stream, kernel, args, TRINE_COUNTOF(args),
        grid(op, trine__ceil_div(vectors, run), trine__ceil_div(op->out_features, WEIGHTS_KT)), NULL);
}

const trine__linear_impl trine__linear_plain = {"linear_plain", create,           NULL,   forward,
                                                backward_data,  backward_weights, destroy};
