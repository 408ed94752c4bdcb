/* SPDX-License-Identifier: MIT */
/* The training loop. A step only enqueues: batches go up on a stream of their own (feed.c), what was measured
 * comes back through a ring (trainer_log.c), everything a step needs is made beforehand. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/augment.h"
#include "learn/trainer_private.h"
#include "net/session_private.h"
#include "net/state_guard.h"

enum { MAX_BLOCK = 16, PLATEAU_STEPS = 100 }; /* channels of the widest layout block; steps of a mean */
enum { MAX_BATCHES = 65536 };                 /* of a step */

static trine_status check_options(const trine_trainer_options *o, bool array)
{
    TRINE_CHECK(o->objective == TRINE_OBJECTIVE_TRIPLET || o->objective == TRINE_OBJECTIVE_CLASSIFY,
                TRINE_ERR_ARG, "trainer: unknown objective %d", (int)o->objective);
    TRINE_CHECK(o->embedding == TRINE_EMBED_POOL || o->embedding == TRINE_EMBED_FC, TRINE_ERR_ARG,
                "trainer: unknown embedding %d", (int)o->embedding);
    TRINE_CHECK((unsigned)o->feature_cache <= TRINE_FEATURES_DISK, TRINE_ERR_ARG,
                "trainer: unknown feature cache %d", (int)o->feature_cache);
    TRINE_CHECK((unsigned)o->schedule <= TRINE_SCHEDULE_PLATEAU, TRINE_ERR_ARG,
                "trainer: unknown schedule %d", (int)o->schedule);
    TRINE_CHECK(isfinite(o->lr) && o->lr >= 0, TRINE_ERR_ARG,
                "trainer: learning rate %g, expected a number >= 0", o->lr);
    TRINE_CHECK(o->warmup >= 0, TRINE_ERR_ARG, "trainer: a warm-up of %d steps, expected 0 or more",
                o->warmup);
    TRINE_CHECK(isfinite(o->clip_norm) && o->clip_norm >= 0, TRINE_ERR_ARG,
                "trainer: gradients clipped to %g, expected a number > 0, or 0 for none", o->clip_norm);
    TRINE_CHECK(o->steps >= 0 && o->epochs >= 0, TRINE_ERR_ARG,
                "trainer: %d steps and %d epochs, expected 0 or more", o->steps, o->epochs);
    TRINE_CHECK(o->steps > 0 || o->epochs > 0, TRINE_ERR_ARG, "trainer: neither steps nor epochs are given");
    TRINE_CHECK(o->memory_size >= 0 && o->memory_start >= 0, TRINE_ERR_ARG,
                "trainer: a memory of %d embeddings from step %d on, expected 0 or more", o->memory_size,
                o->memory_start);
    TRINE_CHECK(o->ema >= 0 && o->ema < 1, TRINE_ERR_ARG,
                "trainer: a running average of decay %g, expected 0 (none) or a number below 1", o->ema);
    TRINE_CHECK(o->accumulate >= 0 && o->accumulate <= MAX_BATCHES, TRINE_ERR_ARG,
                "trainer: %d batches a step, expected 0 (one) to %d", o->accumulate, (int)MAX_BATCHES);
    TRINE_CHECK(!array || o->accumulate <= 1, TRINE_ERR_ARG,
                "trainer: %d batches a step, but all of an array is one batch", o->accumulate);
    TRINE_CHECK(o->accumulate <= 1 || o->objective != TRINE_OBJECTIVE_TRIPLET ||
                    !o->triplet.learn_temperature,
                TRINE_ERR_ARG,
                "trainer: %d batches a step, but a temperature that is learnt takes one step for each batch",
                o->accumulate);
    TRINE_TRY(trine_augment_check(&o->augment));
    if (array) return TRINE_OK;
    TRINE_CHECK(o->threads >= 0, TRINE_ERR_ARG, "trainer: %d threads, expected 0 or more", o->threads);
    if (o->objective == TRINE_OBJECTIVE_CLASSIFY) {
        TRINE_CHECK(o->batch >= 2, TRINE_ERR_ARG, "trainer: batches of %d images, expected at least 2",
                    o->batch);
        return TRINE_OK;
    }
    TRINE_CHECK(o->classes_per_batch >= 1 && o->images_per_class >= 1, TRINE_ERR_ARG,
                "trainer: batches of %d classes x %d images, expected at least 1 x 1", o->classes_per_batch,
                o->images_per_class);
    return TRINE_OK;
}

