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

/** What moved in one BatchNorm layer. */
typedef struct trine_drift_layer {
    char name[64];     /**< canonical */
    char policy[32];   /**< "train", "eval", "no-update", "cumulative", as in force */
    double mean_moved; /**< |running_mean - before|_2 / |sqrt(running_var before)|_2 */
    double var_moved;  /**< |running_var - before|_2 / |running_var before|_2 */
    double
        mean_distance; /**< |batch mean - running_mean|_2 / |sqrt(running_var)|_2 now: how far it still has to go; 0 where the
                                layer does not normalise with the batch */
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

#ifdef __cplusplus
}
#endif
#endif
