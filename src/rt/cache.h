/* SPDX-License-Identifier: MIT */
/* Program binaries kept across processes in one SQLite file, <cache folder>/trine.db. Several processes may
 * use it at once; it may be deleted at any time; a damaged one is replaced with one warning, whenever the damage shows; a value comes
 * out as it went in or not at all. TRINE_CACHE=off turns it off. */
#ifndef TRINE_RT_CACHE_H
#define TRINE_RT_CACHE_H

#include "rt/context.h"

/* *out = NULL where no cache can be had: the caller goes on without. */
void trine__cache_open(trine_context *context, trine__cache **out);
/* True and a malloc'ed copy if the key is there. The use is noted, at most once a day, when the cache closes: what was not used for
 * longest goes first where room is needed. Accepts NULL. */
bool trine__cache_get(trine__cache *cache, const uint64_t key[2], void **value, size_t *bytes);
/* Failure is silent: the cache is a convenience. Accepts NULL. */
void trine__cache_put(trine__cache *cache, const uint64_t key[2], const void *value, size_t bytes);
void trine__cache_close(trine__cache **cache);

#endif
