/* SPDX-License-Identifier: MIT */
#include "op/gradient_norm.h"

#include <stdio.h>
#include <stdlib.h>

#include "op/optimizer.h"

/* Floats that a work-item sums up at least, and work-items of a range at most: the last stage is one work-item's. */
enum { LEAST = 4096, MOST_ITEMS = 1024 };

struct trine__gradient_norm {
    trine_context *context;
    trine__kernel *sum, *clip;
    trine_buffer *partials, *state;
    int ranges, capacity;
    int used; /* partials */
};

trine_status trine__gradient_norm_create(trine_context *context, int ranges, trine__gradient_norm **out)
{
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine__gradient_norm), &memory));
    trine__gradient_norm *n = memory;
    char options[24];
    snprintf(options, sizeof options, "-DCB=%d", trine__flat_grid_of(&context->caps, 1).vector);
    n->context = context;
    n->ranges = ranges;
    n->capacity = ranges * MOST_ITEMS;
    trine_status status;
    TRINE_TRY_GOTO(trine__kernel_create(context, "gradient_norm", options, &n->sum));
    TRINE_TRY_GOTO(trine__kernel_create(context, "gradient_clip", "", &n->clip));
    TRINE_TRY_GOTO(trine_buffer_create(context, (size_t)n->capacity * sizeof(float), &n->partials));
    TRINE_TRY_GOTO(trine_buffer_create(context, sizeof(trine__gradient_factor), &n->state));
    *out = n;
    return TRINE_OK;
cleanup:
    trine__gradient_norm_destroy(&n);
    return status;
}

void trine__gradient_norm_destroy(trine__gradient_norm **norm)
{
    if (!norm || !*norm) return;
    trine__kernel_destroy(&(*norm)->sum);
    trine__kernel_destroy(&(*norm)->clip);
    trine_buffer_release(&(*norm)->partials);
    trine_buffer_release(&(*norm)->state);
    free(*norm);
    *norm = NULL;
}

void trine__gradient_norm_clear(trine__gradient_norm *n)
{
    n->used = 0;
}

trine_status trine__gradient_norm_add(trine__gradient_norm *n, trine_stream *stream,
                                      const trine_buffer *gradients, size_t first, size_t count)
{
    const size_t vector = (size_t)trine__flat_grid_of(&n->context->caps, count).vector;
    const size_t vectors = (count + vector - 1) / vector, wanted = (count + LEAST - 1) / LEAST;
    const size_t most = wanted < MOST_ITEMS ? wanted : MOST_ITEMS;
    if (count == 0) return TRINE_OK;
    const int chunk = (int)((vectors + most - 1) / most),
              items = (int)((vectors + (size_t)chunk - 1) / (size_t)chunk);
    TRINE_CHECK(n->used <= n->capacity - items, TRINE_ERR_ARG, "gradient norm: more than %d ranges",
                n->ranges);
    const bool cpu = n->context->caps.cpu;
    const trine__arg args[] = {
        trine__arg_buffer(gradients),    trine__arg_buffer(n->partials),  trine__arg_i32((int)first),
        trine__arg_i32((int)count),      trine__arg_i32(items),           trine__arg_i32(chunk),
        trine__arg_i32(cpu ? chunk : 1), trine__arg_i32(cpu ? 1 : items), trine__arg_i32(n->used)};
    n->used += items;
    return trine__launch(stream, n->sum, args, TRINE_COUNTOF(args),
                         cpu ? trine__grid_tiles((size_t)items, 1, 1)
                             : trine__grid_lines((size_t)items, 1, 1, TRINE__LOCAL),
                         NULL);
}

trine_status trine__gradient_norm_clip(trine__gradient_norm *n, trine_stream *stream,
                                       const trine_buffer *scaling, float factor, float most)
{
    const trine__arg args[] = {trine__arg_buffer(n->partials), trine__arg_i32(n->used),
                               trine__arg_buffer(scaling),     trine__arg_f32(factor),
                               trine__arg_f32(most),           trine__arg_buffer(n->state)};
    return trine__launch(stream, n->clip, args, TRINE_COUNTOF(args), trine__grid_tiles(1, 1, 1), NULL);
}

const trine_buffer *trine__gradient_norm_buffer(const trine__gradient_norm *n)
{
    return n->state;
}
