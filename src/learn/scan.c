/* SPDX-License-Identifier: MIT */
/* Nothing waits while tiles pass: the queue is in order, and the host's vectors stay where they are. */
#include "learn/scan.h"

#include <limits.h>
#include <stdlib.h>

#include "base/memory.h"

/* A block's queries serve each tile that is copied: 1344 are whole tiles of every device. */
enum { QUERIES = 1344, TILE = 1024, ROWS_BYTES = 512 << 20, LIST_VALUES = 1 << 22, TILE_VALUES = 1 << 25 };

static int smaller(size_t a, size_t b)
{
    return (int)(a < b ? a : b);
}

static trine_status allocate(trine__scan *s)
{
    trine_context *context = s->stream->context;
    const size_t queries = (size_t)s->queries, tile = (size_t)s->tile,
                 stride = (size_t)trine_knn_stride(s->op, s->tile), row = s->dim * sizeof(float);
    TRINE_TRY(trine__buffer_set_create(&s->buffers, context, queries * row, &s->q));
    TRINE_TRY(trine__buffer_set_create(&s->buffers, context, tile * row, &s->b));
    TRINE_TRY(trine__buffer_set_create(&s->buffers, context,
                                       trine_knn_workspace_bytes(s->op, s->queries, s->tile), &s->work));
    TRINE_TRY(trine__buffer_set_create(&s->buffers, context, queries * stride * sizeof(float), &s->out));
    if (s->k > 0) {
        TRINE_TRY(
            trine__buffer_set_create(&s->buffers, context, queries * (size_t)s->k * sizeof(float), &s->best));
        return trine__buffer_set_create(&s->buffers, context, queries * (size_t)s->k * sizeof(int32_t),
                                        &s->at);
    }
    void *p;
    TRINE_TRY(trine__calloc(queries * (size_t)s->tiles, stride * sizeof(float), &p));
    s->rows = p;
    return TRINE_OK;
}

trine_status trine__scan_create(trine_stream *stream, const float *base, size_t count, int dim,
                                trine_distance distance, int k, size_t most_queries, trine__scan *scan)
{
    TRINE_CHECK(count >= 1 && count < INT_MAX - TILE, TRINE_ERR_DATA,
                "nearest neighbours: %zu vectors, expected 1 to 2^31", count);
    trine__scan s = {.stream = stream, .base = base, .count = count, .dim = (size_t)dim, .k = k};
    TRINE_TRY(trine_knn_create(stream->context, dim, distance, &s.op));
    const size_t most = (size_t)TILE_VALUES / s.dim; /* vectors of so many values */
    s.tile = smaller(smaller(count, TILE), most > 0 ? most : 1);
    s.tiles = (int)((count + (size_t)s.tile - 1) / (size_t)s.tile);
    size_t queries =
        k > 0 ? (size_t)(LIST_VALUES / k)
              : ROWS_BYTES / sizeof(float) / ((size_t)s.tiles * (size_t)trine_knn_stride(s.op, s.tile));
    if (queries > most) queries = most;
    if (queries > QUERIES) queries = QUERIES;
    s.queries = smaller(queries > 0 ? queries : 1, most_queries > 0 ? most_queries : 1);
    const trine_status status = allocate(&s);
    if (status != TRINE_OK)
        trine__scan_release(&s);
    else
        *scan = s;
    return status;
}

static int tile_count(const trine__scan *s, int t)
{
    return smaller(s->count - (size_t)t * (size_t)s->tile, (size_t)s->tile);
}

/* Put a tile's distances to the queries on the device into s->out. */
static trine_status scan_tile(trine__scan *s, int n, int t)
{
    const int count = tile_count(s, t);
    TRINE_TRY(trine__stream_write_nocopy(s->stream, s->b, 0, s->base + (size_t)t * (size_t)s->tile * s->dim,
                                         (size_t)count * s->dim * sizeof(float), NULL));
    return trine_knn_distances(s->op, s->stream, s->q, n, s->b, count, s->work, s->out);
}

trine_status trine__scan_rows(trine__scan *s, const float *queries, int n)
{
    trine_status status;
    TRINE_TRY_GOTO(trine_buffer_write(s->stream, s->q, 0, queries, (size_t)n * s->dim * sizeof(float)));
    for (int t = 0; t < s->tiles; t++) {
        const size_t stride = (size_t)trine_knn_stride(s->op, tile_count(s, t));
        TRINE_TRY_GOTO(scan_tile(s, n, t));
        TRINE_TRY_GOTO(trine__stream_read_nocopy(
            s->stream, s->out, 0, s->rows + (size_t)t * (size_t)n * (size_t)trine_knn_stride(s->op, s->tile),
            (size_t)n * stride * sizeof(float), NULL));
    }
    status = trine_stream_sync(s->stream);
cleanup:
    if (status != TRINE_OK) trine_stream_sync(s->stream); /* reads into the rows */
    return status;
}

const float *trine__scan_row(const trine__scan *s, int n, int i, int t, int *count)
{
    *count = tile_count(s, t);
    return s->rows + (size_t)t * (size_t)n * (size_t)trine_knn_stride(s->op, s->tile) +
           (size_t)i * (size_t)trine_knn_stride(s->op, *count);
}

trine_status trine__scan_nearest(trine__scan *s, const float *queries, int n, int self, float *distances,
                                 int32_t *indices)
{
    trine_status status;
    const size_t list = (size_t)n * (size_t)s->k * sizeof(float);
    TRINE_TRY_GOTO(trine_buffer_write(s->stream, s->q, 0, queries, (size_t)n * s->dim * sizeof(float)));
    for (int t = 0; t < s->tiles; t++) {
        TRINE_TRY_GOTO(scan_tile(s, n, t));
        TRINE_TRY_GOTO(trine_knn_select(s->op, s->stream, s->out, n, tile_count(s, t), t * s->tile, self,
                                        t == 0, s->k, s->best, s->at));
    }
    TRINE_TRY_GOTO(trine_buffer_read(s->stream, s->best, 0, distances, list));
    status = trine_buffer_read(s->stream, s->at, 0, indices, list);
cleanup:
    if (status != TRINE_OK) trine_stream_sync(s->stream); /* copies of the host's vectors */
    return status;
}

void trine__scan_release(trine__scan *s)
{
    trine__buffer_set_release(&s->buffers);
    trine_knn_destroy(&s->op);
    free(s->rows);
    *s = (trine__scan){0};
}
