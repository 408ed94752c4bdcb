/* SPDX-License-Identifier: MIT */
/* Pooling. Where windows lie is worked out once, on the host, as tables of a few integers for each row and
 * column of the output and of the input: kernels have no border checks, and average and adaptive average are
 * one kernel. */
#include "trine/pool2d.h"

#include <stdio.h>
#include <stdlib.h>

#include "rt/launch.h"

enum { MAX_FORWARD, MAX_BACKWARD, AVERAGE_FORWARD, AVERAGE_BACKWARD, KERNELS };
static const char *const stems[KERNELS] = {"pool2d_max_forward", "pool2d_max_backward",
                                           "pool2d_average_forward", "pool2d_average_backward"};

/* One dimension of the problem. */
typedef struct axis {
    const char *name;
    int in, out; /* sizes */
    int kernel, stride, pad, dilation;
    trine_buffer *windows; /* [out][3]: first, end, divisor */
    trine_buffer *holders; /* [in][2]: first and end of the windows that hold an input position */
} axis;

struct trine_pool2d {
    trine_context *context;
    trine_pool2d_desc desc;
    int cb;
    axis rows, columns;
    trine__kernel *kernels[KERNELS][TRINE__STORAGES]; /* each made at its first use */
};

static trine_status check_desc(const trine_pool2d_desc *d, int cb)
{
    TRINE_CHECK(cb >= 1 && cb <= 16 && (cb & (cb - 1)) == 0, TRINE_ERR_ARG,
                "pool2d: channel block %d: expected 1, 2, 4, 8 or 16", cb);
    TRINE_CHECK(d->kind == TRINE_POOL_MAX || d->kind == TRINE_POOL_AVERAGE ||
                    d->kind == TRINE_POOL_ADAPTIVE_AVERAGE,
                TRINE_ERR_ARG, "pool2d: no kind %d", (int)d->kind);
    return TRINE_OK;
}

static trine_status check_axis(const trine_pool2d_desc *d, const axis *a)
{
    TRINE_CHECK(a->in >= 1, TRINE_ERR_SHAPE, "pool2d: input %s %d: need at least 1", a->name, a->in);
    if (d->kind == TRINE_POOL_ADAPTIVE_AVERAGE) {
        TRINE_CHECK(a->out >= 1, TRINE_ERR_ARG, "pool2d: adaptive output %s %d: need at least 1", a->name,
                    a->out);
        return TRINE_OK;
    }
    TRINE_CHECK(a->kernel >= 1 && a->stride >= 1 && a->dilation >= 1, TRINE_ERR_ARG,
                "pool2d: %s: kernel %d, stride %d, dilation %d: need at least 1", a->name, a->kernel,
                a->stride, a->dilation);
    TRINE_CHECK(a->pad >= 0 && a->pad <= a->kernel / 2, TRINE_ERR_ARG,
                "pool2d: %s: padding %d must be 0 to half the kernel of %d", a->name, a->pad, a->kernel);
    TRINE_CHECK(d->kind == TRINE_POOL_MAX || a->dilation == 1, TRINE_ERR_ARG,
                "pool2d: %s: dilation %d: only maximum pooling has one", a->name, a->dilation);
    return TRINE_OK;
}

/* Number of windows along an axis, as torch counts. */
static trine_status count_windows(const trine_pool2d_desc *d, axis *a)
{
    const int64_t room = (int64_t)a->in + 2 * (int64_t)a->pad - (int64_t)a->dilation * (a->kernel - 1) - 1;
    TRINE_CHECK(room >= 0 || (d->ceil_mode && room > -a->stride), TRINE_ERR_SHAPE,
                "pool2d: %s: a window of %d (dilation %d) does not fit an input of %d with padding %d",
                a->name, a->kernel, a->dilation, a->in, a->pad);
    int64_t count = (room + (d->ceil_mode ? a->stride - 1 : 0)) / a->stride + 1;
    if (d->ceil_mode && (count - 1) * a->stride >= (int64_t)a->in + a->pad) count--;
    a->out = (int)count;
    return TRINE_OK;
}

