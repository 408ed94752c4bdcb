/* SPDX-License-Identifier: MIT */
/* Reference-counted device memory. A view is a sub-buffer that keeps its parent alive. */
#ifndef TRINE_RT_BUFFER_H
#define TRINE_RT_BUFFER_H

#include "rt/context.h"

struct trine_buffer {
    trine_context *context;
    trine_buffer *parent; /* of a view; NULL for memory of its own */
    cl_mem mem;
    size_t offset; /* bytes within the outermost parent */
    size_t bytes;
    atomic_int references;
};

trine_status trine__buffer_from_host(trine_context *context, const void *host, size_t bytes,
                                     trine_buffer **out);

/* Several buffers that an object owns together: created through the set, released at once. */
typedef struct trine__buffer_set {
    trine_buffer **items;
    size_t count, capacity;
} trine__buffer_set;

trine_status trine__buffer_set_create(trine__buffer_set *set, trine_context *context, size_t bytes,
                                      trine_buffer **out);
trine_status trine__buffer_set_view(trine__buffer_set *set, trine_buffer *parent, size_t offset, size_t bytes,
                                    trine_buffer **out);
void trine__buffer_set_release(trine__buffer_set *set);

#endif
