/* SPDX-License-Identifier: MIT */
/* Per-launch device times, summed by scope, kernel and label. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "rt/stream.h"

void trine__stream_time(trine_stream *stream, cl_event event, const char *name, const char *label,
                        double bytes)
{
    void *items = stream->timed;
    if (trine__reserve(&items, &stream->timed_capacity, stream->timed_count + 1, sizeof *stream->timed) !=
        TRINE_OK) {
        clReleaseEvent(event); /* a profile without one launch is better than a failed launch */
        return;
    }
    stream->timed = items;
    stream->timed[stream->timed_count++] = (trine__timed){event, name, label, stream->scope, bytes};
}

static double event_ms(cl_event event)
{
    cl_ulong start = 0, end = 0;
    if (clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof start, &start, NULL) != CL_SUCCESS)
        return 0;
    if (clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL) != CL_SUCCESS)
        return 0;
    return end > start ? (double)(end - start) * 1e-6 : 0;
}

static int by_name(const void *a, const void *b)
{
    const trine__timed *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    if (order == 0) order = strcmp(x->label ? x->label : "", y->label ? y->label : "");
    return order ? order : strcmp(x->scope ? x->scope : "", y->scope ? y->scope : "");
}

static int by_time(const void *a, const void *b)
{
    const trine_profile_row *x = a, *y = b;
    if (x->ms != y->ms) return x->ms < y->ms ? 1 : -1;
    const int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->scope, y->scope);
}

trine_status trine_stream_profile(trine_stream *stream, const trine_profile_row **rows, size_t *count)
{
    TRINE_CHECK(stream->profiling, TRINE_ERR_STATE, "the stream was created without profiling");
    TRINE_TRY(trine_stream_sync(stream));
    for (size_t i = 0; i < stream->row_count; i++) free(stream->row_names[i]);
    free(stream->row_names);
    free(stream->rows);
    stream->rows = NULL;
    stream->row_names = NULL;
    stream->row_count = 0;
    void *p = NULL;
    TRINE_TRY(trine__calloc(stream->timed_count, sizeof *stream->rows, &p));
    stream->rows = p;
    TRINE_TRY(trine__calloc(stream->timed_count, sizeof *stream->row_names, &p));
    stream->row_names = p;
    qsort(stream->timed, stream->timed_count, sizeof *stream->timed, by_name);
    for (size_t i = 0; i < stream->timed_count; i++) {
        const trine__timed *t = &stream->timed[i];
        if (i == 0 || by_name(t, t - 1) != 0) {
            trine__text name = {0};
            trine__text_add(&name, "%s%s%s", t->name, t->label ? " " : "", t->label ? t->label : "");
            TRINE_TRY(trine__text_take(&name, &stream->row_names[stream->row_count]));
            stream->rows[stream->row_count].name = stream->row_names[stream->row_count];
            stream->rows[stream->row_count].scope = t->scope ? t->scope : "";
            stream->row_count++;
        }
        trine_profile_row *row = &stream->rows[stream->row_count - 1];
        row->launches++;
        row->bytes += t->bytes;
        row->ms += event_ms(t->event);
    }
    for (size_t i = 0; i < stream->timed_count; i++) clReleaseEvent(stream->timed[i].event);
    stream->timed_count = 0;
    qsort(stream->rows, stream->row_count, sizeof *stream->rows, by_time);
    *rows = stream->rows;
    *count = stream->row_count;
    return TRINE_OK;
}
