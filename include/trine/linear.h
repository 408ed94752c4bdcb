/* SPDX-License-Identifier: MIT */
/** Fully connected layer: y = x * w^T + b, torch.nn.Linear. */
#ifndef TRINE_LINEAR_H
#define TRINE_LINEAR_H

#include "trine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Any batch; used by one thread at a time. */
typedef struct trine_linear trine_linear;

/** @param in_features,out_features C and K, >= 1
 *  @param algorithm NULL: chosen; "linear_plain" or "linear_clblast" */
TRINE_API trine_status trine_linear_create(trine_context *context, int in_features, int out_features,
                                           const char *algorithm, trine_linear **out);
TRINE_API const char *trine_linear_algorithm(const trine_linear *op);
/** Bytes of workspace for any direction at a batch of n. */
TRINE_API size_t trine_linear_workspace_bytes(const trine_linear *op, trine_stream *stream, int n);
/** @param x [N,C,1,1], any cb: rows of C rounded up to cb floats   @param w [K][C] dense   @param b [K] or NULL
 *  @param y [N,K,1,1] cb 1, written   @param workspace NULL where trine_linear_workspace_bytes() is 0 */
TRINE_API trine_status trine_linear_forward(trine_linear *op, trine_stream *stream, const trine_tensor *x,
                                            const trine_buffer *w, const trine_buffer *b, trine_tensor *y,
                                            trine_buffer *workspace);
/** dx = dy * w. @param dy [N,K,1,1] cb 1  @param dx [N,C,1,1] any cb, written, padding channels zero */
TRINE_API trine_status trine_linear_backward_data(trine_linear *op, trine_stream *stream,
                                                  const trine_tensor *dy, const trine_buffer *w,
                                                  trine_tensor *dx, trine_buffer *workspace);
/** dw = beta*dw + dy^T * x, db = beta*db + sum of dy's rows. @param dw [K][C] dense  @param db [K] or NULL  @param beta 0 or 1 */
TRINE_API trine_status trine_linear_backward_weights(trine_linear *op, trine_stream *stream,
                                                     const trine_tensor *x, const trine_tensor *dy, int beta,
                                                     trine_buffer *dw, trine_buffer *db,
                                                     trine_buffer *workspace);
TRINE_API void trine_linear_destroy(trine_linear **op);

#ifdef __cplusplus
}
#endif
#endif
