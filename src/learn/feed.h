/* SPDX-License-Identifier: MIT */
/* Batches on their way to the device: copied to staging memory, uploaded on a stream of their own, ordered
 * with the computing stream by events. */
#ifndef TRINE_LEARN_FEED_H
#define TRINE_LEARN_FEED_H

#include "base/memory.h"
#include "rt/stream.h"
#include "trine/image.h"
#include "trine/tensor.h"

enum { TRINE__FEED_SLOTS = 3 }; /* one being computed with, one uploaded, one filled */

typedef struct trine__feed_slot {
    trine_tensor x;       /* [count,C,H,W], on the device */
    trine_buffer *labels; /* [count] int32 */
    float *host_x;
    int32_t *host_labels;
    trine__event uploaded; /* the host memory may be filled again */
    trine__event used;     /* the device memory may be filled again */
} trine__feed_slot;

typedef struct trine__feed {
    trine_stream *compute, *upload;
    trine_shape shape; /* largest batch */
    size_t row_floats;
    size_t next;
    trine__feed_slot slots[TRINE__FEED_SLOTS];
} trine__feed;

/* For tensors in blocks of cb, whose host memory is laid out alike. */
trine_status trine__feed_create(trine_stream *compute, const trine_shape *shape, int cb, trine__feed **out);
/* Copy the rows for which `ok` holds (NULL: all) and enqueue their upload; work enqueued on the computing
 * stream from now on finds them. There must be at least one, at most shape.n. Host memory is free again on
 * return; waits only for an upload three batches back.
 * @param x [count][C][H][W] in the tensor's layout  @param labels [count] or NULL */
trine_status trine__feed_push(trine__feed *feed, const float *x, const int *labels, const bool *ok, int count,
                              trine__feed_slot **out);
/* The work that reads the slot has been enqueued. */
trine_status trine__feed_used(trine__feed *feed, trine__feed_slot *slot);
/* Waits for uploads. */
void trine__feed_destroy(trine__feed **feed);

/* Rows and columns of a data set's images after preprocessing: those of `crop`, else of the first image, or
 * with `skip_bad` the first readable one. TRINE_ERR_DATA: there is none, or the headers tell of other sizes. */
trine_status trine__feed_image_size(const trine_dataset *data, const trine_preprocess *preprocess,
                                    bool skip_bad, int *height, int *width);

#endif
