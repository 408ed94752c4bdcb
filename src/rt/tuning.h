/* SPDX-License-Identifier: MIT */
/* What `trine tune` has measured on a device, and what ships with the library for devices like it. */
#ifndef TRINE_RT_TUNING_H
#define TRINE_RT_TUNING_H

#include "rt/context.h"
#include "trine/tuning.h"

/* A text of cl/tune, embedded. */
typedef struct trine__shipped {
    const char *name; /* the file's stem */
    const unsigned char *text;
    size_t bytes;
} trine__shipped;
extern const trine__shipped trine__shipped_tunings[];
extern const size_t trine__shipped_count;

/* Milliseconds that an implementation takes for a problem; 0: nobody knows; -1: it failed. Of several sources the nearest that knows the
 * problem answers: measured on this device > shipped for the device > its family > its type > generic; then the nearest batch (0: the
 * smallest). Read once for a context; nothing where TRINE_TUNING=off. Thread-safe. */
double trine__tuning_ms(trine_context *context, const char *problem, int batch, const char *algorithm);
/* Of candidates for a problem the one that is taken: names[first], which would be taken unmeasured, or the fastest of those that took less
 * than its time by more than noise, or of any where it failed. Where nobody has measured names[first] it stays.
 * @param names [count], NULL: out of the question; names[first] is there   @return an index */
int trine__tuning_pick(trine_context *context, const char *problem, int batch, const char *const *names,
                       size_t count, int first);
void trine__tuning_free(trine_context *context);

/* Add the rows of a .tune text that are for this device. TRINE_ERR_FORMAT names `name` and the line. */
trine_status trine__tuning_parse(trine_context *context, const char *name, const char *text, size_t bytes);

#endif
