/* SPDX-License-Identifier: MIT */
/** 2-D convolution: forward, gradients, and the work that rides in its epilogue. */
#ifndef TRINE_CONV2D_H
#define TRINE_CONV2D_H

#include "trine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/** torch.nn.Conv2d's parameters (zero padding), plus what is fused into its epilogue. Kernel, stride, padding and dilation are at
 *  most 16384. */
typedef struct trine_conv2d_desc {
    int in_channels, out_channels; /**< C and K, multiples of groups */
    int kernel_h, kernel_w;        /**< R and S, >= 1 */
    int stride_h, stride_w;        /**< >= 1 */
    int pad_h, pad_w;              /**< >= 0, both sides */
    int dilation_h, dilation_w;    /**< >= 1 */
    int groups;                    /**< >= 1 */
    int in_cb, out_cb;             /**< channel blocks of x (and dx), y (and dy) */
    trine_dtype in_dtype,
        out_dtype; /**< their storage, TRINE_F32 or TRINE_F16 (a residual's is y's); sums are in single precision,
                                       and so are weights and dw */
    /** Blocks of filters and channels in which weights and dw lie, powers of two up to 32:
     *  [ceil(K/weight_kb)][ceil(C/groups/weight_cb)][R][S][weight_cb][weight_kb] f32, padding zero; 1 and 1 are the dense
     *  [K][C/groups][R][S] */
    int weight_kb, weight_cb;
    /** 1: with both sides in TRINE_F32, factors of products may be rounded to TF32 (10 bits behind the point), where the device has matrix
     *  units for it: the result is less precise then, and may depend on what trine tune has measured. At first 0. */
    int allow_tf32;
    int relu;             /**< epilogue: y = max(0, .) */
    int emit_bn_partials; /**< forward can write y's statistics too, for trine_batchnorm_statistics() to merge */
    int batch; /**< images that are to come at a time, for choosing by measurement (trine/tuning.h); 0: nobody knows */
    /** NULL: chosen; else the name of an implementation, or of a variant of one, or TRINE_ERR_UNSUPPORTED */
    const char *algorithm;
} trine_conv2d_desc;

/** stride, dilation and groups 1, padding 0, blocks 1 (dense weights), nothing fused. */
TRINE_API trine_conv2d_desc trine_conv2d_desc_default(int in_channels, int out_channels, int kernel);
/** Set weight_kb and weight_cb to the blocks that the context's forward pass reads without a copy, for everything else in desc as it
 *  is; 1 and 1 where no layout saves one. All implementations read every layout. */
TRINE_API void trine_conv2d_choose_weight_blocks(const trine_context *context, trine_conv2d_desc *desc);
/** Floats of the weights as desc lays them out, padding included. */
TRINE_API size_t trine_conv2d_weight_count(const trine_conv2d_desc *desc);
/** Between desc's layout (trine_conv2d_weight_count() floats) and [K][C/groups][R][S], on the host. */
TRINE_API void trine_conv2d_weights_to_dense(const trine_conv2d_desc *desc, const float *stored,
                                             float *dense);
TRINE_API void trine_conv2d_weights_from_dense(const trine_conv2d_desc *desc, const float *dense,
                                               float *stored);

typedef enum trine_direction {
    TRINE_FORWARD = 0,
    TRINE_BACKWARD_DATA = 1,
    TRINE_BACKWARD_WEIGHTS = 2
} trine_direction;

/** A convolution on images of one size; any batch. Used by one thread at a time. */
typedef struct trine_conv2d trine_conv2d;

/** @param h,w        input rows and columns, both >= 1 and large enough for the kernel
 *  @param directions bit mask of 1 << trine_direction that will be used: kernels exist for these
 *  @return TRINE_ERR_ARG, TRINE_ERR_SHAPE (sentence with the values), TRINE_ERR_UNSUPPORTED (algorithm), TRINE_ERR_BUILD */
TRINE_API trine_status trine_conv2d_create(trine_context *context, const trine_conv2d_desc *desc, int h,
                                           int w, unsigned directions, trine_conv2d **out);
/** P = floor((H + 2*pad_h - dilation_h*(R-1) - 1) / stride_h) + 1, Q likewise. n is taken over. */
TRINE_API trine_status trine_conv2d_output_shape(const trine_conv2d *op, int n, trine_shape *out);
/** Name of the implementation chosen for a direction, "NAME:VARIANT" where that is a certain tile or such; NULL if the direction was
 *  not asked for. */
TRINE_API const char *trine_conv2d_algorithm(const trine_conv2d *op, trine_direction direction);
/** Names of all implementations and variants that could serve this operator in a direction, best first; the count is
 *  returned. */
