/* SPDX-License-Identifier: MIT */
/** Tensors: views of device buffers with a shape and a channel-block layout. */
#ifndef TRINE_TENSOR_H
#define TRINE_TENSOR_H

#include "trine/context.h"
#include "trine/dtype.h"

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

/** A view of activations; it owns nothing. The buffer's first byte is the tensor's first element (offsets are buffer views).
 *  Layout: channels in blocks of cb; element (n, c, h, w) is at
 *      (((n * ceil(C / cb) + c / cb) * H + h) * W + w) * cb + c % cb
 *  so cb = 1 is NCHW, cb = C is NHWC. Channels that pad the last block are written as zero and never counted. */
typedef struct trine_tensor {
    trine_buffer *buffer; /**< at least trine_tensor_bytes() */
    trine_shape shape;
    int cb;            /**< channel block, 1 to 16 (a power of two) */
    trine_dtype dtype; /**< storage of an element: TRINE_F32 (0) or TRINE_F16 */
} trine_tensor;

/** Elements that a tensor of this shape and layout takes, padding included. */
TRINE_API size_t trine_tensor_elements(const trine_shape *shape, int cb);
/** Bytes that the view's shape takes in its layout and storage. */
TRINE_API size_t trine_tensor_bytes(const trine_tensor *tensor);
/** A new buffer and a view of all of it, in TRINE_F32. Release with trine_buffer_release(&tensor.buffer). Contents undefined.
 *  @return TRINE_ERR_SHAPE, TRINE_ERR_ARG (cb, dtype), TRINE_ERR_NOMEM */
TRINE_API trine_status trine_tensor_create(trine_context *context, const trine_shape *shape, int cb,
                                           trine_tensor *out);
/** The same in the storage of `dtype`, TRINE_F32 or TRINE_F16. */
TRINE_API trine_status trine_tensor_create_as(trine_context *context, const trine_shape *shape, int cb,
                                              trine_dtype dtype, trine_tensor *out);
/** Copy a dense NCHW host array into the tensor's layout (padding zeroed) and storage (to the nearest half, ties to even). Waits. @param host [n][c][h][w] */
TRINE_API trine_status trine_tensor_upload(trine_stream *stream, const float *host, trine_tensor *tensor);
/** Copy to a dense NCHW host array. Waits. @param host [n][c][h][w] */
TRINE_API trine_status trine_tensor_download(trine_stream *stream, const trine_tensor *tensor, float *host);

#ifdef __cplusplus
}
#endif
#endif
