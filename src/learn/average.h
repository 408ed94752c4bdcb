/* SPDX-License-Identifier: MIT */
/* The running average of a network's values (trine_trainer_options.ema): of all parameters and of all running statistics, as timm's
 * ModelEmaV2 averages a whole state dict; counters are not averaged. */
#ifndef TRINE_LEARN_AVERAGE_H
#define TRINE_LEARN_AVERAGE_H

#include "op/weight_average.h"
#include "trine/resnet.h"
#include "trine/weights.h"

typedef struct trine__average trine__average;

/* Begins at the network's values. The network outlives it; it stays as it is but for trine__average_exchange(). */
trine_status trine__average_create(trine_resnet *net, trine_stream *stream, double decay,
                                   trine__average **out);
/* After a step. Enqueues only. */
trine_status trine__average_update(trine__average *average, trine_stream *stream);
/* Values and averages change places. Waits. */
trine_status trine__average_exchange(trine__average *average, trine_stream *stream);
bool trine__average_exchanged(const trine__average *average);
/* "average.NAME" (F32, dense) of what has moved since the average began. Waits. */
trine_status trine__average_save(const trine__average *average, trine_stream *stream, trine_weights *out);
/* Check those of a state and count them in *used; with `load`, take them over. Waits.
 * @param counts [parameters] steps that each has taken   TRINE_ERR_FORMAT: one has another shape or element type, or holds what is no number;
 * that of a parameter which has taken a step is missing */
trine_status trine__average_restore(trine__average *average, trine_stream *stream, const trine_weights *state,
                                    const uint64_t *counts, bool load, size_t *used);
void trine__average_destroy(trine__average **average);

#endif
