/* SPDX-License-Identifier: MIT */
/* Which parameters train and what each BatchNorm layer does: parsing, resolving, reporting; access to the
 * running statistics. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/glob.h"
#include "base/text.h"
#include "net/state_guard.h"

static const struct {
    const char *name;
    trine_bn_policy policy;
} policy_names[] = {
    {"auto", TRINE_BN_AUTO}, {"train", TRINE_BN_TRAIN},         {"torch", TRINE_BN_TRAIN},
    {"eval", TRINE_BN_EVAL}, {"no-update", TRINE_BN_NO_UPDATE}, {"cumulative", TRINE_BN_CUMULATIVE},
};

const char *trine__bn_policy_name(trine_bn_policy policy)
{
    for (size_t i = 0; i < TRINE_COUNTOF(policy_names); i++)
        if (policy_names[i].policy == policy) return policy_names[i].name;
    return "?";
}

trine__bn_mode trine__bn_resolve(const trine_resnet *net, int unit)
{
    const bool frozen = net->affine ? !trine__parameter_trains(net, trine__gamma_parameter(net, unit)) &&
                                          !trine__parameter_trains(net, trine__beta_parameter(net, unit))
                                    : !trine__parameter_trains(net, trine__conv_parameter(net, unit));
    trine_bn_policy policy = net->bns[unit].policy;
    if (policy == TRINE_BN_AUTO) policy = frozen ? TRINE_BN_EVAL : TRINE_BN_TRAIN;
    if (!net->bns[unit].tracked) policy = TRINE_BN_NO_UPDATE; /* there is nothing else that it could do */
    return (trine__bn_mode){.batch = policy != TRINE_BN_EVAL,
                            .update = policy == TRINE_BN_TRAIN || policy == TRINE_BN_CUMULATIVE,
                            .cumulative = policy == TRINE_BN_CUMULATIVE,
                            .frozen = frozen,
                            .tracked = net->bns[unit].tracked};
}

const char *trine__bn_mode_name(trine__bn_mode mode)
{
    if (!mode.tracked) return "untracked";
    return trine__bn_policy_name(!mode.batch       ? TRINE_BN_EVAL
                                 : !mode.update    ? TRINE_BN_NO_UPDATE
                                 : mode.cumulative ? TRINE_BN_CUMULATIVE
                                                   : TRINE_BN_TRAIN);
}

/* True if the glob matches a canonical name, or the same under the source's name of fc. */
static bool matches(const trine_resnet *net, const char *glob, const char *name)
{
    if (trine__glob_match(glob, name)) return true;
    if (strncmp(name, "fc.", 3) != 0) return false;
    char other[TRINE__NAME_BYTES + 16];
    snprintf(other, sizeof other, "linear.%s", name + 3);
    if (trine__glob_match(glob, other)) return true;
    snprintf(other, sizeof other, "%s.%s", net->fc_name, name + 3);
    return trine__glob_match(glob, other);
}

static bool parameter_matches(const void *net, const char *glob, int i)
{
    return matches(net, glob, ((const trine_resnet *)net)->params[i].name);
}

trine_status trine_resnet_freeze(trine_resnet *net, const char *globs)
{
    void *p = NULL;
    char *copy = NULL, kind[128];
    trine_status status;
    snprintf(kind, sizeof kind, "parameter of %s (names are such as %s)", net->spec.variant->name,
             net->params[2].name);
    const trine__glob_items items = {net->parameter_count, parameter_matches, net, kind};
    TRINE_TRY(trine__calloc((size_t)net->parameter_count, sizeof(bool), &p));
    bool *frozen = p;
    TRINE_TRY_GOTO(trine__glob_list("freeze", globs, &items, frozen));
    if (globs && globs[0]) TRINE_TRY_GOTO(trine__strdup(globs, &copy));
    free(net->freeze);
    net->freeze = copy;
    for (int i = 0; i < net->parameter_count; i++) net->params[i].trainable = !frozen[i];
    net->plan_version = ++net->next_version;
cleanup:
    free(frozen);
    return status;
}

