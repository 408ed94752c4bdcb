/* SPDX-License-Identifier: MIT */
/** Fully connected layer: y = x * w^T + b, torch.nn.Linear. */
#ifndef TRINE_LINEAR_H
#define TRINE_LINEAR_H

#include "trine/conv2d.h" /* trine_direction */

#ifdef __cplusplus
extern "C" {
#endif

/** Any batch; used by one thread at a time. */
typedef struct trine_linear trine_linear;

/** @param in_features,out_features C and K, >= 1
 *  @param batch     images that are to come at a time, for choosing by measurement (trine/tuning.h); 0: nobody knows
 *  @param algorithm NULL: chosen for each direction; else the name of an implementation, or TRINE_ERR_UNSUPPORTED */
TRINE_API trine_status trine_linear_create(trine_context *context, int in_features, int out_features,
                                           int batch, const char *algorithm, trine_linear **out);
/** Name of the implementation chosen for a direction. */
TRINE_API const char *trine_linear_algorithm(const trine_linear *op, trine_direction direction);
/** Names of all implementations, best first; the count is returned. */
TRINE_API size_t trine_linear_algorithms(const char **names, size_t capacity);
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

/** A fully connected layer as measurements know it (trine/tuning.h): everything that its time depends on but the batch. */
enum { TRINE_LINEAR_PROBLEM = 64 };
TRINE_API void trine_linear_problem(int in_features, int out_features, trine_direction direction,
                                    char text[TRINE_LINEAR_PROBLEM]);

#ifdef __cplusplus
}
#endif
#endif