/* First, end and divisor of one window. */
static void window(const trine_pool2d_desc *d, const axis *a, int index, int *w)
{
    if (d->kind == TRINE_POOL_ADAPTIVE_AVERAGE) {
        w[0] = (int)((int64_t)index * a->in / a->out);
        w[1] = (int)((((int64_t)index + 1) * a->in + a->out - 1) / a->out);
        w[2] = w[1] - w[0];
        return;
    }
    const int first = index * a->stride - a->pad;
    const int end = first + (a->kernel - 1) * a->dilation + 1; /* one past the last tap */
    const int padded_end = end < a->in + a->pad ? end : a->in + a->pad;
    w[0] = first < 0 ? first + trine__ceil_div(-first, a->dilation) * a->dilation : first;
    w[1] = end < a->in ? end : a->in;
    w[2] = d->count_include_pad ? padded_end - first : w[1] - w[0];
}

static trine_status make_tables(trine_context *context, const trine_pool2d_desc *d, axis *a)
{
    trine_status status;
    void *memory;
    const size_t out = (size_t)a->out, in = (size_t)a->in;
    TRINE_TRY(trine__calloc(out * 3 + in * 2, sizeof(int), &memory));
    int *windows = memory, *holders = windows + out * 3;
    for (int i = 0; i < a->out; i++) {
        int *w = windows + 3 * i;
        window(d, a, i, w);
        TRINE_CHECK_GOTO(
            w[0] < w[1], TRINE_ERR_SHAPE,
            "pool2d: %s: window %d (kernel %d, dilation %d, padding %d) holds no pixel of an input of %d",
            a->name, i, a->kernel, a->dilation, a->pad, a->in);
        for (int at = w[0]; at < w[1]; at++) { /* windows come in order: the first is met first */
            if (holders[2 * at + 1] == 0) holders[2 * at] = i;
            holders[2 * at + 1] = i + 1;
        }
    }
    TRINE_TRY_GOTO(trine__buffer_from_host(context, windows, out * 3 * sizeof(int), &a->windows));
    TRINE_TRY_GOTO(trine__buffer_from_host(context, holders, in * 2 * sizeof(int), &a->holders));
cleanup:
    free(memory);
    return status;
}

static trine_status setup_axis(trine_context *context, const trine_pool2d_desc *d, axis *a)
{
    TRINE_TRY(check_axis(d, a));
    if (d->kind != TRINE_POOL_ADAPTIVE_AVERAGE) TRINE_TRY(count_windows(d, a));
    return make_tables(context, d, a);
}

trine_status trine_pool2d_create(trine_context *context, const trine_pool2d_desc *desc, int cb, int h, int w,
                                 trine_pool2d **out)
{
    TRINE_TRY(check_desc(desc, cb));
    trine_status status;
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_pool2d), &memory));
    trine_pool2d *op = memory;
    op->context = context;
    op->desc = *desc;
    op->cb = cb;
    op->rows = (axis){
        "rows", h, desc->output_h, desc->kernel_h, desc->stride_h, desc->pad_h, desc->dilation_h, NULL, NULL};
    op->columns =
        (axis){"columns", w,   desc->output_w, desc->kernel_w, desc->stride_w, desc->pad_w, desc->dilation_w,
               NULL,      NULL};
    TRINE_TRY_GOTO(setup_axis(context, desc, &op->rows));
    TRINE_TRY_GOTO(setup_axis(context, desc, &op->columns));
    *out = op;
    return TRINE_OK;
cleanup:
    trine_pool2d_destroy(&op);
    return status;
}

void trine_pool2d_output_shape(const trine_pool2d *op, int n, int c, trine_shape *out)
{
    *out = (trine_shape){n, c, op->rows.out, op->columns.out};
}

