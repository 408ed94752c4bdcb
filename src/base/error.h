/* SPDX-License-Identifier: MIT */
/* How a private function fails: one sentence kept per thread, one status returned.
 * TRINE_CHECK and TRINE_TRY return at once and are for functions that own nothing yet; the *_GOTO twins set
 * `status` and jump to the function's one `cleanup:` label. A function uses one kind after its first
 * acquisition. */
#ifndef TRINE_BASE_ERROR_H
#define TRINE_BASE_ERROR_H

#include "trine/status.h"

#if defined(__GNUC__)
#define TRINE_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define TRINE_PRINTF(a, b)
#endif

/* Keep the sentence and return `status`. */
trine_status trine__fail(trine_status status, const char *format, ...) TRINE_PRINTF(2, 3);

/* Put a sentence in front of the one kept: "<context>: <sentence>". Returns `status`. */
trine_status trine__fail_context(trine_status status, const char *format, ...) TRINE_PRINTF(2, 3);

/* Keep a compiler's build log (copied; at most the last 64 KiB). */
void trine__set_build_log(const char *log);

#define TRINE_CHECK(cond, status_, ...)                                                                      \
    do {                                                                                                     \
        if (!(cond)) return trine__fail((status_), __VA_ARGS__);                                             \
    } while (0)

#define TRINE_TRY(expr)                                                                                      \
    do {                                                                                                     \
        const trine_status try_status_ = (expr);                                                             \
        if (try_status_ != TRINE_OK) return try_status_;                                                     \
    } while (0)

#define TRINE_CHECK_GOTO(cond, status_, ...)                                                                 \
    do {                                                                                                     \
        if (!(cond)) {                                                                                       \
            status = trine__fail((status_), __VA_ARGS__);                                                    \
            goto cleanup;                                                                                    \
        }                                                                                                    \
    } while (0)

#define TRINE_TRY_GOTO(expr)                                                                                 \
    do {                                                                                                     \
        status = (expr);                                                                                     \
        if (status != TRINE_OK) goto cleanup;                                                                \
    } while (0)

#endif
