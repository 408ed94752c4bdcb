/* SPDX-License-Identifier: MIT */
/* Nearest neighbours: vectors into panels, tiles of distances, running lists of the nearest.
 * A vector product would take half the instructions of differences, and lose what near vectors have in common: the order of the nearest
 * is what is asked for. */
#include "trine/knn.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "op/loss_rows.h"

enum { METRIC_SQUARED, METRIC_COSINE, METRIC_DOT };
enum { CHUNK = 64 }; /* cl/knn.clh */

struct trine_knn {
    trine_context *context;
    int dim, metric;
    int queries, panel; /* vectors of a panel: of queries, of the base */
    int local;          /* work-items side by side */
    trine__kernel *pack_queries, *pack_base, *distances, *select;
};

/* Queries of a work-item, against two vectors each: sums fill the registers but for a few. */
static int tile_queries(const trine__caps *caps)
{
    if (!caps->cpu) return 8;
    return caps->vector_registers >= 32 ? 14 : 6;
}

static trine_status create_kernels(trine_knn *op)
{
    const trine__caps *caps = &op->context->caps;
    const int vector = caps->cpu ? caps->vector_width : 1, cosine = op->metric == METRIC_COSINE;
    char options[96];
    snprintf(options, sizeof options, "-DPANEL=%d -DCOSINE=%d", op->queries, cosine);
    TRINE_TRY(trine__kernel_create(op->context, "knn_pack", options, &op->pack_queries));
    snprintf(options, sizeof options, "-DPANEL=%d -DCOSINE=%d", op->panel, cosine);
    TRINE_TRY(trine__kernel_create(op->context, "knn_pack", options, &op->pack_base));
    snprintf(options, sizeof options, "-DCB=%d -DKV=%d -DQR=%d -DLOCAL=%d -DMETRIC=%d", vector,
             op->panel / vector / op->local, op->queries, op->local, op->metric);
    TRINE_TRY(trine__kernel_create(op->context, "knn_distances", options, &op->distances));
    snprintf(options, sizeof options, "-DCB=%d -DLOCAL=%d", vector, op->local);
    return trine__kernel_create(op->context, "knn_select", options, &op->select);
}

trine_status trine_knn_create(trine_context *context, int dim, trine_distance distance, trine_knn **out)
{
    TRINE_CHECK(context && out, TRINE_ERR_ARG, "knn: context or result is missing");
    TRINE_CHECK(dim >= 1, TRINE_ERR_ARG, "knn: vectors of %d values, expected at least 1", dim);
    TRINE_CHECK((unsigned)distance <= TRINE_DOT, TRINE_ERR_ARG, "knn: unknown distance %d", (int)distance);
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_knn), &memory));
    trine_knn *op = memory;
    const trine__caps *caps = &context->caps;
    op->context = context;
    op->dim = dim;
    op->metric = distance == TRINE_COSINE ? METRIC_COSINE
                 : distance == TRINE_DOT  ? METRIC_DOT
                                          : METRIC_SQUARED;
    op->local = caps->cpu ? 1 : TRINE__LOCAL;
    op->queries = tile_queries(caps);
    op->panel = 2 * op->local * (caps->cpu ? caps->vector_width : 1);
    const trine_status status = create_kernels(op);
    if (status != TRINE_OK)
        trine_knn_destroy(&op);
    else
        *out = op;
    return status;
}

int trine_knn_stride(const trine_knn *op, int base)
{
    return trine__ceil_div(base, op->panel) * op->panel;
}

/* Floats of the packed queries and of the packed base; false where a tile exceeds what kernels count. */
static bool packed_floats(const trine_knn *op, int queries, int base, size_t *q, size_t *b)
{
    if (queries < 1 || base < 1 || queries > INT_MAX - op->queries || base > INT_MAX - op->panel)
        return false;
    *q = trine__round_up((size_t)queries, (size_t)op->queries) * (size_t)op->dim;
    *b = (size_t)trine_knn_stride(op, base) * (size_t)op->dim;
    return *q + *b <= INT_MAX && (size_t)queries * (size_t)trine_knn_stride(op, base) <= INT_MAX;
}

size_t trine_knn_workspace_bytes(const trine_knn *op, int queries, int base)
{
    size_t q, b;
    return packed_floats(op, queries, base, &q, &b) ? (q + b) * sizeof(float) : 0;
}

static trine_status pack(const trine_knn *op, trine_stream *stream, trine__kernel *kernel, int panel,
                         const trine_buffer *x, int count, trine_buffer *work, size_t at)
{
    const trine__arg args[] = {trine__arg_buffer(x), trine__arg_buffer(work), trine__arg_i32((int)at),
                               trine__arg_i32(count), trine__arg_i32(op->dim)};
    const size_t places = trine__round_up((size_t)count, (size_t)panel);
    return trine__launch(stream, kernel, args, TRINE_COUNTOF(args),
                         trine__grid_lines(places, 1, 1, (size_t)op->local), NULL);
}

