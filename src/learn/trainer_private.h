/* SPDX-License-Identifier: MIT */
/* The trainer's parts: trainer.c checks, makes and steps; trainer_data.c says what the next batch is;
 * trainer_log.c brings what the steps measured back to the host; trainer_rates.c gives the learning
 * rates; trainer_temperature.c moves a temperature that is learnt; trainer_state.c saves and resumes,
 * trainer_settings.c says with which settings. */
#ifndef TRINE_LEARN_TRAINER_PRIVATE_H
#define TRINE_LEARN_TRAINER_PRIVATE_H

#include <stdatomic.h>

#include "io/loader.h"
#include "learn/average.h"
#include "learn/feed.h"
#include "learn/sampler.h"
#include "learn/schedule.h"
#include "learn/trunk.h"
#include "trine/trainer.h"

/* The ring of measured steps has two halves: one is read back while the other fills. */
enum { TRINE__LOG_HALF = 8, TRINE__LOG_SLOTS = 2 * TRINE__LOG_HALF };

typedef struct trine__log_half {
    trine__event read;            /* of the copies below; pending while count > 0 */
    int count;                    /* steps, from first_step on */
    int first_step;               /* from 0 */
    int batches[TRINE__LOG_HALF]; /* of each step */
    double lr[TRINE__LOG_HALF];
    int *images;  /* [TRINE__LOG_HALF][accumulate] */
    float *stats; /* [TRINE__LOG_HALF][accumulate][floats] */
    float *norms; /* [TRINE__LOG_HALF][accumulate][batch]; NULL where the loss measures them */
} trine__log_half;

typedef struct trine__trainer_log {
    trine_buffer *stats; /* [TRINE__LOG_SLOTS][accumulate][floats] */
    trine_buffer *norms; /* [TRINE__LOG_SLOTS][accumulate][batch], or NULL */
    int floats;          /* of a batch's stats */
    int half, filled;    /* the half that fills, and steps in it */
    trine__log_half halves[2];
    double loss_sum; /* of the steps told since it was last cleared */
    int loss_count;
    bool stopped; /* the callback said so */
} trine__trainer_log;

struct trine_trainer {
    trine_trainer_options options;
    trine_resnet *net;
    trine_stream *stream;
    trine_shape shape; /* largest batch */
    /* A data set: */
    const trine_dataset *data;
    trine__sampler *sampler;
    int *indices;          /* of the batch that the sampler draws for the loader */
    trine__loader *loader; /* from the first step on */
    trine__feed *feed;
    /* or an array: */
    trine_tensor fixed_x, fixed_features;
    trine_buffer *fixed_labels;
    uint64_t fixed_hash; /* of values and labels */

    int position;           /* what lies before it is frozen and runs apart, in `trunk`; 0: nothing */
    uint64_t trunk_version; /* of that part's parameters and statistics */
    trine__trunk *trunk;
    trine_session *session; /* what follows */
    trine_gradients *gradients;
    trine_optimizer *optimizer;
    trine_triplet *triplet;
    trine_triplet_memory *memory; /* or NULL */
    trine_optimizer *temperature; /* its optimizer, where the loss learns one, or NULL */
    double temperature_lr;        /* before the schedule */
    trine_l2norm *l2norm;
    trine_cross_entropy *cross_entropy;
    trine_buffer *unit;      /* normalised embeddings, like the embedding in the session's layout */
    trine_buffer *gradient;  /* of the loss, alike */
    trine_buffer *norms;     /* [batch] */
    trine_buffer *workspace; /* of the triplet loss */
    trine__trainer_log log;
    char *lr_globs;    /* options.lr_globs, ours; NULL: none, and then no lrs and rates */
    double *lrs;       /* [parameters] before the schedule */
    float *rates;      /* [parameters] of the step */
    double plateau_lr; /* where the plateau began */
    trine__plateau plateau;
    trine__average *average;      /* or NULL */
    int steps, epoch_steps, step; /* in all, of an epoch, done */
    int accumulate;               /* most batches of a step, >= 1 */
    size_t epoch_batches;
    size_t batch;     /* the number of the next one */
    uint64_t skipped; /* of them, for an overflow in half precision: those that were told of */
    bool running, failed;
    atomic_bool stop; /* trine_trainer_stop() was called */
};

/* ---- trainer_data.c ---- */

