/* SPDX-License-Identifier: MIT */
/* conv2d: validates once, has an implementation picked for each direction (conv2d_choice.c), checks shapes, hands over. */
#include "trine/conv2d.h"

#include <stdio.h>
#include <stdlib.h>

#include "op/batchnorm_parts.h"
#include "op/conv2d_convert.h"

/* Of kernel, stride, padding and dilation, and of images: positions fit 32 bits. */
enum { MAX_SIZE = 1 << 14, MAX_IMAGE = 1 << 29 };

trine_conv2d_desc trine_conv2d_desc_default(int in_channels, int out_channels, int kernel)
{
    return (trine_conv2d_desc){.in_channels = in_channels,
                               .out_channels = out_channels,
                               .kernel_h = kernel,
                               .kernel_w = kernel,
                               .stride_h = 1,
                               .stride_w = 1,
                               .dilation_h = 1,
                               .dilation_w = 1,
                               .groups = 1,
                               .in_cb = 1,
                               .out_cb = 1,
                               .weight_kb = 1,
                               .weight_cb = 1};
}

static trine_status check_desc(const trine_conv2d_desc *d)
{
    TRINE_CHECK(d->in_channels >= 1 && d->out_channels >= 1, TRINE_ERR_ARG,
                "conv2d: %d input and %d output channels: need at least 1", d->in_channels, d->out_channels);
    TRINE_CHECK(d->groups >= 1 && d->in_channels % d->groups == 0 && d->out_channels % d->groups == 0,
                TRINE_ERR_ARG, "conv2d: %d groups do not divide %d input and %d output channels", d->groups,
                d->in_channels, d->out_channels);
    TRINE_CHECK(d->kernel_h >= 1 && d->kernel_w >= 1, TRINE_ERR_ARG,
                "conv2d: kernel %d x %d: need at least 1 x 1", d->kernel_h, d->kernel_w);
    TRINE_CHECK(d->stride_h >= 1 && d->stride_w >= 1, TRINE_ERR_ARG, "conv2d: stride %d, %d: need at least 1",
                d->stride_h, d->stride_w);
    TRINE_CHECK(d->pad_h >= 0 && d->pad_w >= 0, TRINE_ERR_ARG, "conv2d: padding %d, %d: must not be negative",
                d->pad_h, d->pad_w);
    TRINE_CHECK(d->dilation_h >= 1 && d->dilation_w >= 1, TRINE_ERR_ARG,
                "conv2d: dilation %d, %d: need at least 1", d->dilation_h, d->dilation_w);
    const int sizes[] = {d->kernel_h, d->kernel_w, d->stride_h,   d->stride_w,
                         d->pad_h,    d->pad_w,    d->dilation_h, d->dilation_w};
    for (size_t i = 0; i < TRINE_COUNTOF(sizes); i++)
        TRINE_CHECK(sizes[i] <= MAX_SIZE, TRINE_ERR_ARG,
                    "conv2d: kernel, stride, padding or dilation of %d: at most %d", sizes[i], (int)MAX_SIZE);
    const int blocks[] = {d->in_cb, d->out_cb};
    for (size_t i = 0; i < TRINE_COUNTOF(blocks); i++)
        TRINE_CHECK(blocks[i] >= 1 && blocks[i] <= 16 && (blocks[i] & (blocks[i] - 1)) == 0, TRINE_ERR_ARG,
                    "conv2d: channel block %d: expected 1, 2, 4, 8 or 16", blocks[i]);
    const trine_dtype storages[] = {d->in_dtype, d->out_dtype};
    for (size_t i = 0; i < TRINE_COUNTOF(storages); i++)
        TRINE_CHECK(storages[i] == TRINE_F32 || storages[i] == TRINE_F16, TRINE_ERR_ARG,
                    "conv2d: activations stored as %s: expected F32 or F16", trine_dtype_name(storages[i]));
    const int weight_blocks[] = {d->weight_kb, d->weight_cb};
    for (size_t i = 0; i < TRINE_COUNTOF(weight_blocks); i++)
        TRINE_CHECK(weight_blocks[i] >= 1 && weight_blocks[i] <= 32 &&
                        (weight_blocks[i] & (weight_blocks[i] - 1)) == 0,
                    TRINE_ERR_ARG, "conv2d: weights in blocks of %d: expected 1, 2, 4, 8, 16 or 32",
                    weight_blocks[i]);
    return TRINE_OK;
}

