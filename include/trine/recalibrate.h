/* SPDX-License-Identifier: MIT */
/** Exact running statistics: what BatchNorm layers see over a whole data set, instead of an average by momentum. */
#ifndef TRINE_RECALIBRATE_H
#define TRINE_RECALIBRATE_H

#include "trine/image.h"
#include "trine/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Both give each chosen layer the mean and the unbiased variance of all values that it saw, merged over the batches in double by
 *  Chan et al. 1979 (Welford's method for parts), and num_batches_tracked = batches. They differ in what the layers before it did
 *  meanwhile. Layers that are not chosen keep their statistics and normalise with them (with the batch's where they have none).
 *  A chosen layer without running statistics gets some. */
typedef enum trine_recalibration_method {
    /** One run through the data; each chosen layer normalises with its batch's statistics, as in training: what a layer sees depends
     *  on how the images are batched. */
    TRINE_RECALIBRATE_BATCH = 0,
    /** Layer after layer in forward order, one run through the data each; the chosen layers before it normalise with their new
     *  statistics already, so the result does not depend on the batches and is what evaluation will see. */
    TRINE_RECALIBRATE_SEQUENTIAL = 1
} trine_recalibration_method;

/** How far one layer's statistics went, as in trine_drift_layer; from mean 0 and variance 1 where it had none. */
typedef struct trine_recalibrated_layer {
    char name[64]; /**< canonical */
    double mean_moved, var_moved;
} trine_recalibrated_layer;

typedef struct trine_recalibration_report {
    size_t images;                    /**< that the statistics are of */
    size_t batches;                   /**< of one run through the data */
    trine_recalibrated_layer *layers; /**< [layer_count], the chosen layers in forward order */
    int layer_count;
    /* of trine_recalibrate_dataset() and trine_recalibrate_array() only */
    size_t bad;                     /**< unreadable images left out */
    double norm_before, norm_after; /**< mean norm of the first batch's embeddings in evaluation mode */
} trine_recalibration_report;
/** Free the array and clear the struct; accepts NULL and a cleared struct. */
TRINE_API void trine_recalibration_report_free(trine_recalibration_report *report);

/** A recalibration under way, for data that come from anywhere:
 *  @code
 *    trine_recalibration_create(net, stream, &shape, NULL, TRINE_RECALIBRATE_BATCH, &r);
 *    for (int pass = 0; pass < trine_recalibration_passes(r); pass++) {
 *        for (each batch of the data) trine_recalibration_add(r, &x);
 *        trine_recalibration_end_pass(r);
 *    }
 *    trine_recalibration_finish(r, NULL);
 *    trine_recalibration_destroy(&r);
 *  @endcode
 *  From create on the network belongs to it, until finish, destroy, or a failure of add or end_pass, after which only destroy is
 *  left to do. Parameters never change. Policies, momenta, statistics and counters are put back as they were, exactly; only finish
 *  leaves the new statistics and counters. Used by one thread at a time; network and stream outlive it. */
typedef struct trine_recalibration trine_recalibration;

/** @param shape  largest batch; channels, rows and columns of the images
 *  @param layers which layers: "GLOB,!GLOB,...", in order, last match wins; a list that begins with `!` takes from all; NULL or "":
 *                all layers
 *  @return TRINE_ERR_ARG: bad glob, one that matches no layer, or no layer chosen; TRINE_ERR_SHAPE as for a session;
 *          TRINE_ERR_NOMEM. The network is as it was. */
TRINE_API trine_status trine_recalibration_create(trine_resnet *net, trine_stream *stream,
                                                  const trine_shape *shape, const char *layers,
                                                  trine_recalibration_method method,
                                                  trine_recalibration **out);
/** How often the data must be run through: 1, or the number of chosen layers. */
TRINE_API int trine_recalibration_passes(const trine_recalibration *r);
/** One batch. Waits. @param x [n,C,H,W] NCHW (cb 1), 1 <= n <= the largest batch; not retained
 *  @return TRINE_ERR_SHAPE: another image size, or (naming the layer and the remedies) one value per channel in a chosen layer,
 *          found in the first pass by either method; TRINE_ERR_STATE: no pass is under way */
TRINE_API trine_status trine_recalibration_add(trine_recalibration *r, const trine_tensor *x);
/** The data are through. After the last pass evaluation sees the new statistics already.
 *  @return TRINE_ERR_DATA: no images, not as many as in the first pass, or a mean or variance that is not a finite number;
 *          TRINE_ERR_STATE: no pass is under way */
TRINE_API trine_status trine_recalibration_end_pass(trine_recalibration *r);
/** Keep the new statistics. @param report may be NULL; trine_recalibration_report_free() it
 *  @return TRINE_ERR_STATE: passes are missing */
TRINE_API trine_status trine_recalibration_finish(trine_recalibration *r, trine_recalibration_report *report);
/** Accepts NULL and clears the caller's pointer. Before finish: puts everything back. Waits. */
TRINE_API void trine_recalibration_destroy(trine_recalibration **r);

/** How a data set is run through. */
typedef struct trine_recalibrate_options {
    trine_preprocess preprocess; /**< data sets only */
    const char *layers;          /**< as for trine_recalibration_create() */
    trine_recalibration_method method;
    trine_embedding embedding; /**< of the report's norms */
    /** Most images of a batch, >= 1; 0: 64. The batches are of nearly equal size (100 images by 64: 50 and 50), so that no small one
     *  is left over; unreadable images leave theirs smaller. */
    int batch;
    int threads; /**< decoding threads; 0: one a processor */
    int skip_bad; /**< 1: unreadable images are named once (log), counted and left out; 0: the first one fails */
    trine_log_fn log;
    void *log_user;
    void (*progress)(void *user, size_t done, size_t all); /**< images times passes; may be NULL */
    void *progress_user;
} trine_recalibrate_options;

/** Recalibrate over every image of a data set. The network is as it was unless this succeeds.
 *  @param report may be NULL; trine_recalibration_report_free() it
 *  @return as the calls above; TRINE_ERR_DATA also: all images bad, or of mixed sizes */
TRINE_API trine_status trine_recalibrate_dataset(trine_resnet *net, trine_stream *stream,
                                                 const trine_dataset *data,
                                                 const trine_recalibrate_options *options,
                                                 trine_recalibration_report *report);
/** The same for an array. @param x [n][c][h][w] host float32, preprocessed */
TRINE_API trine_status trine_recalibrate_array(trine_resnet *net, trine_stream *stream, const float *x,
                                               const trine_shape *shape,
                                               const trine_recalibrate_options *options,
                                               trine_recalibration_report *report);

#ifdef __cplusplus
}
#endif
#endif
