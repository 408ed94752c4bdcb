/* SPDX-License-Identifier: MIT */
/** Training: fine-tuning with a triplet loss, and classification for a base to fine-tune. */
#ifndef TRINE_TRAINER_H
#define TRINE_TRAINER_H

#include "trine/augment.h"
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

/** The same with a warm-up of `warmup` steps, in which the rate rises linearly: step k of them has (k+1)/(warmup+1) of `lr`, and the
 *  schedule covers the steps that follow. torch SequentialLR of LinearLR(start_factor=1/(warmup+1), total_iters=warmup) and the
 *  schedule over steps - warmup steps, milestones=[warmup]. */
TRINE_API double trine_schedule_lr_warmed(trine_schedule schedule, double lr, int step, int steps,
                                          int warmup);

/** Where the features of a frozen trunk are kept. If everything before some point of the network is frozen and normalises with
 *  running statistics, it gives an image the same features at every step: it runs as inference, in micro-batches of one size, and
 *  once for each distinct image (mirrored or not) if the features are kept. The losses are the same bytes either way. */
typedef enum trine_feature_cache {
    TRINE_FEATURES_AUTO = 0,   /**< in memory if they fit, else on disk if they fit there, else not kept */
    TRINE_FEATURES_OFF = 1,    /**< not kept: the trunk runs at every step */
    TRINE_FEATURES_MEMORY = 2, /**< in host memory, or TRINE_ERR_NOMEM */
    TRINE_FEATURES_DISK = 3    /**< in a file without a name in $TMPDIR or /tmp, or TRINE_ERR_WRITE */
} trine_feature_cache;

typedef struct trine_trainer_options {
    trine_objective objective;
    trine_embedding embedding;  /**< triplet: where the loss is attached; classify uses fc */
    int normalize;              /**< triplet: L2-normalise embeddings before distances */
    trine_triplet_desc triplet; /**< its seed is not used: the run's seed is */
    int memory_size; /**< triplet: embeddings of earlier steps that are candidates too (trine_triplet_memory); 0: none */
    int memory_start; /**< triplet: the step (from 1) whose embeddings are the first to be kept; 0: 1 */
    trine_optimizer_desc optimizer;
    double lr;
    trine_schedule schedule;
    int warmup; /**< steps in which the rate rises to the schedule's (trine_schedule_lr_warmed()), < steps; 0: none */
    /** "GLOB=X,...": learning rates of the parameters whose names match, in order, the last match wins; others have `lr`. The
     *  schedule acts on each alike. NULL or "": none. Copied. A temperature that the loss learns has the name "temperature". */
    const char *lr_globs;
    double
        clip_norm; /**< gradients are scaled down to this norm of all of them together, as torch clip_grad_norm_; 0: no */
    int classes_per_batch; /**< triplet: P, >= 1 */
    int images_per_class; /**< triplet: K, >= 1; a class with fewer gives all before any of them again, which the log is told once */
    int batch;             /**< classify: images a step, >= 2 */
    int steps;             /**< > 0; or 0 and epochs */
    int epochs;            /**< > 0 if steps is 0; an epoch of triplets is ceil(images / (P*K)) batches */
    trine_augment augment; /**< with anything but flip features are not kept */
    /** > 0: after every step average = ema * average + (1 - ema) * value, for every parameter and for BatchNorm's running statistics,
     *  from the values that the run begins with; < 1. Steps work on the values: trine_trainer_exchange_average(). 0: none. */
    double ema;
    /** Batches of a step, whose losses and gradients are averaged before the optimizer's step; mining, memory and BatchNorm's statistics see
     *  one batch at a time, so that running statistics move as often in a step. The last step of an epoch of classification has what
     *  is left of it. 0: 1. Data sets only, and no temperature that is learnt. */
    int accumulate;
    trine_feature_cache feature_cache;
    size_t feature_memory;      /**< bytes that features may take in memory; 0: a quarter of the machine's */
    int checkpoint_activations; /**< 1: less memory, more time, the same bits (TRINE_BACKWARD_CHECKPOINT) */
    trine_preprocess preprocess;
    uint64_t seed;
    int threads; /**< decoding threads; 0: one a processor */
    int fail_bad; /**< 1: the first unreadable image fails; 0: another of its class takes its place, named in the log */
    trine_log_fn log;
    void *log_user;
} trine_trainer_options;

/** What one step measured: with `accumulate` means of its batches. Fields of the other objective are 0. */
typedef struct trine_step_record {
    int step;  /**< from 1 */
    int epoch; /**< from 1 */
    float loss;
    float active_fraction; /**< triplet: share of the terms that are active (trine_triplet_run()) */
    float d_ap, d_an;      /**< triplet: mean distance to positives and negatives of the terms */
    float embedding_norm;  /**< mean norm before normalisation; classify: of the logits */
    float temperature;     /**< triplet: what the loss took; 0: it has none */
    float accuracy;        /**< classify: share of the batch that is right before the step */
    double lr;
} trine_step_record;

