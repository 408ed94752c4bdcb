/* SPDX-License-Identifier: MIT */
/* All images of a data set or an array, in order, batch by batch on the device. */
#ifndef TRINE_LEARN_BATCHES_H
#define TRINE_LEARN_BATCHES_H

#include "io/loader.h"
#include "learn/feed.h"

/* What is run through. Of the two sources the one that is not NULL. */
typedef struct trine__batches_options {
    const trine_dataset *data;
    const float *array; /* [shape.n][c][h][w], preprocessed; outlives the batches */
    trine_shape shape;  /* of the array */
    int batch;          /* most images of a batch, >= 1 */
    bool even;          /* batches of nearly equal size; else full ones and a remainder */
    void (*progress)(void *user, size_t done, size_t all); /* of a run; may be NULL */
    void *progress_user;
    /* data sets */
    trine_preprocess preprocess;
    int threads;
    bool skip_bad;
    trine_log_fn log; /* may be NULL */
    void *log_user;
} trine__batches_options;

typedef struct trine__batches {
    trine__batches_options o;
    trine_shape shape; /* of the largest batch */
    size_t all, count; /* images and batches of a whole run, unreadable images counted */
    size_t bad;        /* unreadable images met in the longest run so far */
    /* the batch at hand, readable images only */
    int rows;              /* 0: none left */
    int *indices, *labels; /* [rows]; labels 0 for arrays */
    /* private */
    trine__feed *feed;
    trine__feed_slot *slot;
    trine__loader *loader;
    size_t next, seen; /* batches of this run; images */
    int waiting;       /* images of the batch at hand, to be told when it is used */
    bool any;          /* some image of this run was readable */
} trine__batches;

/* Sizes and memory; the first run begins with trine__batches_rewind().
 * TRINE_ERR_DATA: no image can be read, or they differ in size. */
trine_status trine__batches_create(trine_stream *stream, const trine__batches_options *options,
                                   trine__batches **out);
/* From the first image on. @param tell name unreadable images to the log in this run */
trine_status trine__batches_rewind(trine__batches *batches, bool tell);
/* The next batch that has a readable image: *x lives on the device until trine__batches_used(), and work
 * enqueued on the stream from now on finds it filled. batches->rows is 0 where there is none left;
 * TRINE_ERR_DATA: there was none in the whole run. */
trine_status trine__batches_next(trine__batches *batches, trine_tensor *x);
/* The work that reads the batch has been enqueued. */
trine_status trine__batches_used(trine__batches *batches);
void trine__batches_destroy(trine__batches **batches);

#endif
