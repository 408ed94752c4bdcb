/* SPDX-License-Identifier: MIT */
/* What steps measured: the losses write to a ring on the device, a half of which is read back without waiting
 * once it is full. The host waits for it only when the ring comes round, a half later, so that the device
 * never runs dry and the host is at most a ring ahead. */
#include <stdlib.h>

#include "learn/trainer_private.h"

trine_status trine__trainer_log_create(trine_trainer *t)
{
    trine__trainer_log *log = &t->log;
    trine_context *context = t->stream->context;
    const bool triplet = t->options.objective == TRINE_OBJECTIVE_TRIPLET;
    const size_t batch = (size_t)t->shape.n, batches = (size_t)t->accumulate; /* most: below 2^17 */
    log->floats = triplet ? TRINE_TRIPLET_STATS : 2;
    TRINE_TRY(trine_buffer_create(context, TRINE__LOG_SLOTS * batches * (size_t)log->floats * sizeof(float),
                                  &log->stats));
    if (t->norms)
        TRINE_TRY(
            trine_buffer_create(context, TRINE__LOG_SLOTS * batches * batch * sizeof(float), &log->norms));
    for (int h = 0; h < 2; h++) {
        void *memory;
        TRINE_TRY(trine__calloc(TRINE__LOG_HALF * batches, sizeof(int), &memory));
        log->halves[h].images = memory;
        TRINE_TRY(trine__calloc(TRINE__LOG_HALF * batches * (size_t)log->floats, sizeof(float), &memory));
        log->halves[h].stats = memory;
        if (!t->norms) continue;
        TRINE_TRY(trine__calloc(TRINE__LOG_HALF * batches * batch, sizeof(float), &memory));
        log->halves[h].norms = memory;
    }
    return TRINE_OK;
}

static float mean(const float *values, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++) sum += values[i];
    return count ? (float)(sum / count) : 0;
}

/* Sums over a step's batches. */
typedef struct sums {
    double loss, active, terms, d_ap, d_an, norm;
    double right, images; /* classify */
    float temperature;    /* of the last */
} sums;

static void add_batch(const trine_trainer *t, const trine__log_half *half, size_t at, sums *s)
{
    const float *stats = half->stats + at * (size_t)t->log.floats;
    const int images = half->images[at];
    const bool triplet = t->options.objective == TRINE_OBJECTIVE_TRIPLET;
    s->loss += stats[0];
    s->images += images;
    s->norm += half->norms ? mean(half->norms + at * (size_t)t->shape.n, images) : triplet ? stats[5] : 0;
    if (!triplet) {
        s->right += (double)stats[1] * images;
        return;
    }
    s->active += stats[1];
    s->terms += stats[2];
    s->d_ap += stats[3];
    s->d_an += stats[4];
    s->temperature = stats[6];
}

static trine_step_record make_record(const trine_trainer *t, const trine__log_half *half, int i)
{
    const int batches = half->batches[i];
    trine_step_record r = {.step = half->first_step + i + 1, .lr = half->lr[i]};
    sums s = {0};
    for (int k = 0; k < batches; k++) add_batch(t, half, (size_t)i * (size_t)t->accumulate + (size_t)k, &s);
    r.epoch = (r.step - 1) / t->epoch_steps + 1;
    r.loss = (float)(s.loss / batches);
    if (t->options.objective == TRINE_OBJECTIVE_CLASSIFY) {
        r.accuracy = (float)(s.right / s.images);
        r.embedding_norm = (float)(s.norm / batches);
        return r;
    }
    r.active_fraction = s.terms > 0 ? (float)s.active / (float)s.terms : 0;
    r.d_ap = (float)(s.d_ap / batches);
    r.d_an = (float)(s.d_an / batches);
    r.temperature = s.temperature;
    r.embedding_norm = (float)(s.norm / batches);
    return r;
}

/* Wait for a half that is being read back and tell the callback of its steps. */
static trine_status collect(trine_trainer *t, int h, trine_step_fn each_step, void *user)
{
    trine__trainer_log *log = &t->log;
    trine__log_half *half = &log->halves[h];
    const int count = half->count;
    TRINE_TRY(trine__event_wait(&half->read));
    half->count = 0;
    for (int i = 0; i < count; i++) {
        const trine_step_record record = make_record(t, half, i);
        log->loss_sum += record.loss;
        log->loss_count++;
        if (each_step && each_step(user, &record, t->steps) != 0) log->stopped = true;
    }
    return TRINE_OK;
}

/* Read the filling half back and fill the other. */
static trine_status turn(trine_trainer *t)
{
    trine__trainer_log *log = &t->log;
    trine__log_half *half = &log->halves[log->half];
    const size_t filled = (size_t)log->filled, first = (size_t)log->half * TRINE__LOG_HALF;
    const size_t batches = (size_t)t->accumulate, slot = batches * (size_t)log->floats * sizeof(float),
                 row = batches * (size_t)t->shape.n * sizeof(float);
    if (log->norms)
        TRINE_TRY(
            trine__stream_read_nocopy(t->stream, log->norms, first * row, half->norms, filled * row, NULL));
    TRINE_TRY(trine__stream_read_nocopy(t->stream, log->stats, first * slot, half->stats, filled * slot,
                                        &half->read));
    half->count = log->filled;
    log->filled = 0;
    log->half ^= 1;
    return TRINE_OK;
}

trine_status trine__trainer_log_begin(trine_trainer *t, trine_step_fn each_step, void *user, int *slot)
{
    trine__trainer_log *log = &t->log;
    if (log->filled == 0) {
        TRINE_TRY(collect(t, log->half, each_step, user));
        log->halves[log->half].first_step = t->step;
    }
    *slot = (log->half * TRINE__LOG_HALF + log->filled) * t->accumulate;
    return TRINE_OK;
}

trine_status trine__trainer_log_batch(trine_trainer *t, int i, int images)
{
    trine__trainer_log *log = &t->log;
    const size_t at = (size_t)(log->filled * t->accumulate + i);
    const size_t slot = (size_t)(log->half * TRINE__LOG_HALF * t->accumulate) + at;
    log->halves[log->half].images[at] = images;
    if (!log->norms) return TRINE_OK;
    /* the batch after this one overwrites t->norms */
    return trine__stream_copy(t->stream, t->norms, 0, log->norms, slot * (size_t)t->shape.n * sizeof(float),
                              (size_t)images * sizeof(float));
}

trine_status trine__trainer_log_end(trine_trainer *t, int batches, double lr)
{
    trine__trainer_log *log = &t->log;
    trine__log_half *half = &log->halves[log->half];
    half->batches[log->filled] = batches;
    half->lr[log->filled] = lr;
    log->filled++;
    return log->filled == TRINE__LOG_HALF ? turn(t) : TRINE_OK;
}

trine_status trine__trainer_log_flush(trine_trainer *t, trine_step_fn each_step, void *user)
{
    trine__trainer_log *log = &t->log;
    if (log->filled > 0) {
        TRINE_TRY(turn(t));
    }
    TRINE_TRY(collect(t, log->half, each_step, user)); /* the older one */
    return collect(t, log->half ^ 1, each_step, user);
}

void trine__trainer_log_free(trine_trainer *t)
{
    trine__trainer_log *log = &t->log;
    for (int h = 0; h < 2; h++) {
        trine__event_release(&log->halves[h].read);
        free(log->halves[h].images);
        free(log->halves[h].stats);
        free(log->halves[h].norms);
    }
    trine_buffer_release(&log->stats);
    trine_buffer_release(&log->norms);
}
