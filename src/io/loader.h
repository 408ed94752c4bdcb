/* SPDX-License-Identifier: MIT */
/* Batches of preprocessed images, decoded by worker threads ahead of the consumer.
 * The order and content of batches depend on the plan and the seeds alone, never on the number of threads. */
#ifndef TRINE_IO_LOADER_H
#define TRINE_IO_LOADER_H

#include <stdbool.h>

#include "trine/augment.h"
#include "trine/image.h"

typedef enum trine__on_bad_image {
    TRINE__BAD_FAIL,      /* the first unreadable image fails trine__loader_next() */
    TRINE__BAD_SKIP,      /* its row is zero and ok[] false */
    TRINE__BAD_SUBSTITUTE /* the next readable image of the same class, cyclically, takes its place (indices[]
                           * says which); where there is none, as TRINE__BAD_SKIP */
} trine__on_bad_image;

/* An image of the data set, and the draw that its augmentation belongs to. */
typedef struct trine__loader_row {
    int index;
    uint64_t batch,
        slot; /* of the augmentation's random stream; the row's own place unless the plan says otherwise */
} trine__loader_row;

/* The caller's plan: fill rows[0..capacity), set *count (0: no more batches). Called from the workers, one at a
 * time, batches first_batch, first_batch + 1, ... in order, at most four batches ahead of the consumer. It must
 * not call the loader. */
typedef void (*trine__loader_plan)(void *user, size_t batch, trine__loader_row *rows, int capacity,
                                   int *count);

typedef struct trine__loader_options {
    const trine_dataset *dataset; /* outlives the loader */
    trine_preprocess preprocess;
    trine_augment augment; /* valid: trine_augment_check() */
    uint64_t seed;         /* augmentation stream = (seed, a row's batch, its slot) */
    int batch_capacity;    /* most images of a batch */
    size_t first_batch;    /* number of the first batch to plan and deliver: where a resumed run goes on */
    int threads;           /* workers, >= 1 */
    size_t cache_bytes;    /* of decoded images that are kept, for plans that ask for them again */
    trine__on_bad_image on_bad;
    trine__loader_plan plan;
    void *plan_user;
    trine_log_fn log; /* told of each image left out or replaced once ("PATH: skipped: reason"), from within
                       * trine__loader_next(), in the order of the batches; may be NULL */
    void *log_user;
} trine__loader_options;

/* Belongs to the loader; valid until the next trine__loader_next() or destroy. Height and width are 0, and x
 * is empty, if no image of the batch could be read and the preprocessing has no `crop` that tells its size. */
typedef struct trine__batch {
    int count, height, width;
    const float *x;     /* [count][3][height][width] */
    const int *indices; /* [count] data set index of each row */
    const int *labels;  /* [count] */
    const bool *ok;     /* [count] */
} trine__batch;

typedef struct trine__loader trine__loader;

/* Whether the augmentation `flip` mirrors the image of this draw: its first random number. */
bool trine__augment_flips(uint64_t seed, uint64_t batch, uint64_t slot);

/* Starts the workers. One thread may call next and destroy. Images of one batch must have one size after
 * preprocessing: otherwise trine__loader_next() fails with TRINE_ERR_DATA naming both images' paths and
 * sizes. */
trine_status trine__loader_create(const trine__loader_options *options, trine__loader **out);
/* Waits for the next batch in order; batch->count == 0 after the last one. The sentence of a worker's failure
 * is told here, on the calling thread: of all failures of the batch the one of the lowest row. A failure is
 * final: later calls repeat it. Unreadable is what TRINE_ERR_OPEN, TRINE_ERR_FORMAT or TRINE_ERR_DATA say of
 * one image; other failures (no memory, a plan that names no image) fail the loader whatever `on_bad`. */
trine_status trine__loader_next(trine__loader *loader, trine__batch *batch);
/* Unreadable images met in the batches delivered so far (each counted once). */
size_t trine__loader_bad_count(trine__loader *loader);
void trine__loader_destroy(trine__loader **loader);

#endif
