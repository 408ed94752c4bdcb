/* SPDX-License-Identifier: MIT */
/* Batch normalization: statistics, application and gradients as separate passes, so that the network can
 * leave out or fuse each. */
#include "trine/batchnorm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "op/batchnorm_input.h"
#include "op/batchnorm_parts.h"
#include "op/batchnorm_private.h"

/* Pixels that a work-item reduces on CPUs, where 128 of 16 channels are 8 KiB: a chunk stays in the first-level
 * cache for its second pass; and a work-group on GPUs: 16 for each of its TRINE__LOCAL work-items. */
enum { CHUNK_PIXELS = 128, GROUP_CHUNK_PIXELS = 16 * TRINE__LOCAL };

/* Of a result that is written past the caches. */
enum { STREAM_BYTES = 6 << 20 };

/* Parts of a convolution are as large as its work-items make them: there is room for some of so many pixels. */
enum { LEAST_PART_PIXELS = 32 };

/* bn_coefficients' kinds (cl/bn_coefficients.cl) */
enum { KIND_AFFINE = 0, KIND_RUNNING = 1, KIND_FOLD = 2 };

static const char *const stems[TRINE__BN_KERNELS] = {
    "bn_partials",          "bn_statistics",          "bn_coefficients",  "bn_apply",
    "bn_backward_partials", "bn_backward_statistics", "bn_backward_apply"};

/* Whether work-groups reduce and merge chunks (cl/bn_group.clh), not work-items: work-items of a GPU share their instructions and
 * their memory accesses, so that one alone leaves the others' lanes idle. */
static bool groups_reduce(const trine_batchnorm *bn)
{
    return !bn->context->caps.cpu;
}

static bool reduces(int kernel)
{
    return kernel == TRINE__BN_PARTIALS || kernel == TRINE__BN_BACKWARD_PARTIALS ||
           kernel == TRINE__BN_STATISTICS || kernel == TRINE__BN_BACKWARD_STATISTICS;
}

trine_status trine__bn_launch(trine_batchnorm *bn, trine_stream *stream, int kernel, trine_dtype dtype,
                              const trine__arg *args, size_t count, trine__grid grid)
{
    trine__kernel **made = &bn->kernels[kernel][trine__storage(dtype, TRINE_F32)];
    if (!*made) {
        char options[48];
        snprintf(options, sizeof options, "-DCB=%d%s%s", bn->cb, trine__storage_options(dtype, TRINE_F32),
                 reduces(kernel) && groups_reduce(bn) ? " -DGROUP" : "");
        TRINE_TRY(trine__kernel_create(bn->context, stems[kernel],
                                       kernel == TRINE__BN_COEFFICIENTS ? "" : options, made));
    }
    return trine__launch(stream, *made, args, count, grid, NULL);
}

trine_status trine_batchnorm_create(trine_context *context, int channels, int cb, float eps,
                                    trine_batchnorm **out)
{
    TRINE_CHECK(channels >= 1, TRINE_ERR_ARG, "batchnorm: %d channels: need at least 1", channels);
    TRINE_CHECK(cb >= 1 && cb <= 16 && (cb & (cb - 1)) == 0, TRINE_ERR_ARG,
                "batchnorm: channel block %d: expected 1, 2, 4, 8 or 16", cb);
    TRINE_CHECK(eps > 0.0f && isfinite(eps), TRINE_ERR_ARG, "batchnorm: eps %g must be positive",
                (double)eps);
    void *memory = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine_batchnorm), &memory));
    trine_batchnorm *bn = memory;
    bn->context = context;
    bn->channels = channels;
    bn->cb = cb;
    bn->blocks = trine__ceil_div(channels, cb);
    bn->eps = eps;
    for (size_t i = 0; i < TRINE_COUNTOF(bn->scratch); i++) {
        const trine_status status =
            trine_buffer_create(context, trine_batchnorm_channel_bytes(bn), &bn->scratch[i]);
        if (status == TRINE_OK) continue;
        trine_batchnorm_destroy(&bn);
        return status;
    }
    *out = bn;
    return TRINE_OK;
}

void trine_batchnorm_destroy(trine_batchnorm **bn)
{
    if (!bn || !*bn) return;
    trine_batchnorm *b = *bn;
    for (int i = 0; i < TRINE__BN_KERNELS; i++)
        for (int j = 0; j < TRINE__STORAGES; j++) trine__kernel_destroy(&b->kernels[i][j]);
    for (size_t i = 0; i < TRINE_COUNTOF(b->scratch); i++) trine_buffer_release(&b->scratch[i]);
    free(b);
    *bn = NULL;
}

