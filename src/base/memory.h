/* SPDX-License-Identifier: MIT */
/* Checked allocation and sizes. */
#ifndef TRINE_BASE_MEMORY_H
#define TRINE_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define TRINE_COUNTOF(a) (sizeof(a) / sizeof((a)[0]))

/* *out = count * size zeroed bytes (never NULL on success, also for 0 bytes); TRINE_ERR_NOMEM names the
 * bytes. Free with free(). */
trine_status trine__calloc(size_t count, size_t size, void **out);

/* Grow *items (of `size` bytes each, *capacity of them) so that `need` fit; contents kept. */
trine_status trine__reserve(void **items, size_t *capacity, size_t need, size_t size);

/* Copy of a string (TRINE_ERR_NOMEM on failure). Free with free(). */
trine_status trine__strdup(const char *text, char **out);

/* *out = a * b; false on overflow. */
bool trine__mul_size(size_t a, size_t b, size_t *out);
bool trine__add_size(size_t a, size_t b, size_t *out);

static inline size_t trine__round_up(size_t value, size_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static inline int trine__ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

#endif
