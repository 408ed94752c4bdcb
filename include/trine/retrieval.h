/* SPDX-License-Identifier: MIT */
/** Images to vectors, and how well the vectors retrieve. */
#ifndef TRINE_RETRIEVAL_H
#define TRINE_RETRIEVAL_H

#include "trine/image.h"
#include "trine/loss.h"
#include "trine/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How vectors are taken from a data set. */
typedef struct trine_embed_options {
    trine_preprocess preprocess;
    trine_embedding embedding; /**< pooled features or fc's output */
    int normalize;             /**< 1: L2-normalise each vector */
    int batch;                 /**< images at a time, >= 1; 0: 32 */
    int threads;               /**< decoding threads; 0: one a processor */
    int skip_bad; /**< 1: unreadable images are named (log), counted and left out; 0: the first one fails */
    trine_log_fn log;
    void *log_user;
    void (*progress)(void *user, size_t done, size_t all); /**< may be NULL */
    void *progress_user;
} trine_embed_options;

/** Vectors of a data set, in its order. */
typedef struct trine_vectors {
    float *data;  /**< [count][dim] */
    int *labels;  /**< [count] */
    int *indices; /**< [count] image number in the data set */
    size_t count;
    int dim;
    size_t bad; /**< unreadable images left out */
} trine_vectors;

/** Evaluation mode over every image; the network cannot change. @return TRINE_ERR_DATA: all images bad, or of mixed sizes */
TRINE_API trine_status trine_embed_dataset(const trine_resnet *net, trine_stream *stream,
                                           const trine_dataset *data, const trine_embed_options *options,
                                           trine_vectors *out);
/** The same for an array. @param x [n][c][h][w] preprocessed; labels of the result are NULL */
TRINE_API trine_status trine_embed_array(const trine_resnet *net, trine_stream *stream, const float *x,
                                         const trine_shape *shape, const trine_embed_options *options,
                                         trine_vectors *out);
/** Free the arrays and clear the struct; accepts NULL and a cleared struct. */
TRINE_API void trine_vectors_free(trine_vectors *vectors);

/** Retrieval figures, each the mean over the queries that have a positive; each query ranks all others by distance, ties by lowest
 *  index.  R = number of positives of the query.  Musgrave et al. 2020. */
typedef struct trine_retrieval {
    size_t count;                    /**< vectors */
    size_t queries;                  /**< those with at least one positive */
    double recall_at_1, recall_at_5; /**< share of queries with a positive among the first 1, 5 */
    double r_precision;              /**< positives among the first R, over R */
    double map_at_r;                 /**< mean over i <= R of precision at i where i is a positive, over R */
} trine_retrieval;

/** @param data [count][dim]  @param labels [count]  @param threads 0: one a processor
 *  @return TRINE_ERR_DATA: no query has a positive */
TRINE_API trine_status trine_retrieval_measure(const float *data, const int *labels, size_t count, int dim,
                                               trine_distance distance, int threads, trine_retrieval *out);

#ifdef __cplusplus
}
#endif
#endif