static void tell(const trine_trainer *t, const char *sentence)
{
    if (t->options.log) t->options.log(t->options.log_user, sentence);
}

/* Frozen layers whose running statistics the policies move nevertheless: legal, and rarely meant. */
static trine_status warn_frozen(const trine_trainer *t)
{
    trine_bn_info first = {0}, info;
    int moving = 0;
    for (int i = 0; i < trine_resnet_bn_count(t->net); i++) {
        TRINE_TRY(trine_resnet_bn(t->net, i, &info));
        if (!info.frozen || !info.updates) continue;
        if (moving++ == 0) first = info;
    }
    if (moving == 0) return TRINE_OK;
    char text[320];
    const bool one = moving == 1;
    snprintf(
        text, sizeof text,
        "%d frozen BatchNorm layer%s (%s%s) will still move %s running statistics at every step, because "
        "%s policy updates them; --bn auto (in C: trine_resnet_set_bn(net, \"auto\")) keeps frozen layers "
        "still",
        moving, one ? "" : "s", first.name, one ? "" : " first", one ? "its" : "their",
        one ? "its" : "their");
    tell(t, text);
    return TRINE_OK;
}

/* Classes that cannot give K different images. */
static void tell_small_classes(const trine_trainer *t)
{
    const trine_trainer_options *o = &t->options;
    const int k = o->images_per_class;
    int fewer, single;
    char text[256], ones[160] = "";
    trine__sampler_small_classes(t->sampler, &fewer, &single);
    if (fewer == 0) return;
    if (single > 0)
        snprintf(ones, sizeof ones, "; %d %s one image, whose only positives are %s", single,
                 single == 1 ? "has" : "have",
                 trine__augments(&o->augment) ? "its own copies, augmented in other ways"
                                              : "copies of itself at distance 0");
    snprintf(text, sizeof text,
             "%d class%s fewer than the %d images of a batch: all of them come before one comes again%s",
             fewer, fewer == 1 ? " has" : "es have", k, ones);
    tell(t, text);
}

/* Batches in which no triplet can be formed. */
static void warn_degenerate(const trine_trainer *t, const int *labels)
{
    const trine_trainer_options *o = &t->options;
    bool positives = o->images_per_class > 1, negatives = o->classes_per_batch > 1;
    if (o->objective != TRINE_OBJECTIVE_TRIPLET || o->memory_size > 0) return;
    if (labels) {
        positives = negatives = false;
        for (int i = 0; i < t->shape.n; i++) {
            for (int j = 0; j < i && !(positives && negatives); j++) {
                positives |= labels[i] == labels[j];
                negatives |= labels[i] != labels[j];
            }
        }
    }
    if (!positives || !negatives)
        tell(t, positives ? "every batch holds one class: there are no negatives, the loss is 0"
                          : "every class has one image in a batch: there are no positives, the loss is 0");
}

