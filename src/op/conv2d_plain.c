/* SPDX-License-Identifier: MIT */
/* conv2d by one work-item per result: slow, takes everything. Reads the caller's weights. */
#include <stdio.h>

#include "op/conv2d_private.h"

typedef struct plain_state {
    trine__kernel *kernel;
} plain_state;

static bool supports(const trine_conv2d *op, trine_direction direction)
{
    (void)op;
    (void)direction;
    return true;
}

static void destroy(void *state)
{
    plain_state *s = state;
    trine__kernel_destroy(&s->kernel);
}

static trine_status create(trine_conv2d *op, trine_direction direction, void *state)
{
    static const char *const stems[] = {"conv2d_plain_forward", "conv2d_plain_backward_data",
                                        "conv2d_plain_backward_weights"};
    plain_state *s = state;
    char options[64];
    snprintf(options, sizeof options, "%s%s", trine__conv2d_weight_options(op).text,
             trine__conv2d_storage_options(op, direction));
    return trine__kernel_create(op->context, stems[direction], options, &s->kernel);
}

static trine_status enqueue(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine__conv2d_call *call)
{
    const plain_state *s = op->state[direction];
    const trine_conv2d_desc *d = &op->desc;
    trine__arg args[32];
    size_t count = 0;
    trine__grid grid;
    const int per_group = d->in_channels / d->groups;
    const size_t filters = trine__round_up((size_t)d->out_channels, (size_t)d->out_cb);
    const size_t channels = trine__round_up((size_t)d->in_channels, (size_t)d->in_cb);
    if (direction == TRINE_FORWARD) {
        const trine_conv2d_epilogue *e = call->epilogue;
        args[count++] = trine__arg_tensor(call->x);
        args[count++] = trine__arg_buffer(op->weights[direction]);
        args[count++] = trine__arg_buffer(e->scale);
        args[count++] = trine__arg_buffer(e->shift);
        args[count++] = trine__arg_tensor(e->residual);
        args[count++] = trine__arg_tensor(call->out);
        grid =
            trine__grid_lines((size_t)op->p * (size_t)op->q, filters, (size_t)call->x->shape.n, TRINE__LOCAL);
    } else if (direction == TRINE_BACKWARD_DATA) {
        args[count++] = trine__arg_tensor(call->dy);
        args[count++] = trine__arg_buffer(op->weights[direction]);
        args[count++] = trine__arg_tensor(call->out);
        grid = trine__grid_lines((size_t)op->h * (size_t)op->w, channels, (size_t)call->dy->shape.n,
                                 TRINE__LOCAL);
    } else {
        args[count++] = trine__arg_tensor(call->x);
        args[count++] = trine__arg_tensor(call->dy);
        args[count++] = trine__arg_buffer(call->dw);
        args[count++] = trine__arg_i32(call->x->shape.n);
        grid = trine__grid_lines((size_t)(per_group * d->kernel_h * d->kernel_w), (size_t)d->out_channels, 1,
                                 TRINE__LOCAL);
    }
    const int problem[] = {d->in_channels, d->out_channels, op->h,       op->w,       op->p,    op->q,
                           d->kernel_h,    d->kernel_w,     d->stride_h, d->stride_w, d->pad_h, d->pad_w,
                           d->dilation_h,  d->dilation_w,   d->groups,   d->in_cb,    d->out_cb};
    for (size_t i = 0; i < TRINE_COUNTOF(problem); i++) args[count++] = trine__arg_i32(problem[i]);
    args[count++] = trine__arg_i32(direction == TRINE_FORWARD ? d->relu : call->beta);
    return trine__launch(stream, s->kernel, args, count, grid, trine__direction_name(direction));
}

const trine__conv2d_impl trine__conv2d_plain = {
    .name = "conv2d_plain",
    .error_class = 1.0,
    .reads_halves = true,
    .supports = supports,
    .state_bytes = sizeof(plain_state),
    .create = create,
    .enqueue = enqueue,
    .destroy = destroy,
};
