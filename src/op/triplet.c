/* SPDX-License-Identifier: MIT */
/* The losses on the distances within a batch: norms, distances, mining (a work-group an anchor), reduction, gradient.
 * What chooses one triplet for each anchor goes through the anchors in strips, keeps a pair of indices for each, and sums the gradient
 * from those: memory for a strip of distances. Everything else leaves d loss / d distance as a matrix of coefficients; a pass makes it
 * symmetric and divides it by the number of terms, and the gradient is then one weighted sum of differences for each embedding: no
 * scatter, no atomics. */
#include "trine/loss.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "op/loss_rows.h"
#include "op/triplet_private.h"

enum { MAX_CANDIDATES = 32767, STRIP_FLOATS = 1 << 20, STRIP_ROWS = 16 };
/* Of a work-item: anchors and candidates of the distances, vectors of the gradient, rows of the weights. */
enum { TILE_CPU = 4, VECTORS_CPU = 4, WEIGHTS_CPU = 16 };
enum { DRAWS = 0x64726177 }; /* the random numbers' purpose */

/* How the terms are found. */
typedef enum way {
    WAY_SELECT, /* one for each anchor: triplet_select, and a gradient from indices */
    WAY_CHOOSE, /* a negative for each pair: `mine`, then triplet_terms */
    WAY_SUM     /* everything in one: `mine` */
} way;

struct trine_triplet {
    trine_triplet_desc desc;
    way way;
    bool cpu;
    int vector; /* floats of the kernels' vectors */
    trine__kernel *rows, *distance, *threshold, *mine, *swap, *terms, *past, *reduce, *weights,
        *gradient;             /* past: of remembered positives */
    trine__temperature learnt; /* zeroed: none */
    const trine_triplet_memory *memory;
    uint64_t step;
};

static bool has_mining(const trine_triplet_desc *d, trine_mining mining)
{
    return d->loss == TRINE_LOSS_TRIPLET && d->mining == mining;
}

static bool sums_triplets(const trine_triplet_desc *d)
{
    return has_mining(d, TRINE_BATCH_ALL) || has_mining(d, TRINE_HARDEST_FRACTION);
}

static bool has_temperature(const trine_triplet_desc *d)
{
    return d->loss == TRINE_LOSS_NT_XENT || (d->loss == TRINE_LOSS_TRIPLET && d->soft);
}

trine_triplet_desc trine_triplet_desc_default(trine_triplet_loss loss)
{
    return (trine_triplet_desc){.loss = loss,
                                .distance = loss == TRINE_LOSS_TRIPLET ? TRINE_EUCLIDEAN : TRINE_COSINE,
                                .margin = 0.2f,
                                .temperature = loss == TRINE_LOSS_NT_XENT ? 0.1f : 1.0f,
                                .fraction = 0.1f,
                                .weight_lower = 0.5f,
                                .weight_upper = 1.4f,
                                .angle = 45.0f,
                                .alpha = 2.0f,
                                .beta = 50.0f,
                                .base = 0.5f,
                                .epsilon = 0.1f};
}

static trine_status check_triplet(const trine_triplet_desc *d)
{
    TRINE_CHECK((unsigned)d->mining <= TRINE_HARDEST_FRACTION, TRINE_ERR_ARG, "triplet: unknown mining %d",
                (int)d->mining);
    TRINE_CHECK((unsigned)d->negative <= TRINE_EASIEST_NEGATIVE, TRINE_ERR_ARG,
                "triplet: unknown negative %d", (int)d->negative);
    TRINE_CHECK(d->soft || (isfinite(d->margin) && d->margin >= 0), TRINE_ERR_ARG,
                "triplet: margin %g, want a number >= 0", (double)d->margin);
    TRINE_CHECK(isfinite(d->window_lower) && !isnan(d->window_upper), TRINE_ERR_ARG,
                "triplet: window from %g to %g, want numbers", (double)d->window_lower,
                (double)d->window_upper);
    TRINE_CHECK(d->mining != TRINE_HARDEST_FRACTION || (d->fraction > 0 && d->fraction <= 1), TRINE_ERR_ARG,
                "triplet: fraction %g, want a number above 0 and at most 1", (double)d->fraction);
    TRINE_CHECK(d->mining != TRINE_DISTANCE_WEIGHTED ||
                    (d->weight_lower > 0 && d->weight_lower < d->weight_upper && d->weight_upper < 2),
                TRINE_ERR_ARG, "triplet: weights from %g to %g, want 0 < lower < upper < 2",
                (double)d->weight_lower, (double)d->weight_upper);
    return TRINE_OK;
}