static trine_status open_triplet(trine_trainer *t)
{
    const trine_trainer_options *o = &t->options;
    trine_context *context = t->stream->context;
    const size_t n = (size_t)t->shape.n;
    const int dim =
        o->embedding == TRINE_EMBED_FC ? trine_resnet_outputs(t->net) : trine_resnet_features(t->net);
    const size_t bytes = n * trine__round_up((size_t)dim, MAX_BLOCK) * sizeof(float);
    trine_triplet_desc desc = o->triplet;
    desc.seed = o->seed;
    TRINE_TRY(trine_triplet_create(context, &desc, &t->triplet));
    TRINE_TRY(trine__trainer_open_temperature(t));
    if (o->memory_size > 0) {
        const trine_tensor e = trine_session_embedding(t->session);
        TRINE_TRY(trine_triplet_memory_create(context, o->memory_size, e.shape.c, e.cb, &t->memory));
        TRINE_TRY(trine_triplet_set_memory(t->triplet, t->memory));
    }
    TRINE_TRY(
        trine_buffer_create(context, trine_triplet_workspace_bytes(t->triplet, t->shape.n), &t->workspace));
    TRINE_TRY(trine_buffer_create(context, bytes, &t->gradient));
    if (!o->normalize) return TRINE_OK;
    TRINE_TRY(trine_l2norm_create(context, &t->l2norm));
    TRINE_TRY(trine_buffer_create(context, bytes, &t->unit));
    return trine_buffer_create(context, n * sizeof(float), &t->norms);
}

static trine_status open_classify(trine_trainer *t)
{
    trine_context *context = t->stream->context;
    const size_t floats = (size_t)t->shape.n * (size_t)trine_resnet_outputs(t->net);
    TRINE_TRY(trine_cross_entropy_create(context, &t->cross_entropy));
    TRINE_TRY(trine_l2norm_create(context, &t->l2norm));
    TRINE_TRY(trine_buffer_create(context, (size_t)t->shape.n * sizeof(float), &t->norms));
    return trine_buffer_create(context, floats * sizeof(float), &t->gradient);
}

trine_embedding trine__trainer_embedding(const trine_trainer *t)
{
    return t->options.objective == TRINE_OBJECTIVE_CLASSIFY ? TRINE_EMBED_FC : t->options.embedding;
}

/* Everything that does not depend on where the batches come from. */
static trine_status open_network(trine_trainer *t)
{
    const trine_trainer_options *o = &t->options;
    trine_context *context = t->stream->context;
    const bool classify = o->objective == TRINE_OBJECTIVE_CLASSIFY;
    const trine_embedding embedding = trine__trainer_embedding(t);
    TRINE_TRY(trine__trainer_open_source(t));
    TRINE_CHECK(trine_session_trains(t->session), TRINE_ERR_ARG,
                "nothing to train: no trainable parameter is reached by the loss on %s",
                classify                      ? "fc's output"
                : embedding == TRINE_EMBED_FC ? "the embedding (fc's output)"
                                              : "the embedding (the pooled features, before fc)");
    TRINE_TRY(trine_gradients_create(t->net, t->stream, &t->gradients));
    TRINE_TRY(trine_optimizer_create(context, &o->optimizer, trine_resnet_flat_count(t->net), &t->optimizer));
    TRINE_TRY(classify ? open_classify(t) : open_triplet(t));
    TRINE_TRY(trine__trainer_open_rates(t));
    TRINE_CHECK(o->warmup < t->steps, TRINE_ERR_ARG, "trainer: a warm-up of %d steps in a run of %d",
                o->warmup, t->steps);
    TRINE_TRY(trine__trainer_log_create(t));
    if (o->ema > 0) TRINE_TRY(trine__average_create(t->net, t->stream, o->ema, &t->average));
    return warn_frozen(t);
}

static trine_status create(trine_resnet *net, trine_stream *stream, const trine_trainer_options *options,
                           bool array, trine_trainer **out)
{
    TRINE_CHECK(net && stream && options, TRINE_ERR_ARG, "trainer: network, stream or options is missing");
    TRINE_TRY(check_options(options, array));
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_trainer), &memory));
    trine_trainer *t = memory;
    t->options = *options;
    t->net = net;
    t->stream = stream;
    t->accumulate = options->accumulate > 1 ? options->accumulate : 1;
    atomic_init(&t->stop, false);
    *out = t;
    return TRINE_OK;
}