trine_status trine__parameter_numbers(const trine_resnet *net, const char *what, const char *list,
                                      double *numbers)
{
    char item[TRINE__ITEM_BYTES], glob[TRINE__ITEM_BYTES];
    TRINE_TRY(trine__list_check(what, list));
    for (const char *text = list ? list : ""; trine__list_next(&text, item);) {
        const char *equals = strrchr(item, '=');
        double value = 0;
        TRINE_CHECK(equals && trine__read_number(equals + 1, strlen(equals + 1), &value) && isfinite(value) &&
                        value >= 0,
                    TRINE_ERR_ARG, "%s: '%s', expected GLOB=X, X being a number >= 0", what, item);
        snprintf(glob, sizeof glob, "%.*s", (int)(equals - item), item);
        TRINE_TRY(trine__glob_check(glob));
        bool any = false;
        for (int i = 0; i < net->parameter_count; i++) {
            if (!parameter_matches(net, glob, i)) continue;
            numbers[i] = value;
            any = true;
        }
        TRINE_CHECK(any, TRINE_ERR_ARG, "%s: '%s' matches no parameter of %s (names are such as %s)", what,
                    glob, net->spec.variant->name, net->params[2].name);
    }
    return TRINE_OK;
}

trine_status trine_resnet_set_precision(trine_resnet *net, trine_dtype precision)
{
    TRINE_CHECK(precision == TRINE_F32 || precision == TRINE_F16, TRINE_ERR_ARG,
                "precision %s: activations are stored as F32 or F16", trine_dtype_name(precision));
    if (net->precision != precision) net->plan_version = ++net->next_version;
    net->precision = precision;
    return TRINE_OK;
}

trine_dtype trine_resnet_precision(const trine_resnet *net)
{
    return net->precision;
}

trine_status trine_resnet_allow_tf32(trine_resnet *net, int allowed)
{
    TRINE_CHECK(allowed == 0 || allowed == 1, TRINE_ERR_ARG, "allow_tf32 is %d: expected 0 or 1", allowed);
    if (net->allow_tf32 != allowed) net->plan_version = ++net->next_version;
    net->allow_tf32 = allowed;
    return TRINE_OK;
}

int trine_resnet_allows_tf32(const trine_resnet *net)
{
    return net->allow_tf32;
}

/* "X" of "momentum=X" as a float with 0 <= X <= 1, of "eps=X" with X > 0. */
static trine_status parse_number(const char *text, size_t length, bool positive, const char *what, float *out)
{
    double value;
    const bool good = trine__read_number(text, length, &value) &&
                      (positive ? (float)value > 0 && isfinite((float)value) : value >= 0 && value <= 1);
    TRINE_CHECK(good, TRINE_ERR_ARG, "bn: %s=%.*s: expected a number %s", what, (int)length, text,
                positive ? "above 0" : "from 0 to 1");
    *out = (float)value;
    return TRINE_OK;
}

/* What an item says about a layer; numbers below 0 leave the layer's own. */
typedef struct setting {
    trine_bn_policy policy;
    float momentum, eps;
} setting;

/* POLICY[:momentum=X][:eps=Y], the numbers in any order. */
static trine_status parse_setting(const char *text, setting *out)
{
    const size_t length = strcspn(text, ":");
    size_t i = 0;
    while (i < TRINE_COUNTOF(policy_names) &&
           (strlen(policy_names[i].name) != length || strncmp(policy_names[i].name, text, length) != 0))
        i++;
    TRINE_CHECK(i < TRINE_COUNTOF(policy_names), TRINE_ERR_ARG,
                "bn: unknown policy '%.*s': expected train, torch, eval, no-update, cumulative or auto",
                (int)length, text);
    *out = (setting){.policy = policy_names[i].policy, .momentum = -1, .eps = -1};
    for (const char *at = text + length; *at != '\0';) {
        static const char momentum[] = ":momentum=", eps[] = ":eps=";
        const bool is_eps = strncmp(at, eps, sizeof eps - 1) == 0;
        TRINE_CHECK(is_eps || strncmp(at, momentum, sizeof momentum - 1) == 0, TRINE_ERR_ARG,
                    "bn: '%s': expected POLICY, POLICY:momentum=X, POLICY:eps=X or both numbers", text);
        at += is_eps ? sizeof eps - 1 : sizeof momentum - 1;
        const size_t digits = strcspn(at, ":");
        TRINE_TRY(parse_number(at, digits, is_eps, is_eps ? "eps" : "momentum",
                               is_eps ? &out->eps : &out->momentum));
        at += digits;
    }
    return TRINE_OK;
}

