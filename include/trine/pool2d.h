/* SPDX-License-Identifier: MIT */
/** 2-D pooling: maximum, average, adaptive average. */
#ifndef TRINE_POOL2D_H
#define TRINE_POOL2D_H

#include "trine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum trine_pool_kind {
    TRINE_POOL_MAX = 0,     /**< torch.nn.MaxPool2d */
    TRINE_POOL_AVERAGE = 1, /**< torch.nn.AvgPool2d */
    TRINE_POOL_ADAPTIVE_AVERAGE =
        2 /**< torch.nn.AdaptiveAvgPool2d: window rows floor(p*H/P) to ceil((p+1)*H/P) */
} trine_pool_kind;

typedef struct trine_pool2d_desc {
    trine_pool_kind kind;
    int kernel_h, kernel_w;     /**< >= 1 (not used by adaptive) */
    int stride_h, stride_w;     /**< >= 1 */
    int pad_h, pad_w;           /**< at most half the kernel, as in PyTorch */
    int dilation_h, dilation_w; /**< maximum only, else 1 */
    int ceil_mode; /**< output sizes rounded up; a last window that starts in the right padding is dropped */
    int count_include_pad;  /**< average only: divide by the padded window's size */
    int output_h, output_w; /**< adaptive only, >= 1; 1 and 1 is global pooling */
} trine_pool2d_desc;

/** Pooling of images of one size in one layout; any batch. */
typedef struct trine_pool2d trine_pool2d;

/** @param cb channel block of every tensor. @return TRINE_ERR_ARG, TRINE_ERR_SHAPE with the values. */
TRINE_API trine_status trine_pool2d_create(trine_context *context, const trine_pool2d_desc *desc, int cb,
                                           int h, int w, trine_pool2d **out);
/** [N, C, P, Q] for n images of c channels. */
TRINE_API void trine_pool2d_output_shape(const trine_pool2d *op, int n, int c, trine_shape *out);
/** @param x [N,C,H,W]   @param y [N,C,P,Q] written
 *  @param index  like y, 32-bit integers (same element count): which input pixel h*W + w won (the first in row order among
 *                equals; NaN wins), for backward; NULL for other kinds or if backward is not wanted */
TRINE_API trine_status trine_pool2d_forward(trine_pool2d *op, trine_stream *stream, const trine_tensor *x,
                                            trine_tensor *y, trine_buffer *index);
/** dx = gradient; every element written (no accumulation, no atomics). @param index from forward for maximum, else NULL */
TRINE_API trine_status trine_pool2d_backward(trine_pool2d *op, trine_stream *stream, const trine_tensor *dy,
                                             const trine_buffer *index, trine_tensor *dx);
TRINE_API void trine_pool2d_destroy(trine_pool2d **op);

#ifdef __cplusplus
}
#endif
#endif
