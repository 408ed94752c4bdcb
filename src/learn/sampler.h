/* SPDX-License-Identifier: MIT */
/* Which images make which batch: batches of P classes x K images for triplets, shuffled epochs for
 * classification. A batch depends on (seed, batch number) alone. */
#ifndef TRINE_LEARN_SAMPLER_H
#define TRINE_LEARN_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "trine/status.h"

/* Used by one thread at a time (it keeps scratch memory). */
typedef struct trine__sampler trine__sampler;

/* P x K: random classes without replacement, of each random images without replacement; a class with fewer
 * than K gives all of its images before any of them a second time. An epoch is ceil(count / (P * K)) batches.
 * labels [count] are not kept. TRINE_ERR_DATA: fewer classes than P. */
trine_status trine__sampler_create_classes(const int *labels, size_t count, int classes_per_batch,
                                           int images_per_class, uint64_t seed, trine__sampler **out);
/* Every image once an epoch, in an order of its own; the last batch of an epoch takes what is left, unless
 * that is one image, which sits the epoch out (BatchNorm has no variance of one). TRINE_ERR_DATA: fewer than
 * 2 images. */
trine_status trine__sampler_create_epochs(size_t count, int batch, uint64_t seed, trine__sampler **out);
/* P x K: how many classes have fewer than K images, and how many of those one; 0 for epochs. */
void trine__sampler_small_classes(const trine__sampler *sampler, int *fewer, int *single);
/* Images of the largest batch. */
int trine__sampler_capacity(const trine__sampler *sampler);
/* Batches of an epoch. */
size_t trine__sampler_epoch(const trine__sampler *sampler);
/* Images of batch `number` (from 0), in any order of calls; returns how many. indices [capacity] */
int trine__sampler_batch(trine__sampler *sampler, size_t number, int *indices);
void trine__sampler_destroy(trine__sampler **sampler);

#endif