TRINE_API size_t trine_conv2d_algorithms(const trine_conv2d *op, trine_direction direction,
                                         const char **names, size_t capacity);
/** Bytes of workspace for a batch of n; 0 if none. */
TRINE_API size_t trine_conv2d_workspace_bytes(const trine_conv2d *op, trine_direction direction, int n);

/** Pack or transform the weights for forward and backward_data, in memory of the operator's own, which the first call allocates;
 *  again after every change of theirs. Does not wait.
 *  @param weights as desc lays them out; must live until the next prepare or the last use of the operator (some
 *                 implementations read it at every call) */
TRINE_API trine_status trine_conv2d_prepare(trine_conv2d *op, trine_stream *stream,
                                            const trine_buffer *weights);
/** Bytes of the packed or transformed weights that a direction reads; 0 where it reads the weights themselves, and for
 *  TRINE_BACKWARD_WEIGHTS, which needs none. */
TRINE_API size_t trine_conv2d_prepared_bytes(const trine_conv2d *op, trine_direction direction);
/** trine_conv2d_prepare() for one direction, in memory of the caller's. Operators that run one after the other on a stream can share
 *  it if each prepares right before its calls.
 *  @param direction TRINE_FORWARD or TRINE_BACKWARD_DATA, asked for at creation
 *  @param weights   as for trine_conv2d_prepare()
 *  @param prepared  >= trine_conv2d_prepared_bytes(), NULL where that is 0; left alone until the direction's last use
 *  @return TRINE_ERR_ARG, TRINE_ERR_SHAPE, TRINE_ERR_STATE (direction): nothing enqueued; TRINE_ERR_OPENCL */
TRINE_API trine_status trine_conv2d_prepare_in(trine_conv2d *op, trine_stream *stream,
                                               trine_direction direction, const trine_buffer *weights,
                                               trine_buffer *prepared);

/** What rides in forward's epilogue: y = relu?(conv * scale[k] + shift[k] + residual). NULL: left out. */
typedef struct trine_conv2d_epilogue {
    const trine_buffer *scale;    /**< [K rounded up to out_cb] or NULL */
    const trine_buffer *shift;    /**< [K rounded up to out_cb] or NULL; a bias goes here */
    const trine_tensor *residual; /**< like y, may be y itself; or NULL */
    trine_buffer
        *bn_partials; /**< with emit_bn_partials: y's statistics, trine_batchnorm_partial_bytes(); or NULL */
} trine_conv2d_epilogue;

/** Cross-correlation as in torch.nn.functional.conv2d.  Enqueues only; trine_conv2d_prepare() must have been called.
 *  @param x         [N,C,H,W] layout in_cb, storage in_dtype
 *  @param epilogue  NULL for none
 *  @param y         [N,K,P,Q] layout out_cb, storage out_dtype, written (padding channels zero as long as the weights' are); must not overlap x
 *  @param workspace >= trine_conv2d_workspace_bytes(), NULL where that is 0
 *  @return TRINE_ERR_SHAPE, TRINE_ERR_ARG, TRINE_ERR_WORKSPACE: nothing enqueued; TRINE_ERR_OPENCL */
TRINE_API trine_status trine_conv2d_forward(trine_conv2d *op, trine_stream *stream, const trine_tensor *x,
                                            const trine_conv2d_epilogue *epilogue, trine_tensor *y,
                                            trine_buffer *workspace);
/** dx = beta*dx + gradient of the plain convolution (no epilogue).
 *  @param dy [N,K,P,Q] out_cb   @param beta 0 or 1   @param dx [N,C,H,W] in_cb, written (read too if beta) */
TRINE_API trine_status trine_conv2d_backward_data(trine_conv2d *op, trine_stream *stream,
                                                  const trine_tensor *dy, int beta, trine_tensor *dx,
                                                  trine_buffer *workspace);
/** dw = beta*dw + gradient.  @param dw laid out as the weights, its padding written as zero or left alone   @param beta 0 or 1 */
TRINE_API trine_status trine_conv2d_backward_weights(trine_conv2d *op, trine_stream *stream,
                                                     const trine_tensor *x, const trine_tensor *dy, int beta,
                                                     trine_buffer *dw, trine_buffer *workspace);
TRINE_API void trine_conv2d_destroy(trine_conv2d **op);

/** A convolution as measurements know it (trine/tuning.h): everything that its time depends on but the batch and how weights lie. */
enum { TRINE_CONV2D_PROBLEM = 256 };
TRINE_API void trine_conv2d_problem(const trine_conv2d_desc *desc, int h, int w, trine_direction direction,
                                    char text[TRINE_CONV2D_PROBLEM]);

#ifdef __cplusplus
}
#endif
#endif
