/* SPDX-License-Identifier: MIT */
#include "rt/stream.h"

#include <stdlib.h>

#include "base/memory.h"

trine_status trine_stream_create(trine_context *context, int profile, trine_stream **out)
{
    void *p = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine_stream), &p));
    trine_stream *stream = p;
    cl_int code;
    stream->queue =
        clCreateCommandQueue(context->cl, context->device.id, profile ? CL_QUEUE_PROFILING_ENABLE : 0, &code);
    if (code != CL_SUCCESS) {
        free(stream);
        return trine__cl_check(code, "clCreateCommandQueue");
    }
    stream->context = context;
    stream->profiling = profile != 0;
    *out = stream;
    return TRINE_OK;
}

trine_status trine_stream_sync(trine_stream *stream)
{
    TRINE_CL(clFinish(stream->queue));
    return TRINE_OK;
}

void trine_stream_destroy(trine_stream **stream)
{
    if (!stream || !*stream) return;
    trine_stream *s = *stream;
    clFinish(s->queue);
    for (size_t i = 0; i < s->timed_count; i++) clReleaseEvent(s->timed[i].event);
    free(s->timed);
    for (size_t i = 0; i < s->row_count; i++) free(s->row_names[i]);
    free(s->row_names);
    free(s->rows);
    clReleaseCommandQueue(s->queue);
    free(s);
    *stream = NULL;
}

static trine_status check_range(const trine_buffer *buffer, size_t offset, size_t bytes, const char *what)
{
    TRINE_CHECK(offset <= buffer->bytes && bytes <= buffer->bytes - offset, TRINE_ERR_ARG,
                "%s of %zu bytes at %zu leaves the buffer of %zu bytes", what, bytes, offset, buffer->bytes);
    return TRINE_OK;
}

trine_status trine_buffer_write(trine_stream *stream, trine_buffer *buffer, size_t offset, const void *host,
                                size_t bytes)
{
    TRINE_TRY(check_range(buffer, offset, bytes, "write"));
    if (bytes)
        TRINE_CL(
            clEnqueueWriteBuffer(stream->queue, buffer->mem, CL_TRUE, offset, bytes, host, 0, NULL, NULL));
    return TRINE_OK;
}

trine_status trine_buffer_read(trine_stream *stream, const trine_buffer *buffer, size_t offset, void *host,
                               size_t bytes)
{
    TRINE_TRY(check_range(buffer, offset, bytes, "read"));
    if (bytes)
        TRINE_CL(
            clEnqueueReadBuffer(stream->queue, buffer->mem, CL_TRUE, offset, bytes, host, 0, NULL, NULL));
    return TRINE_OK;
}

trine_status trine__stream_write_nocopy(trine_stream *stream, trine_buffer *buffer, size_t offset,
                                        const void *host, size_t bytes, trine__event *done)
{
    TRINE_TRY(check_range(buffer, offset, bytes, "write"));
    if (done) done->cl = NULL;
    if (bytes == 0) return TRINE_OK;
    cl_event event = NULL;
    TRINE_CL(clEnqueueWriteBuffer(stream->queue, buffer->mem, CL_FALSE, offset, bytes, host, 0, NULL,
                                  done ? &event : NULL));
    if (done) done->cl = event;
    TRINE_CL(clFlush(stream->queue));
    return TRINE_OK;
}

trine_status trine__stream_read_nocopy(trine_stream *stream, const trine_buffer *buffer, size_t offset,
                                       void *host, size_t bytes, trine__event *done)
{
    TRINE_TRY(check_range(buffer, offset, bytes, "read"));
    if (done) done->cl = NULL;
    if (bytes == 0) return TRINE_OK;
    cl_event event = NULL;
    TRINE_CL(clEnqueueReadBuffer(stream->queue, buffer->mem, CL_FALSE, offset, bytes, host, 0, NULL,
                                 done ? &event : NULL));
    if (done) done->cl = event;
    TRINE_CL(clFlush(stream->queue));
    return TRINE_OK;
}

trine_status trine__stream_copy(trine_stream *stream, const trine_buffer *from, size_t from_offset,
                                trine_buffer *to, size_t to_offset, size_t bytes)
{
    TRINE_TRY(check_range(from, from_offset, bytes, "copy"));
    TRINE_TRY(check_range(to, to_offset, bytes, "copy"));
    if (bytes)
        TRINE_CL(clEnqueueCopyBuffer(stream->queue, from->mem, to->mem, from_offset, to_offset, bytes, 0,
                                     NULL, NULL));
    return TRINE_OK;
}

trine_status trine__stream_zero(trine_stream *stream, trine_buffer *buffer, size_t offset, size_t bytes)
{
    TRINE_TRY(check_range(buffer, offset, bytes, "fill"));
    const cl_uint zero = 0;
    if (bytes)
        TRINE_CL(clEnqueueFillBuffer(stream->queue, buffer->mem, &zero, sizeof zero, offset, bytes, 0, NULL,
                                     NULL));
    return TRINE_OK;
}

trine_status trine__event_wait(trine__event *event)
{
    if (!event->cl) return TRINE_OK;
    const cl_event cl = event->cl;
    event->cl = NULL;
    const cl_int code = clWaitForEvents(1, &cl);
    clReleaseEvent(cl);
    return trine__cl_check(code, "clWaitForEvents");
}

trine_status trine__stream_after(trine_stream *stream, const trine__event *event)
{
    if (event->cl) TRINE_CL(clEnqueueBarrierWithWaitList(stream->queue, 1, &event->cl, NULL));
    return TRINE_OK;
}

trine_status trine__stream_mark(trine_stream *stream, trine__event *out)
{
    cl_event event;
    TRINE_CL(clEnqueueMarkerWithWaitList(stream->queue, 0, NULL, &event));
    out->cl = event;
    TRINE_CL(clFlush(stream->queue));
    return TRINE_OK;
}

void trine__event_release(trine__event *event)
{
    if (event->cl) clReleaseEvent(event->cl);
    event->cl = NULL;
}
