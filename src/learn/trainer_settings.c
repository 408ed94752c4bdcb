/* SPDX-License-Identifier: MIT */
/* Every setting of a run that decides the arithmetic, as text: written to a new state, or compared with that of a saved one by going
 * through the same list. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "learn/trainer_private.h"
#include "net/choices.h"
#include "net/session_private.h"

typedef struct settings {
    trine_weights *out;         /* the state that is being written, or NULL: */
    const trine_weights *saved; /* the one to compare with */
    trine_status mismatch;      /* what a difference is */
    trine_status status;        /* of the first setting that failed */
    const char *preset;         /* the value of a setting that is not written; NULL: it always is */
} settings;

static trine_status compare(const settings *s, const char *key, const char *name, const char *value)
{
    const char *saved = trine_weights_metadata(s->saved, key);
    if (!saved) saved = s->preset;
    TRINE_CHECK(saved, TRINE_ERR_FORMAT, "the saved run does not say what its %s was", name);
    TRINE_CHECK(strcmp(saved, value) == 0, s->mismatch, "%s is %s here, but %s in the saved run", name, value,
                saved);
    return TRINE_OK;
}

static void setting_text(settings *s, const char *name, const char *value)
{
    char key[TRINE__STATE_KEY_BYTES];
    snprintf(key, sizeof key, "run.%s", name);
    if (s->out && s->preset && strcmp(s->preset, value) == 0) return;
    if (s->status == TRINE_OK)
        s->status = s->out ? trine_weights_set_metadata(s->out, key, value) : compare(s, key, name, value);
}

static void setting(settings *s, const char *name, const char *format, ...) TRINE_PRINTF(3, 4);

