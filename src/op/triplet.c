/* SPDX-License-Identifier: MIT */
/* Triplet loss mined within a batch: norms, distances, mining (a work-group an anchor), reduction, gradient.
 * Mining leaves d loss / d distance as a matrix of coefficients; a pass makes it symmetric and divides it by
 * the number of terms, and the gradient is then one weighted sum of differences for each embedding: no
 * scatter, no atomics. */
#include "trine/loss.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "op/loss_rows.h"

enum { MAX_N = 32767 }; /* the matrices' work-items are counted in int */
enum {
    COLUMNS_CPU = 4,
    VECTORS_CPU = 4
}; /* of a work-item: columns of the distances, vectors of the gradient */

struct trine_triplet {
    trine_triplet_desc desc;
    bool cpu;
    int vector; /* floats of the kernels' vectors */
    trine__kernel *norms, *distance, *mine, *reduce, *weights, *gradient;
};

static const char *const mining_stems[] = {
    [TRINE_BATCH_HARD] = "triplet_mine_hard",
    [TRINE_BATCH_ALL] = "triplet_mine_all",
    [TRINE_SEMI_HARD] = "triplet_mine_semihard",
};

static trine_status check_desc(const trine_triplet_desc *d)
{
    TRINE_CHECK((unsigned)d->mining < TRINE_COUNTOF(mining_stems), TRINE_ERR_ARG,
                "triplet: unknown mining %d", (int)d->mining);
    TRINE_CHECK((unsigned)d->distance <= TRINE_COSINE, TRINE_ERR_ARG, "triplet: unknown distance %d",
                (int)d->distance);
    TRINE_CHECK(d->soft || (isfinite(d->margin) && d->margin >= 0), TRINE_ERR_ARG,
                "triplet: margin %g, want a number >= 0", (double)d->margin);
    TRINE_CHECK(
        !d->soft || d->mining != TRINE_BATCH_ALL, TRINE_ERR_ARG,
        "triplet: soft margin does not go with batch-all, whose mean counts the triplets with positive loss");
    return TRINE_OK;
}

trine_status trine_triplet_create(trine_context *context, const trine_triplet_desc *desc, trine_triplet **out)
{
    TRINE_CHECK(context && desc && out, TRINE_ERR_ARG, "triplet: context, description or result is missing");
    TRINE_TRY(check_desc(desc));
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_triplet), &memory));
    trine_triplet *op = memory;
    op->desc = *desc;
    op->desc.soft = desc->soft != 0;
    op->cpu = context->caps.cpu;
    op->vector = !op->cpu ? 4 : context->caps.vector_width >= 16 ? 16 : 8;
    char options[64];
    snprintf(options, sizeof options, "-DCB=%d -DJT=%d -DCH=%d", op->vector, op->cpu ? COLUMNS_CPU : 1,
             op->cpu ? VECTORS_CPU : 1);
    trine_status status;
    TRINE_TRY_GOTO(trine__kernel_create(context, "l2norm_forward", "", &op->norms));
    TRINE_TRY_GOTO(trine__kernel_create(context, "triplet_distance", options, &op->distance));
    TRINE_TRY_GOTO(trine__kernel_create(context, mining_stems[desc->mining], "", &op->mine));
    TRINE_TRY_GOTO(trine__kernel_create(context, "triplet_reduce", "", &op->reduce));
    TRINE_TRY_GOTO(trine__kernel_create(context, "triplet_weights", "", &op->weights));
    TRINE_TRY_GOTO(trine__kernel_create(context, "triplet_gradient", options, &op->gradient));
    *out = op;
    return TRINE_OK;
cleanup:
    trine_triplet_destroy(&op);
    return status;
}

/* The layout is cl/triplet.clh's. */
static size_t workspace_floats(int n)
{
    return 2 * (size_t)n * (size_t)n + 6 * (size_t)n + 16;
}

size_t trine_triplet_workspace_bytes(const trine_triplet *op, int n)
{
    (void)op;
    return n > 0 ? workspace_floats(n) * sizeof(float) : 0;
}