static int output_size(int in, int pad, int dilation, int kernel, int stride)
{
    const int room = in + 2 * pad - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

trine__weight_options trine__conv2d_weight_options(const trine_conv2d *op)
{
    trine__weight_options options;
    snprintf(options.text, sizeof options.text, "-DWKB=%d -DWCB=%d", op->desc.weight_kb, op->desc.weight_cb);
    return options;
}

const char *trine__conv2d_storage_options(const trine_conv2d *op, trine_direction direction)
{
    const trine_conv2d_desc *d = &op->desc;
    return direction == TRINE_BACKWARD_DATA ? trine__storage_options(d->out_dtype, d->in_dtype)
                                            : trine__storage_options(d->in_dtype, d->out_dtype);
}

trine_status trine__conv2d_check_positions(const trine_conv2d *op, trine_direction direction,
                                           const trine__conv2d_call *call)
{
    const size_t most = (size_t)INT32_MAX;
    const trine_tensor *const tensors[] = {call->x, call->dy, call->out};
    for (size_t i = 0; i < TRINE_COUNTOF(tensors); i++) {
        const size_t have = tensors[i] ? trine_tensor_elements(&tensors[i]->shape, tensors[i]->cb) : 0;
        TRINE_CHECK(have <= most, TRINE_ERR_UNSUPPORTED,
                    "%s: a tensor of %zu elements: at most %zu; use a smaller batch",
                    op->impl[direction]->name, have, most);
    }
    return TRINE_OK;
}

trine_status trine_conv2d_create(trine_context *context, const trine_conv2d_desc *desc, int h, int w,
                                 unsigned directions, trine_conv2d **out)
{
    TRINE_TRY(check_desc(desc));
    TRINE_CHECK(h <= MAX_IMAGE && w <= MAX_IMAGE, TRINE_ERR_SHAPE,
                "conv2d: input of %d x %d pixels: at most %d each", h, w, (int)MAX_IMAGE);
    const int p = output_size(h, desc->pad_h, desc->dilation_h, desc->kernel_h, desc->stride_h);
    const int q = output_size(w, desc->pad_w, desc->dilation_w, desc->kernel_w, desc->stride_w);
    TRINE_CHECK(h >= 1 && w >= 1 && p >= 1 && q >= 1, TRINE_ERR_SHAPE,
                "conv2d: input of %d x %d pixels with padding %d, %d is smaller than the kernel of %d x %d",
                h, w, desc->pad_h, desc->pad_w, desc->kernel_h, desc->kernel_w);
    trine_status status;
    void *memory = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine_conv2d), &memory));
    trine_conv2d *op = memory;
    op->context = context;
    op->desc = *desc;
    op->desc.algorithm = NULL;
    op->h = h;
    op->w = w;
    op->p = p;
    op->q = q;
    for (int d = 0; d < TRINE__DIRECTIONS; d++)
        if (directions & (1u << d)) {
            TRINE_TRY_GOTO(trine__conv2d_choose(op, (trine_direction)d, desc->algorithm));
            if (trine__conv2d_converts(op, (trine_direction)d) && !op->elementwise)
                TRINE_TRY_GOTO(trine_elementwise_create(context, &op->elementwise));
        }
    if (desc->emit_bn_partials)
        TRINE_TRY_GOTO(
            trine_batchnorm_create(context, desc->out_channels, desc->out_cb, 1e-5f, &op->statistics));
    *out = op;
    return TRINE_OK;
