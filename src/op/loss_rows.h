/* SPDX-License-Identifier: MIT */
/* Checks that the losses share: tensors that are rows of embeddings, and the sizes of plain buffers. */
#ifndef TRINE_OP_LOSS_ROWS_H
#define TRINE_OP_LOSS_ROWS_H

#include "rt/launch.h"

/* A tensor [N,D,1,1] of any channel block: N rows of `ld` floats, `d` of them counted. */
typedef struct trine__rows {
    int n, d, ld;
} trine__rows;

/* `op` and `name` are for the sentence: "l2norm: y ...". */
trine_status trine__rows_check(const char *op, const char *name, const trine_tensor *t, trine__rows *out);
/* The same, and of the shape and channel block of `like`. */
trine_status trine__rows_check_like(const char *op, const char *name, const trine_tensor *t,
                                    const trine_tensor *like);
/* `buffer` holds at least `bytes`. */
trine_status trine__bytes_check(const char *op, const char *name, const trine_buffer *buffer, size_t bytes);
/* Slot `slot` of `floats` floats lies within the ring `stats`; *at = its first float. */
trine_status trine__slot_check(const char *op, const trine_buffer *stats, int slot, int floats, int *at);

/* Grid of kernels whose work-group is a row. */
static inline trine__grid trine__grid_rows(int n)
{
    return trine__grid_lines(TRINE__LOCAL, (size_t)n, 1, TRINE__LOCAL);
}

#endif
