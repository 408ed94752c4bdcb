/* SPDX-License-Identifier: MIT */
/* A convolution's weights in blocks of kb filters and cb channels, straight from the definition in trine/conv2d.h. */
#ifndef TRINE_TESTS_CONV2D_STORED_H
#define TRINE_TESTS_CONV2D_STORED_H

#include <stdlib.h>

/* k filters of c channels (of a group) and `taps` taps. */
typedef struct stored_weights {
    int k, c, taps, kb, cb;
} stored_weights;

static inline size_t stored_count(const stored_weights *s)
{
    const size_t k_blocks = (size_t)((s->k + s->kb - 1) / s->kb),
                 c_blocks = (size_t)((s->c + s->cb - 1) / s->cb);
    return k_blocks * c_blocks * (size_t)(s->taps * s->cb * s->kb);
}

static inline size_t stored_index(const stored_weights *s, int k, int c, int tap)
{
    const int c_blocks = (s->c + s->cb - 1) / s->cb;
    int at = k / s->kb;
    at = at * c_blocks + c / s->cb;
    at = at * s->taps + tap;
    at = at * s->cb + c % s->cb;
    return (size_t)(at * s->kb + k % s->kb);
}

/* New arrays. Padding is zero. */
static inline double *stored_from_dense(const stored_weights *s, const double *dense)
{
    double *stored = calloc(stored_count(s), sizeof *stored);
    for (int k = 0; k < s->k; k++)
        for (int c = 0; c < s->c; c++)
            for (int tap = 0; tap < s->taps; tap++)
                stored[stored_index(s, k, c, tap)] = dense[(k * s->c + c) * s->taps + tap];
    return stored;
}

static inline double *dense_from_stored(const stored_weights *s, const double *stored)
{
    double *dense = calloc((size_t)(s->k * s->c * s->taps), sizeof *dense);
    for (int k = 0; k < s->k; k++)
        for (int c = 0; c < s->c; c++)
            for (int tap = 0; tap < s->taps; tap++)
                dense[(k * s->c + c) * s->taps + tap] = stored[stored_index(s, k, c, tap)];
    return dense;
}

#endif
