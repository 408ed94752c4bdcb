/* SPDX-License-Identifier: MIT */
/** The cache of program binaries and of what trine tune measured: one SQLite file that all processes of a user share, $TRINE_CACHE_DIR/trine.db, else
 *  $XDG_CACHE_HOME/trine/trine.db, else ~/.cache/trine/trine.db. Contexts fill it by themselves; deleting it is always allowed. */
#ifndef TRINE_CACHE_H
#define TRINE_CACHE_H

#include <stdint.h>

#include "trine/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct trine_cache_info {
    char path[4096];      /**< of the file, which need not be there */
    int damaged;          /**< 1: the next context will start a new one */
    uint64_t programs;    /**< binaries kept */
    uint64_t measured;    /**< rows of trine/tuning.h */
    uint64_t bytes;       /**< of the binaries */
    uint64_t limit_bytes; /**< beyond which the oldest are dropped */
} trine_cache_info;

/** What the cache holds; of one that is not there, nothing.
 *  @return TRINE_ERR_OPEN: no folder for it, or it cannot be read */
TRINE_API trine_status trine_cache_get_info(trine_cache_info *out);
/** Drop every binary and every measurement, also under processes that use the cache: they go on. No file is no error.
 *  @return TRINE_ERR_OPEN: no folder for it; TRINE_ERR_WRITE: it cannot be written */
TRINE_API trine_status trine_cache_clear(void);

#ifdef __cplusplus
}
#endif
#endif
