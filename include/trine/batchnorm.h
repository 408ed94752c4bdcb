/* SPDX-License-Identifier: MIT */
/** Batch normalization, taken apart so that each of its three settings is a separate call: which statistics normalise, whether the
 *  running ones move, whether the affine parameters train.   m = N*H*W values per channel
 *    mu = sum(x)/m   var = sum((x-mu)^2)/m   rstd = 1/sqrt(var + eps)   y = gamma*(x - mu)*rstd + beta
 *    running_mean = (1-a)*running_mean + a*mu     running_var = (1-a)*running_var + a*var*m/(m-1)
 *  Source: Ioffe & Szegedy 2015, algorithm 1; conventions of torch.nn.BatchNorm2d. */
#ifndef TRINE_BATCHNORM_H
#define TRINE_BATCHNORM_H

#include "trine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A batch normalization over C channels in one layout. Any batch and image size; one thread at a time. */
typedef struct trine_batchnorm trine_batchnorm;

/** @param channels C >= 1   @param cb channel block of every tensor   @param eps > 0, added to the variance */
TRINE_API trine_status trine_batchnorm_create(trine_context *context, int channels, int cb, float eps,
                                              trine_batchnorm **out);
TRINE_API void trine_batchnorm_destroy(trine_batchnorm **bn);

/** Per-channel vectors below have C rounded up to cb floats: this many bytes. */
TRINE_API size_t trine_batchnorm_channel_bytes(const trine_batchnorm *bn);
/** Bytes of the partial statistics (or partial gradient sums) of a tensor of this shape. */
TRINE_API size_t trine_batchnorm_partial_bytes(const trine_batchnorm *bn, const trine_shape *shape);

/** What a tensor was normalised with; backward needs it again. */
typedef struct trine_batchnorm_saved {
    trine_buffer *mean; /**< [C] */
    trine_buffer *rstd; /**< [C] */
} trine_batchnorm_saved;

/** Pass 1 of batch statistics: per-chunk mean and sum of squared differences (two passes over a chunk that fits the cache). A
 *  convolution can write the same of what it puts out (trine_conv2d_epilogue.bn_partials), and saves this pass.
 *  @param partials written, >= trine_batchnorm_partial_bytes() */
TRINE_API trine_status trine_batchnorm_partials(trine_batchnorm *bn, trine_stream *stream,
                                                const trine_tensor *x, trine_buffer *partials);
/** Merge partials (Chan et al. 1979, for many parts) into saved->mean and saved->rstd; move the running statistics if they are given.
 *  @param shape         of the tensor that the partials belong to; N*H*W >= 2, else TRINE_ERR_SHAPE
 *  @param running_mean  [C] read and written, or NULL
 *  @param running_var   [C] read and written (unbiased variance), or NULL
 *  @param factor        a in [0,1]: the momentum, or 1/count for a cumulative average */
TRINE_API trine_status trine_batchnorm_statistics(trine_batchnorm *bn, trine_stream *stream,
                                                  const trine_shape *shape, const trine_buffer *partials,
                                                  trine_batchnorm_saved *saved, trine_buffer *running_mean,
                                                  trine_buffer *running_var, float factor);
/** saved = running statistics: mean, 1/sqrt(var + eps). */
TRINE_API trine_status trine_batchnorm_use_running(trine_batchnorm *bn, trine_stream *stream,
                                                   const trine_buffer *running_mean,
                                                   const trine_buffer *running_var,
                                                   trine_batchnorm_saved *saved);
/** Running statistics and affine parameters as scale = gamma*rstd and shift = beta - mean*scale, for a convolution's epilogue.
 *  @param gamma,beta [C] or NULL (1 and 0)   @param scale,shift [C rounded up] written, zero in padding channels */
TRINE_API trine_status trine_batchnorm_fold(trine_batchnorm *bn, trine_stream *stream,
                                            const trine_buffer *running_mean, const trine_buffer *running_var,
                                            const trine_buffer *gamma, const trine_buffer *beta,
                                            trine_buffer *scale, trine_buffer *shift);

/** y = relu?( gamma*(x - mean)*rstd + beta + residual ).
 *  @param gamma,beta [C] or NULL (1 and 0)  @param residual like x, or NULL  @param y like x; may be x itself or residual */
TRINE_API trine_status trine_batchnorm_apply(trine_batchnorm *bn, trine_stream *stream, const trine_tensor *x,
                                             const trine_batchnorm_saved *saved, const trine_buffer *gamma,
                                             const trine_buffer *beta, const trine_tensor *residual, int relu,
                                             trine_tensor *y);

/** Gradients of trine_batchnorm_apply(). With g = dy where y > 0 (or dy itself without a rectifier):
 *    dgamma = sum(g * xhat)   dbeta = sum(g)   xhat = (x - mean)*rstd
 *    batch statistics:    dx = gamma*rstd*(g - dbeta/m - xhat*dgamma/m)
 *    running statistics:  dx = gamma*rstd*g
 *  @param x       the input of the forward pass; may be NULL with running statistics if dgamma and dbeta are NULL and relu is 0
 *  @param y       the output if relu was on and a residual was added (its sign is the mask), else NULL
 *  @param relu    1 if relu was on without a residual: the mask is computed again from x, and nobody needs to keep y (which is
 *                 NULL here); the same bits
 *  @param beta    of the forward pass; read if relu is 1
 *  @param dy      read; overwritten with g if y is given (the gradient that goes on along the residual)
 *  @param batch   1 if saved are the batch's own statistics
 *  @param dgamma,dbeta [C] dense, or NULL; accumulate_affine 0: written, 1: added to
 *  @param dx      written; may be dy itself (then g is lost) or NULL
 *  @param partials >= trine_batchnorm_partial_bytes(); may be NULL if running statistics and no dgamma, dbeta */
typedef struct trine_batchnorm_gradients {
    const trine_tensor *x, *y;
    trine_tensor *dy, *dx;
    const trine_batchnorm_saved *saved;
    const trine_buffer *gamma, *beta;
    trine_buffer *dgamma, *dbeta;
    trine_buffer *partials;
    int relu, batch, accumulate_affine;
} trine_batchnorm_gradients;

TRINE_API trine_status trine_batchnorm_backward(trine_batchnorm *bn, trine_stream *stream,
                                                const trine_batchnorm_gradients *gradients);

#ifdef __cplusplus
}
#endif
#endif
