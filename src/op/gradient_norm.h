/* SPDX-License-Identifier: MIT */
/* The global norm of gradients, and clipping by it as torch.nn.utils.clip_grad_norm_ does: gradients stay as they are, the optimizers'
 * kernels multiply by what is computed here. All of it happens on the device, so that nothing waits; sums are taken in one order. */
#ifndef TRINE_OP_GRADIENT_NORM_H
#define TRINE_OP_GRADIENT_NORM_H

#include "rt/launch.h"

typedef struct trine__gradient_norm trine__gradient_norm;

/* What the device holds, as the optimizers' kernels read it (in the places of trine__loss_scale_state). */
typedef struct trine__gradient_factor {
    float norm;     /* of the gradients, before clipping */
    float factor;   /* that gradients are multiplied by */
    float overflow; /* 1: the step is left out */
} trine__gradient_factor;

/* @param ranges most ranges of a norm */
trine_status trine__gradient_norm_create(trine_context *context, int ranges, trine__gradient_norm **out);
void trine__gradient_norm_destroy(trine__gradient_norm **norm);
/* Begin a norm anew, and add elements [first, first + count) of a flat buffer to it, at most `ranges` times. */
void trine__gradient_norm_clear(trine__gradient_norm *norm);
trine_status trine__gradient_norm_add(trine__gradient_norm *norm, trine_stream *stream,
                                      const trine_buffer *gradients, size_t first, size_t count);
/* With gradients that are to be multiplied by `factor`: the norm of what was added, and the factor that makes it `most` at most.
 * @param scaling trine__loss_scale_buffer() of checked gradients or NULL   @param most > 0 */
trine_status trine__gradient_norm_clip(trine__gradient_norm *norm, trine_stream *stream,
                                       const trine_buffer *scaling, float factor, float most);
/* trine__gradient_factor, for trine__optimizer_step_number(). */
const trine_buffer *trine__gradient_norm_buffer(const trine__gradient_norm *norm);

#endif
