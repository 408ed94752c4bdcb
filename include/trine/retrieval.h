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
/** Every vector over max(its length, 1e-12), torch.nn.functional.normalize; lengths in double.  @param data [count][dim] in and out */
TRINE_API void trine_vectors_normalize(float *data, size_t count, int dim);
/** Vectors of a file: .fvecs by its name, else .npy of float32 [count][dim]. Labels and indices of the result are NULL.
 *  @return TRINE_ERR_OPEN; TRINE_ERR_FORMAT; TRINE_ERR_DATA: a value that is not finite */
TRINE_API trine_status trine_vectors_read(const char *path, trine_vectors *out);
/** Write them atomically: .fvecs by the name, else .npy.  @param data [count][dim]  @return TRINE_ERR_WRITE */
TRINE_API trine_status trine_vectors_write(const char *path, const float *data, size_t count, int dim);
/** Free the arrays and clear the struct; accepts NULL and a cleared struct. */
TRINE_API void trine_vectors_free(trine_vectors *vectors);

/** Most figures of recall beyond those at 1 and 5. */
enum { TRINE_RECALLS = 16 };

/** Figures of one class: counts of its vectors, means over its queries. */
typedef struct trine_retrieval_class {
    int label;
    size_t count, queries;
    double recall_at_1, r_precision, map_at_r, map;
} trine_retrieval_class;

/** What to measure. Zeros measure the plain figures by the euclidean distance. */
typedef struct trine_retrieval_options {
    trine_distance distance;
    int threads;   /**< of the host; 0: one a processor */
    const int *ks; /**< [k_count] numbers >= 1: recall at each of them */
    int k_count;   /**< 0 to TRINE_RECALLS */
    int per_class; /**< 1: the figures of every class */
    void (*progress)(void *user, size_t done, size_t all); /**< of vectors; may be NULL */
    void *progress_user;
} trine_retrieval_options;

/** Retrieval figures, each the mean over the queries that have a positive; each query ranks all others by distance, ties by lowest
 *  index.  R = number of positives of the query.  Musgrave et al. 2020; mean average precision as in Manning et al. 2008, section 8.4. */
typedef struct trine_retrieval {
    size_t count;   /**< vectors */
    size_t queries; /**< those with at least one positive; the others are left out */
    double recall_at_1,
        recall_at_5;    /**< share of queries with a positive among the first 1 (also precision at 1), 5 */
    double r_precision; /**< positives among the first R, over R */
    double map_at_r;    /**< mean over i <= R of precision at i where i is a positive, over R */
    double map;         /**< mean over the positives of precision at their rank */
    double recall[TRINE_RECALLS]; /**< at options->ks */
    trine_retrieval_class
        *classes; /**< [class_count] by label, where options->per_class; trine_retrieval_free() */
    size_t class_count;
} trine_retrieval;

/** The rankings are those of distances in double precision: the device finds distances in single precision, tile by tile, and what
 *  their error bound leaves open is decided on the host. Vectors with NaN are farthest of all. Memory: 512 MiB at most beside the vectors,
 *  and a few values a vector. Waits.
 *  @param data [count][dim]  @param labels [count]
 *  @return TRINE_ERR_DATA: no query has a positive */
TRINE_API trine_status trine_retrieval_measure(trine_stream *stream, const float *data, const int *labels,
                                               size_t count, int dim, const trine_retrieval_options *options,
                                               trine_retrieval *out);
/** Free the classes and clear the struct; accepts NULL and a cleared struct. */
TRINE_API void trine_retrieval_free(trine_retrieval *figures);

/** How to make clusters. */
typedef struct trine_cluster_options {
    int clusters;   /**< 1 to count */
    uint64_t seed;  /**< of the first centres */
    int iterations; /**< most of them; 0: 100 */
    int normalize;  /**< 1: of the vectors at length 1 */
    int threads;    /**< of the host; 0: one a processor */
} trine_cluster_options;

/** k-means (Lloyd 1982): first centres by k-means++ (Arthur and Vassilvitskii 2007), or, beyond 1024 clusters, vectors drawn at random;
 *  then vectors go to their nearest centre, ties to the lowest, and centres to their vectors' mean until no vector moves. A cluster
 *  without vectors takes the one farthest from its centre. Equal seeds give equal clusters on one device. Waits.
 *  @param data [count][dim] finite  @param assignment [count] written: 0 to clusters - 1
 *  @return TRINE_ERR_ARG: clusters; TRINE_ERR_DATA: a value that is not finite */
TRINE_API trine_status trine_cluster(trine_stream *stream, const float *data, size_t count, int dim,
                                     const trine_cluster_options *options, int *assignment);
/** Normalised mutual information of two labellings, I(a, b) / ((H(a) + H(b)) / 2), natural logarithms; 1 where both have one value.
 *  Manning et al. 2008, section 16.3; scikit-learn's normalized_mutual_info_score().  @param a,b [count] */
TRINE_API trine_status trine_mutual_information(const int *a, const int *b, size_t count, double *out);

#ifdef __cplusplus
}
#endif
#endif
