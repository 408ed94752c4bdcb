/* SPDX-License-Identifier: MIT */
/** Training: fine-tuning with a triplet loss, and classification for a base to fine-tune. */
#ifndef TRINE_TRAINER_H
#define TRINE_TRAINER_H

#include "trine/image.h"
#include "trine/loss.h"
#include "trine/optimizer.h"
#include "trine/session.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum trine_objective {
    TRINE_OBJECTIVE_TRIPLET = 0, /**< on the embedding, batches of P classes x K images */
    TRINE_OBJECTIVE_CLASSIFY = 1 /**< softmax cross-entropy on fc's output, shuffled epochs */
} trine_objective;

typedef enum trine_schedule {
    TRINE_SCHEDULE_CONSTANT = 0,
    TRINE_SCHEDULE_STEP =
        1, /**< lr * 0.1^(number of milestones passed): torch MultiStepLR at 1/2 and 3/4 of the run */
    TRINE_SCHEDULE_COSINE =
        2, /**< lr * (1 + cos(pi * step / steps)) / 2, torch CosineAnnealingLR stepped per step */
    TRINE_SCHEDULE_PLATEAU =
        3 /**< lr * 0.1 whenever the epoch's (or 100 steps') mean loss has not fallen by 1e-4 (relative) for 10
                                    of them, torch ReduceLROnPlateau's defaults */
} trine_schedule;

/** Learning rate of `step` (from 0) of `steps` for the schedules that depend on nothing else (not PLATEAU). */
TRINE_API double trine_schedule_lr(trine_schedule schedule, double lr, int step, int steps);

typedef struct trine_trainer_options {
    trine_objective objective;
    trine_embedding embedding; /**< triplet: where the loss is attached; classify uses fc */
    int normalize;             /**< triplet: L2-normalise embeddings before distances */
    trine_triplet_desc triplet;
    trine_optimizer_desc optimizer;
    double lr;
    trine_schedule schedule;
    int classes_per_batch; /**< triplet: P, >= 1 */
    int images_per_class;  /**< triplet: K, >= 1; classes with fewer images repeat some */
    int batch;             /**< classify: images a step, >= 2 */
    int steps;             /**< > 0; or 0 and epochs */
    int epochs;            /**< > 0 if steps is 0; an epoch of triplets is ceil(images / (P*K)) steps */
    int flip, crop;        /**< augmentation: horizontal flip; random crop */
    trine_preprocess preprocess;
    uint64_t seed;
    int threads; /**< decoding threads; 0: one a processor */
    int fail_bad; /**< 1: the first unreadable image fails; 0: another of its class takes its place, named in the log */
    trine_log_fn log;
    void *log_user;
} trine_trainer_options;

/** What one step measured. Fields of the other objective are 0. */
typedef struct trine_step_record {
    int step;  /**< from 1 */
    int epoch; /**< from 1 */
    float loss;
    float active_fraction; /**< triplet: share of the terms with positive loss */
    float d_ap, d_an;      /**< triplet: mean distance to positives and negatives of the terms */
    float embedding_norm;  /**< triplet: mean norm before normalisation */
    float accuracy;        /**< classify: share of the batch that is right before the step */
    double lr;
} trine_step_record;

/** Called for each step in order, some steps after it ran (the host does not wait for every step). Nonzero stops the run. */
typedef int (*trine_step_fn)(void *user, const trine_step_record *record, int steps);

/** Sessions, optimizer, sampler and data for one run over one network. */
typedef struct trine_trainer trine_trainer;

/** @param data outlives the trainer
 *  @return TRINE_ERR_ARG (options; nothing trainable is reached), TRINE_ERR_DATA (too few classes or images, images of mixed sizes,
 *          labels beyond fc's outputs) */
TRINE_API trine_status trine_trainer_create(trine_resnet *net, trine_stream *stream,
                                            const trine_trainer_options *options, const trine_dataset *data,
                                            trine_trainer **out);
/** The same over an array: the whole array, in order, is the batch of every step (no sampling, no augmentation).
 *  @param x [n][c][h][w] preprocessed host float32 (copied)  @param labels [n] (copied) */
TRINE_API trine_status trine_trainer_create_array(trine_resnet *net, trine_stream *stream,
                                                  const trine_trainer_options *options, const float *x,
                                                  const trine_shape *shape, const int *labels,
                                                  trine_trainer **out);
/** Steps that the run takes in all. */
TRINE_API int trine_trainer_steps(const trine_trainer *trainer);
/** Run to the end (or until the callback stops it). The network has the result. */
TRINE_API trine_status trine_trainer_run(trine_trainer *trainer, trine_step_fn each_step, void *user);
/** Unreadable images met. */
TRINE_API size_t trine_trainer_bad_images(const trine_trainer *trainer);
TRINE_API void trine_trainer_destroy(trine_trainer **trainer);

/** Share of the rows whose largest logit (the first among equals) is their label's; a row with a NaN is never right.
 *  @param logits [count][classes] on the host   @param labels [count] in [0, classes)
 *  @return TRINE_ERR_ARG, TRINE_ERR_DATA: no rows, or a label outside */
TRINE_API trine_status trine_classify_accuracy(const float *logits, const int *labels, size_t count,
                                               int classes, double *accuracy);

#ifdef __cplusplus
}
#endif
#endif
