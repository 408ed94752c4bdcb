/* SPDX-License-Identifier: MIT */
/* Distances between vectors in double: what decides where single precision cannot. */
#ifndef TRINE_LEARN_EXACT_H
#define TRINE_LEARN_EXACT_H

#include <stdbool.h>
#include <stddef.h>

#include "trine/loss.h"

/* Vectors on the host, not owned, with what their distances need. */
typedef struct trine__exact {
    const float *base; /* [count][dim] */
    size_t count, dim;
    trine_distance distance;
    double *norms; /* [count], owned: lengths */
    double longest;
} trine__exact;

trine_status trine__exact_init(trine__exact *e, const float *base, size_t count, int dim,
                               trine_distance distance);
void trine__exact_release(trine__exact *e);
double trine__exact_norm(const float *x, size_t dim);
/* out[i] = distance of a query to base vector at[i], as trine/knn.h defines it: sums of direct differences or of products in the order of
 * the dimensions, as a plain loop in double gives them, so that equal vectors tie; NaN counts as infinity.
 * @param norm the query's length */
void trine__exact_distances(const trine__exact *e, const float *query, double norm, const int *at,
                            size_t count, double *out);

/* A vector's place in a ranking: by distance, then by index. */
typedef struct trine__near {
    double distance;
    int index;
} trine__near;

static inline bool trine__nearer(const trine__near *a, const trine__near *b)
{
    return a->distance < b->distance || (a->distance == b->distance && a->index < b->index);
}
/* For qsort(). */
int trine__near_compare(const void *a, const void *b);

#endif