trine_status trine_trainer_create(trine_resnet *net, trine_stream *stream,
                                  const trine_trainer_options *options, const trine_dataset *data,
                                  trine_trainer **out)
{
    TRINE_CHECK(data && out, TRINE_ERR_ARG, "trainer: data set or result is missing");
    trine_trainer *t = NULL;
    TRINE_TRY(create(net, stream, options, false, &t));
    t->data = data;
    trine_status status;
    TRINE_TRY_GOTO(trine__trainer_open_data(t));
    TRINE_TRY_GOTO(open_network(t));
    warn_degenerate(t, NULL);
    tell_small_classes(t);
    *out = t;
    return TRINE_OK;
cleanup:
    trine_trainer_destroy(&t);
    return status;
}

trine_status trine_trainer_create_array(trine_resnet *net, trine_stream *stream,
                                        const trine_trainer_options *options, const float *x,
                                        const trine_shape *shape, const int *labels, trine_trainer **out)
{
    TRINE_CHECK(x && shape && labels && out, TRINE_ERR_ARG,
                "trainer: array, shape, labels or result is missing");
    trine_trainer *t = NULL;
    TRINE_TRY(create(net, stream, options, true, &t));
    trine_status status;
    TRINE_TRY_GOTO(trine__trainer_open_array(t, x, shape, labels));
    TRINE_TRY_GOTO(open_network(t));
    warn_degenerate(t, labels);
    *out = t;
    return TRINE_OK;
cleanup:
    trine_trainer_destroy(&t);
    return status;
}

int trine_trainer_steps(const trine_trainer *trainer)
{
    return trainer->steps;
}

int trine_trainer_epoch_steps(const trine_trainer *trainer)
{
    return trainer->epoch_steps;
}

int trine_trainer_step(const trine_trainer *trainer)
{
    return trainer->step;
}

void trine_trainer_stop(trine_trainer *trainer)
{
    atomic_store(&trainer->stop, true);
}

/* The loss of embeddings as it sees them, which are then remembered; its gradient is left in *d. */
static trine_status mined_loss(trine_trainer *t, const trine_tensor *e, const trine_buffer *labels, int slot,
                               trine_tensor *d)
{
    trine_triplet_set_step(t->triplet, (uint64_t)t->batch);
    TRINE_TRY(trine_triplet_run(t->triplet, t->stream, e, labels, d, t->log.stats, slot, t->workspace));
    if (!t->memory || t->step + 1 < t->options.memory_start) return TRINE_OK;
    return trine_triplet_memory_add(t->memory, t->stream, e, labels);
}

/* The embedding's loss; its gradient is left in *d. */
static trine_status triplet_loss(trine_trainer *t, const trine_tensor *e, const trine_buffer *labels,
                                 int slot, trine_tensor *d)
{
    if (!t->options.normalize) return mined_loss(t, e, labels, slot, d);
    trine_tensor unit = *e;
    unit.buffer = t->unit;
    TRINE_TRY(trine_l2norm_forward(t->l2norm, t->stream, e, &unit, t->norms));
    TRINE_TRY(mined_loss(t, &unit, labels, slot, d));
    return trine_l2norm_backward(t->l2norm, t->stream, &unit, t->norms, d, d);
}

/* The same of logits, whose norms are measured on the way. */
static trine_status classify_loss(trine_trainer *t, const trine_tensor *e, const trine_buffer *labels,
                                  int slot, trine_tensor *d)
{
    TRINE_TRY(trine_l2norm_forward(t->l2norm, t->stream, e, d, t->norms)); /* *d is about to be written */
    return trine_cross_entropy_run(t->cross_entropy, t->stream, e, labels, d, t->log.stats, slot);
}

