/* SPDX-License-Identifier: MIT */
/* The order in which images go through a frozen trunk: the images of the coming steps as the sampler draws
 * them, each distinct one (image, mirrored or not) once if its features are kept, or all of the data set first. */
#ifndef TRINE_LEARN_TRUNK_DRAWS_H
#define TRINE_LEARN_TRUNK_DRAWS_H

#include <stdbool.h>
#include <stdint.h>

#include "io/loader.h"
#include "learn/sampler.h"

typedef struct trine__draws_options {
    size_t images; /* of the data set */
    bool flip;     /* augmentation mirrors half of the draws */
    uint64_t seed;
    size_t first_step, steps; /* steps first_step .. steps - 1 */
    bool once;                /* each distinct image once */
    bool all_first;           /* with once: every distinct image of the data set before any step's */
} trine__draws_options;

/* One reader of the order. Several readers of equal options and samplers see the same. One thread at a time. */
typedef struct trine__draws {
    trine__draws_options options;
    trine__sampler *sampler; /* owned */
    int *indices;            /* of the step */
    int count, at;           /* of the step: images, and the next one */
    size_t step;             /* the next one to draw */
    size_t listed;           /* of all_first */
    bool *seen;              /* [keys], with once */
} trine__draws;

/* Distinct images: what a key counts. */
size_t trine__draws_keys(const trine__draws_options *options);
/* Of the image that stands at (batch, slot). */
size_t trine__draws_key(const trine__draws_options *options, const trine__loader_row *row);
/* Takes the sampler over, also on failure. */
trine_status trine__draws_open(trine__draws *draws, const trine__draws_options *options,
                               trine__sampler *sampler);
/* False at the end. */
bool trine__draws_next(trine__draws *draws, trine__loader_row *out);
void trine__draws_close(trine__draws *draws);

#endif
