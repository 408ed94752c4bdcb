/* SPDX-License-Identifier: MIT */
/** Losses on embeddings and logits, with their gradients: triplet losses, softmax cross-entropy, L2 normalisation. */
#ifndef TRINE_LOSS_H
#define TRINE_LOSS_H

#include "trine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/** L2 normalisation of rows, torch.nn.functional.normalize: y = x / max(|x|, 1e-12). */
typedef struct trine_l2norm trine_l2norm;
TRINE_API trine_status trine_l2norm_create(trine_context *context, trine_l2norm **out);
/** @param x [N,D,1,1] any cb (rows of D rounded up to cb floats)  @param y like x, may be x  @param norms [N] written: |x| */
TRINE_API trine_status trine_l2norm_forward(trine_l2norm *op, trine_stream *stream, const trine_tensor *x,
                                            trine_tensor *y, trine_buffer *norms);
/** dx = (dy - y * <y, dy>) / |x|; dy / 1e-12 where clamped. dx may be dy. */
TRINE_API trine_status trine_l2norm_backward(trine_l2norm *op, trine_stream *stream, const trine_tensor *y,
                                             const trine_buffer *norms, const trine_tensor *dy,
                                             trine_tensor *dx);
TRINE_API void trine_l2norm_destroy(trine_l2norm **op);

/** Mean softmax cross-entropy, torch.nn.CrossEntropyLoss(). */
typedef struct trine_cross_entropy trine_cross_entropy;
TRINE_API trine_status trine_cross_entropy_create(trine_context *context, trine_cross_entropy **out);
/** loss = mean_n( log(sum_k exp(z[n][k] - max)) - z[n][label] + max );  dz = (softmax - onehot) / N.
 *  @param logits  [N,K,1,1] cb 1
 *  @param labels  [N] 32-bit integers in [0, K)
 *  @param dlogits like logits, written; NULL: loss only
 *  @param stats   [2] floats at float offset `slot` * 2, written: loss; share of rows whose largest logit is the label's */
TRINE_API trine_status trine_cross_entropy_run(trine_cross_entropy *op, trine_stream *stream,
                                               const trine_tensor *logits, const trine_buffer *labels,
                                               trine_tensor *dlogits, trine_buffer *stats, int slot);
TRINE_API void trine_cross_entropy_destroy(trine_cross_entropy **op);

typedef enum trine_mining {
    TRINE_BATCH_HARD = 0, /**< per anchor with both: hardest positive, hardest negative; mean over anchors */
    TRINE_BATCH_ALL = 1,  /**< every triplet; mean over those whose loss is positive */
    TRINE_SEMI_HARD =
        2 /**< per anchor-positive pair: closest negative farther than the positive, else the farthest; mean */
} trine_mining;

typedef enum trine_distance {
    TRINE_EUCLIDEAN = 0, /**< sqrt(max(|a-b|^2, 1e-12)), no gradient where clamped */
    TRINE_SQUARED = 1,   /**< |a-b|^2 */
    TRINE_COSINE = 2,    /**< 1 - <a,b> / (max(|a|, 1e-8) * max(|b|, 1e-8)) */
    TRINE_DOT = 3        /**< -<a,b>: of nearest neighbours (trine/knn.h), not of losses */
} trine_distance;

typedef struct trine_triplet_desc {
    trine_mining mining;
    trine_distance distance;
    int soft;     /**< 1: softplus(d_ap - d_an) instead of max(0, d_ap - d_an + margin); not with batch-all */
    float margin; /**< >= 0; not used by soft */
} trine_triplet_desc;

/** Floats per slot of trine_triplet_run()'s stats. */
enum { TRINE_TRIPLET_STATS = 6 };

/** Triplet loss mined within a batch. Extra memory: two N x N float matrices. Ties go to the lowest index. */
typedef struct trine_triplet trine_triplet;
/** @return TRINE_ERR_ARG (margin negative or NaN; soft with batch-all) */
TRINE_API trine_status trine_triplet_create(trine_context *context, const trine_triplet_desc *desc,
                                            trine_triplet **out);
TRINE_API size_t trine_triplet_workspace_bytes(const trine_triplet *op, int n);
/** Loss and gradient.  Sources: Hermans et al. 2017 (batch-hard, batch-all), Schroff et al. 2015 (semi-hard).
 *  @param e       [N,D,1,1] embeddings, any cb
 *  @param labels  [N] 32-bit integers
 *  @param de      like e, written (padding channels zero); NULL: loss only
 *  @param stats   TRINE_TRIPLET_STATS floats at float offset slot * TRINE_TRIPLET_STATS, written: loss (0 if there is no triplet);
 *                 terms with positive loss; terms in all (anchors, pairs or triplets); mean d_ap and mean d_an over the terms in
 *                 all (batch-all: over all triplets); mean |e| */
TRINE_API trine_status trine_triplet_run(trine_triplet *op, trine_stream *stream, const trine_tensor *e,
                                         const trine_buffer *labels, trine_tensor *de, trine_buffer *stats,
                                         int slot, trine_buffer *workspace);
TRINE_API void trine_triplet_destroy(trine_triplet **op);

typedef enum trine_reduction {
    TRINE_REDUCE_NONE = 0,
    TRINE_REDUCE_MEAN = 1,
    TRINE_REDUCE_SUM = 2
} trine_reduction;

/** torch.nn.TripletMarginLoss: d(a,b) = (sum |a - b + eps|^p)^(1/p); with swap, d_an = min(d(a,n), d(p,n)). */
typedef struct trine_triplet_margin_desc {
    float margin; /**< 1 in PyTorch */
    float p;      /**< > 0; 2 in PyTorch */
    float eps;    /**< 1e-6 in PyTorch */
    int swap;
    trine_reduction reduction;
} trine_triplet_margin_desc;
typedef struct trine_triplet_margin trine_triplet_margin;
TRINE_API trine_status trine_triplet_margin_create(trine_context *context,
                                                   const trine_triplet_margin_desc *desc,
                                                   trine_triplet_margin **out);
/** @param a,p,n  [N,D,1,1] anchors, positives, negatives, one cb
 *  @param da,dp,dn like a, written, each may be NULL
 *  @param loss   [N] written: per-row loss max(0, d_ap - d_an + margin); with MEAN or SUM element 0 of `total` holds the reduced one
 *  @param total  [1], may be NULL with TRINE_REDUCE_NONE (the gradients are then those of the sum) */
TRINE_API trine_status trine_triplet_margin_run(trine_triplet_margin *op, trine_stream *stream,
                                                const trine_tensor *a, const trine_tensor *p,
                                                const trine_tensor *n, trine_tensor *da, trine_tensor *dp,
                                                trine_tensor *dn, trine_buffer *loss, trine_buffer *total);
TRINE_API void trine_triplet_margin_destroy(trine_triplet_margin **op);

#ifdef __cplusplus
}
#endif
#endif
