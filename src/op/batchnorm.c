/* SPDX-License-Identifier: MIT */
/* Batch normalization: statistics, application and gradients as separate passes, so that the network can
 * leave out or fuse each. */
#include "trine/batchnorm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "op/batchnorm_input.h"
#include "op/batchnorm_made.h"
#include "op/batchnorm_parts.h"
#include "op/batchnorm_sums.h"
#include "rt/launch.h"

/* Pixels that a work-item reduces on CPUs, where 128 of 16 channels are 8 KiB: a chunk stays in the first-level
 * cache for its second pass; and a work-group on GPUs: 16 for each of its TRINE__LOCAL work-items. */
enum { CHUNK_PIXELS = 128, GROUP_CHUNK_PIXELS = 16 * TRINE__LOCAL };

/* Of a result that is written past the caches. */
enum { STREAM_BYTES = 6 << 20 };

/* Parts of a convolution are as large as its work-items make them: there is room for some of so many pixels. */
enum { LEAST_PART_PIXELS = 32 };

/* cl/bn_made.clh */
enum { MADE_FORWARD = 0, MADE_RELU = 1, MADE_BACKWARD = 2 };

/* bn_coefficients' kinds (cl/bn_coefficients.cl) */
enum { KIND_AFFINE = 0, KIND_RUNNING = 1, KIND_FOLD = 2 };

enum {
    PARTIALS,
    STATISTICS,
    COEFFICIENTS,
    APPLY,
    BACKWARD_PARTIALS,
    BACKWARD_STATISTICS,
    BACKWARD_APPLY,
    KERNELS
};
static const char *const stems[KERNELS] = {
    "bn_partials",          "bn_statistics",          "bn_coefficients",  "bn_apply",
    "bn_backward_partials", "bn_backward_statistics", "bn_backward_apply"};

struct trine_batchnorm {
    trine_context *context;
    int channels, cb, blocks;
    float eps;
    trine__kernel
        *kernels[KERNELS]
                [TRINE__STORAGES]; /* each made at its first use: inference folds and needs only one */
    trine_buffer *scratch[4];      /* [blocks*cb] each: a, b; or k1, k2, k3 of the backward pass, with a in
                                        k1's place, and b */
};

/* Whether work-groups reduce and merge chunks (cl/bn_group.clh), not work-items: work-items of a GPU share their instructions and
 * their memory accesses, so that one alone leaves the others' lanes idle. */
static bool groups_reduce(const trine_batchnorm *bn)
{
    return !bn->context->caps.cpu;
}

static bool reduces(int kernel)
{
    return kernel == PARTIALS || kernel == BACKWARD_PARTIALS || kernel == STATISTICS ||
           kernel == BACKWARD_STATISTICS;
}

