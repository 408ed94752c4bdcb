/* SPDX-License-Identifier: MIT */
/** Losses on embeddings and logits, with their gradients: triplet losses, softmax cross-entropy, L2 normalisation. */
#ifndef TRINE_LOSS_H
#define TRINE_LOSS_H

#include "trine/optimizer.h"
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

/** The losses on the distances within a batch. An anchor is an embedding of the batch, its positives are the other candidates of its
 *  class, its negatives those of other classes; a term is what a loss is a mean of. S = 1 - distance is the similarity. */
typedef enum trine_triplet_loss {
    /** max(0, d_ap - d_an + margin), or softened, over the triplets that trine_mining chooses */
    TRINE_LOSS_TRIPLET = 0,
    /** Wang et al. 2017, eq. 8: mean over anchor-positive pairs of log(1 + sum_n exp(f)),
     *  f = 4 tan^2(angle) (S_an + S_pn) - 2 (1 + tan^2(angle)) S_ap; cosine distance; all negatives */
    TRINE_LOSS_ANGULAR = 1,
    /** Wang et al. 2019, eq. 13: mean over anchors of log(1 + sum_P exp(-alpha (S - base))) / alpha + log(1 + sum_N exp(beta (S - base)))
     *  / beta; cosine distance; P: the positives with S < S of the closest negative + epsilon, N: the negatives with S > S of the farthest
     *  positive - epsilon (its miner, eq. 11 and 12; epsilon infinite: all of them) */
    TRINE_LOSS_MULTI_SIMILARITY = 2,
    /** Sohn 2016, eq. 6, Chen et al. 2020, eq. 1: mean over anchor-positive pairs of
     *  -log(exp(-d_ap / temperature) / (exp(-d_ap / temperature) + sum_n exp(-d_an / temperature))); all negatives */
    TRINE_LOSS_NT_XENT = 3
} trine_triplet_loss;

/** Which triplets count. Ties go to the lowest index; an anchor without positives or without negatives has no triplet. */
typedef enum trine_mining {
    TRINE_BATCH_HARD =
        0, /**< per anchor: farthest positive, closest negative; mean over anchors (Hermans et al. 2017) */
    TRINE_BATCH_ALL = 1, /**< every triplet; mean over those whose loss is positive (Hermans et al. 2017) */
    TRINE_SEMI_HARD =
        2, /**< per anchor-positive pair: the closest negative with window_lower < d_an - d_ap < window_upper, if there is none the
                farthest (with a window_upper: no triplet); mean (Schroff et al. 2015: lower 0, no upper) */
    TRINE_EASY_POSITIVE =
        3, /**< per anchor: closest positive, and the negative that `negative` says; mean (Xuan et al. 2020) */
    TRINE_DISTANCE_WEIGHTED =
        4, /**< per anchor-positive pair: a negative drawn with weight 1 / q(max(d, weight_lower)), 0 from weight_upper on,
                q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2), d being |a-b| of unit vectors of D dimensions; where no negative has a weight, all
                have the same; mean (Wu et al. 2017). Draws depend on seed, step, anchor and positive alone. */
    TRINE_HARDEST_FRACTION =
        5 /**< batch-all with the closest ceil(fraction * negatives) negatives of each anchor */
} trine_mining;

typedef enum trine_negative {
    TRINE_HARDEST_NEGATIVE = 0,   /**< the closest */
    TRINE_SEMI_HARD_NEGATIVE = 1, /**< as TRINE_SEMI_HARD */
    TRINE_EASIEST_NEGATIVE = 2    /**< the farthest */
} trine_negative;

typedef enum trine_distance {
    TRINE_EUCLIDEAN = 0, /**< sqrt(max(|a-b|^2, 1e-12)), no gradient where clamped */
    TRINE_SQUARED = 1,   /**< |a-b|^2 */
    TRINE_COSINE = 2,    /**< 1 - <a,b> / (max(|a|, 1e-8) * max(|b|, 1e-8)) */
    TRINE_DOT = 3        /**< -<a,b>: of nearest neighbours (trine/knn.h), not of losses */
} trine_distance;

/** A loss. What is zero-initialised is a triplet loss in batch-hard; trine_triplet_desc_default() has the papers' values for all. */
typedef struct trine_triplet_desc {
    trine_mining mining; /**< triplet */
    trine_distance distance;
    int soft; /**< triplet: 1: temperature * log(1 + exp((d_ap - d_an) / temperature)) instead of max(0, d_ap - d_an + margin); with
                       batch-all and hardest-fraction the mean is then one over all triplets */
    float margin; /**< triplet: >= 0; not used by soft */
    trine_triplet_loss loss;
    trine_negative negative; /**< easy-positive */
    int swap; /**< triplet: 1: d_an = min(d(a,n), d(p,n)) in the loss, not in the mining (Balntas et al. 2016) */
    float temperature; /**< soft, nt-xent: > 0; 0: 1 */
    int learn_temperature; /**< soft, nt-xent: 1: the temperature is a parameter that begins there, at TRINE_LEAST_TEMPERATURE or above,
                                and that trine_triplet_step_temperature() moves */
    float fraction; /**< hardest-fraction: in (0, 1] */
    float window_lower,
        window_upper; /**< semi-hard: offsets from d_ap; no upper one where it is not above the lower */
    float weight_lower, weight_upper; /**< distance-weighted: 0 < lower < upper < 2 */
    uint64_t seed;                    /**< distance-weighted */
    float angle;                      /**< angular: in degrees, in (0, 90) */
    float alpha, beta, base, epsilon; /**< multi-similarity: > 0, > 0, any, >= 0 or INFINITY */
} trine_triplet_desc;