/* Sampler, steps and image size over t->data; fills shape, steps, epoch_steps. */
trine_status trine__trainer_open_data(trine_trainer *t);
/* Upload the array once; fills shape, steps, epoch_steps. */
trine_status trine__trainer_open_array(trine_trainer *t, const float *x, const trine_shape *shape,
                                       const int *labels);
/* Number of the first batch of a step, which is also how many all earlier steps have. */
size_t trine__trainer_first_batch(const trine_trainer *t, int step);
/* What a step reads and what runs it: trunk or loader and feed, and the session. Batches begin at t->step's. */
trine_status trine__trainer_open_source(trine_trainer *t);
void trine__trainer_close_source(trine_trainer *t);
/* The same anew, so that the next batch is that of t->step. */
trine_status trine__trainer_reopen_source(trine_trainer *t);
/* Open it again if another part of the network is frozen now, or the frozen part has changed. */
trine_status trine__trainer_refresh_source(trine_trainer *t);
/* Where the loss is attached. */
trine_embedding trine__trainer_embedding(const trine_trainer *t);
/* Batch t->batch as the session takes it, on the device for what is enqueued from now on. *slot is for
 * trine__trainer_used(). */
trine_status trine__trainer_next(trine_trainer *t, trine_tensor *x, const trine_buffer **labels,
                                 trine__feed_slot **slot);
/* The work that reads the batch has been enqueued. */
trine_status trine__trainer_used(trine_trainer *t, trine__feed_slot *slot);

/* TRINE_ERR_STATE while the network holds the averages. */
trine_status trine__trainer_check_values(const trine_trainer *t);

/* ---- trainer_rates.c ---- */

/* Parse the rates by glob; begins the plateau. */
trine_status trine__trainer_open_rates(trine_trainer *t);
/* The rate at t->step of parameters that no glob names; fills t->rates where globs are given. */
double trine__trainer_rate(trine_trainer *t);
/* Of what the options give as `lr`, at t->step. */
double trine__trainer_rate_of(const trine_trainer *t, double lr);
void trine__trainer_close_rates(trine_trainer *t);

/* ---- trainer_temperature.c: all do nothing where the loss learns no temperature ---- */

/* Take its rate out of a list of rates by name, which is rewritten. */
trine_status trine__trainer_temperature_rate(trine_trainer *t, char *globs);
trine_status trine__trainer_open_temperature(trine_trainer *t);
/* After the step's loss: down its gradient. */
trine_status trine__trainer_step_temperature(trine_trainer *t);
/* What a saved run says of it. */
typedef struct trine__saved_temperature {
    float log, moments[2];
    int64_t steps;
} trine__saved_temperature;
trine_status trine__trainer_save_temperature(const trine_trainer *t, trine_weights *out);
/* *used counts the tensors that were asked for. */
trine_status trine__trainer_find_temperature(const trine_trainer *t, const trine_weights *state, int step,
                                             size_t *used, trine__saved_temperature *out);
trine_status trine__trainer_load_temperature(trine_trainer *t, const trine__saved_temperature *saved);

/* ---- trainer_settings.c ---- */

enum { TRINE__STATE_KEY_BYTES = 192, TRINE__STATE_VALUE_BYTES = 256 };

/* Write the run's settings to `out`, or (out NULL) compare them with those of `saved`: TRINE_ERR_ARG, TRINE_ERR_DATA or
 * TRINE_ERR_WEIGHTS with the first that differs. */
trine_status trine__trainer_settings(trine_trainer *t, trine_weights *out, const trine_weights *saved);

/* ---- trainer_log.c ---- */

trine_status trine__trainer_log_create(trine_trainer *t);
/* Slot of stats for the first batch of the next step, those of its others follow; tells the callback of steps that are about to be
 * overwritten. */
trine_status trine__trainer_log_begin(trine_trainer *t, trine_step_fn each_step, void *user, int *slot);
/* Batch i of the step is enqueued. */
trine_status trine__trainer_log_batch(trine_trainer *t, int i, int images);
/* The step is enqueued. */
trine_status trine__trainer_log_end(trine_trainer *t, int batches, double lr);
/* Wait for all steps and tell the callback. */
trine_status trine__trainer_log_flush(trine_trainer *t, trine_step_fn each_step, void *user);
/* The stream must be idle. */
void trine__trainer_log_free(trine_trainer *t);

/* ---- trainer_settings.c ---- */

/* Write what decides the arithmetic to `out`, or, where that is NULL, compare it with what is saved. */
trine_status trine__trainer_settings(trine_trainer *t, trine_weights *out, const trine_weights *saved);

#endif