size_t trine_batchnorm_channel_bytes(const trine_batchnorm *bn)
{
    return (size_t)bn->blocks * (size_t)bn->cb * sizeof(float);
}

int trine__bn_chunk_pixels(const trine_batchnorm *bn)
{
    return groups_reduce(bn) ? GROUP_CHUNK_PIXELS : CHUNK_PIXELS;
}

int trine__bn_chunks(const trine_batchnorm *bn, const trine_shape *shape)
{
    return trine__ceil_div(shape->h * shape->w, trine__bn_chunk_pixels(bn));
}

size_t trine_batchnorm_partial_bytes(const trine_batchnorm *bn, const trine_shape *shape)
{
    const int least = groups_reduce(bn) ? GROUP_CHUNK_PIXELS : LEAST_PART_PIXELS;
    return trine__batchnorm_parts_bytes(bn, (size_t)shape->n *
                                                (size_t)trine__ceil_div(shape->h * shape->w, least));
}

trine_status trine__bn_check_tensor(const trine_batchnorm *bn, const char *name, const trine_tensor *t,
                                    const trine_tensor *x)
{
    const trine_shape *s = &t->shape, *want = &x->shape;
    TRINE_CHECK(s->c == bn->channels && t->cb == bn->cb, TRINE_ERR_SHAPE,
                "batchnorm: %s has %d channels in blocks of %d, want %d in blocks of %d", name, s->c, t->cb,
                bn->channels, bn->cb);
    TRINE_CHECK(s->n == want->n && s->h == want->h && s->w == want->w, TRINE_ERR_SHAPE,
                "batchnorm: %s is [%d,%d,%d,%d], want [%d,%d,%d,%d]", name, s->n, s->c, s->h, s->w, want->n,
                want->c, want->h, want->w);
    TRINE_CHECK(t->dtype == x->dtype, TRINE_ERR_ARG, "batchnorm: %s is stored as %s, the others as %s", name,
                trine_dtype_name(t->dtype), trine_dtype_name(x->dtype));
    TRINE_CHECK(t->buffer && trine_buffer_bytes(t->buffer) >= trine_tensor_bytes(t), TRINE_ERR_SHAPE,
                "batchnorm: %s's buffer has %zu bytes, needs %zu", name,
                t->buffer ? trine_buffer_bytes(t->buffer) : 0, trine_tensor_bytes(t));
    return TRINE_OK;
}

trine_status trine__bn_check_partials(const trine_batchnorm *bn, const trine_shape *shape,
                                      const trine_buffer *partials)
{
    const size_t need = trine_batchnorm_partial_bytes(bn, shape);
    TRINE_CHECK(partials && trine_buffer_bytes(partials) >= need, TRINE_ERR_WORKSPACE,
                "batchnorm: partials have %zu bytes, need %zu", partials ? trine_buffer_bytes(partials) : 0,
                need);
    return TRINE_OK;
}

/* For `units` in a block of an image, of `vectors` channel blocks each, at most. */
static trine__bn_span cut_span(const trine_batchnorm *bn, int n, int units, int vectors)
{
    enum { RUN = 1024, ITEMS_PER_UNIT = 8 };
    const size_t all = (size_t)n * (size_t)bn->blocks * (size_t)units * (size_t)vectors,
                 items = (size_t)bn->context->caps.compute_units * ITEMS_PER_UNIT;
    const int most = all / items < RUN ? (int)(all / items) : RUN, fit = most / vectors;
    trine__bn_span s = {.run = fit < 1 ? 1 : fit < units ? fit : units, .blocks = 1};
    if (s.run == units && fit > units) s.blocks = fit / units < bn->blocks ? fit / units : bn->blocks;
    s.grid = trine__grid_tiles((size_t)trine__ceil_div(units, s.run),
                               (size_t)trine__ceil_div(bn->blocks, s.blocks), (size_t)n);
    return s;
}

trine__bn_span trine__bn_chunk_span(const trine_batchnorm *bn, const trine_shape *shape)
{
    const int chunks = trine__bn_chunks(bn, shape);
    if (!groups_reduce(bn)) return cut_span(bn, shape->n, chunks, trine__bn_chunk_pixels(bn));
    return (trine__bn_span){
        1, 1,
        trine__grid_lines((size_t)chunks * TRINE__LOCAL, (size_t)bn->blocks, (size_t)shape->n, TRINE__LOCAL)};
}

