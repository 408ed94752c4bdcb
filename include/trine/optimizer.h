/* SPDX-License-Identifier: MIT */
/** SGD, Adam and AdamW over flat parameter buffers, with PyTorch's formulas. */
#ifndef TRINE_OPTIMIZER_H
#define TRINE_OPTIMIZER_H

#include "trine/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum trine_optimizer_kind {
    TRINE_SGD = 0,  /**< torch.optim.SGD: momentum, dampening 0, Nesterov, weight decay */
    TRINE_ADAM = 1, /**< torch.optim.Adam */
    TRINE_ADAMW = 2 /**< torch.optim.AdamW (decoupled weight decay) */
} trine_optimizer_kind;

typedef struct trine_optimizer_desc {
    trine_optimizer_kind kind;
    float momentum;     /**< SGD, [0, 1) */
    int nesterov;       /**< SGD; needs momentum > 0 */
    float weight_decay; /**< >= 0 */
    float beta1, beta2; /**< Adam: 0.9 and 0.999 in PyTorch */
    float eps;          /**< Adam: 1e-8 in PyTorch */
} trine_optimizer_desc;

/** kind with PyTorch's defaults: momentum 0, weight decay 0 (AdamW 1e-2), betas 0.9 and 0.999, eps 1e-8. */
TRINE_API trine_optimizer_desc trine_optimizer_desc_default(trine_optimizer_kind kind);

/** Optimizer with its state (one or two floats per parameter on the device, zero at first). One thread at a time. */
typedef struct trine_optimizer trine_optimizer;

/** @param count floats of the flat parameter buffer */
TRINE_API trine_status trine_optimizer_create(trine_context *context, const trine_optimizer_desc *desc,
                                              size_t count, trine_optimizer **out);
/** One step of elements [first, first + count): a range is stepped at most once per trine_optimizer_advance(). Enqueues only.
 *  @param lr learning rate of this step   @param parameters,gradients flat buffers of create's count */
TRINE_API trine_status trine_optimizer_step(trine_optimizer *op, trine_stream *stream,
                                            trine_buffer *parameters, const trine_buffer *gradients,
                                            size_t first, size_t count, float lr);
/** Count a step (Adam's bias correction): call once before the ranges of a step. */
TRINE_API void trine_optimizer_advance(trine_optimizer *op);
TRINE_API void trine_optimizer_destroy(trine_optimizer **op);

#ifdef __cplusplus
}
#endif
#endif