cleanup:
    trine_conv2d_destroy(&op);
    return status;
}

trine_status trine_conv2d_output_shape(const trine_conv2d *op, int n, trine_shape *out)
{
    TRINE_CHECK(n >= 1, TRINE_ERR_SHAPE, "conv2d: batch of %d: need at least 1", n);
    *out = (trine_shape){n, op->desc.out_channels, op->p, op->q};
    return TRINE_OK;
}

size_t trine_conv2d_workspace_bytes(const trine_conv2d *op, trine_direction direction, int n)
{
    const trine__conv2d_impl *impl = op->impl[direction];
    if (impl && trine__conv2d_converts(op, direction))
        return trine__conv2d_convert_workspace(op, direction, n);
    return impl && impl->workspace ? impl->workspace(op, direction, n) : 0;
}

static trine_status check_weights(const char *name, const trine_conv2d *op, const trine_buffer *weights)
{
    const size_t bytes = sizeof(float) * trine_conv2d_weight_count(&op->desc);
    TRINE_CHECK(weights, TRINE_ERR_ARG, "conv2d: %s is missing", name);
    TRINE_CHECK(trine_buffer_bytes(weights) >= bytes, TRINE_ERR_SHAPE,
                "conv2d: %s buffer has %zu bytes, needs %zu", name, trine_buffer_bytes(weights), bytes);
    return TRINE_OK;
}

size_t trine_conv2d_prepared_bytes(const trine_conv2d *op, trine_direction direction)
{
    const trine__conv2d_impl *impl = op->impl[direction];
    return impl && impl->prepared_bytes && direction != TRINE_BACKWARD_WEIGHTS
               ? impl->prepared_bytes(op, direction)
               : 0;
}

trine_status trine_conv2d_prepare_in(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                                     const trine_buffer *weights, trine_buffer *prepared)
{
    TRINE_CHECK(direction == TRINE_FORWARD || direction == TRINE_BACKWARD_DATA, TRINE_ERR_ARG,
                "conv2d: weights are prepared for forward and backward_data, not for %s",
                trine__direction_name(direction));
    TRINE_CHECK(op->impl[direction], TRINE_ERR_STATE, "conv2d: this direction was not asked for at creation");
    TRINE_TRY(check_weights("weights", op, weights));
    const size_t need = trine_conv2d_prepared_bytes(op, direction);
    TRINE_CHECK(need == 0 || (prepared && trine_buffer_bytes(prepared) >= need), TRINE_ERR_SHAPE,
                "conv2d: the buffer for prepared weights has %zu bytes, needs %zu",
                prepared ? trine_buffer_bytes(prepared) : 0, need);
    if (need) TRINE_TRY(op->impl[direction]->prepare(op, stream, direction, weights, prepared));
    op->weights[direction] = need ? prepared : weights;
    return TRINE_OK;
}

trine_status trine_conv2d_prepare(trine_conv2d *op, trine_stream *stream, const trine_buffer *weights)
{
    for (int i = 0; i < TRINE__PREPARED; i++) {
        if (!op->impl[i]) continue;
        const size_t bytes = trine_conv2d_prepared_bytes(op, (trine_direction)i);
        if (bytes && !op->own[i]) TRINE_TRY(trine_buffer_create(op->context, bytes, &op->own[i]));
        TRINE_TRY(trine_conv2d_prepare_in(op, stream, (trine_direction)i, weights, op->own[i]));
    }
    return TRINE_OK;
}

