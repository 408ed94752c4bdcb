/* SPDX-License-Identifier: MIT */
/* Distances of blocks of queries to vectors that lie on the host, which pass through the device tile by tile. */
#ifndef TRINE_LEARN_SCAN_H
#define TRINE_LEARN_SCAN_H

#include <stdint.h>

#include "rt/stream.h"
#include "trine/knn.h"

typedef struct trine__scan {
    trine_stream *stream;
    trine_knn *op;
    const float *base; /* [count][dim], not owned */
    size_t count, dim;
    int queries; /* most of a block */
    int tile;    /* vectors of a tile */
    int tiles, k;
    trine__buffer_set buffers;
    trine_buffer *q, *b, *work, *out, *best, *at;
    float *rows; /* of trine__scan_rows() */
} trine__scan;

/* For lists of the k nearest (k >= 1), or for whole rows of distances (k = 0). At most `most_queries` come at once.
 * Memory: the tiles, and for rows at most 512 MiB on the host (or one row). TRINE_ERR_DATA: 2^31 vectors or more. */
trine_status trine__scan_create(trine_stream *stream, const float *base, size_t count, int dim,
                                trine_distance distance, int k, size_t most_queries, trine__scan *scan);
/* Every distance of n <= scan->queries queries. Waits. Read them with trine__scan_row(). */
trine_status trine__scan_rows(trine__scan *scan, const float *queries, int n);
/* Query i's distances to the vectors of tile t; *count of them. */
const float *trine__scan_row(const trine__scan *scan, int n, int i, int t, int *count);
/* The k nearest of n <= scan->queries queries, nearest first, as trine_knn_select() leaves them. Waits.
 * @param self number of query 0 in the base, or -1  @param distances,indices [n][k] */
trine_status trine__scan_nearest(trine__scan *scan, const float *queries, int n, int self, float *distances,
                                 int32_t *indices);
void trine__scan_release(trine__scan *scan);

#endif
