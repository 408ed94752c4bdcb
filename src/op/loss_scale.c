/* SPDX-License-Identifier: MIT */
/* Dynamic loss scaling (Micikevicius et al. 2018, arXiv 1710.03740): the loss's gradient is multiplied by a power of two before it
 * enters half precision, the optimizer divides by it; a step whose gradients overflowed is left out and halves the scale. */
#include "op/loss_scale.h"

#include <stdio.h>
#include <stdlib.h>

#include "op/optimizer.h"

enum {
    FIRST_SCALE =
        1024, /* gradients of mean losses are small: 2^10 leaves room both ways, and no first step is lost */
    LARGEST_SCALE = 1 << 16,
    INTERVAL = 500 /* steps without an overflow before the scale doubles */
};

enum { APPLY, CHECK, UPDATE, KERNELS };
static const char *const stems[KERNELS] = {"loss_scale", "loss_scale_check", "loss_scale_update"};

struct trine__loss_scale {
    trine_context *context;
    trine_buffer *state;
    trine__kernel *kernels[KERNELS]; /* each made at its first use */
};

static trine_status launch(trine__loss_scale *s, trine_stream *stream, int kernel, const char *options,
                           const trine__arg *args, size_t count, trine__grid grid)
{
    if (!s->kernels[kernel])
        TRINE_TRY(trine__kernel_create(s->context, stems[kernel], options, &s->kernels[kernel]));
    return trine__launch(stream, s->kernels[kernel], args, count, grid, NULL);
}

trine_status trine__loss_scale_create(trine_context *context, trine_stream *stream, trine__loss_scale **out)
{
    const trine__loss_scale_state first = {.scale = FIRST_SCALE, .inverse = 1.0f / FIRST_SCALE};
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine__loss_scale), &memory));
    trine__loss_scale *s = memory;
    s->context = context;
    trine_status status = trine_buffer_create(context, sizeof first, &s->state);
    if (status == TRINE_OK) status = trine__loss_scale_write(s, stream, &first);
    if (status != TRINE_OK) {
        trine__loss_scale_destroy(&s);
        return status;
    }
    *out = s;
    return TRINE_OK;
}

void trine__loss_scale_destroy(trine__loss_scale **scale)
{
    if (!scale || !*scale) return;
    for (int i = 0; i < KERNELS; i++) trine__kernel_destroy(&(*scale)->kernels[i]);
    trine_buffer_release(&(*scale)->state);
    free(*scale);
    *scale = NULL;
}

trine_status trine__loss_scale_apply(trine__loss_scale *s, trine_stream *stream, const trine_tensor *x,
                                     trine_tensor *y)
{
    const size_t count = trine_tensor_elements(&x->shape, x->cb);
    const trine__arg args[] = {trine__arg_tensor(x), trine__arg_buffer(s->state), trine__arg_tensor(y),
                               trine__arg_i32((int)count)};
    return launch(s, stream, APPLY, "", args, TRINE_COUNTOF(args),
                  trine__grid_lines(count, 1, 1, TRINE__LOCAL));
}

trine_status trine__loss_scale_check(trine__loss_scale *s, trine_stream *stream,
                                     const trine_buffer *gradients, size_t first, size_t count)
{
    const trine__flat_grid flat = trine__flat_grid_of(&s->context->caps, count);
    char options[24];
    snprintf(options, sizeof options, "-DCB=%d", flat.vector);
    const trine__arg args[] = {trine__arg_buffer(gradients), trine__arg_buffer(s->state),
                               trine__arg_i32((int)first), trine__arg_i32((int)count),
                               trine__arg_i32(flat.chunk)};
    return launch(s, stream, CHECK, options, args, TRINE_COUNTOF(args), flat.grid);
}

trine_status trine__loss_scale_update(trine__loss_scale *s, trine_stream *stream)
{
    const trine__arg args[] = {trine__arg_buffer(s->state), trine__arg_f32(INTERVAL),
                               trine__arg_f32(LARGEST_SCALE)};
    return launch(s, stream, UPDATE, "", args, TRINE_COUNTOF(args), trine__grid_tiles(1, 1, 1));
}

const trine_buffer *trine__loss_scale_buffer(const trine__loss_scale *s)
{
    return s->state;
}

trine_status trine__loss_scale_read(const trine__loss_scale *s, trine_stream *stream,
                                    trine__loss_scale_state *state)
{
    return trine_buffer_read(stream, s->state, 0, state, sizeof *state);
}

trine_status trine__loss_scale_write(trine__loss_scale *s, trine_stream *stream,
                                     const trine__loss_scale_state *state)
{
    return trine_buffer_write(stream, s->state, 0, state, sizeof *state);
}
