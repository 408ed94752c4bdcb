/* SPDX-License-Identifier: MIT */
/* Saving a run between two steps and going on with it later. Batches and augmentation depend on (seed, step)
 * alone, so the state is small: the optimizer's moments and counts, the plateau schedule, the step, and the embeddings
 * that the loss remembers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learn/trainer_private.h"
#include "net/session_private.h"
#include "net/state_guard.h"
#include "op/optimizer.h"
#include "op/triplet_private.h"

static const char format_key[] = "trine.state", format_version[] = "1";

enum { KEY_BYTES = TRINE__STATE_KEY_BYTES, VALUE_BYTES = TRINE__STATE_VALUE_BYTES, SCHEDULE_VALUES = 5 };

/* ---- saving ---- */

static void device_text(const trine_trainer *t, char text[VALUE_BYTES])
{
    const trine_device_info *d = trine_context_device(t->stream->context);
    snprintf(text, VALUE_BYTES, "%.80s, %.80s, %.80s", d->platform, d->name, d->driver);
    for (char *p = text; *p; p++)
        if (*p < 0x20 || *p > 0x7e) *p = '?'; /* metadata are UTF-8, a driver's strings are what they are */
}

/* Every parameter that has taken a step; the others' moments are zero. */
static trine_status save_moments(const trine_trainer *t, int state, const uint64_t *counts,
                                 trine_weights *out)
{
    const trine_resnet *net = t->net;
    void *memory;
    TRINE_TRY(trine__calloc(2 * net->flat_count, sizeof(float), &memory));
    float *flat = memory, *dense = flat + net->flat_count;
    trine_status status;
    TRINE_TRY_GOTO(trine__optimizer_state_export(t->optimizer, t->stream, state, flat));
    for (int i = 0; i < net->parameter_count; i++) {
        const trine__parameter *p = &net->params[i];
        char name[KEY_BYTES];
        int64_t dims[4];
        if (counts[i] == 0) continue;
        for (int d = 0; d < p->rank; d++) dims[d] = p->dims[d];
        snprintf(name, sizeof name, "optimizer.%s.%s", p->name,
                 trine__optimizer_state_name(t->optimizer, state));
        trine__weight_layout_to_dense(&p->layout, flat + p->offset, dense);
        TRINE_TRY_GOTO(trine_weights_add(out, name, TRINE_F32, p->rank, dims, dense));
    }
cleanup:
    free(flat);
    return status;
}

static trine_status save_counts(const trine_trainer *t, const uint64_t *counts, trine_weights *out)
{
    const trine_resnet *net = t->net;
    int64_t number = (int64_t)trine__optimizer_steps(t->optimizer);
    TRINE_TRY(trine_weights_add(out, "optimizer.step", TRINE_I64, 0, NULL, &number));
    for (int i = 0; i < net->parameter_count; i++) {
        char name[KEY_BYTES];
        if (counts[i] == 0) continue;
        number = (int64_t)counts[i];
        snprintf(name, sizeof name, "optimizer.%s.step", net->params[i].name);
        TRINE_TRY(trine_weights_add(out, name, TRINE_I64, 0, NULL, &number));
    }
    return TRINE_OK;
}

static const int64_t loss_scale_length = sizeof(trine__loss_scale_state) / sizeof(float);

static trine_status save_loss_scale(trine_trainer *t, trine_weights *out)
{
    trine__loss_scale_state state;
    TRINE_TRY(trine__loss_scale_read(t->gradients->scale, t->stream, &state));
    return trine_weights_add(out, "loss_scale", TRINE_F32, 1, &loss_scale_length, &state);
}

/* What the loss remembers: dense rows, whatever the layout. */
static trine_status save_memory(const trine_trainer *t, trine_weights *out)
{
    const trine_triplet_memory *m = t->memory;
    const int64_t dims[2] = {m->count, m->d}, count = m->count, next = m->next;
    void *rows = NULL, *labels = NULL;
    trine_status status;
    TRINE_TRY_GOTO(trine_weights_add(out, "memory.count", TRINE_I64, 0, NULL, &count));
    TRINE_TRY_GOTO(trine_weights_add(out, "memory.next", TRINE_I64, 0, NULL, &next));
    if (m->count == 0) return TRINE_OK;
    TRINE_TRY_GOTO(trine__calloc((size_t)m->count * (size_t)m->d, sizeof(float), &rows));
    TRINE_TRY_GOTO(trine__calloc((size_t)m->count, sizeof(int32_t), &labels));
    TRINE_TRY_GOTO(trine__triplet_memory_read(m, t->stream, rows, labels));
    TRINE_TRY_GOTO(trine_weights_add(out, "memory.rows", TRINE_F32, 2, dims, rows));
    TRINE_TRY_GOTO(trine_weights_add(out, "memory.labels", TRINE_I32, 1, dims, labels));
cleanup:
    free(rows);
    free(labels);
    return status;
}