/* x and y (or dx and dy) fit the operator and each other. */
static trine_status check_tensors(const trine_pool2d *op, const trine_tensor *x, const trine_tensor *y,
                                  const trine_buffer *index)
{
    const trine_shape *a = &x->shape, *b = &y->shape;
    TRINE_CHECK(x->cb == op->cb && y->cb == op->cb, TRINE_ERR_SHAPE,
                "pool2d: channel blocks of input and output are %d and %d, the operator's is %d", x->cb,
                y->cb, op->cb);
    TRINE_CHECK(a->n >= 1 && a->c >= 1 && a->h == op->rows.in && a->w == op->columns.in, TRINE_ERR_SHAPE,
                "pool2d: input side is [%d,%d,%d,%d], want [N,C,%d,%d]", a->n, a->c, a->h, a->w, op->rows.in,
                op->columns.in);
    TRINE_CHECK(b->n == a->n && b->c == a->c && b->h == op->rows.out && b->w == op->columns.out,
                TRINE_ERR_SHAPE, "pool2d: output side is [%d,%d,%d,%d], want [%d,%d,%d,%d]", b->n, b->c, b->h,
                b->w, a->n, a->c, op->rows.out, op->columns.out);
    TRINE_CHECK(op->desc.kind != TRINE_POOL_MAX || x->dtype == y->dtype, TRINE_ERR_ARG,
                "pool2d: maximum pooling from %s to %s: want one storage", trine_dtype_name(x->dtype),
                trine_dtype_name(y->dtype));
    const trine_tensor *const sides[] = {x, y};
    for (size_t i = 0; i < TRINE_COUNTOF(sides); i++) {
        const trine_buffer *buffer = sides[i]->buffer;
        const size_t need = trine_tensor_bytes(sides[i]);
        TRINE_CHECK(buffer && trine_buffer_bytes(buffer) >= need, TRINE_ERR_SHAPE,
                    "pool2d: %s side's buffer has %zu bytes, needs %zu", i == 0 ? "input" : "output",
                    buffer ? trine_buffer_bytes(buffer) : 0, need);
    }
    const size_t index_bytes = trine_tensor_elements(b, y->cb) * sizeof(int32_t);
    TRINE_CHECK(!index || trine_buffer_bytes(index) >= index_bytes, TRINE_ERR_SHAPE,
                "pool2d: index has %zu bytes, [%d,%d,%d,%d] needs %zu", trine_buffer_bytes(index), b->n, b->c,
                b->h, b->w, index_bytes);
    return TRINE_OK;
}

/* Launch over the pixels of `shape`. The last argument, `run` consecutive pixels for a work-item, is set
 * here: some ten thousand floats each on CPUs (a work-group costs as much as a few hundred), one elsewhere. */
static trine_status launch(trine_pool2d *op, trine_stream *stream, int kernel, trine__arg *args, size_t count,
                           const trine_tensor *x, const trine_tensor *y, const trine_shape *shape)
{
    enum { RUN_PIXELS = 512 };
    trine__kernel **made = &op->kernels[kernel][trine__storage(x->dtype, y->dtype)];
    if (!*made) {
        char options[64];
        snprintf(options, sizeof options, "-DCB=%d%s", op->cb, trine__storage_options(x->dtype, y->dtype));
        TRINE_TRY(trine__kernel_create(op->context, stems[kernel], options, made));
    }
    const int pixels = shape->h * shape->w;
    const int run = !op->context->caps.cpu ? 1 : pixels < RUN_PIXELS ? pixels : RUN_PIXELS;
    args[count - 1] = trine__arg_i32(run);
    const size_t runs = (size_t)trine__ceil_div(pixels, run),
                 blocks = (size_t)trine__ceil_div(shape->c, op->cb), images = (size_t)shape->n;
    const trine__grid grid = run > 1 ? trine__grid_tiles(runs, blocks, images)
                                     : trine__grid_lines(runs, blocks, images, TRINE__LOCAL);
    return trine__launch(stream, *made, args, count, grid, NULL);
}