trine_status trine_resnet_set_bn(trine_resnet *net, const char *spec)
{
    void *p = NULL;
    const size_t count = (size_t)net->spec.unit_count;
    TRINE_TRY(trine__list_check("bn", spec));
    TRINE_TRY(trine__calloc(count, sizeof(trine__bn_layer), &p));
    trine__bn_layer *layers = p;
    memcpy(layers, net->bns, count * sizeof *layers);
    trine_status status = TRINE_OK;
    char item[TRINE__ITEM_BYTES];
    for (const char *text = spec ? spec : ""; trine__list_next(&text, item);) {
        char *equals = strchr(item, '='), *colon = strchr(item, ':');
        if (equals && colon && colon < equals) equals = NULL; /* the '=' of momentum=X or eps=X */
        const char *glob = equals ? item : "*", *policy_text = equals ? equals + 1 : item;
        if (equals) *equals = '\0';
        setting wanted;
        TRINE_TRY_GOTO(trine__glob_check(glob));
        TRINE_TRY_GOTO(parse_setting(policy_text, &wanted));
        bool any = false;
        for (size_t i = 0; i < count; i++) {
            if (!trine__glob_match(glob, net->spec.units[i].bn)) continue;
            layers[i].policy = wanted.policy;
            if (wanted.momentum >= 0) layers[i].momentum = wanted.momentum;
            if (wanted.eps > 0) layers[i].eps = wanted.eps;
            any = true;
        }
        TRINE_CHECK_GOTO(any, TRINE_ERR_ARG,
                         "bn: '%s' matches no BatchNorm layer of %s (names are such as %s)", glob,
                         net->spec.variant->name, net->spec.units[1].bn);
    }
    memcpy(net->bns, layers, count * sizeof *layers);
    net->plan_version = ++net->next_version;
cleanup:
    free(layers);
    return status;
}

int trine_resnet_bn_count(const trine_resnet *net)
{
    return net->spec.unit_count;
}

static trine_status check_layer(const trine_resnet *net, int i)
{
    TRINE_CHECK(i >= 0 && i < net->spec.unit_count, TRINE_ERR_ARG, "BatchNorm layer %d: there are %d", i,
                net->spec.unit_count);
    return TRINE_OK;
}

trine_status trine_resnet_bn(const trine_resnet *net, int i, trine_bn_info *out)
{
    TRINE_TRY(check_layer(net, i));
    const trine__bn_layer *bn = &net->bns[i];
    const trine__bn_mode mode = trine__bn_resolve(net, i);
    *out = (trine_bn_info){.name = net->spec.units[i].bn,
                           .channels = net->spec.units[i].out_channels,
                           .eps = bn->eps,
                           .momentum = bn->momentum,
                           .policy = bn->policy,
                           .batch_statistics = mode.batch,
                           .updates = mode.update,
                           .frozen = mode.frozen,
                           .batches = bn->batches,
                           .tracked = mode.tracked};
    return TRINE_OK;
}

void trine__bn_set_tracked(trine_resnet *net, int i, bool tracked)
{
    if (net->bns[i].tracked == tracked) return;
    net->bns[i].tracked = tracked;
    net->plan_version = ++net->next_version;
}

trine_status trine_resnet_bn_read(const trine_resnet *net, trine_stream *stream, int i, float *mean,
                                  float *var)
{
    TRINE_TRY(check_layer(net, i));
    const size_t bytes = (size_t)net->spec.units[i].out_channels * sizeof(float);
    TRINE_TRY(trine_buffer_read(stream, net->bns[i].mean, 0, mean, bytes));
    return trine_buffer_read(stream, net->bns[i].var, 0, var, bytes);
}

static trine_status write_layer(trine_resnet *net, trine_stream *stream, int i, const float *mean,
                                const float *var, int64_t batches)
{
    const int channels = net->spec.units[i].out_channels;
    for (int c = 0; c < channels; c++)
        TRINE_CHECK(var[c] >= 0, TRINE_ERR_ARG, "%s: running variance of channel %d is %g",
                    net->spec.units[i].bn, c, (double)var[c]);
    TRINE_CHECK(batches >= 0, TRINE_ERR_ARG, "%s: %lld batches tracked", net->spec.units[i].bn,
                (long long)batches);
    const size_t bytes = (size_t)channels * sizeof(float);
    net->bns[i].version = ++net->next_version;
    net->bns[i].batches = batches;
    trine__bn_set_tracked(net, i, true);
    TRINE_TRY(trine_buffer_write(stream, net->bns[i].mean, 0, mean, bytes));
    return trine_buffer_write(stream, net->bns[i].var, 0, var, bytes);
}

trine_status trine_resnet_bn_write(trine_resnet *net, trine_stream *stream, int i, const float *mean,
                                   const float *var, int64_t batches)
{
    TRINE_TRY(check_layer(net, i));
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_resnet_bn_write", TRINE__MAY_NOTHING));
    trine__guard_allow_layer(&guard, i);
    return trine__guard_end(&guard, write_layer(net, stream, i, mean, var, batches));
}
