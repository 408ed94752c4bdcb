/* SPDX-License-Identifier: MIT */
/* Reproducible random numbers: SplitMix64 (Steele, Lea, Flood 2014). A stream is (seed, purpose); equal seeds
 * give equal numbers on every machine and thread count. */
#ifndef TRINE_BASE_RANDOM_H
#define TRINE_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef struct trine__random {
    uint64_t state;
} trine__random;

/* An independent stream for each (seed, purpose, index), e.g. (run seed, augmentation, image number). */
trine__random trine__random_stream(uint64_t seed, uint64_t purpose, uint64_t index);
uint64_t trine__random_u64(trine__random *r);
/* Uniform in [0, n), n >= 1, without modulo bias. */
uint64_t trine__random_below(trine__random *r, uint64_t n);
/* Uniform in [0, 1) with 53 bits. */
double trine__random_unit(trine__random *r);
/* Standard normal (Box-Muller, one value per call). */
double trine__random_normal(trine__random *r);
/* Fisher-Yates. */
void trine__random_shuffle(trine__random *r, int *items, size_t count);

#endif