static trine_status save_metadata(trine_trainer *t, trine_weights *out)
{
    char step[32], device[VALUE_BYTES];
    snprintf(step, sizeof step, "%d", t->step);
    device_text(t, device);
    TRINE_TRY(trine_weights_set_metadata(out, format_key, format_version));
    TRINE_TRY(trine_weights_set_metadata(out, "step", step));
    TRINE_TRY(trine_weights_set_metadata(out, "device", device));
    return trine__trainer_settings(t, out, NULL);
}

static trine_status save(trine_trainer *t, trine_weights **out)
{
    TRINE_CHECK(!t->failed, TRINE_ERR_STATE, "trainer: its run failed at step %d", t->step + 1);
    TRINE_CHECK(!t->running, TRINE_ERR_STATE, "trainer: it is running, and can be saved between two runs");
    TRINE_TRY(trine__trainer_check_values(t));
    const double schedule[SCHEDULE_VALUES] = {t->plateau.lr, t->plateau.best, t->plateau.bad, t->log.loss_sum,
                                              t->log.loss_count};
    const int64_t length = SCHEDULE_VALUES;
    trine_weights *w = NULL;
    uint64_t *counts;
    TRINE_TRY(
        trine__optimizer_counts(t->optimizer, (size_t)t->net->parameter_count, t->net->flat_count, &counts));
    TRINE_TRY(trine_weights_create(&w));
    trine_status status;
    for (int i = 0; i < trine__optimizer_state_count(t->optimizer); i++)
        TRINE_TRY_GOTO(save_moments(t, i, counts, w));
    TRINE_TRY_GOTO(save_counts(t, counts, w));
    TRINE_TRY_GOTO(trine_weights_add(w, "schedule", TRINE_F64, 1, &length, schedule));
    if (t->net->precision == TRINE_F16) TRINE_TRY_GOTO(save_loss_scale(t, w));
    if (t->memory) TRINE_TRY_GOTO(save_memory(t, w));
    TRINE_TRY_GOTO(trine__trainer_save_temperature(t, w));
    if (t->average) TRINE_TRY_GOTO(trine__average_save(t->average, t->stream, w));
    TRINE_TRY_GOTO(save_metadata(t, w));
    *out = w;
    return TRINE_OK;
cleanup:
    trine_weights_destroy(&w);
    return status;
}

trine_status trine_trainer_save(trine_trainer *trainer, trine_weights **out)
{
    TRINE_CHECK(trainer && out, TRINE_ERR_ARG, "trainer: trainer or result is missing");
    trine__guard guard;
    TRINE_TRY(
        trine__guard_begin(&guard, trainer->net, trainer->stream, "trine_trainer_save", TRINE__MAY_NOTHING));
    trine_weights *w = NULL;
    const trine_status status = trine__guard_end(&guard, save(trainer, &w));
    if (status == TRINE_OK)
        *out = w;
    else
        trine_weights_destroy(&w);
    return status;
}

/* ---- resuming ---- */

/* The tensor, if it has this type and shape. *used counts those that were asked for. */
static trine_status find(const trine_weights *state, const char *name, trine_dtype dtype, int rank,
                         const int64_t *dims, size_t *used, const void **out)
{
    const trine_weights_tensor *tensor = trine_weights_find(state, name);
    TRINE_CHECK(tensor, TRINE_ERR_FORMAT, "the saved run has no '%s'", name);
    bool same = tensor->dtype == dtype && tensor->rank == rank;
    for (int d = 0; same && d < rank; d++) same = tensor->dims[d] == dims[d];
    TRINE_CHECK(same, TRINE_ERR_FORMAT, "the saved run's '%s' has another shape or element type", name);
    ++*used;
    *out = tensor->data;
    return TRINE_OK;
}

/* A count of steps, at most `most`. */
static trine_status find_count(const trine_weights *state, const char *name, int most, size_t *used,
                               uint64_t *out)
{
    const void *data;
    int64_t count;
    TRINE_TRY(find(state, name, TRINE_I64, 0, NULL, used, &data));
    memcpy(&count, data, sizeof count);
    TRINE_CHECK(count >= 0 && count <= most, TRINE_ERR_FORMAT,
                "the saved run's '%s' is %lld, expected 0 to %d", name, (long long)count, most);
    *out = (uint64_t)count;
    return TRINE_OK;
}

/* Steps of each parameter (0: it has none) and in all (counts[parameter_count]). */
static trine_status read_counts(const trine_trainer *t, const trine_weights *state, int step,
                                uint64_t *counts, size_t *used)
{
    const trine_resnet *net = t->net;
    TRINE_TRY(find_count(state, "optimizer.step", step, used, &counts[net->parameter_count]));
    for (int i = 0; i < net->parameter_count; i++) {
        char name[KEY_BYTES];
        snprintf(name, sizeof name, "optimizer.%s.step", net->params[i].name);
        if (trine_weights_find(state, name)) TRINE_TRY(find_count(state, name, step, used, &counts[i]));
    }
    return TRINE_OK;
}

