/* SPDX-License-Identifier: MIT */
/* Direct convolution of groups that share a channel block or fill it (ResNeXt): rows of taps at a time, whose pixels are spread over
 * the lanes once for all of them, on images as they are. */
#include <stdio.h>

#include "op/conv2d_direct.h"

enum {
    MAX_KERNEL = 7, /* taps of a row, whose weights are in registers */
    MAX_REACH = 64, /* pixels from the first tap of a row to the last */
    MAX_TILE = 10,  /* columns */
    MIN_ROWS = 4    /* of a work-item: the rows that taps share are read from memory once */
};

bool trine__grouped_supports(const trine_conv2d_desc *d)
{
    return d->kernel_h <= MAX_KERNEL && d->kernel_w <= MAX_KERNEL &&
           (d->kernel_w - 1) * d->dilation_w <= MAX_REACH;
}

/* Columns of a tile: least work for a row of `columns`, a column's sums and the taps' weights being in registers. */
static int choose_columns(const trine_context *ctx, const trine_conv2d_desc *d, int columns, int multiple)
{
    int most = ctx->caps.vector_registers - d->kernel_w - 1, best = multiple, least = 0;
    if (most > MAX_TILE) most = MAX_TILE;
    for (int tile = multiple; tile <= most; tile += multiple) {
        const int work = trine__ceil_div(columns, tile) * (tile + d->kernel_w - 1);
        if (least != 0 && work > least) continue;
        least = work;
        best = tile;
    }
    return best;
}

/* Input channels whose sums fit into registers, with a row's pixel and gradient. */
static int choose_channels(const trine_context *ctx, const trine_conv2d_desc *d, int group)
{
    int channels = group;
    while (channels > 1 && channels * d->kernel_w + 2 > ctx->caps.vector_registers)
        channels = (channels + 1) / 2;
    while (group % channels != 0) channels--;
    return channels;
}

trine_status trine__grouped_create(trine_conv2d *op, trine_direction direction, trine__direct *s)
{
    const trine_conv2d_desc *d = &op->desc;
    const trine_context *ctx = op->context;
    const int width = ctx->caps.vector_width < 4 ? 4 : ctx->caps.vector_width;
    const int lanes = width < s->side.cb ? width : s->side.cb;
    char options[200];
    const int used = snprintf(options, sizeof options,
                              "-DCB=%d -DBLOCK=%d -DGROUP=%d -DKH=%d -DKW=%d -DS=%d -DDH=%d -DDW=%d -DPAD=%d",
                              lanes, s->side.cb, s->side.block_in, d->kernel_h, d->kernel_w, d->stride_w,
                              d->dilation_h, d->dilation_w, d->pad_w);
    char *more = options + used;
    const size_t room = sizeof options - (size_t)used;
    if (direction == TRINE_BACKWARD_WEIGHTS) {
        snprintf(more, room, " -DCT=%d", choose_channels(ctx, d, s->side.block_in));
        return trine__kernel_create(op->context, "conv2d_grouped_backward_weights", options, &s->kernel);
    }
    if (direction == TRINE_BACKWARD_DATA)
        snprintf(more, room, " -DTW=%d -DBACKWARD=1", choose_columns(ctx, d, op->w, d->stride_w));
    else
        snprintf(more, room, " -DTW=%d", choose_columns(ctx, d, op->q, 1));
    return trine__kernel_create(op->context, "conv2d_grouped", options, &s->kernel);
}

/* Rows of a work-item: all, unless that leaves the device short of work. */
static int choose_rows(const trine_context *ctx, int rows, size_t planes)
{
    const size_t wanted = (size_t)ctx->caps.compute_units * TRINE__DIRECT_ITEMS_PER_UNIT;
    int count = rows;
    while (count > MIN_ROWS && planes * (size_t)trine__ceil_div(rows, count) < wanted)
        count = (count + 1) / 2;
    return count;
}

trine_status trine__grouped_enqueue(trine_conv2d *op, trine_stream *stream, const trine__direct *s,
                                    const trine__conv2d_call *call)
{
    const trine_direction direction = call->dy ? TRINE_BACKWARD_DATA : TRINE_FORWARD;
    const trine_tensor *in = call->dy ? call->dy : call->x;
    const trine_shape *out = &call->out->shape;
    const trine_conv2d_epilogue *e = call->epilogue;
    const size_t blocks = (size_t)s->side.out_blocks, images = (size_t)in->shape.n;
    const int rows = choose_rows(op->context, out->h, blocks * images);
    const trine__arg args[] = {trine__arg_tensor(in),
                               trine__arg_buffer(op->weights[direction]),
                               trine__arg_buffer(e->scale),
                               trine__arg_buffer(e->shift),
                               trine__arg_tensor(e->residual),
                               trine__arg_tensor(call->out),
                               trine__arg_i32(in->shape.h),
                               trine__arg_i32(in->shape.w),
                               trine__arg_i32(out->h),
                               trine__arg_i32(out->w),
                               trine__arg_i32(op->desc.pad_h),
                               trine__arg_i32(rows),
                               trine__arg_i32(trine__epilogue_flags(op, call))};
    return trine__launch(stream, s->kernel, args, TRINE_COUNTOF(args),
                         trine__grid_tiles((size_t)trine__ceil_div(out->h, rows), blocks, images),
                         trine__direction_name(direction));
}

trine_status trine__grouped_launch_gradient(trine_stream *stream, const trine__direct *s,
                                            const trine_conv2d *op, const trine__conv2d_call *call,
                                            trine_buffer *to, int splits, int beta)
{
    const trine__arg args[] = {
        trine__arg_tensor(call->x), trine__arg_tensor(call->dy),    trine__arg_buffer(to),
        trine__arg_i32(op->h),      trine__arg_i32(op->w),          trine__arg_i32(op->p),
        trine__arg_i32(op->q),      trine__arg_i32(op->desc.pad_h), trine__arg_i32(call->x->shape.n),
        trine__arg_i32(beta)};
    return trine__launch(stream, s->kernel, args, TRINE_COUNTOF(args),
                         trine__grid_tiles((size_t)s->side.out_blocks, (size_t)splits, 1),
                         trine__direction_name(TRINE_BACKWARD_WEIGHTS));
}
