/* SPDX-License-Identifier: MIT */
/* Element-wise operators. ReLU and the sum do not care for the layout: they run over the tensor's floats. */
#include "trine/elementwise.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "rt/launch.h"

enum {
    BLOCKS = 5,  /* channel blocks 1, 2, 4, 8, 16 */
    STORAGES = 2 /* of operands that are stored alike */
};

/* Kernels are made at their first use. */
struct trine_elementwise {
    trine_context *context;
    trine__kernel *relu_forward[STORAGES], *relu_backward[STORAGES], *add[STORAGES];
    trine__kernel *convert[TRINE__STORAGES];
    trine__kernel *reorder[BLOCKS][BLOCKS][TRINE__STORAGES]; /* from, to */
    trine__kernel *subsample_forward[BLOCKS][STORAGES], *subsample_backward[BLOCKS][STORAGES];
    trine__kernel *channel_sum[BLOCKS][STORAGES];
};

trine_status trine_elementwise_create(trine_context *context, trine_elementwise **out)
{
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_elementwise), &memory));
    trine_elementwise *op = memory;
    op->context = context;
    *out = op;
    return TRINE_OK;
}

void trine_elementwise_destroy(trine_elementwise **op)
{
    if (!op || !*op) return;
    trine_elementwise *e = *op;
    for (int s = 0; s < STORAGES; s++) {
        trine__kernel_destroy(&e->relu_forward[s]);
        trine__kernel_destroy(&e->relu_backward[s]);
        trine__kernel_destroy(&e->add[s]);
        for (int i = 0; i < BLOCKS; i++) {
            trine__kernel_destroy(&e->subsample_forward[i][s]);
            trine__kernel_destroy(&e->subsample_backward[i][s]);
            trine__kernel_destroy(&e->channel_sum[i][s]);
        }
    }
    for (int i = 0; i < TRINE__STORAGES; i++) trine__kernel_destroy(&e->convert[i]);
    for (int i = 0; i < BLOCKS * BLOCKS * TRINE__STORAGES; i++)
        trine__kernel_destroy(&e->reorder[0][0][0] + i);
    free(e);
    *op = NULL;
}

/* 0 for a block of 1, 1 for 2, ... 4 for 16; -1 for anything else. */
static int block_index(int cb)
{
    for (int i = 0; i < BLOCKS; i++)
        if (cb == 1 << i) return i;
    return -1;
}

/* Which kernel of those for operands that are stored alike. */
static int storage_of(const trine_tensor *t)
{
    return trine__storage(t->dtype, TRINE_F32);
}

/* A sane tensor whose buffer is large enough. */
static trine_status check_tensor(const char *what, const char *name, const trine_tensor *t)
{
    const trine_shape *s = &t->shape;
    TRINE_CHECK(s->n >= 1 && s->c >= 1 && s->h >= 1 && s->w >= 1, TRINE_ERR_SHAPE,
                "%s: %s is [%d,%d,%d,%d]: every size must be at least 1", what, name, s->n, s->c, s->h, s->w);
    TRINE_CHECK(block_index(t->cb) >= 0, TRINE_ERR_ARG,
                "%s: channel block %d of %s: expected 1, 2, 4, 8 or 16", what, t->cb, name);
    TRINE_CHECK(trine_tensor_elements(s, t->cb) <= INT_MAX, TRINE_ERR_SHAPE,
                "%s: %s is [%d,%d,%d,%d]: more than 2^31 - 1 elements", what, name, s->n, s->c, s->h, s->w);
    TRINE_CHECK(trine_buffer_bytes(t->buffer) >= trine_tensor_bytes(t), TRINE_ERR_SHAPE,
                "%s: %s is [%d,%d,%d,%d] but its buffer has %zu bytes, not %zu", what, name, s->n, s->c, s->h,
                s->w, trine_buffer_bytes(t->buffer), trine_tensor_bytes(t));
    return TRINE_OK;
}

static trine_status check_storage(const char *what, const trine_tensor *a, const trine_tensor *b)
{
    TRINE_CHECK(a->dtype == b->dtype, TRINE_ERR_ARG, "%s: operands are stored as %s and %s: want one storage",
                what, trine_dtype_name(a->dtype), trine_dtype_name(b->dtype));
    return TRINE_OK;
}