/** Called once for each step in order, some steps after it ran (the host does not wait for every step). Nonzero ends the run:
 *  no further step begins, and the callback is still told of those that had begun by then. */
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
/** Steps of an epoch. At the end of one of at least 16 steps the callback has been told of all of them. */
TRINE_API int trine_trainer_epoch_steps(const trine_trainer *trainer);
/** trine_session_tuning() of all that a step runs, the frozen part included. The checkpoint should say it. */
TRINE_API trine_status trine_trainer_tuning(const trine_trainer *trainer, char text[TRINE_SESSION_TUNING]);
/** Steps that have run so far, those before trine_trainer_resume() included. */
TRINE_API int trine_trainer_step(const trine_trainer *trainer);
/** Run to the end (or until the callback or trine_trainer_stop() ends it). The network has the result of trine_trainer_step()
 *  steps. A run that was ended goes on at the next call, with the same bytes in the end. Waits. */
TRINE_API trine_status trine_trainer_run(trine_trainer *trainer, trine_step_fn each_step, void *user);
/** The same until `step` steps have run in all: where to save. @param step at most trine_trainer_steps(); nothing runs if so many
 *  have run already */
TRINE_API trine_status trine_trainer_run_to(trine_trainer *trainer, int step, trine_step_fn each_step,
                                            void *user);
/** End the run before its next step (or the next run before its first, if none is under way). Only sets a flag: a signal handler
 *  or another thread may call it. */
TRINE_API void trine_trainer_stop(trine_trainer *trainer);

/** With `ema`: the network's values and their averages change places, BatchNorm's counters stay. The network then holds what is meant
 *  to be used, until the next call brings the values back; meanwhile the trainer neither runs nor saves nor resumes (TRINE_ERR_STATE).
 *  Nothing without `ema`. Waits. */
TRINE_API trine_status trine_trainer_exchange_average(trine_trainer *trainer);

/** The run's state between two steps, for a file: what trine_trainer_resume() needs beside the network as
 *  trine_resnet_to_weights() gives it at the same moment. Tensors: "optimizer.P.S" (F32, shaped as P) and "optimizer.P.step" (I64)
 *  for each parameter P that has taken a step, S being PyTorch's name of the moment ("momentum_buffer"; "exp_avg", "exp_avg_sq");
 *  with a memory "memory.count", "memory.next" (I64) and, unless it is empty, "memory.rows" (F32 [count][D]), "memory.labels" (I32);
 *  where the loss learns a temperature "temperature.log" (F32), "temperature.step" (I64) and the moments "temperature.S" (F32);
 *  with `ema` "average.N" (F32) for each parameter and running statistic N that has moved;
 *  "optimizer.step" (I64) and "schedule" (F64: plateau's learning rate, best mean, bad means; loss sum and count). Metadata: "step",
 *  the network's state hash, the device, and under "run." every setting that decides the arithmetic, measured choices
 *  (trine_trainer_tuning()) where there are any. Equal states give equal
 *  lists. Waits.
 *  @param out the caller's   @return TRINE_ERR_STATE: while it runs, or after its run failed */
TRINE_API trine_status trine_trainer_save(trine_trainer *trainer, trine_weights **out);
/** Go on with a saved run, on a trainer that has taken no step, made with the same options over the same data and the network as
 *  it was saved. On the same device and driver the rest of the run gives the same bytes and records as if there had been no break;
 *  on another one the log is told. Threads, the place of features, what happens to unreadable images, and the log may differ. On
 *  failure the trainer is as it was, but after TRINE_ERR_OPENCL and TRINE_ERR_NOMEM, which it does not survive. Waits.
 *  @return TRINE_ERR_ARG: a setting differs (named, with both values); TRINE_ERR_DATA: the data differ; TRINE_ERR_WEIGHTS: the
 *          network is another, or in another state; TRINE_ERR_FORMAT: the list is no such state; TRINE_ERR_STATE: the trainer has
 *          run already */
TRINE_API trine_status trine_trainer_resume(trine_trainer *trainer, const trine_weights *state);
/** What part of the network is frozen and runs apart, and where its features are kept (trine_feature_cache): a sentence that lives
 *  until the next run or destroy; "" if there is no such part. An array's features are always on the device. */
TRINE_API const char *trine_trainer_note(const trine_trainer *trainer);
/** Unreadable images met since the trainer was created. */
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
