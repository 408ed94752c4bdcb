/* SPDX-License-Identifier: MIT */
/** Exact nearest neighbours: tiles of distances between vectors, and each query's k nearest across tiles. */
#ifndef TRINE_KNN_H
#define TRINE_KNN_H

#include "trine/loss.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A search in vectors of one length. The base is scanned tile by tile: memory is that of a tile, however long the base. What is
 *  called distance here has its order: TRINE_EUCLIDEAN and TRINE_SQUARED give sum_d (b_d - q_d)^2, TRINE_COSINE
 *  1 - <b, q> / (max(|b|, 1e-8) * max(|q|, 1e-8)), TRINE_DOT -<b, q>. Used by one thread at a time. */
typedef struct trine_knn trine_knn;

/** @return TRINE_ERR_ARG: dim < 1, unknown distance */
TRINE_API trine_status trine_knn_create(trine_context *context, int dim, trine_distance distance,
                                        trine_knn **out);
/** Floats from one query's distances to the next one's in a tile of `base` vectors: >= base. */
TRINE_API int trine_knn_stride(const trine_knn *op, int base);
/** Bytes of workspace for a tile of so many queries and base vectors. */
TRINE_API size_t trine_knn_workspace_bytes(const trine_knn *op, int queries, int base);
/** Distances in single precision of every query to every vector of a tile. Each is off by at most `relative` times itself plus
 *  `absolute` (trine_knn_error()).
 *  @param queries   [query_count][dim] floats
 *  @param base      [base_count][dim] floats
 *  @param workspace >= trine_knn_workspace_bytes(op, query_count, base_count); contents undefined after
 *  @param out       [query_count][trine_knn_stride(op, base_count)] written; what lies behind a row's end is undefined
 *  @return TRINE_ERR_ARG, TRINE_ERR_SHAPE (a buffer is too small, a tile exceeds 2^31 floats), TRINE_ERR_WORKSPACE */
TRINE_API trine_status trine_knn_distances(trine_knn *op, trine_stream *stream, const trine_buffer *queries,
                                           int query_count, const trine_buffer *base, int base_count,
                                           trine_buffer *workspace, trine_buffer *out);
/** Merge a tile of distances into every query's list of its k nearest, nearest first, ties by lowest index. Tiles come in the order of
 *  their vectors. A list that is not full ends in (infinity, -1); what is at NaN or infinity from a query is in none.
 *  @param tile  as trine_knn_distances() wrote it
 *  @param first number of the tile's first vector in the base; 0 <= first, first + base_count < 2^31
 *  @param self  number of query 0 in the base, where the queries follow each other there and each leaves itself out; else -1
 *  @param begin 1: the lists are empty, whatever is in them
 *  @param distances,indices [query_count][k] floats and 32-bit integers, read and written */
TRINE_API trine_status trine_knn_select(trine_knn *op, trine_stream *stream, const trine_buffer *tile,
                                        int query_count, int base_count, int first, int self, int begin,
                                        int k, trine_buffer *distances, trine_buffer *indices);
/** How far a distance of trine_knn_distances() may be from that of the same floats in exact arithmetic: relative * |distance| +
 *  absolute (the summation bound of Higham 2002, section 4.2, for sums in chunks; TRINE_COSINE and TRINE_DOT: `absolute` alone).
 *  @param a,b lengths of the two vectors */
TRINE_API void trine_knn_error(const trine_knn *op, double a, double b, double *relative, double *absolute);
TRINE_API void trine_knn_destroy(trine_knn **op);

#ifdef __cplusplus
}
#endif
#endif
