/* SPDX-License-Identifier: MIT */
/** Tensors: views of device buffers with a shape and a channel-block layout. */
#ifndef TRINE_TENSOR_H
#define TRINE_TENSOR_H

#include "trine/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Sizes, each >= 1. */
typedef struct trine_shape {
    int n; /**< images */
    int c; /**< channels */
    int h; /**< rows */
    int w; /**< columns */
} trine_shape;

/** A float32 view; it owns nothing. The buffer's first byte is the tensor's first element (offsets are buffer views).
 *  Layout: channels in blocks of cb; element (n, c, h, w) is at
 *      (((n * ceil(C / cb) + c / cb) * H + h) * W + w) * cb + c % cb
 *  so cb = 1 is NCHW, cb = C is NHWC. Channels that pad the last block are written as zero and never counted. */
typedef struct trine_tensor {
    trine_buffer *buffer; /**< at least trine_tensor_bytes() */
    trine_shape shape;
    int cb; /**< channel block, 1 to 16 (a power of two) */
} trine_tensor;

/** Floats that a tensor of this shape and layout takes, padding included. */
TRINE_API size_t trine_tensor_elements(const trine_shape *shape, int cb);
/** The same in bytes. */
TRINE_API size_t trine_tensor_bytes(const trine_shape *shape, int cb);
/** A new buffer and a view of all of it. Release with trine_buffer_release(&tensor.buffer). Contents undefined. */
TRINE_API trine_status trine_tensor_create(trine_context *context, const trine_shape *shape, int cb,
                                           trine_tensor *out);
/** Copy a dense NCHW host array into the tensor's layout (padding zeroed). Waits. @param host [n][c][h][w] */
TRINE_API trine_status trine_tensor_upload(trine_stream *stream, const float *host, trine_tensor *tensor);
/** Copy to a dense NCHW host array. Waits. @param host [n][c][h][w] */
TRINE_API trine_status trine_tensor_download(trine_stream *stream, const trine_tensor *tensor, float *host);

#ifdef __cplusplus
}
#endif
#endif