static trine_status check_same(const char *what, const trine_tensor *a, const trine_tensor *b,
                               bool same_layout)
{
    const trine_shape *s = &a->shape, *t = &b->shape;
    TRINE_TRY(check_tensor(what, "an operand", a));
    TRINE_TRY(check_tensor(what, "an operand", b));
    TRINE_CHECK(s->n == t->n && s->c == t->c && s->h == t->h && s->w == t->w, TRINE_ERR_SHAPE,
                "%s: shapes [%d,%d,%d,%d] and [%d,%d,%d,%d] differ", what, s->n, s->c, s->h, s->w, t->n, t->c,
                t->h, t->w);
    TRINE_CHECK(!same_layout || a->cb == b->cb, TRINE_ERR_SHAPE, "%s: channel blocks %d and %d differ", what,
                a->cb, b->cb);
    return same_layout ? check_storage(what, a, b) : TRINE_OK;
}

/* Launch over the floats of a tensor in vectors; the last two arguments, their count and `run` consecutive
 * vectors for a work-item, are set here: up to 64 KiB of each operand on CPUs (a work-group costs as much as
 * a few hundred floats), one vector elsewhere. */
static trine_status launch_flat(trine_elementwise *op, trine_stream *stream, trine__kernel **kernel,
                                const char *stem, trine__arg *args, size_t count, const trine_tensor *t,
                                trine_dtype y)
{
    enum { RUN_FLOATS = 16384, SHARES = 4 }; /* shares of the work for each compute unit */
    const trine__caps *caps = &op->context->caps;
    const int v = caps->cpu ? caps->vector_width : 4;
    if (!*kernel) {
        char options[32];
        snprintf(options, sizeof options, "-DV=%d%s", v, trine__storage_options(t->dtype, y));
        TRINE_TRY(trine__kernel_create(op->context, stem, options, kernel));
    }
    const int floats = (int)trine_tensor_elements(&t->shape, t->cb), vectors = floats / v;
    int run = 1;
    if (caps->cpu) {
        const int share = vectors / (caps->compute_units * SHARES) + 1;
        run = share < RUN_FLOATS / v ? share : RUN_FLOATS / v;
    }
    args[count - 2] = trine__arg_i32(floats);
    args[count - 1] = trine__arg_i32(run);
    const size_t items = vectors > 0 ? (size_t)(vectors - 1) / (size_t)run + 1 : 1;
    return trine__launch(
        stream, *kernel, args, count,
        caps->cpu ? trine__grid_tiles(items, 1, 1) : trine__grid_lines(items, 1, 1, TRINE__LOCAL), NULL);
}

trine_status trine_relu_forward(trine_elementwise *op, trine_stream *stream, const trine_tensor *x,
                                trine_tensor *y)
{
    TRINE_TRY(check_same("relu forward", x, y, true));
    trine__arg args[] = {trine__arg_tensor(x), trine__arg_tensor(y), trine__arg_i32(0), trine__arg_i32(0)};
    return launch_flat(op, stream, &op->relu_forward[storage_of(x)], "relu_forward", args,
                       TRINE_COUNTOF(args), x, TRINE_F32);
}

trine_status trine_relu_backward(trine_elementwise *op, trine_stream *stream, const trine_tensor *y,
                                 const trine_tensor *dy, trine_tensor *dx)
{
    TRINE_TRY(check_same("relu backward", y, dy, true));
    TRINE_TRY(check_same("relu backward", y, dx, true));
    trine__arg args[] = {trine__arg_tensor(y), trine__arg_tensor(dy), trine__arg_tensor(dx),
                         trine__arg_i32(0), trine__arg_i32(0)};
    return launch_flat(op, stream, &op->relu_backward[storage_of(y)], "relu_backward", args,
                       TRINE_COUNTOF(args), y, TRINE_F32);
}

