/* SPDX-License-Identifier: MIT */
/** Exact search among vectors, and indexes: vectors with their images' paths and classes in one file. */
#ifndef TRINE_INDEX_H
#define TRINE_INDEX_H

#include "trine/loss.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The k nearest of every query, nearest first, ties by lowest index: exactly those of distances in double precision. The device finds
 *  candidates in single precision, tile by tile; the host orders them in double, and searches itself where the error bound does not
 *  exclude the rest. Waits.
 *  @param base    [count][dim]  @param queries [query_count][dim]
 *  @param self    number of query 0 in the base, where the queries follow each other there and each leaves itself out; else -1
 *  @param indices,distances [query_count][k] written: numbers in the base, and true distances (TRINE_DOT: negative inner products);
 *                 where the base has fewer than k, (-1, infinity)
 *  @return TRINE_ERR_ARG; TRINE_ERR_DATA: no vectors, or 2^31 */
TRINE_API trine_status trine_search(trine_stream *stream, const float *base, size_t count, int dim,
                                    trine_distance distance, const float *queries, size_t query_count, int k,
                                    int self, int32_t *indices, double *distances);

/** Two vectors, first < second. */
typedef struct trine_pair {
    int first, second;
    double distance;
} trine_pair;

/** Every pair of vectors within a distance of each other, by first, then by second; decided in double precision. Waits.
 *  @param pairs [*pair_count] the caller frees them with free() */
TRINE_API trine_status trine_pairs_within(trine_stream *stream, const float *base, size_t count, int dim,
                                          trine_distance distance, double threshold, trine_pair **pairs,
                                          size_t *pair_count);

/** Vectors of one length, each with a path and a class (as texts), and metadata by key. */
typedef struct trine_index trine_index;

/** An empty one. @return TRINE_ERR_ARG: dim < 1 */
TRINE_API trine_status trine_index_create(int dim, trine_index **out);
/** Append.  @param vectors [count][dim]  @param paths,classes [count] texts, copied; classes may be NULL, and each of them */
TRINE_API trine_status trine_index_add(trine_index *index, const float *vectors, size_t count,
                                       const char *const *paths, const char *const *classes);
/** Read a file that trine_index_write() wrote: safetensors with "vectors" F32 [count][dim], "paths" and "classes" U8 (a text each, a NUL
 *  behind it), and metadata: "trine.index" (the format's version, 1), "hash" of everything else, and whatever was set.
 *  @return TRINE_ERR_OPEN; TRINE_ERR_FORMAT: no index, another version, damaged */
TRINE_API trine_status trine_index_read(const char *path, trine_index **out);
/** Write atomically; equal indexes give equal bytes.  @return TRINE_ERR_ARG: the name ends neither in .index nor in .safetensors;
 *  TRINE_ERR_WRITE */
TRINE_API trine_status trine_index_write(const trine_index *index, const char *path);
TRINE_API size_t trine_index_count(const trine_index *index);
TRINE_API int trine_index_dim(const trine_index *index);
/** [count][dim]; belongs to the index, until the next trine_index_add(). */
TRINE_API const float *trine_index_vectors(const trine_index *index);
/** Path and class ("" for none) of vector i; NULL outside. */
TRINE_API const char *trine_index_path(const trine_index *index, size_t i);
TRINE_API const char *trine_index_class(const trine_index *index, size_t i);
/** Metadata by key, or NULL; set or replace (copied), NULL removes. */
TRINE_API const char *trine_index_metadata(const trine_index *index, const char *key);
TRINE_API trine_status trine_index_set_metadata(trine_index *index, const char *key, const char *value);
/** Destroy and set *index to NULL; accepts NULL. */
TRINE_API void trine_index_destroy(trine_index **index);

#ifdef __cplusplus
}
#endif
#endif
