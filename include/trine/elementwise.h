/* SPDX-License-Identifier: MIT */
/** Element by element: ReLU, sum, change of layout, and the sum over all but the channels. */
#ifndef TRINE_ELEMENTWISE_H
#define TRINE_ELEMENTWISE_H

#include "trine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Kernels for one context; used by one thread at a time. Operands are stored alike (all TRINE_F32, or all TRINE_F16) where nothing
 *  else is said, or TRINE_ERR_ARG. */
typedef struct trine_elementwise trine_elementwise;

TRINE_API trine_status trine_elementwise_create(trine_context *context, trine_elementwise **out);
TRINE_API void trine_elementwise_destroy(trine_elementwise **op);

/** y = max(0, x); NaN stays NaN. Same shape and layout; y may be x. */
TRINE_API trine_status trine_relu_forward(trine_elementwise *op, trine_stream *stream, const trine_tensor *x,
                                          trine_tensor *y);
/** dx = dy where y > 0, else 0. dx may be dy. */
TRINE_API trine_status trine_relu_backward(trine_elementwise *op, trine_stream *stream, const trine_tensor *y,
                                           const trine_tensor *dy, trine_tensor *dx);
/** y = a + b (also the backward pass of a branch). y may be a or b. */
TRINE_API trine_status trine_add(trine_elementwise *op, trine_stream *stream, const trine_tensor *a,
                                 const trine_tensor *b, trine_tensor *y);
/** y = x in y's layout and storage; same shape, padding channels of y zero. x and y must not overlap. */
TRINE_API trine_status trine_reorder(trine_elementwise *op, trine_stream *stream, const trine_tensor *x,
                                     trine_tensor *y);
/** He et al. 2016, section 4.2, shortcut option A: y[n][c][p][q] = x[n][c - first][p*stride][q*stride] where 0 <= c - first < C,
 *  else 0.  @param x [N,C,H,W]  @param y [N,K,ceil(H/stride),ceil(W/stride)], K >= C + first; same cb */
TRINE_API trine_status trine_subsample_forward(trine_elementwise *op, trine_stream *stream,
                                               const trine_tensor *x, int stride, int first, trine_tensor *y);
/** dx = beta*dx + gradient of the above. beta is 0 or 1. */
TRINE_API trine_status trine_subsample_backward(trine_elementwise *op, trine_stream *stream,
                                                const trine_tensor *dy, int stride, int first, int beta,
                                                trine_tensor *dx);
/** sum[c] = beta*sum[c] + sum over n, h, w of x (a bias's gradient). @param sum [C] dense  @param beta 0 or 1 */
TRINE_API trine_status trine_channel_sum(trine_elementwise *op, trine_stream *stream, const trine_tensor *x,
                                         int beta, trine_buffer *sum);

#ifdef __cplusplus
}
#endif
#endif