static trine_status check_desc(const trine_triplet_desc *d)
{
    TRINE_CHECK((unsigned)d->loss <= TRINE_LOSS_NT_XENT, TRINE_ERR_ARG, "triplet: unknown loss %d",
                (int)d->loss);
    TRINE_CHECK((unsigned)d->distance <= TRINE_COSINE, TRINE_ERR_ARG, "triplet: unknown distance %d",
                (int)d->distance);
    TRINE_CHECK(isfinite(d->temperature) && d->temperature >= 0, TRINE_ERR_ARG,
                "triplet: temperature %g, want a number above 0, or 0 for 1", (double)d->temperature);
    TRINE_CHECK(!d->learn_temperature || has_temperature(d), TRINE_ERR_ARG,
                "triplet: a loss that has no temperature cannot learn one");
    TRINE_CHECK(!d->learn_temperature || d->temperature == 0 || d->temperature >= TRINE_LEAST_TEMPERATURE,
                TRINE_ERR_ARG, "triplet: temperature %g, want at least %g where it is learnt",
                (double)d->temperature, (double)TRINE_LEAST_TEMPERATURE);
    if (d->loss == TRINE_LOSS_TRIPLET) return check_triplet(d);
    if (d->loss == TRINE_LOSS_NT_XENT) return TRINE_OK;
    const char *name = d->loss == TRINE_LOSS_ANGULAR ? "angular" : "multi-similarity";
    TRINE_CHECK(d->distance == TRINE_COSINE, TRINE_ERR_ARG,
                "triplet: the %s loss is one of cosine distances, not of distance %d", name,
                (int)d->distance);
    if (d->loss == TRINE_LOSS_ANGULAR) {
        TRINE_CHECK(d->angle > 0 && d->angle < 90, TRINE_ERR_ARG,
                    "triplet: angle %g, want degrees between 0 and 90", (double)d->angle);
        return TRINE_OK;
    }
    TRINE_CHECK(
        isfinite(d->alpha) && d->alpha > 0 && isfinite(d->beta) && d->beta > 0 && isfinite(d->base) &&
            d->epsilon >= 0,
        TRINE_ERR_ARG,
        "triplet: alpha %g, beta %g, base %g, epsilon %g, want numbers above 0 for alpha and beta, and "
        "epsilon not below 0",
        (double)d->alpha, (double)d->beta, (double)d->base, (double)d->epsilon);
    return TRINE_OK;
}

/* What is not given, and what the kernels want to know. */
static void complete(trine_triplet *op)
{
    trine_triplet_desc *d = &op->desc;
    if (d->temperature == 0) d->temperature = 1;
    if (!has_temperature(d)) d->temperature = 0; /* the hinge: cl/triplet.clh */
    if (d->window_upper <= d->window_lower) d->window_upper = INFINITY;
    if (d->mining == TRINE_BATCH_ALL) d->fraction = 1;
    if (d->mining == TRINE_BATCH_HARD) d->negative = TRINE_HARDEST_NEGATIVE;
    op->way = has_mining(d, TRINE_BATCH_HARD) || has_mining(d, TRINE_EASY_POSITIVE)      ? WAY_SELECT
              : has_mining(d, TRINE_SEMI_HARD) || has_mining(d, TRINE_DISTANCE_WEIGHTED) ? WAY_CHOOSE
                                                                                         : WAY_SUM;
}

static const char *mine_stem(const trine_triplet_desc *d)
{
    static const char *const minings[] = {[TRINE_BATCH_HARD] = "triplet_select",
                                          [TRINE_BATCH_ALL] = "triplet_mine_all",
                                          [TRINE_SEMI_HARD] = "triplet_mine_semihard",
                                          [TRINE_EASY_POSITIVE] = "triplet_select",
                                          [TRINE_DISTANCE_WEIGHTED] = "triplet_mine_weighted",
                                          [TRINE_HARDEST_FRACTION] = "triplet_mine_all"};
    static const char *const others[] = {[TRINE_LOSS_ANGULAR] = "triplet_angular",
                                         [TRINE_LOSS_MULTI_SIMILARITY] = "triplet_multi_similarity",
                                         [TRINE_LOSS_NT_XENT] = "triplet_nt_xent"};
    return d->loss == TRINE_LOSS_TRIPLET ? minings[d->mining] : others[d->loss];
}