trine__bn_span trine__bn_pixel_span(const trine_batchnorm *bn, const trine_shape *shape)
{
    const int pixels = shape->h * shape->w;
    if (bn->context->caps.cpu && bn->cb > 1) return cut_span(bn, shape->n, pixels, 1);
    return (trine__bn_span){
        1, 1, trine__grid_lines((size_t)pixels, (size_t)bn->blocks, (size_t)shape->n, TRINE__LOCAL)};
}

int trine__bn_streams(const trine_tensor *in, const trine_tensor *out)
{
    return in->buffer != out->buffer && trine_tensor_bytes(out) >= STREAM_BYTES;
}

static trine__grid channel_grid(const trine_batchnorm *bn)
{
    return trine__grid_lines((size_t)bn->blocks * (size_t)bn->cb, 1, 1, TRINE__LOCAL);
}

trine__grid trine__bn_block_grid(const trine_batchnorm *bn)
{
    const size_t blocks = (size_t)bn->blocks;
    if (groups_reduce(bn)) return trine__grid_lines(blocks * TRINE__LOCAL, 1, 1, TRINE__LOCAL);
    return bn->cb == 1 ? trine__grid_lines(blocks, 1, 1, TRINE__LOCAL) : trine__grid_tiles(blocks, 1, 1);
}

trine_status trine_batchnorm_partials(trine_batchnorm *bn, trine_stream *stream, const trine_tensor *x,
                                      trine_buffer *partials)
{
    TRINE_TRY(trine__bn_check_tensor(bn, "x", x, x));
    TRINE_TRY(trine__bn_check_partials(bn, &x->shape, partials));
    const trine__bn_span cut = trine__bn_chunk_span(bn, &x->shape);
    const trine__arg args[] = {trine__arg_tensor(x),
                               trine__arg_buffer(partials),
                               trine__arg_i32(x->shape.h * x->shape.w),
                               trine__arg_i32(trine__bn_chunk_pixels(bn)),
                               trine__arg_i32(trine__bn_chunks(bn, &x->shape)),
                               trine__arg_i32(bn->blocks),
                               trine__arg_i32(cut.run),
                               trine__arg_i32(cut.blocks)};
    return trine__bn_launch(bn, stream, TRINE__BN_PARTIALS, x->dtype, args, TRINE_COUNTOF(args), cut.grid);
}

trine_status trine_batchnorm_statistics(trine_batchnorm *bn, trine_stream *stream, const trine_shape *shape,
                                        const trine_buffer *partials, trine_batchnorm_saved *saved,
                                        trine_buffer *running_mean, trine_buffer *running_var, float factor)
{
    TRINE_CHECK(shape->c == bn->channels, TRINE_ERR_SHAPE, "batchnorm: %d channels, want %d", shape->c,
                bn->channels);
    TRINE_CHECK((double)shape->n * shape->h * shape->w >= 2, TRINE_ERR_SHAPE,
                "batchnorm: one value per channel has no batch statistics (shape [%d,%d,%d,%d])", shape->n,
                shape->c, shape->h, shape->w);
    TRINE_CHECK(factor >= 0.0f && factor <= 1.0f, TRINE_ERR_ARG,
                "batchnorm: update factor %g is outside [0, 1]", (double)factor);
    TRINE_TRY(trine__bn_check_partials(bn, shape, partials));
    const trine__arg args[] = {trine__arg_buffer(partials),
                               trine__arg_buffer(saved->mean),
                               trine__arg_buffer(saved->rstd),
                               trine__arg_buffer(running_mean),
                               trine__arg_buffer(running_var),
                               trine__arg_i32(bn->channels),
                               trine__arg_f32((float)shape->n * (float)(shape->h * shape->w)),
                               trine__arg_f32(bn->eps),
                               trine__arg_f32(factor)};
    return trine__bn_launch(bn, stream, TRINE__BN_STATISTICS, TRINE_F32, args, TRINE_COUNTOF(args),
                            trine__bn_block_grid(bn));
}

static trine_status coefficients(trine_batchnorm *bn, trine_stream *stream, const trine_buffer *first,
                                 const trine_buffer *second, const trine_buffer *gamma,
                                 const trine_buffer *beta, trine_buffer *out0, trine_buffer *out1, int kind)
{
    const trine__arg args[] = {trine__arg_buffer(first),     trine__arg_buffer(second),
                               trine__arg_buffer(gamma),     trine__arg_buffer(beta),
                               trine__arg_buffer(out0),      trine__arg_buffer(out1),
                               trine__arg_i32(bn->channels), trine__arg_i32(bn->blocks * bn->cb),
                               trine__arg_f32(bn->eps),      trine__arg_i32(kind)};
    return trine__bn_launch(bn, stream, TRINE__BN_COEFFICIENTS, TRINE_F32, args, TRINE_COUNTOF(args),
                            channel_grid(bn));
}

