/* SPDX-License-Identifier: MIT */
#include "rt/tensor.h"

#include <stdlib.h>

#include "base/memory.h"
#include "rt/buffer.h"

size_t trine_tensor_elements(const trine_shape *s, int cb)
{
    const size_t channels = trine__round_up((size_t)s->c, (size_t)cb);
    return (size_t)s->n * channels * (size_t)s->h * (size_t)s->w;
}

size_t trine_tensor_bytes(const trine_shape *shape, int cb)
{
    return trine_tensor_elements(shape, cb) * sizeof(float);
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

trine_status trine_tensor_create(trine_context *context, const trine_shape *shape, int cb, trine_tensor *out)
{
    TRINE_TRY(trine__tensor_check(shape, cb));
    trine_tensor t = {NULL, *shape, cb};
    TRINE_TRY(trine_buffer_create(context, trine_tensor_bytes(shape, cb), &t.buffer));
    *out = t;
    return TRINE_OK;
}

/* Copy between dense NCHW and channel blocks; `to_blocks` says which way. */
static void reorder(float *dense, float *blocked, const trine_shape *s, int cb, bool to_blocks)
{
    const size_t plane = (size_t)s->h * (size_t)s->w;
    const int blocks = trine__ceil_div(s->c, cb);
    for (int n = 0; n < s->n; n++)
        for (int c = 0; c < blocks * cb; c++) {
            float *b = blocked + (((size_t)n * (size_t)blocks + (size_t)(c / cb)) * plane) * (size_t)cb +
                       (size_t)(c % cb);
            float *d = dense + ((size_t)n * (size_t)s->c + (size_t)c) * plane;
            for (size_t i = 0; i < plane; i++, b += cb) {
                if (to_blocks)
                    *b = c < s->c ? d[i] : 0.0f;
                else if (c < s->c)
                    d[i] = *b;
            }
        }
}

trine_status trine_tensor_upload(trine_stream *stream, const float *host, trine_tensor *t)
{
    const size_t bytes = trine_tensor_bytes(&t->shape, t->cb);
    if (t->cb == 1) return trine_buffer_write(stream, t->buffer, 0, host, bytes);
    void *blocked;
    TRINE_TRY(trine__calloc(bytes, 1, &blocked));
    reorder((float *)host, blocked, &t->shape, t->cb, true);
    const trine_status status = trine_buffer_write(stream, t->buffer, 0, blocked, bytes);
    free(blocked);
    return status;
}

trine_status trine_tensor_download(trine_stream *stream, const trine_tensor *t, float *host)
{
    const size_t bytes = trine_tensor_bytes(&t->shape, t->cb);
    if (t->cb == 1) return trine_buffer_read(stream, t->buffer, 0, host, bytes);
    void *blocked;
    TRINE_TRY(trine__calloc(bytes, 1, &blocked));
    const trine_status status = trine_buffer_read(stream, t->buffer, 0, blocked, bytes);
    if (status == TRINE_OK) reorder(host, blocked, &t->shape, t->cb, false);
    free(blocked);
    return status;
}
