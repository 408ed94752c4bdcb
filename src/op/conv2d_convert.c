/* SPDX-License-Identifier: MIT */
/* Half-precision activations for implementations that know floats only: copies in single precision in the workspace, behind what the
 * implementation has for itself. A convolution reads each value many times, so that the copies cost a share of its time that falls with
 * the number of channels; the values are the same as those of an implementation that converts on the way. */
#include "op/conv2d_convert.h"

/* What one side of the convolution, x or dx or y or dy, is copied to. */
typedef struct side {
    size_t offset, bytes; /* in the workspace; bytes 0: no copy */
} side;

typedef struct layout {
    size_t own; /* of the implementation */
    side x, y;
    size_t total;
} layout;

static size_t aligned(const trine_conv2d *op, size_t bytes)
{
    return trine__round_up(bytes, op->context->caps.alignment);
}

static side place(const trine_conv2d *op, const trine_shape *shape, int cb, trine_dtype dtype, size_t *end)
{
    side s = {.offset = *end};
    if (dtype == TRINE_F16) s.bytes = trine_tensor_elements(shape, cb) * sizeof(float);
    *end += aligned(op, s.bytes);
    return s;
}

static layout lay_out(const trine_conv2d *op, trine_direction direction, int n)
{
    const trine__conv2d_impl *impl = op->impl[direction];
    const trine_conv2d_desc *d = &op->desc;
    const trine_shape x = {n, d->in_channels, op->h, op->w}, y = {n, d->out_channels, op->p, op->q};
    layout l = {.own = impl->workspace ? impl->workspace(op, direction, n) : 0};
    l.total = aligned(op, l.own);
    l.x = place(op, &x, d->in_cb, d->in_dtype, &l.total);
    l.y = place(op, &y, d->out_cb, d->out_dtype, &l.total);
    return l;
}

bool trine__conv2d_converts(const trine_conv2d *op, trine_direction direction)
{
    return (op->desc.in_dtype == TRINE_F16 || op->desc.out_dtype == TRINE_F16) &&
           !op->impl[direction]->reads_halves;
}

size_t trine__conv2d_convert_workspace(const trine_conv2d *op, trine_direction direction, int n)
{
    return lay_out(op, direction, n).total;
}

/* A view of a side's copy, shaped like `t`; `t` itself where there is none. */
static trine_status open_copy(const side *s, trine_buffer *workspace, const trine_tensor *t,
                              trine_tensor *copy)
{
    *copy = *t;
    if (s->bytes == 0) return TRINE_OK;
    copy->dtype = TRINE_F32;
    copy->buffer = NULL;
    return trine_buffer_view(workspace, s->offset, s->bytes, &copy->buffer);
}

static void close_copy(const side *s, trine_tensor *copy)
{
    if (s->bytes) trine_buffer_release(&copy->buffer);
}

/* Halves into floats or back, where the side has a copy. */
static trine_status move(trine_conv2d *op, trine_stream *stream, const side *s, const trine_tensor *from,
                         trine_tensor *to)
{
    return s->bytes ? trine_reorder(op->elementwise, stream, from, to) : TRINE_OK;
}

static trine_status run(trine_conv2d *op, trine_stream *stream, trine_direction direction, const layout *l,
                        const trine__conv2d_call *call, trine_tensor *x, trine_tensor *y, trine_buffer *own)
{
    trine__conv2d_call inner = *call;
    trine_conv2d_epilogue epilogue;
    inner.workspace = own;
    if (direction == TRINE_FORWARD) {
        TRINE_TRY(move(op, stream, &l->x, call->x, x));
        epilogue = *call->epilogue;
        if (epilogue.residual && l->y.bytes) {
            TRINE_TRY(move(op, stream, &l->y, epilogue.residual, y));
            epilogue.residual = y;
        }
        inner.epilogue = &epilogue;
        inner.x = x;
        inner.out = y;
        TRINE_TRY(op->impl[direction]->enqueue(op, stream, direction, &inner));
        return move(op, stream, &l->y, y, call->out);
    }
    TRINE_TRY(move(op, stream, &l->y, call->dy, y));
    inner.dy = y;
    if (direction == TRINE_BACKWARD_WEIGHTS) {
        TRINE_TRY(move(op, stream, &l->x, call->x, x));
        inner.x = x;
        return op->impl[direction]->enqueue(op, stream, direction, &inner);
    }
    if (call->beta) TRINE_TRY(move(op, stream, &l->x, call->out, x));
    inner.out = x;
    TRINE_TRY(op->impl[direction]->enqueue(op, stream, direction, &inner));
    return move(op, stream, &l->x, x, call->out);
}

trine_status trine__conv2d_convert(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                                   const trine__conv2d_call *call)
{
    const trine_tensor *x = direction == TRINE_BACKWARD_DATA ? call->out : call->x,
                       *y = direction == TRINE_FORWARD ? call->out : call->dy;
    const layout l = lay_out(op, direction, x->shape.n);
    trine_tensor x_copy = {0}, y_copy = {0};
    trine_buffer *own = NULL;
    trine_status status;
    TRINE_TRY_GOTO(open_copy(&l.x, call->workspace, x, &x_copy));
    TRINE_TRY_GOTO(open_copy(&l.y, call->workspace, y, &y_copy));
    if (l.own) TRINE_TRY_GOTO(trine_buffer_view(call->workspace, 0, l.own, &own));
    TRINE_TRY_GOTO(run(op, stream, direction, &l, call, &x_copy, &y_copy, own));
cleanup:
    close_copy(&l.x, &x_copy);
    close_copy(&l.y, &y_copy);
    trine_buffer_release(&own);
    return status;
}