trine_status trine_add(trine_elementwise *op, trine_stream *stream, const trine_tensor *a,
                       const trine_tensor *b, trine_tensor *y)
{
    TRINE_TRY(check_same("add", a, b, true));
    TRINE_TRY(check_same("add", a, y, true));
    trine__arg args[] = {trine__arg_tensor(a), trine__arg_tensor(b), trine__arg_tensor(y), trine__arg_i32(0),
                         trine__arg_i32(0)};
    return launch_flat(op, stream, &op->add[storage_of(a)], "add", args, TRINE_COUNTOF(args), a, TRINE_F32);
}

/* The kernel of one layout, made at its first use. */
static trine_status kernel_for(trine_elementwise *op, const char *stem, const trine_tensor *x,
                               trine__kernel **kernel)
{
    if (*kernel) return TRINE_OK;
    char options[64];
    snprintf(options, sizeof options, "-DCB=%d -DLANES=%d%s", x->cb, (int)TRINE__LOCAL,
             trine__storage_options(x->dtype, TRINE_F32));
    return trine__kernel_create(op->context, stem, options, kernel);
}

static int blocks_of(const trine_tensor *t)
{
    return trine__ceil_div(t->shape.c, t->cb);
}

/* One work-item for each pixel and block of `t`. */
static trine__grid pixel_grid(const trine_tensor *t)
{
    return trine__grid_lines((size_t)t->shape.h * (size_t)t->shape.w, (size_t)blocks_of(t),
                             (size_t)t->shape.n, TRINE__LOCAL);
}

trine_status trine_reorder(trine_elementwise *op, trine_stream *stream, const trine_tensor *x,
                           trine_tensor *y)
{
    TRINE_TRY(check_same("reorder", x, y, false));
    TRINE_CHECK(x->buffer != y->buffer, TRINE_ERR_ARG, "reorder: x and y are one buffer");
    if (x->cb == y->cb && x->shape.c % x->cb == 0) { /* no padding */
        trine__arg flat[] = {trine__arg_tensor(x), trine__arg_tensor(y), trine__arg_i32(0),
                             trine__arg_i32(0)};
        return launch_flat(op, stream, &op->convert[trine__storage(x->dtype, y->dtype)], "convert", flat,
                           TRINE_COUNTOF(flat), x, y->dtype);
    }
    trine__kernel **kernel =
        &op->reorder[block_index(x->cb)][block_index(y->cb)][trine__storage(x->dtype, y->dtype)];
    if (!*kernel) {
        char options[64];
        snprintf(options, sizeof options, "-DCB=%d -DCBX=%d%s", y->cb, x->cb,
                 trine__storage_options(x->dtype, y->dtype));
        TRINE_TRY(trine__kernel_create(op->context, "reorder", options, kernel));
    }
    const trine__arg args[] = {trine__arg_tensor(x), trine__arg_tensor(y), trine__arg_i32(x->shape.c),
                               trine__arg_i32(x->shape.h * x->shape.w), trine__arg_i32(blocks_of(x))};
    return trine__launch(stream, *kernel, args, TRINE_COUNTOF(args), pixel_grid(y), NULL);
}

/* x [N,C,H,W] and y [N,K,P,Q] of a subsampling, either way. */
/* A work-item a pixel of t in each of `blocks` channel blocks, rows told apart. */
static trine__grid row_grid(const trine_tensor *t, int blocks)
{
    return trine__grid_lines((size_t)t->shape.w, (size_t)t->shape.h, (size_t)t->shape.n * (size_t)blocks,
                             TRINE__LOCAL);
}

static trine_status check_subsample(const trine_tensor *x, const trine_tensor *y, int stride, int first)
{
    const trine_shape *s = &x->shape, *t = &y->shape;
    TRINE_TRY(check_tensor("subsample", "x", x));
    TRINE_TRY(check_tensor("subsample", "y", y));
    TRINE_CHECK(stride >= 1 && first >= 0, TRINE_ERR_ARG,
                "subsample: stride %d, first %d: need at least 1 and 0", stride, first);
    TRINE_CHECK(x->cb == y->cb, TRINE_ERR_SHAPE, "subsample: channel blocks %d and %d differ", x->cb, y->cb);
    TRINE_TRY(check_storage("subsample", x, y));
    TRINE_CHECK(t->n == s->n && t->c - first >= s->c && t->h == trine__ceil_div(s->h, stride) &&
                    t->w == trine__ceil_div(s->w, stride),
                TRINE_ERR_SHAPE,
                "subsample: y is [%d,%d,%d,%d], x [%d,%d,%d,%d] at stride %d wants [%d,>=%d,%d,%d]", t->n,
                t->c, t->h, t->w, s->n, s->c, s->h, s->w, stride, s->n, s->c + first,
                trine__ceil_div(s->h, stride), trine__ceil_div(s->w, stride));
    return TRINE_OK;
}

