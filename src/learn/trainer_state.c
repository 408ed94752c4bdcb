/* SPDX-License-Identifier: MIT */
/* Saving a run between two steps and going on with it later. Batches and augmentation depend on (seed, step)
 * alone, so the state is small: the optimizer's moments and counts, the plateau schedule, and the step.
 * Everything that decides the arithmetic is written beside it as text; resuming goes through the same list
 * and compares. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "learn/trainer_private.h"
#include "net/session_private.h"
#include "net/state_guard.h"
#include "op/optimizer.h"

static const char format_key[] = "trine.state", format_version[] = "1";

enum { KEY_BYTES = 192, VALUE_BYTES = 256, SCHEDULE_VALUES = 5 };

/* ---- settings: written to a new state, or compared with a saved one ---- */

typedef struct settings {
    trine_weights *out;         /* the state that is being written, or NULL: */
    const trine_weights *saved; /* the one to compare with */
    trine_status mismatch;      /* what a difference is */
    trine_status status;        /* of the first setting that failed */
} settings;

static trine_status compare(const settings *s, const char *key, const char *name, const char *value)
{
    const char *saved = trine_weights_metadata(s->saved, key);
    TRINE_CHECK(saved, TRINE_ERR_FORMAT, "the saved run does not say what its %s was", name);
    TRINE_CHECK(strcmp(saved, value) == 0, s->mismatch, "%s is %s here, but %s in the saved run", name, value,
                saved);
    return TRINE_OK;
}

static void setting_text(settings *s, const char *name, const char *value)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "run.%s", name);
    if (s->status == TRINE_OK)
        s->status = s->out ? trine_weights_set_metadata(s->out, key, value) : compare(s, key, name, value);
}

static void setting(settings *s, const char *name, const char *format, ...) TRINE_PRINTF(3, 4);

static void setting(settings *s, const char *name, const char *format, ...)
{
    char value[VALUE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    for (char *p = value; *p; p++)
        if (*p == ',') *p = '.'; /* the decimal comma of the program's locale */
    setting_text(s, name, value);
}

/* The shortest decimal that reads as the value, which is a float if `single`. */
static void setting_real(settings *s, const char *name, double value, bool single)
{
    setting(s, name, "%.*g", trine__shortest_digits(value, single), value);
}

static void setting_choice(settings *s, const char *name, const char *const *names, int choice)
{
    setting_text(s, name, names[choice]);
}

static void optimizer_settings(settings *s, const trine_optimizer_desc *d)
{
    static const char *const kinds[] = {"sgd", "adam", "adamw"};
    setting_choice(s, "optimizer", kinds, (int)d->kind);
    if (d->kind == TRINE_SGD) {
        setting_real(s, "momentum", d->momentum, true);
        setting_text(s, "nesterov", d->nesterov ? "on" : "off");
    } else {
        setting_real(s, "beta1", d->beta1, true);
        setting_real(s, "beta2", d->beta2, true);
        setting_real(s, "eps", d->eps, true);
    }
    setting_real(s, "weight-decay", d->weight_decay, true);
}

static void loss_settings(settings *s, const trine_trainer *t)
{
    static const char *const objectives[] = {"triplet", "classify"}, *const embeddings[] = {"pool", "fc"},
                             *const minings[] = {"batch-hard", "batch-all", "semi-hard"},
                             *const distances[] = {"euclidean", "squared", "cosine"};
    const trine_trainer_options *o = &t->options;
    setting_choice(s, "objective", objectives, (int)o->objective);
    if (o->objective == TRINE_OBJECTIVE_CLASSIFY) return;
    setting_choice(s, "embedding", embeddings, (int)o->embedding);
    setting_text(s, "normalize", o->normalize ? "on" : "off");
    setting_choice(s, "mining", minings, (int)o->triplet.mining);
    setting_choice(s, "distance", distances, (int)o->triplet.distance);
    if (o->triplet.soft)
        setting_text(s, "margin", "soft");
    else
        setting_real(s, "margin", o->triplet.margin, true);
}

static void run_settings(settings *s, const trine_trainer *t)
{
    static const char *const schedules[] = {"constant", "step", "cosine", "plateau"};
    const trine_trainer_options *o = &t->options;
    setting_real(s, "lr", o->lr, false);
    setting_choice(s, "schedule", schedules, (int)o->schedule);
    setting(s, "steps", "%d", t->steps);
    setting(s, "epochs", "%d", o->steps > 0 ? 0 : o->epochs);
    setting(s, "seed", "%llu", (unsigned long long)o->seed);
}

/* Class numbers and file names, wherever the folder is by now. */
static uint64_t dataset_hash(const trine_dataset *data)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < trine_dataset_count(data); i++) {
        const int32_t label = trine_dataset_label(data, i);
        const char *name = trine_dataset_name(data, i), *slash = strrchr(name, '/');
        if (slash) name = slash + 1;
        hash = trine__hash(&label, sizeof label, hash);
        hash = trine__hash(name, strlen(name), hash);
    }
    return hash;
}

