/* SPDX-License-Identifier: MIT */
/* A running average of flat buffers on the device. */
#ifndef TRINE_OP_WEIGHT_AVERAGE_H
#define TRINE_OP_WEIGHT_AVERAGE_H

#include "rt/launch.h"

typedef struct trine__weight_average trine__weight_average;

trine_status trine__weight_average_create(trine_context *context, trine__weight_average **out);
/* averages = decay * averages + (1 - decay) * weights, of `count` floats. Enqueues only. */
trine_status trine__weight_average_run(trine__weight_average *op, trine_stream *stream,
                                       const trine_buffer *weights, trine_buffer *averages, size_t count,
                                       double decay);
void trine__weight_average_destroy(trine__weight_average **op);

#endif
