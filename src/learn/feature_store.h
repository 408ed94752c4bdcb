/* SPDX-License-Identifier: MIT */
/* Rows of floats in host memory, or in a file that is gone when the process is. */
#ifndef TRINE_LEARN_FEATURE_STORE_H
#define TRINE_LEARN_FEATURE_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include "trine/status.h"

typedef struct trine__feature_store {
    void *memory;
    size_t bytes, row_floats;
    bool on_disk;
} trine__feature_store;

/* Bytes that features may have in memory unless told otherwise: a quarter of the machine's. */
size_t trine__feature_memory(void);
/* On disk: a file without a name in $TMPDIR or /tmp, whose bytes are reserved at once, at most half of those free.
 * TRINE_ERR_NOMEM, TRINE_ERR_WRITE: there is no room (the sentence says where and how much). */
trine_status trine__feature_store_open(trine__feature_store *store, size_t rows, size_t row_floats,
                                       bool on_disk);
float *trine__feature_store_row(const trine__feature_store *store, size_t row);
/* Accepts one that was never opened. */
void trine__feature_store_close(trine__feature_store *store);

#endif
