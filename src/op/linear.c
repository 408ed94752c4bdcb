/* SPDX-License-Identifier: MIT */
/* linear: validates, picks an implementation, hands over. */
#include "trine/linear.h"

#include <stdlib.h>
#include <string.h>

#include "op/linear_private.h"

/* Best first; every one takes every problem. */
static const trine__linear_impl *const implementations[] = {&trine__linear_plain, &trine__linear_clblast};

static const trine__linear_impl *choose(const trine_context *context, const char *algorithm)
{
    for (size_t i = 0; i < TRINE_COUNTOF(implementations); i++) {
        const char *name = implementations[i]->name;
        if (algorithm ? strcmp(algorithm, name) == 0 : trine__algorithm_rank(context, name) >= 0)
            return implementations[i];
    }
    return NULL;
}

trine_status trine_linear_create(trine_context *context, int in_features, int out_features,
                                 const char *algorithm, trine_linear **out)
{
    TRINE_CHECK(in_features >= 1 && out_features >= 1, TRINE_ERR_ARG,
                "linear: %d input and %d output features: need at least 1", in_features, out_features);
    const trine__linear_impl *impl = choose(context, algorithm);
    TRINE_CHECK(impl, TRINE_ERR_UNSUPPORTED, "linear: no implementation %s%s",
                algorithm ? "named " : "is allowed", algorithm ? algorithm : "");
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_linear), &memory));
    trine_linear *op = memory;
    op->context = context;
    op->in_features = in_features;
    op->out_features = out_features;
    op->impl = impl;
    const trine_status status = impl->create(op, &op->state);
    if (status != TRINE_OK) {
        free(op);
        return status;
    }
    *out = op;
    return TRINE_OK;
}

void trine_linear_destroy(trine_linear **op)
{
    if (!op || !*op) return;
    (*op)->impl->destroy((*op)->state);
    free(*op);
    *op = NULL;
}

const char *trine_linear_algorithm(const trine_linear *op)
{
    return op->impl->name;
}

size_t trine_linear_workspace_bytes(const trine_linear *op, trine_stream *stream, int n)
{
    return op->impl->workspace ? op->impl->workspace(op, stream, n) : 0;
}

/* t is [images, features, 1, 1] with a buffer that is large enough. images 0: any. */
static trine_status check_rows(const char *name, const trine_tensor *t, int images, int features, bool dense)
{
    const trine_shape *s = &t->shape;
    TRINE_CHECK(s->n >= 1 && (images == 0 || s->n == images) && s->c == features && s->h == 1 && s->w == 1,
                TRINE_ERR_SHAPE, "linear: %s is [%d,%d,%d,%d], want [%d,%d,1,1]", name, s->n, s->c, s->h,
                s->w, images ? images : s->n, features);
    TRINE_CHECK(t->cb >= 1 && t->cb <= 16 && (t->cb & (t->cb - 1)) == 0 && (!dense || t->cb == 1),
                TRINE_ERR_SHAPE, "linear: channel block %d of %s, want %s", t->cb, name,
                dense ? "1" : "1, 2, 4, 8 or 16");
    TRINE_CHECK(t->buffer, TRINE_ERR_ARG, "linear: %s has no buffer", name);
    TRINE_CHECK(t->dtype == TRINE_F32, TRINE_ERR_ARG, "linear: %s is stored as %s, want F32", name,
                trine_dtype_name(t->dtype));
    TRINE_CHECK(trine_buffer_bytes(t->buffer) >= trine_tensor_bytes(t), TRINE_ERR_SHAPE,
                "linear: %s is [%d,%d,1,1] but its buffer has %zu bytes, not %zu", name, s->n, s->c,
                trine_buffer_bytes(t->buffer), trine_tensor_bytes(t));
    return TRINE_OK;
}