/* The flat buffer of one of the optimizer's states. flat [flat_count] zeroed, or NULL: only check. */
static trine_status read_moments(const trine_trainer *t, const trine_weights *state, int number,
                                 const uint64_t *counts, size_t *used, float *flat)
{
    const trine_resnet *net = t->net;
    for (int i = 0; i < net->parameter_count; i++) {
        const trine__parameter *p = &net->params[i];
        char name[KEY_BYTES];
        int64_t dims[4];
        const void *data;
        if (counts[i] == 0) continue;
        for (int d = 0; d < p->rank; d++) dims[d] = p->dims[d];
        snprintf(name, sizeof name, "optimizer.%s.%s", p->name,
                 trine__optimizer_state_name(t->optimizer, number));
        TRINE_TRY(find(state, name, TRINE_F32, p->rank, dims, used, &data));
        if (flat) trine__weight_layout_from_dense(&p->layout, data, flat + p->offset);
    }
    return TRINE_OK;
}

static trine_status load_optimizer(trine_trainer *t, const trine_weights *state, const uint64_t *counts)
{
    const trine_resnet *net = t->net;
    uint64_t *own;
    size_t used = 0;
    TRINE_TRY(trine__optimizer_counts(t->optimizer, (size_t)net->parameter_count, net->flat_count, &own));
    for (int i = 0; i < trine__optimizer_state_count(t->optimizer); i++) {
        void *flat;
        TRINE_TRY(trine__calloc(net->flat_count, sizeof(float), &flat));
        trine_status status = read_moments(t, state, i, counts, &used, flat);
        if (status == TRINE_OK) status = trine__optimizer_state_import(t->optimizer, t->stream, i, flat);
        free(flat);
        TRINE_TRY(status);
    }
    memcpy(own, counts, (size_t)net->parameter_count * sizeof *own);
    trine__optimizer_set_steps(t->optimizer, counts[net->parameter_count]);
    return TRINE_OK;
}

static trine_status read_step(const trine_trainer *t, const trine_weights *state, int *out)
{
    const char *version = trine_weights_metadata(state, format_key);
    const char *text = trine_weights_metadata(state, "step");
    TRINE_CHECK(version, TRINE_ERR_FORMAT, "no state of a run: metadata '%s' is missing", format_key);
    TRINE_CHECK(strcmp(version, format_version) == 0, TRINE_ERR_FORMAT,
                "a run's state of format '%.40s', expected %s", version, format_version);
    TRINE_CHECK(text, TRINE_ERR_FORMAT, "the saved run does not say at which step it was");
    char *end;
    const long step = strtol(text, &end, 10);
    TRINE_CHECK(text[0] >= '0' && text[0] <= '9' && *end == '\0' && step <= t->steps, TRINE_ERR_FORMAT,
                "the saved run was at step '%.40s' of %d", text, t->steps);
    *out = (int)step;
    return TRINE_OK;
}

static trine_status find_loss_scale(const trine_weights *state, size_t *used, trine__loss_scale_state *out)
{
    const void *data;
    TRINE_TRY(find(state, "loss_scale", TRINE_F32, 1, &loss_scale_length, used, &data));
    memcpy(out, data, sizeof *out);
    TRINE_CHECK(out->scale >= 1 && isfinite(out->scale) && out->inverse == 1 / out->scale &&
                    out->overflow == 0 && out->steps >= 0 && out->skipped >= 0,
                TRINE_ERR_FORMAT, "the saved run's 'loss_scale' holds a number out of range");
    return TRINE_OK;
}

/* What the loss remembered. */
typedef struct remembered {
    const float *rows;
    const int32_t *labels;
    int count, next;
} remembered;

static trine_status find_memory(const trine_triplet_memory *m, const trine_weights *state, size_t *used,
                                remembered *out)
{
    uint64_t count = 0, next = 0;
    const void *rows = NULL, *labels = NULL;
    TRINE_TRY(find_count(state, "memory.count", m->capacity, used, &count));
    TRINE_TRY(find_count(state, "memory.next", m->capacity - 1, used, &next));
    const int64_t dims[2] = {(int64_t)count, m->d};
    if (count > 0) {
        TRINE_TRY(find(state, "memory.rows", TRINE_F32, 2, dims, used, &rows));
        TRINE_TRY(find(state, "memory.labels", TRINE_I32, 1, dims, used, &labels));
    }
    TRINE_CHECK(count == (uint64_t)m->capacity || next == count, TRINE_ERR_FORMAT,
                "the saved run's 'memory.next' is %llu with %llu of %d rows", (unsigned long long)next,
                (unsigned long long)count, m->capacity);
    *out = (remembered){rows, labels, (int)count, (int)next};
    return TRINE_OK;
}