trine_status trine_batchnorm_use_running(trine_batchnorm *bn, trine_stream *stream,
                                         const trine_buffer *running_mean, const trine_buffer *running_var,
                                         trine_batchnorm_saved *saved)
{
    return coefficients(bn, stream, running_mean, running_var, NULL, NULL, saved->mean, saved->rstd,
                        KIND_RUNNING);
}

trine_status trine_batchnorm_fold(trine_batchnorm *bn, trine_stream *stream, const trine_buffer *running_mean,
                                  const trine_buffer *running_var, const trine_buffer *gamma,
                                  const trine_buffer *beta, trine_buffer *scale, trine_buffer *shift)
{
    return coefficients(bn, stream, running_mean, running_var, gamma, beta, scale, shift, KIND_FOLD);
}

trine_status trine__bn_affine(trine_batchnorm *bn, trine_stream *stream, const trine_batchnorm_saved *saved,
                              const trine_buffer *gamma, const trine_buffer *beta, trine_buffer *a,
                              trine_buffer *b)
{
    return coefficients(bn, stream, saved->mean, saved->rstd, gamma, beta, a, b, KIND_AFFINE);
}

trine_status trine__batchnorm_coefficients(trine_batchnorm *bn, trine_stream *stream,
                                           const trine_batchnorm_saved *saved, const trine_buffer *gamma,
                                           const trine_buffer *beta)
{
    return trine__bn_affine(bn, stream, saved, gamma, beta, bn->scratch[0], bn->scratch[1]);
}

trine__batchnorm_input trine__batchnorm_input_of(const trine_batchnorm *bn,
                                                 const trine_batchnorm_saved *saved)
{
    return (trine__batchnorm_input){saved->mean, bn->scratch[0], bn->scratch[1]};
}

trine_status trine__batchnorm_apply_later(trine_batchnorm *bn, trine_stream *stream, const trine_tensor *x,
                                          const trine_batchnorm_saved *saved, const trine_buffer *gamma,
                                          const trine_buffer *beta, const trine_tensor *residual, int relu,
                                          trine_tensor *y, trine__batchnorm_made *made)
{
    TRINE_TRY(trine__bn_check_tensor(bn, "x", x, x));
    TRINE_TRY(trine__bn_check_tensor(bn, "y", y, x));
    if (residual) TRINE_TRY(trine__bn_check_tensor(bn, "residual", residual, x));
    *made = (trine__batchnorm_made){.x = x,
                                    .with = residual,
                                    .mean = saved->mean,
                                    .c1 = bn->scratch[0],
                                    .c2 = bn->scratch[1],
                                    .to = y,
                                    .kind = relu ? TRINE__MADE_RELU : TRINE__MADE_FORWARD};
    return trine__batchnorm_coefficients(bn, stream, saved, gamma, beta);
}

trine_status trine_batchnorm_apply(trine_batchnorm *bn, trine_stream *stream, const trine_tensor *x,
                                   const trine_batchnorm_saved *saved, const trine_buffer *gamma,
                                   const trine_buffer *beta, const trine_tensor *residual, int relu,
                                   trine_tensor *y)
{
    trine__batchnorm_made checked;
    TRINE_TRY(trine__batchnorm_apply_later(bn, stream, x, saved, gamma, beta, residual, relu, y, &checked));
    const trine__bn_span cut = trine__bn_pixel_span(bn, &x->shape);
    const trine__arg args[] = {trine__arg_tensor(x),
                               trine__arg_buffer(saved->mean),
                               trine__arg_buffer(bn->scratch[0]),
                               trine__arg_buffer(bn->scratch[1]),
                               trine__arg_tensor(residual),
                               trine__arg_tensor(y),
                               trine__arg_i32(x->shape.h * x->shape.w),
                               trine__arg_i32(bn->blocks),
                               trine__arg_i32(cut.run),
                               trine__arg_i32(cut.blocks),
                               trine__arg_i32(relu),
                               trine__arg_i32(trine__bn_streams(x, y))};
    return trine__bn_launch(bn, stream, TRINE__BN_APPLY, x->dtype, args, TRINE_COUNTOF(args), cut.grid);
}