static trine_status check_buffer(const char *name, const trine_buffer *b, size_t rows, size_t columns,
                                 bool required)
{
    const size_t bytes = rows * columns * sizeof(float);
    TRINE_CHECK(b || !required, TRINE_ERR_ARG, "linear: %s is missing", name);
    TRINE_CHECK(!b || trine_buffer_bytes(b) >= bytes, TRINE_ERR_SHAPE,
                "linear: %s has %zu bytes, [%zu,%zu] needs %zu", name, trine_buffer_bytes(b), rows, columns,
                bytes);
    return TRINE_OK;
}

static trine_status check_workspace(const trine_linear *op, trine_stream *stream, int n,
                                    const trine_buffer *workspace)
{
    const size_t need = trine_linear_workspace_bytes(op, stream, n),
                 have = workspace ? trine_buffer_bytes(workspace) : 0;
    TRINE_CHECK(have >= need, TRINE_ERR_WORKSPACE, "linear: workspace of %zu bytes, %zu needed for %d images",
                have, need, n);
    return TRINE_OK;
}

static int row_floats(const trine_tensor *t)
{
    return (int)trine__round_up((size_t)t->shape.c, (size_t)t->cb);
}

trine_status trine_linear_forward(trine_linear *op, trine_stream *stream, const trine_tensor *x,
                                  const trine_buffer *w, const trine_buffer *b, trine_tensor *y,
                                  trine_buffer *workspace)
{
    const size_t c = (size_t)op->in_features, k = (size_t)op->out_features;
    TRINE_TRY(check_rows("x", x, 0, op->in_features, false));
    TRINE_TRY(check_rows("y", y, x->shape.n, op->out_features, true));
    TRINE_TRY(check_buffer("w", w, k, c, true));
    TRINE_TRY(check_buffer("b", b, k, 1, false));
    TRINE_TRY(check_workspace(op, stream, x->shape.n, workspace));
    const trine__linear_call call = {
        .x = x, .w = w, .b = b, .out = y, .images = x->shape.n, .ldx = row_floats(x), .workspace = workspace};
    return op->impl->forward(op, stream, &call);
}

trine_status trine_linear_backward_data(trine_linear *op, trine_stream *stream, const trine_tensor *dy,
                                        const trine_buffer *w, trine_tensor *dx, trine_buffer *workspace)
{
    TRINE_TRY(check_rows("dy", dy, 0, op->out_features, true));
    TRINE_TRY(check_rows("dx", dx, dy->shape.n, op->in_features, false));
    TRINE_TRY(check_buffer("w", w, (size_t)op->out_features, (size_t)op->in_features, true));
    TRINE_TRY(check_workspace(op, stream, dy->shape.n, workspace));
    const trine__linear_call call = {
        .dy = dy, .w = w, .out = dx, .images = dy->shape.n, .ldx = row_floats(dx), .workspace = workspace};
    return op->impl->backward_data(op, stream, &call);
}

trine_status trine_linear_backward_weights(trine_linear *op, trine_stream *stream, const trine_tensor *x,
                                           const trine_tensor *dy, int beta, trine_buffer *dw,
                                           trine_buffer *db, trine_buffer *workspace)
{
    const size_t c = (size_t)op->in_features, k = (size_t)op->out_features;
    TRINE_TRY(check_rows("x", x, 0, op->in_features, false));
    TRINE_TRY(check_rows("dy", dy, x->shape.n, op->out_features, true));
    TRINE_TRY(check_buffer("dw", dw, k, c, true));
    TRINE_TRY(check_buffer("db", db, k, 1, false));
    TRINE_CHECK(beta == 0 || beta == 1, TRINE_ERR_ARG, "linear: beta is %d, want 0 or 1", beta);
    TRINE_TRY(check_workspace(op, stream, x->shape.n, workspace));
    const trine__linear_call call = {.x = x,
                                     .dy = dy,
                                     .dw = dw,
                                     .db = db,
                                     .beta = beta,
                                     .images = x->shape.n,
                                     .ldx = row_floats(x),
                                     .workspace = workspace};
    return op->impl->backward_weights(op, stream, &call);
}