static trine_status create_kernels(trine_context *context, trine_triplet *op)
{
    char vectors[64], learns[64], tiles[64], weights[32];
    const trine_triplet_desc *d = &op->desc;
    const char *learn = d->learn_temperature ? " -DLEARN=1" : "";
    snprintf(vectors, sizeof vectors, "-DCB=%d -DCH=%d", op->vector, op->cpu ? VECTORS_CPU : 1);
    snprintf(learns, sizeof learns, "-DCB=%d%s", op->vector, learn);
    snprintf(tiles, sizeof tiles, "-DCB=%d -DIT=%d -DJT=%d", op->vector, op->cpu ? TILE_CPU : 1,
             op->cpu ? TILE_CPU : 1);
    snprintf(weights, sizeof weights, "-DTILE=%d", op->cpu ? WEIGHTS_CPU : 1);
    TRINE_TRY(trine__kernel_create(context, "triplet_rows", "", &op->rows));
    TRINE_TRY(trine__kernel_create(context, "triplet_distance", tiles, &op->distance));
    TRINE_TRY(trine__kernel_create(context, mine_stem(d), learns, &op->mine));
    TRINE_TRY(trine__kernel_create(context, "triplet_reduce", learn, &op->reduce));
    if (d->learn_temperature) TRINE_TRY(trine__temperature_create(context, d->temperature, &op->learnt));
    if (op->way == WAY_SELECT)
        return trine__kernel_create(context, "triplet_select_gradient", vectors, &op->gradient);
    if (sums_triplets(d)) TRINE_TRY(trine__kernel_create(context, "triplet_threshold", "", &op->threshold));
    if (op->way == WAY_CHOOSE) TRINE_TRY(trine__kernel_create(context, "triplet_terms", learn, &op->terms));
    if (op->way == WAY_CHOOSE && d->swap)
        TRINE_TRY(trine__kernel_create(context, "triplet_swap", learns, &op->swap));
    if (sums_triplets(d) && d->swap)
        TRINE_TRY(trine__kernel_create(context, "triplet_mine_all_past", learns, &op->past));
    if (d->loss == TRINE_LOSS_ANGULAR)
        TRINE_TRY(trine__kernel_create(context, "triplet_angular_past", "", &op->past));
    TRINE_TRY(trine__kernel_create(context, "triplet_weights", weights, &op->weights));
    return trine__kernel_create(context, "triplet_gradient", vectors, &op->gradient);
}

trine_status trine_triplet_create(trine_context *context, const trine_triplet_desc *desc, trine_triplet **out)
{
    TRINE_CHECK(context && desc && out, TRINE_ERR_ARG, "triplet: context, description or result is missing");
    TRINE_TRY(check_desc(desc));
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_triplet), &memory));
    trine_triplet *op = memory;
    op->desc = *desc;
    op->cpu = context->caps.cpu;
    op->vector = !op->cpu ? 4 : context->caps.vector_width >= 16 ? 16 : 8;
    complete(op);
    const trine_status status = create_kernels(context, op);
    if (status != TRINE_OK)
        trine_triplet_destroy(&op);
    else
        *out = op;
    return status;
}

trine_status trine_triplet_set_memory(trine_triplet *op, const trine_triplet_memory *memory)
{
    TRINE_CHECK(op, TRINE_ERR_ARG, "triplet: missing");
    op->memory = memory;
    return TRINE_OK;
}

const trine__temperature *trine__triplet_temperature(const trine_triplet *op)
{
    return op->desc.learn_temperature ? &op->learnt : NULL;
}

void trine_triplet_set_step(trine_triplet *op, uint64_t step)
{
    op->step = step;
}

/* Anchors of a strip of distances. */
static int strip_rows(const trine_triplet *op, int n, int m)
{
    const int rows = STRIP_FLOATS / m / STRIP_ROWS * STRIP_ROWS;
    if (op->way != WAY_SELECT) return n;
    return n < rows ? n : rows > STRIP_ROWS ? rows : STRIP_ROWS < n ? STRIP_ROWS : n;
}

