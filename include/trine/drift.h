/* SPDX-License-Identifier: MIT */
/** What training-mode forward passes without an optimizer step do to a network's BatchNorm statistics. */
#ifndef TRINE_DRIFT_H
#define TRINE_DRIFT_H

#include "trine/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/** State of the network after `step` training-mode passes; row 0 is before any. All figures are taken in evaluation mode over the
 *  same images; norms are means of the per-image norms. */
typedef struct trine_drift_row {
    int step;
    double embedding_norm; /**< before normalisation */
    double logit_norm;     /**< of fc's output, the final layer */
    double cosine;         /**< mean over the images of the cosine between the embedding and that of row 0 */
} trine_drift_row;

/** What moved in one BatchNorm layer, and where it is heading. The batch being the same at every pass, its statistics in this layer
 *  are the same too (layers before it normalise with the batch, or with running statistics that do not move), and the running ones
 *  approach them geometrically. With d = |batch mean - running_mean|_2 before the passes, after k passes it is
 *    momentum a: running = (1-a)*running + a*batch        (1-a)^k * d
 *    cumulative: running = (n*running + batch)/(n+1)      n/(n+k) * d, n being num_batches_tracked before the passes
 *  and the same for the variance, unbiased as running_var is. Statistics that have overflowed make NaN. */
typedef struct trine_drift_layer {
    char name[64]; /**< canonical */
    /** "train", "eval", "no-update", "cumulative", as in force; "untracked": it has no running statistics */
    char policy[32];
    double mean_moved; /**< |running_mean - before|_2 / |sqrt(running_var before)|_2 */
    double var_moved;  /**< |running_var - before|_2 / |running_var before|_2 */
    /** |batch mean - running_mean|_2 / |sqrt(running_var)|_2 now: how far it still has to go; this and the three below are 0 where
     *  the layer does not normalise with the batch */
    double mean_distance;
    double var_distance;         /**< |batch variance - running_var|_2 / |running_var|_2 now */
    double mean_distance_before; /**< as mean_distance, before the passes */
    double var_distance_before;  /**< as var_distance, before the passes */
    /** |batch mean - running_mean|_2 now / before the passes, by the law above (1-a)^passes or n/(n+passes); not the quotient of
     *  the two distances, whose unit moves too. 0 where there was nothing to go but float32's rounding; NaN where the layer does not
     *  normalise with the batch */
    double mean_remaining;
    /** Further passes, by the law above, until mean_remaining is 0.01 or less: 0 if it is; NaN, for never, where the layer does not
     *  update or its momentum is 0 */
    double passes_to_1_percent;
    double
        share; /**< |embedding change undone by restoring this layer alone| / sum over layers; 0 if nothing moved */
} trine_drift_layer;

typedef struct trine_drift_report {
    trine_drift_row *rows; /**< [row_count], row_count = passes + 1 */
    int row_count;
    trine_drift_layer *layers; /**< [layer_count], forward order */
    int layer_count;
} trine_drift_report;

/** Run `passes` training-mode passes under the network's policies over one batch, the same every time, and look after each. The
 *  network is left as the passes left it.
 *  @param x         [N,C,H,W] NCHW host float32, preprocessed
 *  @param embedding which one the report is about
 *  @return TRINE_ERR_SHAPE (one value per channel under batch statistics names layer and remedies), TRINE_ERR_ARG (passes < 0) */
TRINE_API trine_status trine_drift_run(trine_resnet *net, trine_stream *stream, const float *x,
                                       const trine_shape *shape, trine_embedding embedding, int passes,
                                       trine_drift_report *out);
/** Free the arrays and clear the struct; accepts NULL and a cleared struct. */
TRINE_API void trine_drift_report_free(trine_drift_report *report);

/** What one remedy does, measured. Equal means within 1e-4 of the norm for outputs, 1e-3 for gradients. */
typedef struct trine_remedy {
    char name[32];
    char *bn;     /**< its policies, as for trine_resnet_set_bn() */
    int possible; /**< 0: "batch of one" leaves one value per channel; no other figure means anything */
    int statistics_move; /**< a running mean or variance is not what it was, in the end; counters alone do not count */
    int train_equals_eval; /**< the first pass gives the embeddings that evaluation gives */
    int depends_on_batch;  /**< the first image's embedding changes when the images beside it do */
    int gradient_matches_eval; /**< the gradients with regard to all parameters, also those that are frozen, are those of the
                                    function that evaluation uses; the loss is a fixed weighted sum of the embeddings */
    double drift; /**< |last norm - first norm| / first norm */
    double *
        norms; /**< [norm_count] mean norm of the embeddings in evaluation mode: before any pass, after each, and, where
                         the remedy acts after the passes, after that */
    int norm_count; /**< passes + 1 or passes + 2 */
} trine_remedy;

typedef struct trine_remedies {
    trine_remedy *items; /**< [count] */
    int count;
    trine_drift_report
        drift; /**< of "nothing", as trine_drift_run() gives it with the policy train everywhere */
} trine_remedies;

/** Try every remedy on the same images, each from the network's present state: `passes` training-mode passes without an optimizer
 *  step. The network is afterwards as it was: parameters, statistics, counters, policies and freezing.
 *
 *  "nothing"               train everywhere
 *  "freeze parameters"     the same, with no parameter that trains; its gradients are those the function would have
 *  "momentum 0"            no-update; PyTorch's momentum 0 still counts num_batches_tracked
 *  "eval all"              eval everywhere
 *  "eval chosen layers"    eval where nine tenths of the change come from (trine_drift_layer.share), in half of the layers at least;
 *                          train elsewhere
 *  "cumulative"            momentum None, from the counters as they are
 *  "batch of one"          train, each image in a batch of its own
 *  "batch of many"         train, all images in one batch; a single image is joined by its mirror image
 *  "re-estimate"           train, and after the passes statistics from nothing: counters 0, cumulative, the same batch once
 *  "snapshot and restore"  train, and after the passes trine_resnet_bn_restore()
 *
 *  The images beside the first are, for depends_on_batch, the others (or its mirror image), and the same at half contrast.
 *  @param x [N,C,H,W] NCHW host float32, preprocessed   @return as trine_drift_run(); TRINE_ERR_NOMEM: gradients need much memory */
TRINE_API trine_status trine_remedies_run(trine_resnet *net, trine_stream *stream, const float *x,
                                          const trine_shape *shape, trine_embedding embedding, int passes,
                                          trine_remedies *out);
/** Free all and clear the struct; accepts NULL and a cleared struct. */
TRINE_API void trine_remedies_free(trine_remedies *remedies);

#ifdef __cplusplus
}
#endif
#endif
