/* SPDX-License-Identifier: MIT */
#include "rt/tensor.h"

#include <stdlib.h>

#include "base/dtype.h"
#include "base/memory.h"
#include "rt/buffer.h"

size_t trine_tensor_elements(const trine_shape *s, int cb)
{
    const size_t channels = trine__round_up((size_t)s->c, (size_t)cb);
    return (size_t)s->n * channels * (size_t)s->h * (size_t)s->w;
}

size_t trine_tensor_bytes(const trine_tensor *t)
{
    return trine_tensor_elements(&t->shape, t->cb) * trine_dtype_bytes(t->dtype);
}

trine_status trine__tensor_check(const trine_shape *shape, int cb)
{
    TRINE_CHECK(shape->n >= 1 && shape->c >= 1 && shape->h >= 1 && shape->w >= 1, TRINE_ERR_SHAPE,
                "tensor shape [%d,%d,%d,%d]: every size must be at least 1", shape->n, shape->c, shape->h,
                shape->w);
    TRINE_CHECK(cb >= 1 && cb <= 16 && (cb & (cb - 1)) == 0, TRINE_ERR_ARG,
                "channel block %d: expected 1, 2, 4, 8 or 16", cb);
    /* kernels index with 32 bits */
    const double elements =
        (double)shape->n * (double)trine__round_up((size_t)shape->c, (size_t)cb) * shape->h * shape->w;
    TRINE_CHECK(elements < 2147483648.0, TRINE_ERR_SHAPE,
                "tensor shape [%d,%d,%d,%d]: more than 2^31 - 1 elements", shape->n, shape->c, shape->h,
                shape->w);
    return TRINE_OK;
}

trine_status trine_tensor_create_as(trine_context *context, const trine_shape *shape, int cb,
                                    trine_dtype dtype, trine_tensor *out)
{
    TRINE_TRY(trine__tensor_check(shape, cb));
    TRINE_CHECK(dtype == TRINE_F32 || dtype == TRINE_F16, TRINE_ERR_ARG,
                "tensor of %s: activations are F32 or F16", trine_dtype_name(dtype));
    trine_tensor t = {NULL, *shape, cb, dtype};
    TRINE_TRY(trine_buffer_create(context, trine_tensor_bytes(&t), &t.buffer));
    *out = t;
    return TRINE_OK;
}

trine_status trine_tensor_create(trine_context *context, const trine_shape *shape, int cb, trine_tensor *out)
{
    return trine_tensor_create_as(context, shape, cb, TRINE_F32, out);
}

static float get(const void *stored, trine_dtype dtype, size_t i)
{
    return dtype == TRINE_F16 ? trine__half_to_float(((const uint16_t *)stored)[i])
                              : ((const float *)stored)[i];
}

static void put(void *stored, trine_dtype dtype, size_t i, float value)
{
    if (dtype == TRINE_F16)
        ((uint16_t *)stored)[i] = trine__half_from_float(value);
    else
        ((float *)stored)[i] = value;
}

/* Where a channel's plane begins in the layout, whose pixels lie cb apart. */
static size_t plane_at(const trine_tensor *t, int n, int c)
{
    const size_t plane = (size_t)t->shape.h * (size_t)t->shape.w,
                 blocks = (size_t)trine__ceil_div(t->shape.c, t->cb);
    return ((size_t)n * blocks + (size_t)(c / t->cb)) * plane * (size_t)t->cb + (size_t)(c % t->cb);
}

trine_status trine_tensor_upload(trine_stream *stream, const float *host, trine_tensor *t)
{
    const trine_shape *s = &t->shape;
    const size_t bytes = trine_tensor_bytes(t), plane = (size_t)s->h * (size_t)s->w;
    if (t->cb == 1 && t->dtype == TRINE_F32) return trine_buffer_write(stream, t->buffer, 0, host, bytes);
    void *stored;
    TRINE_TRY(trine__calloc(bytes, 1, &stored)); /* padding is zero */
    for (int n = 0; n < s->n; n++)
        for (int c = 0; c < s->c; c++)
            for (size_t i = 0, at = plane_at(t, n, c); i < plane; i++, at += (size_t)t->cb)
                put(stored, t->dtype, at, *host++);
    const trine_status status = trine_buffer_write(stream, t->buffer, 0, stored, bytes);
    free(stored);
    return status;
}

trine_status trine_tensor_download(trine_stream *stream, const trine_tensor *t, float *host)
{
    const trine_shape *s = &t->shape;
    const size_t bytes = trine_tensor_bytes(t), plane = (size_t)s->h * (size_t)s->w;
    if (t->cb == 1 && t->dtype == TRINE_F32) return trine_buffer_read(stream, t->buffer, 0, host, bytes);
    void *stored;
    TRINE_TRY(trine__calloc(bytes, 1, &stored));
    const trine_status status = trine_buffer_read(stream, t->buffer, 0, stored, bytes);
    for (int n = 0; status == TRINE_OK && n < s->n; n++)
        for (int c = 0; c < s->c; c++)
            for (size_t i = 0, at = plane_at(t, n, c); i < plane; i++, at += (size_t)t->cb)
                *host++ = get(stored, t->dtype, at);
    free(stored);
    return status;
}