/* The layout is cl/triplet.clh's. */
static size_t workspace_floats(const trine_triplet *op, int n, int m)
{
    const size_t matrix = (size_t)n * (size_t)m, rows = 2 * (size_t)m + 10 * (size_t)n + 16;
    if (op->way == WAY_SELECT) return rows + (size_t)strip_rows(op, n, m) * (size_t)m;
    const bool apart =
        m > n && (op->desc.loss == TRINE_LOSS_ANGULAR || op->swap); /* positives without a row */
    return rows + ((op->way == WAY_CHOOSE ? 3U : 2U) + apart) * matrix;
}

size_t trine_triplet_workspace_bytes(const trine_triplet *op, int n)
{
    const int remembered = op->memory ? op->memory->capacity : 0;
    return n > 0 ? workspace_floats(op, n, n + remembered) * sizeof(float) : 0;
}

/* What a run's launches share. */
typedef struct batch {
    const trine_tensor *e;
    const trine_buffer *memory; /* or NULL */
    const trine_buffer *ws;
    int n, m, d, ld, distance;
} batch;

static trine_status run_rows(trine_triplet *op, trine_stream *stream, const batch *b,
                             const trine_buffer *labels)
{
    const trine__arg args[] = {
        trine__arg_tensor(b->e),   trine__arg_buffer(b->memory),
        trine__arg_buffer(labels), trine__arg_buffer(b->memory ? op->memory->labels : NULL),
        trine__arg_buffer(b->ws),  trine__arg_i32(b->n),
        trine__arg_i32(b->m),      trine__arg_i32(b->d),
        trine__arg_i32(b->ld)};
    return trine__launch(stream, op->rows, args, TRINE_COUNTOF(args), trine__grid_rows(b->m), NULL);
}

static trine_status run_distance(trine_triplet *op, trine_stream *stream, const batch *b, int first, int rows)
{
    const trine__arg args[] = {trine__arg_tensor(b->e),  trine__arg_buffer(b->memory),
                               trine__arg_buffer(b->ws), trine__arg_i32(b->n),
                               trine__arg_i32(b->m),     trine__arg_i32(b->d),
                               trine__arg_i32(b->ld),    trine__arg_i32(b->distance),
                               trine__arg_i32(first),    trine__arg_i32(rows)};
    const size_t tile = op->cpu ? TILE_CPU : 1, x = ((size_t)b->m + tile - 1) / tile,
                 y = ((size_t)rows + tile - 1) / tile;
    return trine__launch(stream, op->distance, args, TRINE_COUNTOF(args),
                         op->cpu ? trine__grid_tiles(x, y, 1) : trine__grid_lines(x, y, 1, TRINE__LOCAL),
                         NULL);
}

static trine_status run_select(trine_triplet *op, trine_stream *stream, const batch *b)
{
    const trine_triplet_desc *d = &op->desc;
    const int rows = strip_rows(op, b->n, b->m);
    for (int first = 0; first < b->n; first += rows) {
        const int here = rows < b->n - first ? rows : b->n - first;
        const trine__arg args[] = {trine__arg_tensor(b->e),
                                   trine__arg_buffer(b->memory),
                                   trine__arg_buffer(b->ws),
                                   trine__arg_i32(b->n),
                                   trine__arg_i32(b->m),
                                   trine__arg_i32(b->d),
                                   trine__arg_i32(b->ld),
                                   trine__arg_i32(b->distance),
                                   trine__arg_i32(first),
                                   trine__arg_i32(d->mining == TRINE_EASY_POSITIVE),
                                   trine__arg_i32((int)d->negative),
                                   trine__arg_f32(d->window_lower),
                                   trine__arg_f32(d->window_upper),
                                   trine__arg_i32(d->swap != 0),
                                   trine__arg_f32(d->margin),
                                   trine__arg_f32(d->temperature),
                                   trine__arg_buffer(op->learnt.log)};
        TRINE_TRY(run_distance(op, stream, b, first, here));
        TRINE_TRY(trine__launch(stream, op->mine, args, TRINE_COUNTOF(args), trine__grid_rows(here), NULL));
    }
    return TRINE_OK;
}