static void setting(settings *s, const char *name, const char *format, ...)
{
    char value[TRINE__STATE_VALUE_BYTES];
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

/* What came after the first version of the state: not written where it is off, so that older states go on. */
static void later_loss_settings(settings *s, const trine_trainer_options *o)
{
    static const char *const losses[] = {"triplet", "angular", "multi-similarity", "nt-xent"},
                             *const negatives[] = {"hardest", "semi-hard", "easiest"};
    const trine_triplet_desc *d = &o->triplet;
    const struct {
        const char *name;
        float value;
        const char *preset;
    } reals[] = {{"temperature", d->temperature == 0 ? 1 : d->temperature, "1"},
                 {"fraction", d->mining == TRINE_HARDEST_FRACTION ? d->fraction : 0, "0"},
                 {"window-lower", d->window_lower, "0"},
                 {"window-upper", d->window_upper > d->window_lower ? d->window_upper : INFINITY, "inf"},
                 {"weight-lower", d->mining == TRINE_DISTANCE_WEIGHTED ? d->weight_lower : 0, "0"},
                 {"weight-upper", d->mining == TRINE_DISTANCE_WEIGHTED ? d->weight_upper : 0, "0"},
                 {"angle", d->loss == TRINE_LOSS_ANGULAR ? d->angle : 0, "0"},
                 {"alpha", d->loss == TRINE_LOSS_MULTI_SIMILARITY ? d->alpha : 0, "0"},
                 {"beta", d->loss == TRINE_LOSS_MULTI_SIMILARITY ? d->beta : 0, "0"},
                 {"base", d->loss == TRINE_LOSS_MULTI_SIMILARITY ? d->base : 0, "0"},
                 {"epsilon", d->loss == TRINE_LOSS_MULTI_SIMILARITY ? d->epsilon : 0, "0"}};
    s->preset = losses[0];
    setting_choice(s, "loss", losses, (int)d->loss);
    s->preset = negatives[0];
    setting_choice(s, "negative", negatives, (int)d->negative);
    s->preset = "off";
    setting_text(s, "swap", d->swap ? "on" : "off");
    for (size_t i = 0; i < TRINE_COUNTOF(reals); i++) {
        s->preset = reals[i].preset;
        setting_real(s, reals[i].name, reals[i].value, true);
    }
    s->preset = "off";
    setting_text(s, "learn temperature", d->learn_temperature ? "on" : "off");
    s->preset = "0";
    setting(s, "memory-size", "%d", o->memory_size);
    setting(s, "memory-start", "%d", o->memory_size > 0 && o->memory_start > 1 ? o->memory_start : 0);
    s->preset = NULL;
}

static void loss_settings(settings *s, const trine_trainer *t)
{
    static const char *const objectives[] = {"triplet", "classify"}, *const embeddings[] = {"pool", "fc"},
                             *const minings[] = {"batch-hard",    "batch-all",         "semi-hard",
                                                 "easy-positive", "distance-weighted", "hardest-fraction"},
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
    later_loss_settings(s, o);
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
    s->preset = "0";
    setting(s, "warmup", "%d", o->warmup);
    setting_real(s, "clip-norm", o->clip_norm, false);
    s->preset = "";
    setting_text(s, "lr by name", t->lr_globs ? t->lr_globs : "");
    s->preset = "0";
    setting_real(s, "lr of the temperature", t->temperature ? t->temperature_lr : 0, false);
    setting_real(s, "ema", o->ema, false);
    s->preset = "1";
    setting(s, "accumulate", "%d", t->accumulate);
    s->preset = NULL;
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
    const trine_trainer_options *o = &t->options;
    const trine_status mismatch = s->mismatch;
    if (t->data) {
        char *preprocess = NULL, augment[TRINE_AUGMENT_TEXT] = "";
        if (o->objective == TRINE_OBJECTIVE_CLASSIFY) {
            setting(s, "batch", "%d", o->batch);
        } else {
            setting(s, "classes-per-batch", "%d", o->classes_per_batch);
            setting(s, "images-per-class", "%d", o->images_per_class);
        }
        if (s->status == TRINE_OK) s->status = trine_augment_text(&o->augment, augment);
        setting_text(s, "augment", augment);
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

trine_status trine_trainer_tuning(const trine_trainer *t, char text[TRINE_SESSION_TUNING])
{
    trine__choices choices = {0};
    trine_status status = trine__choices_add(&choices, t->session);
    if (status == TRINE_OK && t->trunk) status = trine__choices_add(&choices, trine__trunk_session(t->trunk));
    if (status == TRINE_OK) trine__choices_text(&choices, text);
    trine__choices_free(&choices);
    return status;
}

/* Measured choices decide the arithmetic as options do, but no option brings them back. A state says nothing where there are none. */
static trine_status tuning_setting(const settings *s, const trine_trainer *t)
{
    static const char key[] = "run.tuning";
    char here[TRINE_SESSION_TUNING];
    TRINE_TRY(trine_trainer_tuning(t, here));
    if (s->out) return here[0] ? trine_weights_set_metadata(s->out, key, here) : TRINE_OK;
    const char *saved = trine_weights_metadata(s->saved, key);
    TRINE_CHECK(
        strcmp(here, saved ? saved : "") == 0, s->mismatch,
        "trine tune's measurements make other choices here (%s) than in the saved run (%s), which would not "
        "end with its bytes: %s; or begin a new run with the weights that it had come to",
        here[0] ? here : "none", saved ? saved : "none",
        saved ? "resume with the measurements that it had (TRINE_CACHE_DIR, TRINE_TUNING)"
              : "resume with TRINE_TUNING=off");
    return TRINE_OK;
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

trine_status trine__trainer_settings(trine_trainer *t, trine_weights *out, const trine_weights *saved)
{
    settings s = {out, saved, TRINE_ERR_ARG, TRINE_OK, NULL};
    loss_settings(&s, t);
    optimizer_settings(&s, &t->options.optimizer);
    run_settings(&s, t);
    data_settings(&s, t);
    policy_settings(&s, t->net);
    if (s.status == TRINE_OK) s.status = tuning_setting(&s, t);
    network_state(&s, t);
    return s.status;
}
