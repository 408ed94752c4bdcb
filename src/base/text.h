/* SPDX-License-Identifier: MIT */
/* A growing string. An allocation failure is remembered and reported once by trine__text_take(). */
#ifndef TRINE_BASE_TEXT_H
#define TRINE_BASE_TEXT_H

#include "base/memory.h"

typedef struct trine__text {
    char *data; /* NUL-terminated once anything was added */
    size_t length, capacity;
    bool failed;
} trine__text;

void trine__text_add(trine__text *t, const char *format, ...) TRINE_PRINTF(2, 3);
void trine__text_add_bytes(trine__text *t, const void *bytes, size_t count);

/* Hand the string over (caller frees with free()) and empty t; TRINE_ERR_NOMEM if any addition failed. */
trine_status trine__text_take(trine__text *t, char **out);
void trine__text_free(trine__text *t);

/* Significant digits, for "%.*g", of the shortest decimal that reads back as `value` (as a float if `single`). */
int trine__shortest_digits(double value, bool single);
/* All of the `length` characters as a number with a decimal point, whatever the program's locale; false: they are none. */
bool trine__read_number(const char *text, size_t length, double *out);

#endif
