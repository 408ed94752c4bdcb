/* SPDX-License-Identifier: MIT */
/** What implementations of an operator take on a device: measured by `trine tune`, kept in the cache's file (trine/cache.h) under the
 *  device's name, driver and trine's version, and taken as it is found by every context that is created later. Nothing else measures, so
 *  that equal runs take equal choices. TRINE_TUNING=off does without; TRINE_ALGORITHMS comes first. */
#ifndef TRINE_TUNING_H
#define TRINE_TUNING_H

#include "trine/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One implementation's time for a problem. */
typedef struct trine_tuning_row {
    const char *problem;   /**< as trine_conv2d_problem() writes it */
    int batch;             /**< images */
    const char *algorithm; /**< the implementation's name, or "NAME:VARIANT" */
    double ms;             /**< > 0; or -1: it was wrong, too slow or crashed */
} trine_tuning_row;

/** The device as measurements are kept for it: name, driver, trine's version. @param text at least 512 bytes */
TRINE_API void trine_tuning_scope(const trine_context *context, char *text, size_t capacity);

/** Keep a row; an earlier one of the same problem, batch and implementation is replaced. Needs no device.
 *  @return TRINE_ERR_OPEN, TRINE_ERR_WRITE: the cache cannot be used (TRINE_CACHE=off among others) */
TRINE_API trine_status trine_tuning_record(const char *scope, const trine_tuning_row *row);

/** Call `each` for every row that is kept for a device, in the order of problem, batch and implementation. Needs no device; no file is no
 *  rows.  @return TRINE_ERR_OPEN: the cache cannot be read */
TRINE_API trine_status trine_tuning_each(const char *scope,
                                         void (*each)(void *user, const trine_tuning_row *row), void *user);

#ifdef __cplusplus
}
#endif
#endif