trine_status trine_pool2d_forward(trine_pool2d *op, trine_stream *stream, const trine_tensor *x,
                                  trine_tensor *y, trine_buffer *index)
{
    const bool max = op->desc.kind == TRINE_POOL_MAX;
    TRINE_CHECK(max || !index, TRINE_ERR_ARG, "pool2d: only maximum pooling writes an index");
    TRINE_TRY(check_tensors(op, x, y, index));
    const axis *h = &op->rows, *w = &op->columns;
    if (max) {
        trine__arg args[] = {
            trine__arg_tensor(x),        trine__arg_buffer(h->windows), trine__arg_buffer(w->windows),
            trine__arg_tensor(y),        trine__arg_buffer(index),      trine__arg_i32(h->in),
            trine__arg_i32(w->in),       trine__arg_i32(h->out),        trine__arg_i32(w->out),
            trine__arg_i32(h->dilation), trine__arg_i32(w->dilation),   trine__arg_i32(0)};
        return launch(op, stream, MAX_FORWARD, args, TRINE_COUNTOF(args), x, y, &y->shape);
    }
    trine__arg args[] = {trine__arg_tensor(x),   trine__arg_buffer(h->windows), trine__arg_buffer(w->windows),
                         trine__arg_tensor(y),   trine__arg_i32(h->in),         trine__arg_i32(w->in),
                         trine__arg_i32(h->out), trine__arg_i32(w->out),        trine__arg_i32(0)};
    return launch(op, stream, AVERAGE_FORWARD, args, TRINE_COUNTOF(args), x, y, &y->shape);
}

trine_status trine_pool2d_backward(trine_pool2d *op, trine_stream *stream, const trine_tensor *dy,
                                   const trine_buffer *index, trine_tensor *dx)
{
    const bool max = op->desc.kind == TRINE_POOL_MAX;
    TRINE_CHECK(max == (index != NULL), TRINE_ERR_ARG, "pool2d: backward of %s",
                max ? "maximum pooling needs forward's index" : "average pooling takes no index");
    TRINE_TRY(check_tensors(op, dx, dy, index));
    const axis *h = &op->rows, *w = &op->columns;
    if (max) {
        trine__arg args[] = {trine__arg_tensor(dy),         trine__arg_buffer(index),
                             trine__arg_buffer(h->holders), trine__arg_buffer(w->holders),
                             trine__arg_tensor(dx),         trine__arg_i32(h->in),
                             trine__arg_i32(w->in),         trine__arg_i32(h->out),
                             trine__arg_i32(w->out),        trine__arg_i32(0)};
        return launch(op, stream, MAX_BACKWARD, args, TRINE_COUNTOF(args), dx, dy, &dx->shape);
    }
    trine__arg args[] = {trine__arg_tensor(dy),
                         trine__arg_buffer(h->windows),
                         trine__arg_buffer(w->windows),
                         trine__arg_buffer(h->holders),
                         trine__arg_buffer(w->holders),
                         trine__arg_tensor(dx),
                         trine__arg_i32(h->in),
                         trine__arg_i32(w->in),
                         trine__arg_i32(h->out),
                         trine__arg_i32(w->out),
                         trine__arg_i32(0)};
    return launch(op, stream, AVERAGE_BACKWARD, args, TRINE_COUNTOF(args), dx, dy, &dx->shape);
}

void trine_pool2d_destroy(trine_pool2d **op)
{
    if (!op || !*op) return;
    axis *axes[] = {&(*op)->rows, &(*op)->columns};
    for (size_t i = 0; i < TRINE_COUNTOF(axes); i++) {
        trine_buffer_release(&axes[i]->windows);
        trine_buffer_release(&axes[i]->holders);
    }
    for (int i = 0; i < KERNELS; i++)
        for (int j = 0; j < TRINE__STORAGES; j++) trine__kernel_destroy(&(*op)->kernels[i][j]);
    free(*op);
    *op = NULL;
}
