/* SPDX-License-Identifier: MIT */
/* A frozen trunk in training: what lies before the first layer that trains or normalises with a batch gives an
 * image the same features at every step, so it runs as inference, in micro-batches of one size, once for each
 * distinct image if there is room to keep the features. Kept or not, the arithmetic is the same. */
#ifndef TRINE_LEARN_TRUNK_H
#define TRINE_LEARN_TRUNK_H

#include "io/loader.h"
#include "learn/feed.h"
#include "learn/sampler.h"
#include "trine/trainer.h"

typedef struct trine__trunk trine__trunk;

typedef struct trine__trunk_options {
    const trine_resnet *net;
    trine_stream *stream;
    int position;       /* the trunk's end, > 0: see net/session_private.h */
    trine_shape images; /* of a step, at most */
    trine_feature_cache cache;
    size_t memory_bytes; /* for features in memory; 0: a quarter of the machine's */
    size_t batches;      /* of the run */
    /* Data sets: all of the loader's options but batch_capacity and the plan, and what makes the sampler. */
    trine__loader_options loader;
    trine_status (*open_sampler)(const void *user, trine__sampler **out);
    const void *sampler_user;
} trine__trunk_options;

trine_status trine__trunk_create(const trine__trunk_options *options, trine__trunk **out);
/* What a step's images become: the tail's input, at most. */
trine_shape trine__trunk_shape(const trine__trunk *trunk);
/* Features and labels of a batch's images, on the device for what is enqueued from now on; batches come in order
 * without gaps. *slot is for trine__trunk_used(). */
trine_status trine__trunk_next(trine__trunk *trunk, size_t batch, trine_tensor *x,
                               const trine_buffer **labels, trine__feed_slot **slot);
/* The work that reads the slot has been enqueued. */
trine_status trine__trunk_used(trine__trunk *trunk, trine__feed_slot *slot);
size_t trine__trunk_bad_count(trine__trunk *trunk);
/* Features of all rows of x, on the device. @param features with room for as many rows */
trine_status trine__trunk_run(trine__trunk *trunk, const trine_tensor *x, trine_tensor *features);
/* A tensor for the features of a step. */
trine_status trine__trunk_tensor(const trine__trunk *trunk, trine_tensor *out);
/* What is frozen and where its features are, in a sentence that lives as long as the trunk. */
const char *trine__trunk_note(const trine__trunk *trunk);
/* What evaluates it. */
const trine_session *trine__trunk_session(const trine__trunk *trunk);
void trine__trunk_destroy(trine__trunk **trunk);

#endif