trine_status trine_subsample_forward(trine_elementwise *op, trine_stream *stream, const trine_tensor *x,
                                     int stride, int first, trine_tensor *y)
{
    TRINE_TRY(check_subsample(x, y, stride, first));
    trine__kernel **kernel = &op->subsample_forward[block_index(x->cb)][storage_of(x)];
    TRINE_TRY(kernel_for(op, "subsample_forward", x, kernel));
    const trine__arg args[] = {
        trine__arg_tensor(x),       trine__arg_tensor(y),         trine__arg_i32(x->shape.c),
        trine__arg_i32(x->shape.h), trine__arg_i32(x->shape.w),   trine__arg_i32(y->shape.h),
        trine__arg_i32(y->shape.w), trine__arg_i32(blocks_of(x)), trine__arg_i32(blocks_of(y)),
        trine__arg_i32(stride),     trine__arg_i32(first)};
    return trine__launch(stream, *kernel, args, TRINE_COUNTOF(args), row_grid(y, blocks_of(y)), NULL);
}

trine_status trine_subsample_backward(trine_elementwise *op, trine_stream *stream, const trine_tensor *dy,
                                      int stride, int first, int beta, trine_tensor *dx)
{
    TRINE_TRY(check_subsample(dx, dy, stride, first));
    TRINE_CHECK(beta == 0 || beta == 1, TRINE_ERR_ARG, "subsample: beta is %d, want 0 or 1", beta);
    trine__kernel **kernel = &op->subsample_backward[block_index(dx->cb)][storage_of(dx)];
    TRINE_TRY(kernel_for(op, "subsample_backward", dx, kernel));
    const trine__arg args[] = {
        trine__arg_tensor(dy),       trine__arg_tensor(dx),         trine__arg_i32(dx->shape.c),
        trine__arg_i32(dx->shape.h), trine__arg_i32(dx->shape.w),   trine__arg_i32(dy->shape.h),
        trine__arg_i32(dy->shape.w), trine__arg_i32(blocks_of(dx)), trine__arg_i32(blocks_of(dy)),
        trine__arg_i32(stride),      trine__arg_i32(first),         trine__arg_i32(beta)};
    return trine__launch(stream, *kernel, args, TRINE_COUNTOF(args), row_grid(dy, blocks_of(dx)), NULL);
}

trine_status trine_channel_sum(trine_elementwise *op, trine_stream *stream, const trine_tensor *x, int beta,
                               trine_buffer *sum)
{
    TRINE_TRY(check_tensor("channel_sum", "x", x));
    TRINE_CHECK(beta == 0 || beta == 1, TRINE_ERR_ARG, "channel_sum: beta is %d, want 0 or 1", beta);
    TRINE_CHECK(trine_buffer_bytes(sum) >= (size_t)x->shape.c * sizeof(float), TRINE_ERR_SHAPE,
                "channel_sum: sum has %zu bytes, %d channels need %zu", trine_buffer_bytes(sum), x->shape.c,
                (size_t)x->shape.c * sizeof(float));
    trine__kernel **kernel = &op->channel_sum[block_index(x->cb)][storage_of(x)];
    TRINE_TRY(kernel_for(op, "channel_sum", x, kernel));
    const trine__arg args[] = {trine__arg_tensor(x),
                               trine__arg_buffer(sum),
                               trine__arg_i32(x->shape.n),
                               trine__arg_i32(x->shape.c),
                               trine__arg_i32(x->shape.h * x->shape.w),
                               trine__arg_i32(beta)};
    return trine__launch(stream, *kernel, args, TRINE_COUNTOF(args),
                         trine__grid_lines(TRINE__LOCAL, (size_t)blocks_of(x), 1, TRINE__LOCAL), NULL);
}