/* Forward, loss and backward over one batch. */
static trine_status run_batch(trine_trainer *t, const trine_tensor *x, const trine_buffer *labels, int slot)
{
    TRINE_TRY(trine_session_forward(t->session, x));
    const trine_tensor e = trine_session_embedding(t->session);
    trine_tensor d = e;
    d.buffer = t->gradient;
    TRINE_TRY(t->cross_entropy ? classify_loss(t, &e, labels, slot, &d)
                               : triplet_loss(t, &e, labels, slot, &d));
    TRINE_TRY(trine__trainer_step_temperature(t));
    return trine_session_backward(t->session, &d, t->gradients);
}

/* With the mean gradient of the step's batches. */
static trine_status update(trine_trainer *t, int batches, double lr)
{
    const trine__step_options options = {
        .rates = t->rates, .clip_norm = (float)t->options.clip_norm, .batches = batches};
    TRINE_TRY(trine__resnet_step_with(t->net, t->stream, t->optimizer, t->gradients, (float)lr, &options));
    return t->average ? trine__average_update(t->average, t->stream) : TRINE_OK;
}

/* From the batches to the record. */
static trine_status next_step(trine_trainer *t, int slot)
{
    const size_t first = trine__trainer_first_batch(t, t->step);
    const int batches = (int)(trine__trainer_first_batch(t, t->step + 1) - first);
    TRINE_TRY(trine__trainer_refresh_source(t));
    trine_gradients_clear(t->gradients);
    for (int i = 0; i < batches; i++) {
        trine_tensor x;
        const trine_buffer *labels;
        trine__feed_slot *fed;
        t->batch = first + (size_t)i;
        TRINE_TRY(trine__trainer_next(t, &x, &labels, &fed));
        TRINE_TRY(run_batch(t, &x, labels, slot + i));
        TRINE_TRY(trine__trainer_used(t, fed));
        TRINE_TRY(trine__trainer_log_batch(t, i, x.shape.n));
    }
    const double lr = trine__trainer_rate(t);
    TRINE_TRY(update(t, batches, lr));
    TRINE_TRY(trine__trainer_log_end(t, batches, lr));
    t->step++;
    return TRINE_OK;
}

/* One step; tells the callback of earlier ones, which may do to the network what it likes. */
static trine_status step(trine_trainer *t, trine_step_fn each_step, void *user)
{
    int slot;
    TRINE_TRY(trine__trainer_log_begin(t, each_step, user, &slot));
    if (t->log.stopped) return TRINE_OK;
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, t->net, t->stream, "trine_trainer_run",
                                 TRINE__MAY_TRAIN | TRINE__MAY_UPDATE));
    TRINE_TRY(trine__guard_end(&guard, next_step(t, slot)));
    if (t->epoch_steps >= TRINE__LOG_SLOTS && t->step % t->epoch_steps == 0)
        TRINE_TRY(trine__trainer_log_flush(t, each_step, user)); /* epochs are told as they end */
    const int period = t->options.steps > 0 ? PLATEAU_STEPS : t->epoch_steps;
    if (t->options.schedule != TRINE_SCHEDULE_PLATEAU || t->step % period != 0) return TRINE_OK;
    TRINE_TRY(trine__trainer_log_flush(t, each_step, user)); /* the next rate depends on these losses */
    trine__plateau_update(&t->plateau, t->log.loss_sum / t->log.loss_count);
    t->log.loss_sum = 0;
    t->log.loss_count = 0;
    return TRINE_OK;
}

/* Steps that half precision has cost. */
static trine_status tell_skipped(trine_trainer *t)
{
    float scale;
    uint64_t skipped;
    char text[160];
    if (trine_resnet_precision(t->net) == TRINE_F32) return TRINE_OK;
    TRINE_TRY(trine_gradients_scale(t->gradients, t->stream, &scale, &skipped));
    if (skipped > t->skipped) {
        snprintf(
            text, sizeof text,
            "%llu of %d steps left out: a gradient overflowed half precision; the loss is now scaled by %g",
            (unsigned long long)skipped, t->step, (double)scale);
        tell(t, text);
    }
    t->skipped = skipped;
    return TRINE_OK;
}