static void data_settings(settings *s, const trine_trainer *t)
{
    static const char *const augments[] = {"none", "flip", "crop", "flip-crop"};
    const trine_trainer_options *o = &t->options;
    const trine_status mismatch = s->mismatch;
    if (t->data) {
        char *preprocess = NULL;
        if (o->objective == TRINE_OBJECTIVE_CLASSIFY) {
            setting(s, "batch", "%d", o->batch);
        } else {
            setting(s, "classes-per-batch", "%d", o->classes_per_batch);
            setting(s, "images-per-class", "%d", o->images_per_class);
        }
        setting_choice(s, "augment", augments, (o->flip != 0) + 2 * (o->crop != 0));
        if (s->status == TRINE_OK) s->status = trine_preprocess_to_json(&o->preprocess, &preprocess);
        if (preprocess) setting_text(s, "preprocess", preprocess);
        free(preprocess);
    }
    s->mismatch = TRINE_ERR_DATA;
    setting(s, "number of images", "%zu", t->data ? trine_dataset_count(t->data) : (size_t)t->shape.n);
    setting(s, "image size", "%d x %d x %d", t->shape.c, t->shape.h, t->shape.w);
    setting(s, "hash of the data", "%016llx",
            (unsigned long long)(t->data ? dataset_hash(t->data) : t->fixed_hash));
    s->mismatch = mismatch;
}

/* Policies and freezing, layer by layer. */
static void policy_settings(settings *s, const trine_resnet *net)
{
    setting_text(s, "arch", trine_resnet_arch(net));
    setting_text(s, "precision", net->precision == TRINE_F16 ? "fp16" : net->allow_tf32 ? "tf32" : "fp32");
    for (int i = 0; i < trine_resnet_bn_count(net) && s->status == TRINE_OK; i++) {
        trine_bn_info info;
        s->status = trine_resnet_bn(net, i, &info);
        if (s->status == TRINE_OK)
            setting(s, info.name, "%s:momentum=%.*g:eps=%.*g", trine__bn_policy_name(info.policy),
                    trine__shortest_digits(info.momentum, true), (double)info.momentum,
                    trine__shortest_digits(info.eps, true), (double)info.eps);
    }
    for (int i = 0; i < net->parameter_count; i++)
        setting_text(s, net->params[i].name, net->params[i].trainable ? "trainable" : "frozen");
}

static void network_state(settings *s, trine_trainer *t)
{
    uint64_t parameters = 0, statistics = 0;
    if (s->status == TRINE_OK)
        s->status = trine_resnet_state_hash(t->net, t->stream, &parameters, &statistics, NULL);
    s->mismatch = TRINE_ERR_WEIGHTS;
    setting(s, "state hash of the network", "%016llx-%016llx", (unsigned long long)parameters,
            (unsigned long long)statistics);
}

static trine_status all_settings(trine_trainer *t, trine_weights *out, const trine_weights *saved)
{
    settings s = {out, saved, TRINE_ERR_ARG, TRINE_OK};
    loss_settings(&s, t);
    optimizer_settings(&s, &t->options.optimizer);
    run_settings(&s, t);
    data_settings(&s, t);
    policy_settings(&s, t->net);
    network_state(&s, t);
    return s.status;
}

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

static trine_status save_metadata(trine_trainer *t, trine_weights *out)
{
    char step[32], device[VALUE_BYTES];
    snprintf(step, sizeof step, "%d", t->step);
    device_text(t, device);
    TRINE_TRY(trine_weights_set_metadata(out, format_key, format_version));
    TRINE_TRY(trine_weights_set_metadata(out, "step", step));
    TRINE_TRY(trine_weights_set_metadata(out, "device", device));
    return all_settings(t, out, NULL);
}

static trine_status save(trine_trainer *t, trine_weights **out)
{
    TRINE_CHECK(!t->failed, TRINE_ERR_STATE, "trainer: its run failed at step %d", t->step + 1);
    TRINE_CHECK(!t->running, TRINE_ERR_STATE, "trainer: it is running, and can be saved between two runs");
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

/* Everything that a state must have and nothing else; fills counts [parameter_count + 1], *schedule and, in half precision, *scale. */
static trine_status check_state(trine_trainer *t, const trine_weights *state, int step, uint64_t *counts,
                                const double **schedule, trine__loss_scale_state *scale)
{
    const int64_t length = SCHEDULE_VALUES;
    const void *data;
    size_t used = 0;
    TRINE_TRY(read_counts(t, state, step, counts, &used));
    for (int i = 0; i < trine__optimizer_state_count(t->optimizer); i++)
        TRINE_TRY(read_moments(t, state, i, counts, &used, NULL));
    TRINE_TRY(find(state, "schedule", TRINE_F64, 1, &length, &used, &data));
    if (t->net->precision == TRINE_F16) TRINE_TRY(find_loss_scale(state, &used, scale));
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
    void *memory;
    trine_status status;
    TRINE_TRY(all_settings(t, NULL, state));
    TRINE_TRY(read_step(t, state, &step));
    TRINE_TRY(trine__calloc((size_t)t->net->parameter_count + 1, sizeof(uint64_t), &memory));
    uint64_t *counts = memory;
    TRINE_TRY_GOTO(check_state(t, state, step, counts, &schedule, &scale));
    t->failed = true; /* until all of it is in place */
    TRINE_TRY_GOTO(load_optimizer(t, state, counts));
    if (t->net->precision == TRINE_F16)
        TRINE_TRY_GOTO(trine__loss_scale_write(t->gradients->scale, t->stream, &scale));
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
