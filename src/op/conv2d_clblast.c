/* SPDX-License-Identifier: MIT */
/* conv2d of 1x1 filters and stride 1 on NCHW as a matrix product of an image, by CLBlast: with x [C][pixels], y [K][pixels], w [K][C]
 *   y = w * x    dx = w^T * dy    dw = sum over images of dy * x^T
 * An image at a time: CLBlast's batched product takes no temporary buffer of the caller's, and allocates one at every call instead. */

#include "op/conv2d_private.h"
#include "rt/blas.h"

typedef struct state {
    trine__kernel *layout; /* weights to dense ones and back; NULL: they are dense */
    trine__kernel *epilogue;
    size_t temporary; /* bytes that a product needs */
} state;

static bool supports(const trine_conv2d *op, trine_direction direction)
{
    const trine_conv2d_desc *d = &op->desc;
    (void)direction;
    return d->kernel_h == 1 && d->kernel_w == 1 && d->stride_h == 1 && d->stride_w == 1 && d->pad_h == 0 &&
           d->pad_w == 0 && d->groups == 1 && d->in_cb == 1 && d->out_cb == 1;
}

static bool dense_weights(const trine_conv2d *op)
{
    return op->desc.weight_kb == 1 && op->desc.weight_cb == 1;
}

static size_t weight_bytes(const trine_conv2d *op)
{
    return sizeof(float) * (size_t)op->desc.out_channels * (size_t)op->desc.in_channels;
}

/* Image `n` of a direction. */
static trine__gemm product(const trine_conv2d *op, trine_direction direction, int n, int beta)
{
    const int k = op->desc.out_channels, c = op->desc.in_channels, pixels = op->h * op->w;
    const size_t x = (size_t)n * (size_t)c * (size_t)pixels, y = (size_t)n * (size_t)k * (size_t)pixels;
    trine__gemm g = {.alpha = 1, .beta = (float)beta};
    if (direction == TRINE_FORWARD) {
        g.m = k, g.n = pixels, g.k = c;
        g.lda = c, g.ldb = pixels, g.ldc = pixels;
        g.b_offset = x, g.c_offset = y;
    } else if (direction == TRINE_BACKWARD_DATA) {
        g.transpose_a = true;
        g.m = c, g.n = pixels, g.k = k;
        g.lda = c, g.ldb = pixels, g.ldc = pixels;
        g.b_offset = y, g.c_offset = x;
    } else {
        g.transpose_b = true;
        g.m = k, g.n = c, g.k = pixels;
        g.lda = pixels, g.ldb = pixels, g.ldc = c;
        g.a_offset = y, g.b_offset = x;
    }
    return g;
}

static void destroy(void *state_)
{
    state *s = state_;
    trine__kernel_destroy(&s->layout);
    trine__kernel_destroy(&s->epilogue);
}

static trine_status create(trine_conv2d *op, trine_direction direction, void *state_)
{
    state *s = state_;
    trine_stream *asked = NULL; /* CLBlast wants to know the device */
    trine_status status;
    if (!dense_weights(op))
        TRINE_TRY_GOTO(trine__kernel_create(
            op->context, direction == TRINE_BACKWARD_WEIGHTS ? "conv2d_unpack" : "conv2d_pack",
            trine__conv2d_weight_options(op).text, &s->layout));
    if (direction == TRINE_FORWARD)
        TRINE_TRY_GOTO(trine__kernel_create(op->context, "conv2d_apply_epilogue", "", &s->epilogue));
    TRINE_TRY_GOTO(trine_stream_create(op->context, 0, &asked));
    for (int n = 0; n < 2; n++) { /* with an offset and without */
        const trine__gemm g = product(op, direction, n, 1);
        size_t bytes;
        TRINE_TRY_GOTO(trine__blas_workspace(asked, &g, &bytes));
        if (bytes > s->temporary) s->temporary = bytes;
    }
cleanup:
    trine_stream_destroy(&asked);
    return status;
}

/* The workspace: CLBlast's temporary memory, then the sums before their epilogue, or dw before its layout. */
static size_t sums_offset(const trine_conv2d *op, trine_direction direction)
{
    return trine__round_up(((const state *)op->state[direction])->temporary, op->context->caps.alignment);
}

static size_t sums_bytes(const trine_conv2d *op, trine_direction direction, int n)
{
    if (direction == TRINE_FORWARD)
        return sizeof(float) * (size_t)n * (size_t)op->desc.out_channels * (size_t)op->h * (size_t)op->w;
    return direction == TRINE_BACKWARD_WEIGHTS && !dense_weights(op) ? weight_bytes(op) : 0;
}

static size_t workspace(const trine_conv2d *op, trine_direction direction, int n)
{
    return sums_offset(op, direction) + sums_bytes(op, direction, n);
}

static size_t prepared_bytes(const trine_conv2d *op, trine_direction direction)
{
    (void)direction;
    return dense_weights(op) ? 0 : weight_bytes(op);
}