static trine_status run(trine_trainer *t, int last, trine_step_fn each_step, void *user)
{
    t->log.stopped = false;
    while (t->step < last && !t->log.stopped && !atomic_load(&t->stop)) TRINE_TRY(step(t, each_step, user));
    atomic_store(&t->stop, false);
    TRINE_TRY(trine__trainer_log_flush(t, each_step, user));
    TRINE_TRY(trine_stream_sync(t->stream));
    return tell_skipped(t);
}

trine_status trine_trainer_run_to(trine_trainer *trainer, int step, trine_step_fn each_step, void *user)
{
    TRINE_CHECK(trainer, TRINE_ERR_ARG, "trainer: missing");
    TRINE_CHECK(step >= 0 && step <= trainer->steps, TRINE_ERR_ARG, "trainer: run to step %d of %d", step,
                trainer->steps);
    TRINE_CHECK(!trainer->failed, TRINE_ERR_STATE, "trainer: its run failed at step %d", trainer->step + 1);
    TRINE_CHECK(!trainer->running, TRINE_ERR_STATE, "trainer: it is running: this is its own callback");
    TRINE_TRY(trine__trainer_check_values(trainer));
    trainer->running = true;
    const trine_status status = run(trainer, step, each_step, user);
    trainer->running = false;
    trainer->failed = status != TRINE_OK;
    return status;
}

trine_status trine_trainer_run(trine_trainer *trainer, trine_step_fn each_step, void *user)
{
    TRINE_CHECK(trainer, TRINE_ERR_ARG, "trainer: missing");
    return trine_trainer_run_to(trainer, trainer->steps, each_step, user);
}

trine_status trine__trainer_check_values(const trine_trainer *t)
{
    TRINE_CHECK(
        !t->average || !trine__average_exchanged(t->average), TRINE_ERR_STATE,
        "trainer: the network holds the averages; trine_trainer_exchange_average() brings the values back");
    return TRINE_OK;
}

trine_status trine_trainer_exchange_average(trine_trainer *trainer)
{
    TRINE_CHECK(trainer, TRINE_ERR_ARG, "trainer: missing");
    TRINE_CHECK(!trainer->running, TRINE_ERR_STATE, "trainer: it is running: this is its own callback");
    return trainer->average ? trine__average_exchange(trainer->average, trainer->stream) : TRINE_OK;
}

const char *trine_trainer_note(const trine_trainer *trainer)
{
    return trainer->trunk ? trine__trunk_note(trainer->trunk) : "";
}

size_t trine_trainer_bad_images(const trine_trainer *trainer)
{
    return trainer->trunk    ? trine__trunk_bad_count(trainer->trunk)
           : trainer->loader ? trine__loader_bad_count(trainer->loader)
                             : 0;
}

void trine_trainer_destroy(trine_trainer **trainer)
{
    if (!trainer || !*trainer) return;
    trine_trainer *t = *trainer;
    trine_stream_sync(t->stream); /* reads into the log */
    trine__trainer_close_source(t);
    trine__sampler_destroy(&t->sampler);
    free(t->indices);
    trine__trainer_close_rates(t);
    trine__trainer_log_free(t);
    trine__average_destroy(&t->average);
    trine_optimizer_destroy(&t->optimizer);
    trine_optimizer_destroy(&t->temperature);
    trine_gradients_destroy(&t->gradients);
    trine_triplet_destroy(&t->triplet);
    trine_triplet_memory_destroy(&t->memory);
    trine_l2norm_destroy(&t->l2norm);
    trine_cross_entropy_destroy(&t->cross_entropy);
    trine_buffer *const buffers[] = {t->fixed_x.buffer, t->fixed_labels, t->unit,
                                     t->gradient,       t->norms,        t->workspace};
    for (size_t i = 0; i < TRINE_COUNTOF(buffers); i++) {
        trine_buffer *b = buffers[i];
        trine_buffer_release(&b);
    }
    free(t);
    *trainer = NULL;
}
