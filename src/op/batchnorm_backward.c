/* SPDX-License-Identifier: MIT */
/* Batch normalization's backward pass: sums, their merge and the last pass, each of which others can take over. */
#include "op/batchnorm_private.h"
#include "op/batchnorm_sums.h"

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
    const trine__bn_span cut = trine__bn_chunk_span(bn, shape);
    TRINE_TRY(trine__bn_check_partials(bn, shape, g->partials));
    const trine__arg sums[] = {trine__arg_tensor(g->x),
                               trine__arg_tensor(g->y),
                               trine__arg_tensor(g->dy),
                               trine__arg_buffer(g->saved->mean),
                               trine__arg_buffer(bn->scratch[K1]),
                               trine__arg_buffer(bn->scratch[B]),
                               trine__arg_buffer(g->partials),
                               trine__arg_i32(pixels),
                               trine__arg_i32(trine__bn_chunk_pixels(bn)),
                               trine__arg_i32(trine__bn_chunks(bn, shape)),
                               trine__arg_i32(bn->blocks),
                               trine__arg_i32(cut.run),
                               trine__arg_i32(cut.blocks),
                               trine__arg_i32(g->relu)};
    return trine__bn_launch(bn, stream, TRINE__BN_BACKWARD_PARTIALS, g->dy->dtype, sums, TRINE_COUNTOF(sums),
                            cut.grid);
}

/* The affine gradients and k1, k2, k3 from the sums in so many parts. */
static trine_status backward_statistics(trine_batchnorm *bn, trine_stream *stream,
                                        const trine_batchnorm_gradients *g, int parts)
{
    const trine_shape *shape = &g->dy->shape;
    const size_t need = trine__batchnorm_sums_bytes(bn, parts);
    TRINE_CHECK(g->partials && trine_buffer_bytes(g->partials) >= need, TRINE_ERR_WORKSPACE,
                "batchnorm: sums in %d parts need %zu bytes, there are %zu", parts, need,
                g->partials ? trine_buffer_bytes(g->partials) : 0);
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
    return trine__bn_launch(bn, stream, TRINE__BN_BACKWARD_STATISTICS, TRINE_F32, merge, TRINE_COUNTOF(merge),
                            trine__bn_block_grid(bn));
}

static trine_status check_gradients(const trine_batchnorm *bn, const trine_batchnorm_gradients *g)
{
    TRINE_TRY(trine__bn_check_tensor(bn, "dy", g->dy, g->dy));
    if (g->x) TRINE_TRY(trine__bn_check_tensor(bn, "x", g->x, g->dy));
    if (g->y) TRINE_TRY(trine__bn_check_tensor(bn, "y", g->y, g->dy));
    if (g->dx) TRINE_TRY(trine__bn_check_tensor(bn, "dx", g->dx, g->dy));
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
    return trine__bn_affine(bn, stream, g->saved, g->gamma, g->beta, bn->scratch[K1], bn->scratch[B]);
}

/* The last pass; the mask: y's, x's, or none. */
static trine_status backward_apply(trine_batchnorm *bn, trine_stream *stream,
                                   const trine_batchnorm_gradients *g, const trine_tensor *y, int relu)
{
    const trine_shape *shape = &g->dy->shape;
    if (!g->dx && !y) return TRINE_OK;
    const trine__bn_span cut = trine__bn_pixel_span(bn, shape);
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
                               trine__arg_i32(g->dx && trine__bn_streams(g->dy, g->dx))};
    return trine__bn_launch(bn, stream, TRINE__BN_BACKWARD_APPLY, g->dy->dtype, args, TRINE_COUNTOF(args),
                            cut.grid);
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
    TRINE_TRY(backward_statistics(bn, stream, g, shape->n * trine__bn_chunks(bn, shape)));
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
                                    .kind = TRINE__MADE_BACKWARD};
    return backward_statistics(bn, stream, g,
                               parts > 0 ? parts : g->dy->shape.n * trine__bn_chunks(bn, &g->dy->shape));
}