/* conv2d_pack's layout with blocks of one filter and one channel is the dense one. */
static trine_status prepare(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine_buffer *weights, trine_buffer *prepared)
{
    const trine_conv2d_desc *d = &op->desc;
    const state *s = op->state[direction];
    const trine__arg args[] = {trine__arg_buffer(weights),
                               trine__arg_buffer(prepared),
                               trine__arg_i32(d->out_channels),
                               trine__arg_i32(d->in_channels),
                               trine__arg_i32(1),
                               trine__arg_i32(d->out_channels),
                               trine__arg_i32(d->in_channels),
                               trine__arg_i32(1),
                               trine__arg_i32(1),
                               trine__arg_i32(1),
                               trine__arg_i32(0)};
    return trine__launch(stream, s->layout, args, TRINE_COUNTOF(args),
                         trine__grid_tiles((size_t)d->in_channels, (size_t)d->out_channels, 1), "prepare");
}

/* All images; of the filter gradient each after the first adds. */
static trine_status multiply(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                             const trine__conv2d_call *call, int beta, trine_buffer *to)
{
    const bool weights = direction == TRINE_BACKWARD_WEIGHTS;
    const trine_tensor *in = direction == TRINE_FORWARD ? call->x : call->dy;
    for (int n = 0; n < in->shape.n; n++) {
        const trine__gemm g = product(op, direction, n, weights && n > 0 ? 1 : beta);
        TRINE_TRY(trine__blas_sgemm(stream, &g, weights ? in->buffer : op->weights[direction],
                                    weights ? call->x->buffer : in->buffer, to, call->workspace));
    }
    return TRINE_OK;
}

static trine_status forward(trine_conv2d *op, trine_stream *stream, const trine__conv2d_call *call)
{
    const trine_conv2d_epilogue *e = call->epilogue;
    const state *s = op->state[TRINE_FORWARD];
    const trine_shape *y = &call->out->shape;
    const int pixels = y->h * y->w;
    trine_buffer *sums = NULL;
    trine_status status;
    if (!e->scale && !e->shift && !e->residual && !op->desc.relu)
        return multiply(op, stream, TRINE_FORWARD, call, 0, call->out->buffer);
    TRINE_TRY(trine_buffer_view(call->workspace, sums_offset(op, TRINE_FORWARD),
                                sums_bytes(op, TRINE_FORWARD, y->n), &sums));
    TRINE_TRY_GOTO(multiply(op, stream, TRINE_FORWARD, call, 0, sums));
    const trine__arg args[] = {trine__arg_buffer(sums),
                               trine__arg_buffer(e->scale),
                               trine__arg_buffer(e->shift),
                               trine__arg_tensor(e->residual),
                               trine__arg_tensor(call->out),
                               trine__arg_i32(pixels),
                               trine__arg_i32(trine__epilogue_flags(op, call))};
    TRINE_TRY_GOTO(trine__launch(
        stream, s->epilogue, args, TRINE_COUNTOF(args),
        trine__grid_lines((size_t)pixels, (size_t)op->desc.out_channels, (size_t)y->n, TRINE__LOCAL),
        trine__direction_name(TRINE_FORWARD)));
cleanup:
    trine_buffer_release(&sums);
    return status;
}

static trine_status backward_weights(trine_conv2d *op, trine_stream *stream, const trine__conv2d_call *call)
{
    const trine_conv2d_desc *d = &op->desc;
    const trine_direction direction = TRINE_BACKWARD_WEIGHTS;
    const state *s = op->state[direction];
    trine_buffer *sums = NULL;
    trine_status status;
    if (dense_weights(op)) return multiply(op, stream, direction, call, call->beta, call->dw);
    TRINE_TRY(trine_buffer_view(call->workspace, sums_offset(op, direction), weight_bytes(op), &sums));
    TRINE_TRY_GOTO(multiply(op, stream, direction, call, 0, sums));
    const trine__arg args[] = {trine__arg_buffer(sums),
                               trine__arg_buffer(call->dw),
                               trine__arg_i32(d->out_channels),
                               trine__arg_i32(d->in_channels),
                               trine__arg_i32(1),
                               trine__arg_i32(d->out_channels),
                               trine__arg_i32(d->in_channels),
                               trine__arg_i32(1),
                               trine__arg_i32(1),
                               trine__arg_i32(1),
                               trine__arg_i32(1),
                               trine__arg_i32(d->out_channels * d->in_channels),
                               trine__arg_i32(call->beta)};
    TRINE_TRY_GOTO(trine__launch(stream, s->layout, args, TRINE_COUNTOF(args),
                                 trine__grid_tiles((size_t)d->in_channels, (size_t)d->out_channels, 1),
                                 trine__direction_name(direction)));
cleanup:
    trine_buffer_release(&sums);
    return status;
}

static trine_status enqueue(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine__conv2d_call *call)
{
    if (direction == TRINE_FORWARD) return forward(op, stream, call);
    if (direction == TRINE_BACKWARD_WEIGHTS) return backward_weights(op, stream, call);
    return multiply(op, stream, direction, call, call->beta, call->out->buffer);
}

const trine__conv2d_impl trine__conv2d_clblast = {
    .name = "conv2d_clblast",
    .error_class = 1.0,
    .supports = supports,
    .prefers = trine__conv2d_only_measured,
    .workspace = workspace,
    .state_bytes = sizeof(state),
    .create = create,
    .prepared_bytes = prepared_bytes,
    .prepare = prepare,
    .enqueue = enqueue,
    .destroy = destroy,
};
