/* SPDX-License-Identifier: MIT */
/* The loss's temperature where it is learnt: a parameter beside the network, with the run's optimizer, a rate of its own by the name
 * "temperature", no weight decay (as CLIP's logit scale), and no part in the norm that gradients are clipped by. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/glob.h"
#include "learn/trainer_private.h"
#include "op/optimizer.h"
#include "op/triplet_private.h"

static const char own_name[] = "temperature";

trine_status trine__trainer_temperature_rate(trine_trainer *t, char *globs)
{
    char item[TRINE__ITEM_BYTES], rest[TRINE__ITEM_BYTES];
    char *to = globs;
    t->temperature_lr = t->options.lr;
    if (!t->options.triplet.learn_temperature || t->options.objective != TRINE_OBJECTIVE_TRIPLET)
        return TRINE_OK;
    TRINE_TRY(trine__list_check("lr", globs));
    for (const char *text = globs; trine__list_next(&text, item);) {
        char *equals = strrchr(item, '='), *end = NULL;
        const double value = equals ? strtod(equals + 1, &end) : 0;
        snprintf(rest, sizeof rest, "%s", item);
        if (equals) *equals = '\0';
        const bool matches = end && *end == '\0' && end > equals + 1 && isfinite(value) && value >= 0 &&
                             trine__glob_check(item) == TRINE_OK && trine__glob_match(item, own_name);
        if (matches) t->temperature_lr = value;
        if (matches && strcmp(item, own_name) == 0) continue; /* the network has no such parameter */
        const size_t length = strlen(rest);
        if (to > globs) *to++ = ',';
        memmove(to, rest, length);
        to += length;
    }
    *to = '\0';
    return TRINE_OK;
}

trine_status trine__trainer_open_temperature(trine_trainer *t)
{
    trine_optimizer_desc desc = t->options.optimizer;
    if (!t->options.triplet.learn_temperature) return TRINE_OK;
    desc.weight_decay = 0;
    return trine_optimizer_create(t->stream->context, &desc, 1, &t->temperature);
}

trine_status trine__trainer_step_temperature(trine_trainer *t)
{
    return t->temperature
               ? trine_triplet_step_temperature(t->triplet, t->stream, t->temperature,
                                                (float)trine__trainer_rate_of(t, t->temperature_lr))
               : TRINE_OK;
}

enum { NAME_BYTES = 64 };

static void name_of(const trine_trainer *t, int state, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%s.%s", own_name, trine__optimizer_state_name(t->temperature, state));
}

trine_status trine__trainer_save_temperature(const trine_trainer *t, trine_weights *out)
{
    float value;
    char name[NAME_BYTES];
    if (!t->temperature) return TRINE_OK;
    const int64_t steps = (int64_t)trine__optimizer_steps(t->temperature);
    TRINE_TRY(trine__triplet_temperature_read(t->triplet, t->stream, &value));
    TRINE_TRY(trine_weights_add(out, "temperature.log", TRINE_F32, 0, NULL, &value));
    TRINE_TRY(trine_weights_add(out, "temperature.step", TRINE_I64, 0, NULL, &steps));
    for (int i = 0; i < trine__optimizer_state_count(t->temperature); i++) {
        name_of(t, i, name);
        TRINE_TRY(trine__optimizer_state_export(t->temperature, t->stream, i, &value));
        TRINE_TRY(trine_weights_add(out, name, TRINE_F32, 0, NULL, &value));
    }
    return TRINE_OK;
}

static trine_status find(const trine_weights *state, const char *name, trine_dtype dtype, size_t *used,
                         const void **out)
{
    const trine_weights_tensor *tensor = trine_weights_find(state, name);
    TRINE_CHECK(tensor, TRINE_ERR_FORMAT, "the saved run has no '%s'", name);
    TRINE_CHECK(tensor->dtype == dtype && tensor->rank == 0, TRINE_ERR_FORMAT,
                "the saved run's '%s' has another shape or element type", name);
    ++*used;
    *out = tensor->data;
    return TRINE_OK;
}

trine_status trine__trainer_find_temperature(const trine_trainer *t, const trine_weights *state, int step,
                                             size_t *used, trine__saved_temperature *out)
{
    const void *data = NULL;
    char name[NAME_BYTES];
    if (!t->temperature) return TRINE_OK;
    TRINE_TRY(find(state, "temperature.log", TRINE_F32, used, &data));
    memcpy(&out->log, data, sizeof out->log);
    TRINE_TRY(find(state, "temperature.step", TRINE_I64, used, &data));
    memcpy(&out->steps, data, sizeof out->steps);
    TRINE_CHECK(isfinite(out->log) && out->steps >= 0 && out->steps <= step, TRINE_ERR_FORMAT,
                "the saved run's temperature or its step is out of range");
    for (int i = 0; i < trine__optimizer_state_count(t->temperature); i++) {
        name_of(t, i, name);
        TRINE_TRY(find(state, name, TRINE_F32, used, &data));
        memcpy(&out->moments[i], data, sizeof out->moments[i]);
    }
    return TRINE_OK;
}

trine_status trine__trainer_load_temperature(trine_trainer *t, const trine__saved_temperature *saved)
{
    if (!t->temperature) return TRINE_OK;
    TRINE_TRY(trine__triplet_temperature_write(t->triplet, t->stream, saved->log));
    for (int i = 0; i < trine__optimizer_state_count(t->temperature); i++)
        TRINE_TRY(trine__optimizer_state_import(t->temperature, t->stream, i, &saved->moments[i]));
    trine__optimizer_set_steps(t->temperature, (uint64_t)saved->steps);
    return TRINE_OK;
}
