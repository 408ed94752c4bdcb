/* SPDX-License-Identifier: MIT */
/* The mined losses: triplet.c checks, makes and runs; triplet_memory.c keeps embeddings of earlier batches. */
#ifndef TRINE_OP_TRIPLET_PRIVATE_H
#define TRINE_OP_TRIPLET_PRIVATE_H

#include "rt/program.h"
#include "trine/loss.h"

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