static trine_status run_loss(trine_triplet *op, trine_stream *stream, const trine_tensor *e,
                             const trine_buffer *labels, trine_buffer *stats, int at, trine_buffer *ws,
                             const trine__rows *r)
{
    const trine_triplet_desc *desc = &op->desc;
    const trine__arg norm_args[] = {trine__arg_tensor(e), trine__arg_buffer(NULL), trine__arg_buffer(ws),
                                    trine__arg_i32(r->d), trine__arg_i32(r->ld)};
    TRINE_TRY(trine__launch(stream, op->norms, norm_args, TRINE_COUNTOF(norm_args), trine__grid_rows(r->n),
                            "triplet"));
    const trine__arg distance_args[] = {trine__arg_tensor(e),  trine__arg_buffer(ws),
                                        trine__arg_i32(r->n),  trine__arg_i32(r->d),
                                        trine__arg_i32(r->ld), trine__arg_i32((int)desc->distance)};
    const size_t n = (size_t)r->n;
    const trine__grid pairs = op->cpu ? trine__grid_tiles((n + COLUMNS_CPU - 1) / COLUMNS_CPU, n, 1)
                                      : trine__grid_lines(n, n, 1, TRINE__LOCAL);
    TRINE_TRY(trine__launch(stream, op->distance, distance_args, TRINE_COUNTOF(distance_args), pairs, NULL));
    const trine__arg mine_args[] = {trine__arg_buffer(labels), trine__arg_buffer(ws), trine__arg_i32(r->n),
                                    trine__arg_f32(desc->margin), trine__arg_i32(desc->soft)};
    TRINE_TRY(
        trine__launch(stream, op->mine, mine_args, TRINE_COUNTOF(mine_args), trine__grid_rows(r->n), NULL));
    const trine__arg reduce_args[] = {trine__arg_buffer(ws), trine__arg_buffer(stats), trine__arg_i32(r->n),
                                      trine__arg_i32(desc->mining == TRINE_BATCH_ALL), trine__arg_i32(at)};
    return trine__launch(stream, op->reduce, reduce_args, TRINE_COUNTOF(reduce_args), trine__grid_rows(1),
                         NULL);
}

static trine_status run_gradient(trine_triplet *op, trine_stream *stream, const trine_tensor *e,
                                 trine_tensor *de, trine_buffer *ws, const trine__rows *r)
{
    const trine__arg weight_args[] = {trine__arg_buffer(ws), trine__arg_i32(r->n),
                                      trine__arg_i32((int)op->desc.distance)};
    const size_t n = (size_t)r->n, ld = (size_t)r->ld;
    TRINE_TRY(trine__launch(stream, op->weights, weight_args, TRINE_COUNTOF(weight_args),
                            trine__grid_lines(n, n, 1, TRINE__LOCAL), NULL));
    const trine__arg args[] = {trine__arg_tensor(e),
                               trine__arg_buffer(ws),
                               trine__arg_tensor(de),
                               trine__arg_i32(r->n),
                               trine__arg_i32(r->d),
                               trine__arg_i32(r->ld),
                               trine__arg_i32((int)op->desc.distance)};
    const size_t item = (size_t)op->vector * (op->cpu ? VECTORS_CPU : 1), items = (ld + item - 1) / item;
    const trine__grid grid =
        op->cpu ? trine__grid_tiles(items, n, 1) : trine__grid_lines(items, n, 1, TRINE__LOCAL);
    return trine__launch(stream, op->gradient, args, TRINE_COUNTOF(args), grid, NULL);
}

trine_status trine_triplet_run(trine_triplet *op, trine_stream *stream, const trine_tensor *e,
                               const trine_buffer *labels, trine_tensor *de, trine_buffer *stats, int slot,
                               trine_buffer *workspace)
{
    trine__rows rows;
    int at;
    TRINE_TRY(trine__rows_check("triplet", "e", e, &rows));
    TRINE_CHECK(rows.n <= MAX_N, TRINE_ERR_SHAPE, "triplet: %d embeddings in a batch, at most %d", rows.n,
                (int)MAX_N);
    TRINE_TRY(trine__bytes_check("triplet", "labels", labels, (size_t)rows.n * sizeof(int32_t)));
    if (de) TRINE_TRY(trine__rows_check_like("triplet", "de", de, e));
    TRINE_CHECK(!de || de->buffer != e->buffer, TRINE_ERR_ARG, "triplet: de must not be e");
    TRINE_TRY(trine__slot_check("triplet", stats, slot, TRINE_TRIPLET_STATS, &at));
    const size_t want = trine_triplet_workspace_bytes(op, rows.n);
    TRINE_CHECK(workspace && trine_buffer_bytes(workspace) >= want, TRINE_ERR_WORKSPACE,
                "triplet: the workspace has %zu bytes, %d embeddings need %zu",
                workspace ? trine_buffer_bytes(workspace) : (size_t)0, rows.n, want);
    TRINE_TRY(run_loss(op, stream, e, labels, stats, at, workspace, &rows));
    return de ? run_gradient(op, stream, e, de, workspace, &rows) : TRINE_OK;
}

void trine_triplet_destroy(trine_triplet **op)
{
    if (!op || !*op) return;
    trine__kernel **kernels[] = {&(*op)->norms,  &(*op)->distance, &(*op)->mine,
                                 &(*op)->reduce, &(*op)->weights,  &(*op)->gradient};
    for (size_t i = 0; i < TRINE_COUNTOF(kernels); i++) trine__kernel_destroy(kernels[i]);
    free(*op);
    *op = NULL;
}