static trine_status check_tensor(const char *name, const trine_tensor *t, int n, int c, int h, int w, int cb,
                                 trine_dtype dtype)
{
    const trine_shape *s = &t->shape;
    TRINE_CHECK(s->n == n && s->c == c && s->h == h && s->w == w && t->cb == cb, TRINE_ERR_SHAPE,
                "conv2d: %s is [%d,%d,%d,%d] in blocks of %d, want [%d,%d,%d,%d] in blocks of %d", name, s->n,
                s->c, s->h, s->w, t->cb, n, c, h, w, cb);
    TRINE_CHECK(t->dtype == dtype, TRINE_ERR_ARG, "conv2d: %s is stored as %s, want %s", name,
                trine_dtype_name(t->dtype), trine_dtype_name(dtype));
    TRINE_CHECK(t->buffer && trine_buffer_bytes(t->buffer) >= trine_tensor_bytes(t), TRINE_ERR_SHAPE,
                "conv2d: %s's buffer has %zu bytes, needs %zu", name,
                t->buffer ? trine_buffer_bytes(t->buffer) : 0, trine_tensor_bytes(t));
    return TRINE_OK;
}

/* x-like and y-like operands of any direction, the workspace, and that the direction exists. */
static trine_status check_call(const trine_conv2d *op, trine_direction direction, const trine_tensor *x,
                               const trine_tensor *y, const trine_buffer *workspace)
{
    const trine_conv2d_desc *d = &op->desc;
    TRINE_CHECK(op->impl[direction], TRINE_ERR_STATE, "conv2d: this direction was not asked for at creation");
    TRINE_CHECK(direction == TRINE_BACKWARD_WEIGHTS || op->weights[direction], TRINE_ERR_STATE,
                "conv2d: trine_conv2d_prepare() must come before the first use");
    const int n = x->shape.n;
    TRINE_CHECK(n >= 1, TRINE_ERR_SHAPE, "conv2d: batch of %d: need at least 1", n);
    TRINE_TRY(check_tensor(direction == TRINE_BACKWARD_DATA ? "dx" : "x", x, n, d->in_channels, op->h, op->w,
                           d->in_cb, d->in_dtype));
    TRINE_TRY(check_tensor(direction == TRINE_FORWARD ? "y" : "dy", y, n, d->out_channels, op->p, op->q,
                           d->out_cb, d->out_dtype));
    const size_t need = trine_conv2d_workspace_bytes(op, direction, n);
    TRINE_CHECK(need == 0 || (workspace && trine_buffer_bytes(workspace) >= need), TRINE_ERR_WORKSPACE,
                "conv2d: workspace has %zu bytes, needs %zu", workspace ? trine_buffer_bytes(workspace) : 0,
                need);
    return TRINE_OK;
}

static trine_status enqueue(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine__conv2d_call *call)
{
    TRINE_CHECK(!call->input.a || trine__conv2d_normalises(op, direction), TRINE_ERR_STATE,
                "conv2d: %s does not normalise its input", trine__direction_name(direction));
    return trine__conv2d_converts(op, direction) ? trine__conv2d_convert(op, stream, direction, call)
                                                 : op->impl[direction]->enqueue(op, stream, direction, call);
}

/* Does the implementation write y's statistics itself, and is there room for its parts? */
static bool emits(const trine_conv2d *op, const trine_shape *y, bool made)
{
    const trine__conv2d_impl *impl = op->impl[TRINE_FORWARD];
    const int parts =
        impl->bn_parts && !trine__conv2d_converts(op, TRINE_FORWARD) ? impl->bn_parts(op, y->n, made) : 0;
    return parts > 0 && trine__batchnorm_parts_bytes(op->statistics, (size_t)parts) <=
                            trine_batchnorm_partial_bytes(op->statistics, y);
}

bool trine__conv2d_normalises(const trine_conv2d *op, trine_direction direction)
{
    const trine__conv2d_impl *impl = op->impl[direction];
    return impl && impl->normalises && direction != TRINE_BACKWARD_DATA &&
           !trine__conv2d_converts(op, direction);
}