/** Batch-hard with margin 0.2 over Euclidean distances, or another loss over cosine distances; temperature 1 (nt-xent: 0.1), fraction
 *  0.1, no window, weights from 0.5 to 1.4, angle 45, alpha 2, beta 50, base 0.5, epsilon 0.1. */
TRINE_API trine_triplet_desc trine_triplet_desc_default(trine_triplet_loss loss);

/** Floats per slot of trine_triplet_run()'s stats. */
enum { TRINE_TRIPLET_STATS = 7 };

/** A temperature that is learnt falls no lower: similarities are then scaled by 100, CLIP's bound (Radford et al. 2021). */
#define TRINE_LEAST_TEMPERATURE 0.01f

/** Embeddings and classes of earlier batches on the device, which are candidates beside a batch and get no gradient: a ring in which
 *  the newest take the place of the oldest. Source: Wang et al. 2020 (cross-batch memory). */
typedef struct trine_triplet_memory trine_triplet_memory;
/** @param rows embeddings that fit, >= 1  @param d, cb as of the embeddings that will be added */
TRINE_API trine_status trine_triplet_memory_create(trine_context *context, int rows, int d, int cb,
                                                   trine_triplet_memory **out);
/** Enqueue a copy of a batch (of its last `rows` embeddings, if it has more).
 *  @param e [N,D,1,1]  @param labels [N] 32-bit integers; neither is retained */
TRINE_API trine_status trine_triplet_memory_add(trine_triplet_memory *memory, trine_stream *stream,
                                                const trine_tensor *e, const trine_buffer *labels);
/** Embeddings in it. */
TRINE_API int trine_triplet_memory_count(const trine_triplet_memory *memory);
TRINE_API void trine_triplet_memory_destroy(trine_triplet_memory **memory);

/** One of the losses, mined within a batch. Extra memory: two float matrices of N anchors x candidates, semi-hard and
 *  distance-weighted three (with swap and a memory four), angular with a memory three, batch-hard and easy-positive one of at most 2^20 elements or 16 anchors. */
typedef struct trine_triplet trine_triplet;
/** @return TRINE_ERR_ARG (a value out of the ranges above; angular or multi-similarity without cosine distance) */
TRINE_API trine_status trine_triplet_create(trine_context *context, const trine_triplet_desc *desc,
                                            trine_triplet **out);
/** Candidates of the runs from now on beside the batch; NULL: none. Not owned. The workspace grows. With swap and angular, distances
 *  between remembered positives and remembered negatives are measured as they are needed, and not kept. */
TRINE_API trine_status trine_triplet_set_memory(trine_triplet *op, const trine_triplet_memory *memory);
/** Number of the next run, which decides what distance-weighted mining draws. */
TRINE_API void trine_triplet_set_step(trine_triplet *op, uint64_t step);
/** With a full memory, if one is set. */
TRINE_API size_t trine_triplet_workspace_bytes(const trine_triplet *op, int n);
/** Loss and gradient.
 *  @param e       [N,D,1,1] embeddings, any cb; N and the memory's rows are at most 32767 in all
 *  @param labels  [N] 32-bit integers
 *  @param de      like e, written (padding channels zero); NULL: loss only
 *  @param stats   TRINE_TRIPLET_STATS floats at float offset slot * TRINE_TRIPLET_STATS, written: loss (0 if there is no term);
 *                 active terms; terms in all; mean d_ap and mean d_an over the terms in all; mean |e|; the
 *                 temperature (0: the loss has none).
 *                 triplet: active with positive loss, d_an as the loss takes it; angular, nt-xent: a pair is active if exp() of a negative
 *                 is above 1, its d_an is the mean over the negatives; multi-similarity: an anchor is active if pairs are left, distances
 *                 are means over those of the active */
TRINE_API trine_status trine_triplet_run(trine_triplet *op, trine_stream *stream, const trine_tensor *e,
                                         const trine_buffer *labels, trine_tensor *de, trine_buffer *stats,
                                         int slot, trine_buffer *workspace);
/** With learn_temperature, after a run: enqueue a step of log(temperature) down its gradient by that run's loss (nothing moves where
 *  that is not finite), then hold the temperature at TRINE_LEAST_TEMPERATURE or above. A soft margin's gradient is never negative: its
 *  temperature only falls.
 *  @param optimizer made for one float; the step is counted here  @return TRINE_ERR_ARG: no temperature is learnt */
TRINE_API trine_status trine_triplet_step_temperature(trine_triplet *op, trine_stream *stream,
                                                      trine_optimizer *optimizer, float lr);
/** What it has come to, and d loss / d log(temperature) of the last run; each may be NULL. Waits. */
TRINE_API trine_status trine_triplet_read_temperature(const trine_triplet *op, trine_stream *stream,
                                                      float *temperature, float *gradient);
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
