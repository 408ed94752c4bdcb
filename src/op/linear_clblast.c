/* SPDX-License-Identifier: MIT */
/* linear_clblast: one matrix product a direction; x's padded rows are a leading dimension. */
#include <stdlib.h>

#include "op/linear_private.h"
#include "rt/blas.h"

enum { WIDEST_BLOCK = 16 };

typedef struct state {
    trine__kernel *extra; /* forward's bias, backward_weights' sum; made at its first use */
    int asked_images;     /* workspace() for this many images ... */
    size_t asked_bytes;   /* ... answered this: the query walks CLBlast's database */
} state;

static trine_status create(trine_linear *op, void **out)
{
    (void)op;
    return trine__calloc(1, sizeof(state), out);
}

static void destroy(void *s)
{
    trine__kernel_destroy(&((state *)s)->extra);
    free(s);
}

/* y [N][K] = x [N][C] * w [K][C]^T */
static trine__gemm forward_product(const trine_linear *op, int n, int ldx)
{
    return (trine__gemm){.transpose_b = true,
                         .m = n,
                         .n = op->out_features,
                         .k = op->in_features,
                         .alpha = 1,
                         .lda = ldx,
                         .ldb = op->in_features,
                         .ldc = op->out_features};
}

/* dx [N][C] = dy [N][K] * w [K][C] */
static trine__gemm data_product(const trine_linear *op, int n, int ldx)
{
    return (trine__gemm){.m = n,
                         .n = op->in_features,
                         .k = op->out_features,
                         .alpha = 1,
                         .lda = op->out_features,
                         .ldb = op->in_features,
                         .ldc = ldx};
}

/* dw [K][C] = beta*dw + dy [N][K]^T * x [N][C] */
static trine__gemm weights_product(const trine_linear *op, int n, int ldx, int beta)
{
    return (trine__gemm){.transpose_a = true,
                         .m = op->out_features,
                         .n = op->in_features,
                         .k = n,
                         .alpha = 1,
                         .beta = (float)beta,
                         .lda = op->out_features,
                         .ldb = ldx,
                         .ldc = op->in_features};
}

static trine__gemm product_of(const trine_linear *op, trine_direction direction, int n, int ldx)
{
    return direction == TRINE_FORWARD         ? forward_product(op, n, ldx)
           : direction == TRINE_BACKWARD_DATA ? data_product(op, n, ldx)
                                              : weights_product(op, n, ldx, 1);
}

/* What a direction needs with dense and with padded rows: CLBlast copies operands whose leading dimension
 * does not suit it. */
static size_t workspace(const trine_linear *op, trine_direction direction, trine_stream *stream, int n)
{
    state *s = op->state[direction];
    if (s->asked_images == n) return s->asked_bytes;
    size_t most = 0;
    for (size_t block = 1; block <= WIDEST_BLOCK; block *= 2) {
        const trine__gemm product =
            product_of(op, direction, n, (int)trine__round_up((size_t)op->in_features, block));
        size_t bytes = 0;
        if (trine__blas_workspace(stream, &product, &bytes) == TRINE_OK && bytes > most) most = bytes;
    }
    s->asked_images = n;
    s->asked_bytes = most;
    return most;
}

static trine_status forward(trine_linear *op, trine_stream *stream, const trine__linear_call *call)
{
    state *s = op->state[TRINE_FORWARD];
    const trine__gemm g = forward_product(op, call->images, call->ldx);
    TRINE_TRY(trine__blas_sgemm(stream, &g, call->x->buffer, call->w, call->out->buffer, call->workspace));
    if (!call->b) return TRINE_OK;
    if (!s->extra) TRINE_TRY(trine__kernel_create(op->context, "linear_bias", "", &s->extra));
    const trine__arg args[] = {trine__arg_tensor(call->out), trine__arg_buffer(call->b),
                               trine__arg_i32(op->out_features)};
    return trine__launch(stream, s->extra, args, TRINE_COUNTOF(args),
                         trine__grid_lines((size_t)op->out_features, (size_t)call->images, 1, TRINE__LOCAL),
                         NULL);
}

static trine_status backward_data(trine_linear *op, trine_stream *stream, const trine__linear_call *call)
{
    const trine__gemm g = data_product(op, call->images, call->ldx);
    if (call->ldx > op->in_features) /* the padding */
        TRINE_TRY(trine__stream_zero(stream, call->out->buffer, 0,
                                     (size_t)call->images * (size_t)call->ldx * sizeof(float)));
    return trine__blas_sgemm(stream, &g, call->dy->buffer, call->w, call->out->buffer, call->workspace);
}

static trine_status backward_weights(trine_linear *op, trine_stream *stream, const trine__linear_call *call)
{
    state *s = op->state[TRINE_BACKWARD_WEIGHTS];
    const trine__gemm g = weights_product(op, call->images, call->ldx, call->beta);
    TRINE_TRY(trine__blas_sgemm(stream, &g, call->dy->buffer, call->x->buffer, call->dw, call->workspace));
    if (!call->db) return TRINE_OK;
    if (!s->extra)
        TRINE_TRY(trine__kernel_create(op->context, "channel_sum", "-DCB=1 -DLANES=64", &s->extra));
    const trine__arg args[] = {
        trine__arg_tensor(call->dy),      trine__arg_buffer(call->db), trine__arg_i32(call->images),
        trine__arg_i32(op->out_features), trine__arg_i32(1),           trine__arg_i32(call->beta)};
    return trine__launch(stream, s->extra, args, TRINE_COUNTOF(args),
                         trine__grid_lines(TRINE__LOCAL, (size_t)op->out_features, 1, TRINE__LOCAL), NULL);
}

const trine__linear_impl trine__linear_clblast = {"linear_clblast", create,           workspace, forward,
                                                  backward_data,    backward_weights, destroy};