trine_status trine_conv2d_forward(trine_conv2d *op, trine_stream *stream, const trine_tensor *x,
                                  const trine_conv2d_epilogue *epilogue, trine_tensor *y,
                                  trine_buffer *workspace)
{
    static const trine__batchnorm_input none;
    return trine__conv2d_forward_of(op, stream, x, &none, epilogue, y, workspace);
}

/* call: how x is to be read */
static trine_status forward(trine_conv2d *op, trine_stream *stream, const trine_tensor *x,
                            trine__conv2d_call call, const trine_conv2d_epilogue *epilogue, trine_tensor *y,
                            trine_buffer *workspace)
{
    static const trine_conv2d_epilogue none;
    const trine_conv2d_epilogue *e = epilogue ? epilogue : &none;
    TRINE_TRY(check_call(op, TRINE_FORWARD, x, y, workspace));
    if (e->residual)
        TRINE_TRY(check_tensor("residual", e->residual, y->shape.n, y->shape.c, y->shape.h, y->shape.w, y->cb,
                               y->dtype));
    const trine_buffer *const vectors[] = {e->scale, e->shift};
    const size_t channel_bytes =
        trine__round_up((size_t)op->desc.out_channels, (size_t)op->desc.out_cb) * sizeof(float);
    for (size_t i = 0; i < TRINE_COUNTOF(vectors); i++)
        TRINE_CHECK(!vectors[i] || trine_buffer_bytes(vectors[i]) >= channel_bytes, TRINE_ERR_SHAPE,
                    "conv2d: %s has %zu bytes, needs %zu", i == 0 ? "scale" : "shift",
                    trine_buffer_bytes(vectors[i]), channel_bytes);
    TRINE_CHECK(op->statistics || !e->bn_partials, TRINE_ERR_ARG,
                "conv2d: bn_partials given, but made without emit_bn_partials");
    const size_t need = e->bn_partials ? trine_batchnorm_partial_bytes(op->statistics, &y->shape) : 0;
    TRINE_CHECK(!e->bn_partials || trine_buffer_bytes(e->bn_partials) >= need, TRINE_ERR_WORKSPACE,
                "conv2d: bn_partials have %zu bytes, need %zu",
                e->bn_partials ? trine_buffer_bytes(e->bn_partials) : 0, need);
    call.x = x;
    call.out = y;
    call.epilogue = e;
    call.workspace = workspace;
    if (e->bn_partials && emits(op, &y->shape, call.made != NULL)) call.partials = e->bn_partials;
    TRINE_TRY(enqueue(op, stream, TRINE_FORWARD, &call));
    return e->bn_partials && !call.partials
               ? trine_batchnorm_partials(op->statistics, stream, y, e->bn_partials)
               : TRINE_OK;
}

trine_status trine__conv2d_forward_of(trine_conv2d *op, trine_stream *stream, const trine_tensor *x,
                                      const trine__batchnorm_input *input,
                                      const trine_conv2d_epilogue *epilogue, trine_tensor *y,
                                      trine_buffer *workspace)
{
    return forward(op, stream, x, (trine__conv2d_call){.input = *input}, epilogue, y, workspace);
}

trine_status trine__conv2d_forward_made(trine_conv2d *op, trine_stream *stream,
                                        const trine__batchnorm_made *made,
                                        const trine_conv2d_epilogue *epilogue, trine_tensor *y,
                                        trine_buffer *workspace)
{
    return forward(op, stream, made->to, (trine__conv2d_call){.made = made}, epilogue, y, workspace);
}

bool trine__conv2d_can_make(const trine_conv2d *op, trine_direction direction, int n)
{
    const trine__conv2d_impl *impl = op->impl[direction];
    return impl && impl->can_make && !trine__conv2d_converts(op, direction) &&
           impl->can_make(op, direction, n);
}

trine_status trine__conv2d_make_create(trine_conv2d *op, trine_direction direction)
{
    return op->impl[direction]->create_making(op, direction);
}