static trine_status run_swap(trine_triplet *op, trine_stream *stream, const batch *b)
{
    const trine__arg args[] = {trine__arg_tensor(b->e),  trine__arg_buffer(b->memory),
                               trine__arg_buffer(b->ws), trine__arg_i32(b->n),
                               trine__arg_i32(b->m),     trine__arg_i32(b->d),
                               trine__arg_i32(b->ld),    trine__arg_i32(b->distance)};
    return trine__launch(stream, op->swap, args, TRINE_COUNTOF(args),
                         trine__grid_lines((size_t)b->m, (size_t)b->n, 1, TRINE__LOCAL), NULL);
}

/* A negative for each pair, then the terms. */
static trine_status run_choose(trine_triplet *op, trine_stream *stream, const batch *b)
{
    const trine_triplet_desc *d = &op->desc;
    if (d->mining == TRINE_SEMI_HARD) {
        const trine__arg args[] = {trine__arg_buffer(b->ws), trine__arg_i32(b->n), trine__arg_i32(b->m),
                                   trine__arg_f32(d->window_lower), trine__arg_f32(d->window_upper)};
        TRINE_TRY(trine__launch(stream, op->mine, args, TRINE_COUNTOF(args), trine__grid_rows(b->n), NULL));
    } else {
        trine__random draws = trine__random_stream(d->seed, DRAWS, op->step);
        const uint64_t key = trine__random_u64(&draws);
        const trine__arg args[] = {trine__arg_buffer(b->ws),
                                   trine__arg_i32(b->n),
                                   trine__arg_i32(b->m),
                                   trine__arg_i32(b->d),
                                   trine__arg_i32(b->distance),
                                   trine__arg_f32(d->weight_lower),
                                   trine__arg_f32(d->weight_upper),
                                   trine__arg_i32((int32_t)(uint32_t)key),
                                   trine__arg_i32((int32_t)(uint32_t)(key >> 32))};
        TRINE_TRY(trine__launch(stream, op->mine, args, TRINE_COUNTOF(args), trine__grid_rows(b->n), NULL));
    }
    if (op->swap && b->m > b->n) TRINE_TRY(run_swap(op, stream, b));
    const trine__arg args[] = {
        trine__arg_buffer(b->ws),         trine__arg_i32(b->n),      trine__arg_i32(b->m),
        trine__arg_i32(d->swap != 0),     trine__arg_f32(d->margin), trine__arg_f32(d->temperature),
        trine__arg_buffer(op->learnt.log)};
    return trine__launch(stream, op->terms, args, TRINE_COUNTOF(args), trine__grid_rows(b->n), NULL);
}

/* Every triplet, or those with the hardest of an anchor's negatives. */
static trine_status run_triplets(trine_triplet *op, trine_stream *stream, const batch *b)
{
    const trine_triplet_desc *d = &op->desc;
    const trine__arg share[] = {trine__arg_buffer(b->ws), trine__arg_i32(b->n), trine__arg_i32(b->m),
                                trine__arg_f32(d->fraction)};
    TRINE_TRY(
        trine__launch(stream, op->threshold, share, TRINE_COUNTOF(share), trine__grid_rows(b->n), NULL));
    const trine__arg args[] = {
        trine__arg_buffer(b->ws),         trine__arg_i32(b->n),      trine__arg_i32(b->m),
        trine__arg_i32(d->swap != 0),     trine__arg_f32(d->margin), trine__arg_f32(d->temperature),
        trine__arg_buffer(op->learnt.log)};
    TRINE_TRY(trine__launch(stream, op->mine, args, TRINE_COUNTOF(args), trine__grid_rows(b->n), NULL));
    if (!d->swap || b->m == b->n) return TRINE_OK;
    const trine__arg past[] = {trine__arg_tensor(b->e),
                               trine__arg_buffer(b->memory),
                               trine__arg_buffer(b->ws),
                               trine__arg_i32(b->n),
                               trine__arg_i32(b->m),
                               trine__arg_i32(b->d),
                               trine__arg_i32(b->ld),
                               trine__arg_i32(b->distance),
                               trine__arg_f32(d->margin),
                               trine__arg_f32(d->temperature),
                               trine__arg_buffer(op->learnt.log)};
    return trine__launch(stream, op->past, past, TRINE_COUNTOF(past), trine__grid_rows(b->n), NULL);
}

