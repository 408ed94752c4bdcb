/* SPDX-License-Identifier: MIT */
/* The mined losses: triplet.c checks, makes and runs; triplet_memory.c keeps embeddings of earlier batches, triplet_temperature.c a
 * temperature that is learnt. */
#ifndef TRINE_OP_TRIPLET_PRIVATE_H
#define TRINE_OP_TRIPLET_PRIVATE_H

#include "rt/program.h"
#include "trine/loss.h"

/* A temperature that is learnt, as its logarithm. Zeroed: none. */
typedef struct trine__temperature {
    trine_buffer *log, *gradient; /* [1] each */
    trine_buffer
        *scaling; /* [3], as trine__loss_scale_state begins: no step where the gradient is not finite */
    trine__kernel *clamp;
} trine__temperature;
trine_status trine__temperature_create(trine_context *context, float start, trine__temperature *out);
void trine__temperature_release(trine__temperature *t);
/* Of a loss that learns one, else NULL. triplet.c */
const trine__temperature *trine__triplet_temperature(const trine_triplet *op);

/* log(temperature), to and from the host, for a saved run. Waits. */
trine_status trine__triplet_temperature_read(const trine_triplet *op, trine_stream *stream, float *log);
trine_status trine__triplet_temperature_write(trine_triplet *op, trine_stream *stream, float log);

struct trine_triplet_memory {
    trine_context *context;
    trine__kernel *add;
    trine_buffer *rows;   /* [capacity][ld] */
    trine_buffer *labels; /* [capacity] */
    int capacity, d, cb, ld;
    int count, next; /* rows that hold something; the place of the next one */
};

/* What it holds, to and from the host: dense rows [count][d] and labels [count]. For a saved run. Waits. */
trine_status trine__triplet_memory_read(const trine_triplet_memory *memory, trine_stream *stream, float *rows,
                                        int32_t *labels);
trine_status trine__triplet_memory_write(trine_triplet_memory *memory, trine_stream *stream,
                                         const float *rows, const int32_t *labels, int count, int next);

#endif