int trine__conv2d_sum_parts(const trine_conv2d *op, int n, bool made)
{
    const trine__conv2d_impl *impl = op->impl[TRINE_BACKWARD_DATA];
    return impl && impl->sum_parts && !trine__conv2d_converts(op, TRINE_BACKWARD_DATA)
               ? impl->sum_parts(op, n, made)
               : 0;
}

trine_status trine__conv2d_sums_create(trine_conv2d *op, int n, bool made, int *parts)
{
    *parts = 0;
    for (int i = 1; i <= n; i++) { /* fewer images may come in more parts */
        const int own = trine__conv2d_sum_parts(op, i, made);
        if (own == 0) return TRINE_OK;
        if (own > *parts) *parts = own;
    }
    return *parts ? op->impl[TRINE_BACKWARD_DATA]->create_sums(op, made) : TRINE_OK;
}

trine_status trine__conv2d_backward_data_joined(trine_conv2d *op, trine_stream *stream,
                                                const trine_tensor *dy, int beta,
                                                const trine__batchnorm_made *made,
                                                const trine__batchnorm_sums *sums, trine_tensor *dx,
                                                trine_buffer *workspace)
{
    static const trine_conv2d_epilogue none;
    TRINE_CHECK(beta == 0 || beta == 1, TRINE_ERR_ARG, "conv2d: beta is %d, want 0 or 1", beta);
    TRINE_TRY(check_call(op, TRINE_BACKWARD_DATA, dx, dy, workspace));
    const trine__conv2d_call call = {.dy = dy,
                                     .out = dx,
                                     .epilogue = &none,
                                     .beta = beta,
                                     .workspace = workspace,
                                     .made = made,
                                     .sums = sums};
    return enqueue(op, stream, TRINE_BACKWARD_DATA, &call);
}

trine_status trine_conv2d_backward_data(trine_conv2d *op, trine_stream *stream, const trine_tensor *dy,
                                        int beta, trine_tensor *dx, trine_buffer *workspace)
{
    return trine__conv2d_backward_data_joined(op, stream, dy, beta, NULL, NULL, dx, workspace);
}

trine_status trine_conv2d_backward_weights(trine_conv2d *op, trine_stream *stream, const trine_tensor *x,
                                           const trine_tensor *dy, int beta, trine_buffer *dw,
                                           trine_buffer *workspace)
{
    static const trine__batchnorm_input none;
    return trine__conv2d_backward_weights_of(op, stream, x, &none, dy, beta, dw, workspace);
}

trine_status trine__conv2d_backward_weights_of(trine_conv2d *op, trine_stream *stream, const trine_tensor *x,
                                               const trine__batchnorm_input *input, const trine_tensor *dy,
                                               int beta, trine_buffer *dw, trine_buffer *workspace)
{
    TRINE_CHECK(beta == 0 || beta == 1, TRINE_ERR_ARG, "conv2d: beta is %d, want 0 or 1", beta);
    TRINE_TRY(check_call(op, TRINE_BACKWARD_WEIGHTS, x, dy, workspace));
    TRINE_TRY(check_weights("dw", op, dw));
    const trine__conv2d_call call = {
        .x = x, .input = *input, .dy = dy, .dw = dw, .beta = beta, .workspace = workspace};
    return enqueue(op, stream, TRINE_BACKWARD_WEIGHTS, &call);
}

void trine_conv2d_destroy(trine_conv2d **op)
{
    if (!op || !*op) return;
    for (int d = 0; d < TRINE__DIRECTIONS; d++) trine__conv2d_destroy_state(*op, (trine_direction)d);
    for (int d = 0; d < TRINE__PREPARED; d++) trine_buffer_release(&(*op)->own[d]);
    trine_batchnorm_destroy(&(*op)->statistics);
    trine_elementwise_destroy(&(*op)->elementwise);
    free(*op);
    *op = NULL;
}
