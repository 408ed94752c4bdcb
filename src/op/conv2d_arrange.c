/* SPDX-License-Identifier: MIT */
#include "op/conv2d_arrange.h"

#include <stdio.h>

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Columns of zeros at the right end of a row that are at the left end of the next one, too. */
static int shared_columns(const trine__reach *c)
{
    int shared = c->count - 1;
    for (int b = 0; b < c->planes; b++) {
        const int before = b < c->pad ? trine__ceil_div(c->pad - b, c->stride) : 0;
        const int end = b < c->image + c->pad ? trine__ceil_div(c->image + c->pad - b, c->stride) : 0;
        shared = smaller(shared, smaller(before, end < c->count ? c->count - end : 0));
    }
    return shared;
}

trine__arrangement trine__arrangement_make(const trine__reach *rows, const trine__reach *columns, int values)
{
    const int shared = shared_columns(columns);
    trine__arrangement a = {.values = values,
                            .h = rows->image,
                            .w = columns->image,
                            .stride_h = rows->stride,
                            .stride_w = columns->stride,
                            .phases_h = rows->planes,
                            .phases_w = columns->planes,
                            .top = rows->pad,
                            .left = columns->pad,
                            .rows = rows->count,
                            .width = columns->count - shared,
                            .tail = shared};
    a.identity = a.stride_h == 1 && a.stride_w == 1 && a.top == 0 && a.left == 0 && a.rows == a.h &&
                 a.width == a.w && a.tail == 0;
    return a;
}

static size_t plane_floats(const trine__arrangement *a)
{
    return ((size_t)a->rows * (size_t)a->width + (size_t)a->tail) * (size_t)a->values;
}

size_t trine__arrangement_floats(const trine__arrangement *a)
{
    return (size_t)(a->phases_h * a->phases_w) * plane_floats(a);
}

int trine__arrangement_at(const trine__arrangement *a, int u, int v)
{
    const int plane = u % a->stride_h * a->phases_w + v % a->stride_w;
    const size_t pixel = (size_t)(u / a->stride_h) * (size_t)a->width + (size_t)(v / a->stride_w);
    return (int)((size_t)plane * plane_floats(a) + pixel * (size_t)a->values);
}

trine_status trine__arrangement_kernel(trine_context *context, const trine__arrangement *a,
                                       trine__kernel **out)
{
    char options[24];
    snprintf(options, sizeof options, "-DCB=%d", a->values);
    return trine__kernel_create(context, "conv2d_arrange", options, out);
}

trine_status trine__arrange(trine_stream *stream, trine__kernel *kernel, const trine__arrangement *a,
                            const trine_tensor *x, trine_buffer *to, size_t at, const char *label)
{
    const trine__arg args[] = {
        trine__arg_tensor(x),        trine__arg_buffer(to),       trine__arg_i32((int)at),
        trine__arg_i32(a->h),        trine__arg_i32(a->w),        trine__arg_i32(a->stride_h),
        trine__arg_i32(a->stride_w), trine__arg_i32(a->phases_h), trine__arg_i32(a->phases_w),
        trine__arg_i32(a->top),      trine__arg_i32(a->left),     trine__arg_i32(a->rows),
        trine__arg_i32(a->width),    trine__arg_i32(a->tail)};
    const size_t rows = (size_t)(a->phases_h * a->phases_w * a->rows),
                 blocks = (size_t)trine__ceil_div(x->shape.c, x->cb);
    return trine__launch(stream, kernel, args, TRINE_COUNTOF(args),
                         trine__grid_tiles(rows, blocks, (size_t)x->shape.n), label);
}