/* `dtype`: of the tensors among the arguments. */
static trine_status launch(trine_batchnorm *bn, trine_stream *stream, int kernel, trine_dtype dtype,
                           const trine__arg *args, size_t count, trine__grid grid)
{
    trine__kernel **made = &bn->kernels[kernel][trine__storage(dtype, TRINE_F32)];
    if (!*made) {
        char options[48];
        snprintf(options, sizeof options, "-DCB=%d%s%s", bn->cb, trine__storage_options(dtype, TRINE_F32),
                 reduces(kernel) && groups_reduce(bn) ? " -DGROUP" : "");
        TRINE_TRY(
            trine__kernel_create(bn->context, stems[kernel], kernel == COEFFICIENTS ? "" : options, made));
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
    for (int i = 0; i < KERNELS; i++)
        for (int j = 0; j < TRINE__STORAGES; j++) trine__kernel_destroy(&b->kernels[i][j]);
    for (size_t i = 0; i < TRINE_COUNTOF(b->scratch); i++) trine_buffer_release(&b->scratch[i]);
    free(b);
    *bn = NULL;
}

size_t trine_batchnorm_channel_bytes(const trine_batchnorm *bn)
{
    return (size_t)bn->blocks * (size_t)bn->cb * sizeof(float);
}

static int chunk_pixels(const trine_batchnorm *bn)
{
    return groups_reduce(bn) ? GROUP_CHUNK_PIXELS : CHUNK_PIXELS;
}

static int chunks_of(const trine_batchnorm *bn, const trine_shape *shape)
{
    return trine__ceil_div(shape->h * shape->w, chunk_pixels(bn));
}

size_t trine_batchnorm_partial_bytes(const trine_batchnorm *bn, const trine_shape *shape)
{
    const int least = groups_reduce(bn) ? GROUP_CHUNK_PIXELS : LEAST_PART_PIXELS;
    return trine__batchnorm_parts_bytes(bn, (size_t)shape->n *
                                                (size_t)trine__ceil_div(shape->h * shape->w, least));
}

/* Like `x`, of which no more is asked than that it suits the operator. */
static trine_status check_tensor(const trine_batchnorm *bn, const char *name, const trine_tensor *t,
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

static trine_status check_partials(const trine_batchnorm *bn, const trine_shape *shape,
                                   const trine_buffer *partials)
{
    const size_t need = trine_batchnorm_partial_bytes(bn, shape);
    TRINE_CHECK(partials && trine_buffer_bytes(partials) >= need, TRINE_ERR_WORKSPACE,
                "batchnorm: partials have %zu bytes, need %zu", partials ? trine_buffer_bytes(partials) : 0,
                need);
    return TRINE_OK;
}

/* What a work-item goes through (cl/bn_run.clh). */
typedef struct span {
    int run, blocks; /* units, which are pixels or chunks of an image's block; blocks */
    trine__grid grid;
} span;

/* For `units` in a block of an image, of `vectors` channel blocks each, at most. */
static span cut_span(const trine_batchnorm *bn, int n, int units, int vectors)
{
    enum { RUN = 1024, ITEMS_PER_UNIT = 8 };
    const size_t all = (size_t)n * (size_t)bn->blocks * (size_t)units * (size_t)vectors,
                 items = (size_t)bn->context->caps.compute_units * ITEMS_PER_UNIT;
    const int most = all / items < RUN ? (int)(all / items) : RUN, fit = most / vectors;
    span s = {.run = fit < 1 ? 1 : fit < units ? fit : units, .blocks = 1};
    if (s.run == units && fit > units) s.blocks = fit / units < bn->blocks ? fit / units : bn->blocks;
    s.grid = trine__grid_tiles((size_t)trine__ceil_div(units, s.run),
                               (size_t)trine__ceil_div(bn->blocks, s.blocks), (size_t)n);
    return s;
}

static span chunk_span(const trine_batchnorm *bn, const trine_shape *shape)
{
    const int chunks = chunks_of(bn, shape);
    if (!groups_reduce(bn)) return cut_span(bn, shape->n, chunks, chunk_pixels(bn));
    return (span){
        1, 1,
        trine__grid_lines((size_t)chunks * TRINE__LOCAL, (size_t)bn->blocks, (size_t)shape->n, TRINE__LOCAL)};
}

static span pixel_span(const trine_batchnorm *bn, const trine_shape *shape)
{
    const int pixels = shape->h * shape->w;
    if (bn->context->caps.cpu && bn->cb > 1) return cut_span(bn, shape->n, pixels, 1);
    return (span){1, 1,
                  trine__grid_lines((size_t)pixels, (size_t)bn->blocks, (size_t)shape->n, TRINE__LOCAL)};
}

/* Is a result so large that whoever reads it next will not find it in the caches? What is written in place is there already. */
static int streams(const trine_tensor *in, const trine_tensor *out)
{
    return in->buffer != out->buffer && trine_tensor_bytes(out) >= STREAM_BYTES;
}

static trine__grid channel_grid(const trine_batchnorm *bn)
{
    return trine__grid_lines((size_t)bn->blocks * (size_t)bn->cb, 1, 1, TRINE__LOCAL);
}

/* One work-item or work-group a block, which is a channel where blocks are of 1. */
static trine__grid block_grid(const trine_batchnorm *bn)
{
    const size_t blocks = (size_t)bn->blocks;
    if (groups_reduce(bn)) return trine__grid_lines(blocks * TRINE__LOCAL, 1, 1, TRINE__LOCAL);
    return bn->cb == 1 ? trine__grid_lines(blocks, 1, 1, TRINE__LOCAL) : trine__grid_tiles(blocks, 1, 1);
}

trine_status trine_batchnorm_partials(trine_batchnorm *bn, trine_stream *stream, const trine_tensor *x,
                                      trine_buffer *partials)
{
    TRINE_TRY(check_tensor(bn, "x", x, x));
    TRINE_TRY(check_partials(bn, &x->shape, partials));
    const span cut = chunk_span(bn, &x->shape);
    const trine__arg args[] = {trine__arg_tensor(x),
                               trine__arg_buffer(partials),
                               trine__arg_i32(x->shape.h * x->shape.w),
                               trine__arg_i32(chunk_pixels(bn)),
                               trine__arg_i32(chunks_of(bn, &x->shape)),
                               trine__arg_i32(bn->blocks),
                               trine__arg_i32(cut.run),
                               trine__arg_i32(cut.blocks)};
    return launch(bn, stream, PARTIALS, x->dtype, args, TRINE_COUNTOF(args), cut.grid);
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
    TRINE_TRY(check_partials(bn, shape, partials));
    const trine__arg args[] = {trine__arg_buffer(partials),
                               trine__arg_buffer(saved->mean),
                               trine__arg_buffer(saved->rstd),
                               trine__arg_buffer(running_mean),
                               trine__arg_buffer(running_var),
                               trine__arg_i32(bn->channels),
                               trine__arg_f32((float)shape->n * (float)(shape->h * shape->w)),
                               trine__arg_f32(bn->eps),
                               trine__arg_f32(factor)};
    return launch(bn, stream, STATISTICS, TRINE_F32, args, TRINE_COUNTOF(args), block_grid(bn));
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
    return launch(bn, stream, COEFFICIENTS, TRINE_F32, args, TRINE_COUNTOF(args), channel_grid(bn));
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

trine_status trine__batchnorm_coefficients(trine_batchnorm *bn, trine_stream *stream,
                                           const trine_batchnorm_saved *saved, const trine_buffer *gamma,
                                           const trine_buffer *beta)
{
    return coefficients(bn, stream, saved->mean, saved->rstd, gamma, beta, bn->scratch[0], bn->scratch[1],
                        KIND_AFFINE);
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
    TRINE_TRY(check_tensor(bn, "x", x, x));
    TRINE_TRY(check_tensor(bn, "y", y, x));
    if (residual) TRINE_TRY(check_tensor(bn, "residual", residual, x));
    *made = (trine__batchnorm_made){.x = x,
                                    .with = residual,
                                    .mean = saved->mean,
                                    .c1 = bn->scratch[0],
                                    .c2 = bn->scratch[1],
                                    .to = y,
                                    .kind = relu ? MADE_RELU : MADE_FORWARD};
    return trine__batchnorm_coefficients(bn, stream, saved, gamma, beta);
}

trine_status trine_batchnorm_apply(trine_batchnorm *bn, trine_stream *stream, const trine_tensor *x,
                                   const trine_batchnorm_saved *saved, const trine_buffer *gamma,
                                   const trine_buffer *beta, const trine_tensor *residual, int relu,
                                   trine_tensor *y)
{
    trine__batchnorm_made checked;
    TRINE_TRY(trine__batchnorm_apply_later(bn, stream, x, saved, gamma, beta, residual, relu, y, &checked));
    const span cut = pixel_span(bn, &x->shape);
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
                               trine__arg_i32(streams(x, y))};
    return launch(bn, stream, APPLY, x->dtype, args, TRINE_COUNTOF(args), cut.grid);
}

enum {
    K1 = 0,
    K2 = 1,
    K3 = 2,
    B = 3
}; /* the backward pass's vectors in scratch[]; k1 is bn_apply's a, bit for bit */

/* Both sums, chunk by chunk. */
static trine_status backward_partials(trine_batchnorm *bn, trine_stream *stream,
                                      const trine_batchnorm_gradients *g)
{
    const trine_shape *shape = &g->dy->shape;
    const int pixels = shape->h * shape->w;
    const span cut = chunk_span(bn, shape);
    TRINE_TRY(check_partials(bn, shape, g->partials));
    const trine__arg sums[] = {trine__arg_tensor(g->x),
                               trine__arg_tensor(g->y),
                               trine__arg_tensor(g->dy),
                               trine__arg_buffer(g->saved->mean),
                               trine__arg_buffer(bn->scratch[K1]),
                               trine__arg_buffer(bn->scratch[B]),
                               trine__arg_buffer(g->partials),
                               trine__arg_i32(pixels),
                               trine__arg_i32(chunk_pixels(bn)),
                               trine__arg_i32(chunks_of(bn, shape)),
                               trine__arg_i32(bn->blocks),
                               trine__arg_i32(cut.run),
                               trine__arg_i32(cut.blocks),
                               trine__arg_i32(g->relu)};
    return launch(bn, stream, BACKWARD_PARTIALS, g->dy->dtype, sums, TRINE_COUNTOF(sums), cut.grid);
}

/* The affine gradients and k1, k2, k3 from the sums in so many parts. */
static trine_status backward_statistics(trine_batchnorm *bn, trine_stream *stream,
                                        const trine_batchnorm_gradients *g, int parts)
{
    const trine_shape *shape = &g->dy->shape;
    const trine__arg merge[] = {trine__arg_buffer(g->partials),
                                trine__arg_buffer(g->saved->rstd),
                                trine__arg_buffer(g->gamma),
                                trine__arg_buffer(g->dgamma),
                                trine__arg_buffer(g->dbeta),
                                trine__arg_buffer(bn->scratch[K1]),
                                trine__arg_buffer(bn->scratch[K2]),
                                trine__arg_buffer(bn->scratch[K3]),
                                trine__arg_i32(bn->channels),
                                trine__arg_i32(parts),
                                trine__arg_f32((float)((double)shape->n * (shape->h * shape->w))),
                                trine__arg_i32(g->batch),
                                trine__arg_i32(g->accumulate_affine)};
    return launch(bn, stream, BACKWARD_STATISTICS, TRINE_F32, merge, TRINE_COUNTOF(merge), block_grid(bn));
}

static trine_status check_gradients(const trine_batchnorm *bn, const trine_batchnorm_gradients *g)
{
    TRINE_TRY(check_tensor(bn, "dy", g->dy, g->dy));
    if (g->x) TRINE_TRY(check_tensor(bn, "x", g->x, g->dy));
    if (g->y) TRINE_TRY(check_tensor(bn, "y", g->y, g->dy));
    if (g->dx) TRINE_TRY(check_tensor(bn, "dx", g->dx, g->dy));
    TRINE_CHECK(g->x || !(g->batch || g->dgamma || g->dbeta || g->relu), TRINE_ERR_ARG,
                "batchnorm: this backward pass needs x");
    TRINE_CHECK(!g->y || !g->relu, TRINE_ERR_ARG,
                "batchnorm: the mask comes from y or from x, not from both");
    return TRINE_OK;
}

/* k1 and b without sums. */
static trine_status backward_coefficients(trine_batchnorm *bn, trine_stream *stream,
                                          const trine_batchnorm_gradients *g)
{
    return coefficients(bn, stream, g->saved->mean, g->saved->rstd, g->gamma, g->beta, bn->scratch[K1],
                        bn->scratch[B], KIND_AFFINE);
}

/* The last pass; the mask: y's, x's, or none. */
static trine_status backward_apply(trine_batchnorm *bn, trine_stream *stream,
                                   const trine_batchnorm_gradients *g, const trine_tensor *y, int relu)
{
    const trine_shape *shape = &g->dy->shape;
    if (!g->dx && !y) return TRINE_OK;
    const span cut = pixel_span(bn, shape);
    const trine__arg args[] = {trine__arg_tensor(g->batch || relu ? g->x : NULL),
                               trine__arg_tensor(y),
                               trine__arg_tensor(g->dy),
                               trine__arg_tensor(g->dx),
                               trine__arg_buffer(g->saved->mean),
                               trine__arg_buffer(bn->scratch[B]),
                               trine__arg_buffer(bn->scratch[K1]),
                               trine__arg_buffer(bn->scratch[K2]),
                               trine__arg_buffer(bn->scratch[K3]),
                               trine__arg_i32(shape->h * shape->w),
                               trine__arg_i32(bn->blocks),
                               trine__arg_i32(cut.run),
                               trine__arg_i32(cut.blocks),
                               trine__arg_i32(relu),
                               trine__arg_i32(g->batch),
                               trine__arg_i32(g->dx && streams(g->dy, g->dx))};
    return launch(bn, stream, BACKWARD_APPLY, g->dy->dtype, args, TRINE_COUNTOF(args), cut.grid);
}

trine_status trine_batchnorm_backward(trine_batchnorm *bn, trine_stream *stream,
                                      const trine_batchnorm_gradients *g)
{
    const trine_shape *shape = &g->dy->shape;
    const bool sums = g->batch || g->dgamma || g->dbeta;
    TRINE_TRY(check_gradients(bn, g));
    if (g->relu || !sums) TRINE_TRY(backward_coefficients(bn, stream, g));
    if (!sums) return backward_apply(bn, stream, g, g->y, g->relu);
    TRINE_TRY(backward_partials(bn, stream, g));
    TRINE_TRY(backward_statistics(bn, stream, g, shape->n * chunks_of(bn, shape)));
    return backward_apply(bn, stream, g, NULL, g->relu); /* y's mask is in dy already */
}

size_t trine__batchnorm_sums_bytes(const trine_batchnorm *bn, int parts)
{
    return 2 * (size_t)parts * trine_batchnorm_channel_bytes(bn);
}

trine_status trine__batchnorm_sums_of(trine_batchnorm *bn, trine_stream *stream,
                                      const trine_batchnorm_gradients *g, trine__batchnorm_sums *out)
{
    TRINE_TRY(check_gradients(bn, g));
    if (g->relu) TRINE_TRY(backward_coefficients(bn, stream, g));
    *out = (trine__batchnorm_sums){.x = g->x,
                                   .y = g->y,
                                   .mean = g->saved->mean,
                                   .a = bn->scratch[K1],
                                   .b = bn->scratch[B],
                                   .relu = g->relu,
                                   .out = g->partials};
    return TRINE_OK;
}

trine_status trine__batchnorm_backward_from(trine_batchnorm *bn, trine_stream *stream,
                                            const trine_batchnorm_gradients *g, int parts)
{
    TRINE_TRY(check_gradients(bn, g));
    TRINE_TRY(backward_statistics(bn, stream, g, parts));
    return backward_apply(bn, stream, g, NULL, 0);
}

trine_status trine__batchnorm_backward_later(trine_batchnorm *bn, trine_stream *stream,
                                             const trine_batchnorm_gradients *g, int parts,
                                             trine__batchnorm_made *made)
{
    TRINE_TRY(check_gradients(bn, g));
    TRINE_CHECK(g->dx && (g->batch || g->dgamma || g->dbeta) && (parts > 0 || !g->relu), TRINE_ERR_ARG,
                "batchnorm: this backward pass cannot leave its last pass to others");
    if (parts == 0) TRINE_TRY(backward_partials(bn, stream, g));
    *made = (trine__batchnorm_made){.x = g->batch ? g->x : NULL,
                                    .with = g->dy,
                                    .mean = g->saved->mean,
                                    .c1 = bn->scratch[K1],
                                    .c2 = bn->scratch[K2],
                                    .c3 = bn->scratch[K3],
                                    .to = g->dx,
                                    .kind = MADE_BACKWARD};
    return backward_statistics(bn, stream, g,
                               parts > 0 ? parts : g->dy->shape.n * chunks_of(bn, &g->dy->shape));
}