trine_status trine_knn_distances(trine_knn *op, trine_stream *stream, const trine_buffer *queries,
                                 int query_count, const trine_buffer *base, int base_count,
                                 trine_buffer *workspace, trine_buffer *out)
{
    TRINE_CHECK(op && stream, TRINE_ERR_ARG, "knn: operator or stream is missing");
    size_t q, b;
    TRINE_CHECK(
        packed_floats(op, query_count, base_count, &q, &b), TRINE_ERR_SHAPE,
        "knn: a tile of %d queries and %d vectors of %d values, expected at least 1 of each and fewer than "
        "2^31 values",
        query_count, base_count, op->dim);
    const int stride = trine_knn_stride(op, base_count);
    const size_t row = (size_t)op->dim * sizeof(float);
    TRINE_TRY(trine__bytes_check("knn", "queries", queries, (size_t)query_count * row));
    TRINE_TRY(trine__bytes_check("knn", "base", base, (size_t)base_count * row));
    TRINE_TRY(trine__bytes_check("knn", "out", out, (size_t)query_count * (size_t)stride * sizeof(float)));
    TRINE_CHECK(workspace && trine_buffer_bytes(workspace) >= (q + b) * sizeof(float), TRINE_ERR_WORKSPACE,
                "knn: the workspace has %zu bytes, needs %zu", workspace ? trine_buffer_bytes(workspace) : 0,
                (q + b) * sizeof(float));
    TRINE_TRY(pack(op, stream, op->pack_queries, op->queries, queries, query_count, workspace, 0));
    TRINE_TRY(pack(op, stream, op->pack_base, op->panel, base, base_count, workspace, q));
    const trine__arg args[] = {trine__arg_buffer(workspace), trine__arg_buffer(out),
                               trine__arg_i32((int)q),       trine__arg_i32(op->dim),
                               trine__arg_i32(query_count),  trine__arg_i32(stride)};
    return trine__launch(stream, op->distances, args, TRINE_COUNTOF(args),
                         trine__grid_lines((size_t)(stride / op->panel * op->local),
                                           (size_t)trine__ceil_div(query_count, op->queries), 1,
                                           (size_t)op->local),
                         NULL);
}

trine_status trine_knn_select(trine_knn *op, trine_stream *stream, const trine_buffer *tile, int query_count,
                              int base_count, int first, int self, int begin, int k, trine_buffer *distances,
                              trine_buffer *indices)
{
    TRINE_CHECK(op && stream, TRINE_ERR_ARG, "knn: operator or stream is missing");
    TRINE_CHECK(query_count >= 1 && base_count >= 1 && k >= 1, TRINE_ERR_ARG,
                "knn: %d queries, %d vectors, %d nearest, expected at least 1 of each", query_count,
                base_count, k);
    TRINE_CHECK(first >= 0 && first <= INT_MAX - base_count && self >= -1 && self <= INT_MAX - query_count,
                TRINE_ERR_ARG, "knn: vectors from %d on and queries from %d on, expected fewer than 2^31",
                first, self);
    const int stride = trine_knn_stride(op, base_count);
    const size_t list = (size_t)query_count * (size_t)k * sizeof(float);
    TRINE_TRY(trine__bytes_check("knn", "tile", tile, (size_t)query_count * (size_t)stride * sizeof(float)));
    TRINE_TRY(trine__bytes_check("knn", "distances", distances, list));
    TRINE_TRY(trine__bytes_check("knn", "indices", indices, list));
    const trine__arg args[] = {trine__arg_buffer(tile),    trine__arg_buffer(distances),
                               trine__arg_buffer(indices), trine__arg_i32(query_count),
                               trine__arg_i32(stride),     trine__arg_i32(base_count),
                               trine__arg_i32(first),      trine__arg_i32(self),
                               trine__arg_i32(k),          trine__arg_i32(begin != 0)};
    return trine__launch(stream, op->select, args, TRINE_COUNTOF(args),
                         trine__grid_lines((size_t)query_count, 1, 1, (size_t)op->local), NULL);
}

void trine_knn_error(const trine_knn *op, double a, double b, double *relative, double *absolute)
{
    const double eps = ldexp(1, -24), chain = CHUNK + ceil((double)op->dim / CHUNK);
    const double lost = op->dim * (double)FLT_MIN; /* what counts as zero */
    *relative = 0;
    switch (op->metric) {
    case METRIC_SQUARED:
        *relative = (chain + 4) * eps;
        *absolute = 2 * lost;
        break;
    case METRIC_COSINE: /* the product, and twice the norms' sums and the divisions */
        *absolute = (2 * chain + 32) * eps;
        break;
    default:
        *absolute = (chain + 2) * eps * a * b + lost * (1 + a + b);
        break;
    }
}

void trine_knn_destroy(trine_knn **op)
{
    if (!op || !*op) return;
    trine__kernel_destroy(&(*op)->pack_queries);
    trine__kernel_destroy(&(*op)->pack_base);
    trine__kernel_destroy(&(*op)->distances);
    trine__kernel_destroy(&(*op)->select);
    free(*op);
    *op = NULL;
}