/* Everything that a state must have and nothing else; fills counts [parameter_count + 1], *schedule and, in half precision, *scale,
 * with a memory *memory. */
static trine_status check_state(trine_trainer *t, const trine_weights *state, int step, uint64_t *counts,
                                const double **schedule, trine__loss_scale_state *scale, remembered *memory,
                                trine__saved_temperature *temperature)
{
    const int64_t length = SCHEDULE_VALUES;
    const void *data;
    size_t used = 0;
    TRINE_TRY(read_counts(t, state, step, counts, &used));
    for (int i = 0; i < trine__optimizer_state_count(t->optimizer); i++)
        TRINE_TRY(read_moments(t, state, i, counts, &used, NULL));
    TRINE_TRY(find(state, "schedule", TRINE_F64, 1, &length, &used, &data));
    if (t->net->precision == TRINE_F16) TRINE_TRY(find_loss_scale(state, &used, scale));
    if (t->memory) TRINE_TRY(find_memory(t->memory, state, &used, memory));
    TRINE_TRY(trine__trainer_find_temperature(t, state, step, &used, temperature));
    if (t->average) TRINE_TRY(trine__average_restore(t->average, t->stream, state, counts, false, &used));
    TRINE_CHECK(used == trine_weights_count(state), TRINE_ERR_FORMAT,
                "the saved run has %zu tensors, expected %zu", trine_weights_count(state), used);
    *schedule = data; /* aligned to 8 */
    const double bad = (*schedule)[2], count = (*schedule)[4];
    TRINE_CHECK((*schedule)[0] >= 0 && bad >= 0 && bad <= step && count >= 0 && count <= step,
                TRINE_ERR_FORMAT, "the saved run's 'schedule' holds a number out of range");
    return TRINE_OK;
}

static void tell_device(const trine_trainer *t, const trine_weights *state)
{
    char here[VALUE_BYTES], text[3 * VALUE_BYTES];
    const char *there = trine_weights_metadata(state, "device");
    device_text(t, here);
    if (!t->options.log || !there || strcmp(here, there) == 0) return;
    snprintf(
        text, sizeof text,
        "the run was saved on another device or driver (%.200s, now %s): it will not end with the same bytes",
        there, here);
    t->options.log(t->options.log_user, text);
}

static trine_status resume(trine_trainer *t, const trine_weights *state)
{
    TRINE_CHECK(t->step == 0 && !t->failed && !t->running, TRINE_ERR_STATE,
                "trainer: it has run already, and can no longer resume another run");
    int step = 0;
    const double *schedule = NULL;
    trine__loss_scale_state scale;
    remembered past = {0};
    trine__saved_temperature temperature = {0};
    void *memory;
    trine_status status;
    size_t averages = 0;
    TRINE_TRY(trine__trainer_check_values(t));
    TRINE_TRY(trine__trainer_settings(t, NULL, state));
    TRINE_TRY(read_step(t, state, &step));
    TRINE_TRY(trine__calloc((size_t)t->net->parameter_count + 1, sizeof(uint64_t), &memory));
    uint64_t *counts = memory;
    TRINE_TRY_GOTO(check_state(t, state, step, counts, &schedule, &scale, &past, &temperature));
    t->failed = true; /* until all of it is in place */
    TRINE_TRY_GOTO(load_optimizer(t, state, counts));
    if (t->net->precision == TRINE_F16)
        TRINE_TRY_GOTO(trine__loss_scale_write(t->gradients->scale, t->stream, &scale));
    if (t->memory)
        TRINE_TRY_GOTO(
            trine__triplet_memory_write(t->memory, t->stream, past.rows, past.labels, past.count, past.next));
    TRINE_TRY_GOTO(trine__trainer_load_temperature(t, &temperature));
    if (t->average)
        TRINE_TRY_GOTO(trine__average_restore(t->average, t->stream, state, counts, true, &averages));
    t->plateau = (trine__plateau){schedule[0], schedule[1], (int)schedule[2]};
    t->log.loss_sum = schedule[3];
    t->log.loss_count = (int)schedule[4];
    t->step = step;
    t->failed = false;
    tell_device(t, state);
cleanup:
    free(counts);
    return status;
}

trine_status trine_trainer_resume(trine_trainer *trainer, const trine_weights *state)
{
    TRINE_CHECK(trainer && state, TRINE_ERR_ARG, "trainer: trainer or state is missing");
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, trainer->net, trainer->stream, "trine_trainer_resume",
                                 TRINE__MAY_NOTHING));
    return trine__guard_end(&guard, resume(trainer, state));
}
