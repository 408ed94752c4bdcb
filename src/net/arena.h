/* SPDX-License-Identifier: MIT */
/* One block of memory for values with lifetimes. */
#ifndef TRINE_NET_ARENA_H
#define TRINE_NET_ARENA_H

#include "net/session_private.h"

/* Give every value (not external, used at least once) an offset such that values alive at the same time never
 * overlap: largest first, each at the lowest free place. One that takes another's bytes over (`over`: of an earlier
 * value of the array, as large) shares them. No value crosses a multiple of `limit` (a multiple
 * of `alignment`, or SIZE_MAX): the arena can be made of buffers of that size. *bytes: size of the arena, at
 * least `alignment`. TRINE_ERR_NOMEM: one value is larger than the limit. */
trine_status trine__arena_place(trine__value *values, size_t count, size_t alignment, size_t limit,
                                size_t *bytes);

#endif
