/* SPDX-License-Identifier: MIT */
/* One in-order queue, its events and its profile. */
#ifndef TRINE_RT_STREAM_H
#define TRINE_RT_STREAM_H

#include "rt/buffer.h"

typedef struct trine__timed {
    cl_event event;
    const char *name;  /* kernel's name, owned by the kernel cache */
    const char *label; /* string constant or NULL */
    const char *scope; /* the stream's at that time */
    double bytes;      /* of the tensors among the arguments */
} trine__timed;

struct trine_stream {
    trine_context *context;
    cl_command_queue queue;
    bool profiling;
    const char *scope;   /* what is being enqueued, for the profile; or NULL */
    trine__timed *timed; /* launches since the last read-out */
    size_t timed_count, timed_capacity;
    trine_profile_row *rows;
    char **row_names;
    size_t row_count;
};

/* A point in a stream that the host or another stream can wait for. NULL handle: already passed. */
typedef struct trine__event {
    cl_event cl;
} trine__event;

/* Enqueue a copy without waiting; `host` must stay as it is until `done` has passed (or the stream is
 * synced). */
trine_status trine__stream_write_nocopy(trine_stream *stream, trine_buffer *buffer, size_t offset,
                                        const void *host, size_t bytes, trine__event *done);
/* The same from the device to the host. */
trine_status trine__stream_read_nocopy(trine_stream *stream, const trine_buffer *buffer, size_t offset,
                                       void *host, size_t bytes, trine__event *done);
/* Device to device; regions must not overlap. */
trine_status trine__stream_copy(trine_stream *stream, const trine_buffer *from, size_t from_offset,
                                trine_buffer *to, size_t to_offset, size_t bytes);
/* Set `bytes` (a multiple of 4) to zero. */
trine_status trine__stream_zero(trine_stream *stream, trine_buffer *buffer, size_t offset, size_t bytes);
/* Host waits for an event and releases it; nothing for a NULL handle. */
trine_status trine__event_wait(trine__event *event);
/* What is enqueued on `stream` from now on runs after the event; the event stays valid. */
trine_status trine__stream_after(trine_stream *stream, const trine__event *event);
/* An event at the stream's current end. */
trine_status trine__stream_mark(trine_stream *stream, trine__event *out);
void trine__event_release(trine__event *event);

/* Remember a launch's event for the profile (takes the event over). */
void trine__stream_time(trine_stream *stream, cl_event event, const char *name, const char *label,
                        double bytes);

/* What launches from now on are for; NULL: nothing in particular. The string lives until the profile is read. */
static inline void trine__stream_scope(trine_stream *stream, const char *scope)
{
    stream->scope = scope;
}

#endif
