/* SPDX-License-Identifier: MIT */
/* Dynamic loss scaling for gradients that pass through half precision: all of it happens on the device, so that nothing waits. */
#ifndef TRINE_OP_LOSS_SCALE_H
#define TRINE_OP_LOSS_SCALE_H

#include "rt/launch.h"

typedef struct trine__loss_scale trine__loss_scale;

/* What the device holds; floats. */
typedef struct trine__loss_scale_state {
    float scale, inverse; /* powers of two */
    float overflow;       /* 1: the gradients of the step under way are not finite */
    float steps;          /* since the scale changed */
    float skipped;        /* steps left out so far */
} trine__loss_scale_state;

trine_status trine__loss_scale_create(trine_context *context, trine_stream *stream, trine__loss_scale **out);
void trine__loss_scale_destroy(trine__loss_scale **scale);

/* y = scale * x; TRINE_F32, y may be x. */
trine_status trine__loss_scale_apply(trine__loss_scale *scale, trine_stream *stream, const trine_tensor *x,
                                     trine_tensor *y);
/* Look for an overflow among elements [first, first + count) of scaled gradients. Optimizer steps that are given
 * trine__loss_scale_buffer() then divide by the scale, or leave parameters and moments alone. */
trine_status trine__loss_scale_check(trine__loss_scale *scale, trine_stream *stream,
                                     const trine_buffer *gradients, size_t first, size_t count);
/* After the step. */
trine_status trine__loss_scale_update(trine__loss_scale *scale, trine_stream *stream);
const trine_buffer *trine__loss_scale_buffer(const trine__loss_scale *scale);

/* Both wait. */
trine_status trine__loss_scale_read(const trine__loss_scale *scale, trine_stream *stream,
                                    trine__loss_scale_state *state);
trine_status trine__loss_scale_write(trine__loss_scale *scale, trine_stream *stream,
                                     const trine__loss_scale_state *state);

#endif