static trine_status run_angular(trine_triplet *op, trine_stream *stream, const batch *b)
{
    const double tangent = tan((double)op->desc.angle * (3.14159265358979323846 / 180));
    const float factor = (float)(tangent * tangent);
    const trine__arg args[] = {trine__arg_tensor(b->e),  trine__arg_buffer(b->memory),
                               trine__arg_buffer(b->ws), trine__arg_i32(b->n),
                               trine__arg_i32(b->m),     trine__arg_i32(b->d),
                               trine__arg_i32(b->ld),    trine__arg_f32(factor)};
    TRINE_TRY(trine__launch(stream, op->mine, args, TRINE_COUNTOF(args), trine__grid_rows(b->n), NULL));
    if (b->m == b->n) return TRINE_OK;
    const trine__arg past[] = {trine__arg_buffer(b->ws), trine__arg_i32(b->n), trine__arg_i32(b->m),
                               trine__arg_f32(factor)};
    return trine__launch(stream, op->past, past, TRINE_COUNTOF(past), trine__grid_rows(b->n), NULL);
}

static trine_status run_sum(trine_triplet *op, trine_stream *stream, const batch *b)
{
    const trine_triplet_desc *d = &op->desc;
    trine__arg args[7] = {trine__arg_buffer(b->ws), trine__arg_i32(b->n), trine__arg_i32(b->m)};
    size_t count = 3;
    if (d->loss == TRINE_LOSS_TRIPLET) return run_triplets(op, stream, b);
    if (d->loss == TRINE_LOSS_ANGULAR) return run_angular(op, stream, b);
    if (d->loss == TRINE_LOSS_MULTI_SIMILARITY) {
        args[count++] = trine__arg_f32(d->alpha);
        args[count++] = trine__arg_f32(d->beta);
        args[count++] = trine__arg_f32(d->base);
        args[count++] = trine__arg_f32(d->epsilon);
    } else {
        args[count++] = trine__arg_f32(1 / d->temperature);
        args[count++] = trine__arg_buffer(op->learnt.log);
    }
    return trine__launch(stream, op->mine, args, count, trine__grid_rows(b->n), NULL);
}

static trine_status run_loss(trine_triplet *op, trine_stream *stream, const batch *b,
                             const trine_buffer *labels, trine_buffer *stats, int at)
{
    TRINE_TRY(run_rows(op, stream, b, labels));
    if (op->way == WAY_SELECT) {
        TRINE_TRY(run_select(op, stream, b));
    } else {
        TRINE_TRY(run_distance(op, stream, b, 0, b->n));
        TRINE_TRY(op->way == WAY_CHOOSE ? run_choose(op, stream, b) : run_sum(op, stream, b));
    }
    const trine__arg args[] = {trine__arg_buffer(b->ws),
                               trine__arg_buffer(stats),
                               trine__arg_i32(b->n),
                               trine__arg_i32(b->m),
                               trine__arg_i32(sums_triplets(&op->desc)),
                               trine__arg_i32(op->desc.loss == TRINE_LOSS_MULTI_SIMILARITY),
                               trine__arg_i32(at),
                               trine__arg_f32(op->desc.temperature),
                               trine__arg_buffer(op->learnt.log),
                               trine__arg_buffer(op->learnt.gradient),
                               trine__arg_buffer(op->learnt.scaling)};
    return trine__launch(stream, op->reduce, args, TRINE_COUNTOF(args), trine__grid_rows(1), NULL);
}

static trine_status run_gradient(trine_triplet *op, trine_stream *stream, const batch *b, trine_tensor *de)
{
    const trine__arg weight_args[] = {trine__arg_buffer(b->ws), trine__arg_i32(b->n), trine__arg_i32(b->m),
                                      trine__arg_i32(b->distance)};
    const size_t n = (size_t)b->n, m = (size_t)b->m, ld = (size_t)b->ld, tile = op->cpu ? WEIGHTS_CPU : 1;
    const size_t x = (m + tile - 1) / tile, y = (n + tile - 1) / tile;
    if (op->weights)
        TRINE_TRY(trine__launch(
            stream, op->weights, weight_args, TRINE_COUNTOF(weight_args),
            op->cpu ? trine__grid_tiles(x, y, 1) : trine__grid_lines(x, y, 1, TRINE__LOCAL), NULL));
    const trine__arg args[] = {
        trine__arg_tensor(b->e), trine__arg_buffer(b->memory), trine__arg_buffer(b->ws),
        trine__arg_tensor(de),   trine__arg_i32(b->n),         trine__arg_i32(b->m),
        trine__arg_i32(b->d),    trine__arg_i32(b->ld),        trine__arg_i32(b->distance)};
    const size_t item = (size_t)op->vector * (op->cpu ? VECTORS_CPU : 1), items = (ld + item - 1) / item;
    const trine__grid grid =
        op->cpu ? trine__grid_tiles(items, n, 1) : trine__grid_lines(items, n, 1, TRINE__LOCAL);
    return trine__launch(stream, op->gradient, args, TRINE_COUNTOF(args), grid, NULL);
}

static trine_status make_batch(const trine_triplet *op, const trine_tensor *e, const trine_buffer *ws,
                               batch *b)
{
    trine__rows rows;
    TRINE_TRY(trine__rows_check("triplet", "e", e, &rows));
    const trine_triplet_memory *memory = op->memory && op->memory->count > 0 ? op->memory : NULL;
    const int m = memory ? memory->count : 0, most = op->memory ? op->memory->capacity : 0;
    TRINE_CHECK(!memory || (memory->d == rows.d && memory->ld == rows.ld), TRINE_ERR_SHAPE,
                "triplet: e has rows of %d values in blocks of %d, the memory has %d in blocks of %d", rows.d,
                e->cb, op->memory->d, op->memory->cb);
    TRINE_CHECK(rows.n <= MAX_CANDIDATES && most <= MAX_CANDIDATES - rows.n, TRINE_ERR_SHAPE,
                "triplet: %d embeddings in a batch and a memory of %d, at most %d together", rows.n, most,
                (int)MAX_CANDIDATES);
    *b = (batch){e,       memory ? memory->rows : NULL, ws, rows.n, rows.n + m, rows.d,
                 rows.ld, (int)op->desc.distance};
    return TRINE_OK;
}

trine_status trine_triplet_run(trine_triplet *op, trine_stream *stream, const trine_tensor *e,
                               const trine_buffer *labels, trine_tensor *de, trine_buffer *stats, int slot,
                               trine_buffer *workspace)
{
    batch b = {0};
    int at;
    TRINE_TRY(make_batch(op, e, workspace, &b));
    TRINE_TRY(trine__bytes_check("triplet", "labels", labels, (size_t)b.n * sizeof(int32_t)));
    if (de) TRINE_TRY(trine__rows_check_like("triplet", "de", de, e));
    TRINE_CHECK(!de || de->buffer != e->buffer, TRINE_ERR_ARG, "triplet: de must not be e");
    TRINE_TRY(trine__slot_check("triplet", stats, slot, TRINE_TRIPLET_STATS, &at));
    const size_t want = workspace_floats(op, b.n, b.m) * sizeof(float);
    TRINE_CHECK(workspace && trine_buffer_bytes(workspace) >= want, TRINE_ERR_WORKSPACE,
                "triplet: the workspace has %zu bytes, %d embeddings and %d remembered ones need %zu",
                workspace ? trine_buffer_bytes(workspace) : (size_t)0, b.n, b.m - b.n, want);
    TRINE_TRY(run_loss(op, stream, &b, labels, stats, at));
    return de ? run_gradient(op, stream, &b, de) : TRINE_OK;
}

void trine_triplet_destroy(trine_triplet **op)
{
    if (!op || !*op) return;
    trine__kernel **kernels[] = {&(*op)->rows,    &(*op)->distance, &(*op)->threshold, &(*op)->mine,
                                 &(*op)->swap,    &(*op)->terms,    &(*op)->past,      &(*op)->reduce,
                                 &(*op)->weights, &(*op)->gradient};
    trine__temperature_release(&(*op)->learnt);
    for (size_t i = 0; i < TRINE_COUNTOF(kernels); i++) trine__kernel_destroy(kernels[i]);
    free(*op);
    *op = NULL;
}
