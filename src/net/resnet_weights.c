/* SPDX-License-Identifier: MIT */
/* Networks from and to named tensors, policies in the metadata. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "net/resnet_init.h"
#include "net/state_guard.h"
#include "trine/session.h"

static void source_name(const char *canonical, const char *fc, char *out, size_t size)
{
    if (strncmp(canonical, "fc.", 3) == 0)
        snprintf(out, size, "%s.%s", fc, canonical + 3);
    else
        snprintf(out, size, "%s", canonical);
}

/* Values of a tensor as float32, its own memory or *made, which the caller frees; NaN and infinity are refused. */
static trine_status tensor_floats(const trine_weights_tensor *t, size_t count, const float **out,
                                  float **made)
{
    const float *values = t->data;
    *made = NULL;
    if (t->dtype != TRINE_F32) {
        void *p = NULL;
        TRINE_TRY(trine__calloc(count, sizeof(float), &p));
        *made = p;
        for (size_t i = 0; i < count; i++) (*made)[i] = (float)trine_weights_value(t, i);
        values = *made;
    }
    bool finite = true;
    for (size_t i = 0; i < count; i++) finite &= isfinite(values[i]) != 0; /* no exit: it vectorises */
    for (size_t i = 0; !finite && i < count; i++) {
        if (isfinite(values[i])) continue;
        const char *what = isnan(values[i]) ? "NaN" : "infinity";
        free(*made);
        *made = NULL;
        return trine__fail(TRINE_ERR_WEIGHTS, "weights: '%s' holds %s at element %zu", t->name, what, i);
    }
    *out = values;
    return TRINE_OK;
}

/* num_batches_tracked, exact where the file holds an integer; one that is missing is 0. */
static trine_status tensor_counter(const trine_weights_tensor *t, int64_t *out)
{
    *out = 0;
    if (!t || !t->bytes) return TRINE_OK;
    if (t->dtype == TRINE_I64) {
        memcpy(out, t->data, sizeof *out);
        return TRINE_OK;
    }
    const double value = trine_weights_value(t, 0);
    TRINE_CHECK(value >= 0 && value <= 9007199254740992.0 /* 2^53 */, TRINE_ERR_WEIGHTS,
                "weights: '%s' is %g, which counts nothing", t->name, value);
    *out = (int64_t)value;
    return TRINE_OK;
}

static trine_status load_parameters(trine_resnet *net, trine_stream *stream, const trine_weights *w,
                                    int first)
{
    char name[2 * TRINE__NAME_BYTES];
    for (int i = first; i < net->parameter_count; i++) {
        source_name(net->params[i].name, net->fc_name, name, sizeof name);
        const float *values;
        float *made;
        TRINE_TRY(tensor_floats(trine_weights_find(w, name), net->params[i].count, &values, &made));
        const trine_status status = trine_resnet_parameter_write(net, stream, i, values);
        free(made);
        TRINE_TRY(status);
    }
    return TRINE_OK;
}

static trine_status load_statistics(trine_resnet *net, trine_stream *stream, const trine_weights *w)
{
    char name[2 * TRINE__NAME_BYTES];
    for (int i = 0; i < net->spec.unit_count; i++) {
        const trine__unit *u = &net->spec.units[i];
        const size_t channels = (size_t)u->out_channels;
        const float *mean = NULL, *var = NULL;
        float *made_mean = NULL, *made_var = NULL;
        snprintf(name, sizeof name, "%s.running_mean", u->bn);
        trine_status status = tensor_floats(trine_weights_find(w, name), channels, &mean, &made_mean);
        if (status == TRINE_OK) {
            snprintf(name, sizeof name, "%s.running_var", u->bn);
            status = tensor_floats(trine_weights_find(w, name), channels, &var, &made_var);
        }
        snprintf(name, sizeof name, "%s.num_batches_tracked", u->bn);
        int64_t batches = 0;
        if (status == TRINE_OK) status = tensor_counter(trine_weights_find(w, name), &batches);
        if (status == TRINE_OK) status = trine_resnet_bn_write(net, stream, i, mean, var, batches);
        if (status == TRINE_ERR_ARG) status = TRINE_ERR_WEIGHTS; /* a negative variance comes from the file */
        free(made_mean);
        free(made_var);
        TRINE_TRY(status);
    }
    return TRINE_OK;
}

/* A number as text, whatever the program's locale: a decimal comma becomes a point. */
static void number_text(double value, char text[32])
{
    snprintf(text, 32, "%.9g", value);
    char *comma = strchr(text, ',');
    if (comma) *comma = '.';
}

/* A policy or glob that came with the file is the file's fault, not the caller's. */
static trine_status from_metadata(trine_status status, const char *key)
{
    return status == TRINE_ERR_ARG ? trine__fail_context(TRINE_ERR_FORMAT, "metadata '%s'", key) : status;
}

/* Metadata "bn": {"bn1": {"policy": "eval", "momentum": 0.1, "eps": 1e-05}, ...}; layers that are not named keep "auto", and
 * those without an eps (files of earlier versions have none) the usual one. */
static trine_status load_policies(trine_resnet *net, const trine_weights *w)
{
    const char *text = trine_weights_metadata(w, "bn"), *freeze = trine_weights_metadata(w, "freeze");
    if (freeze && freeze[0]) TRINE_TRY(from_metadata(trine_resnet_freeze(net, freeze), "freeze"));
    if (!text) return TRINE_OK;
    cJSON *json = cJSON_Parse(text);
    trine_status status = TRINE_OK;
    TRINE_CHECK_GOTO(cJSON_IsObject(json), TRINE_ERR_FORMAT, "metadata 'bn' is not a JSON object");
    const cJSON *layer;
    cJSON_ArrayForEach(layer, json)
    {
        const cJSON *policy = cJSON_GetObjectItemCaseSensitive(layer, "policy");
        const cJSON *momentum = cJSON_GetObjectItemCaseSensitive(layer, "momentum");
        TRINE_CHECK_GOTO(cJSON_IsString(policy) && cJSON_IsNumber(momentum), TRINE_ERR_FORMAT,
                         "metadata 'bn': layer '%s' needs a policy and a momentum", layer->string);
        const cJSON *eps = cJSON_GetObjectItemCaseSensitive(layer, "eps");
        TRINE_CHECK_GOTO(!eps || cJSON_IsNumber(eps), TRINE_ERR_FORMAT,
                         "metadata 'bn': the eps of layer '%s' is no number", layer->string);
        char spec[256], number[32], last[32] = "";
        number_text(momentum->valuedouble, number);
        if (eps) number_text(eps->valuedouble, last);
        snprintf(spec, sizeof spec, "%s=%s:momentum=%s%s%s", layer->string, policy->valuestring, number,
                 eps ? ":eps=" : "", last);
        TRINE_TRY_GOTO(from_metadata(trine_resnet_set_bn(net, spec), "bn"));
    }
cleanup:
    cJSON_Delete(json);
    return status;
}

trine_status trine_resnet_from_weights(trine_context *context, const trine_weights *weights,
                                       const trine_resnet_options *options, trine_resnet **out)
{
    static const trine_resnet_options none;
    const trine_resnet_options *o = options ? options : &none;
    const bool fresh_fc = o->embedding_dim > 0;
    trine__spec spec = {0};
    trine__bn_parts parts;
    trine_resnet *net = NULL;
    trine_stream *stream = NULL;
    trine_status status;
    bool assert_state = false;
    TRINE_TRY(trine__guard_default(&assert_state));
    TRINE_TRY(trine__resnet_check_options(o));
    TRINE_TRY(trine__resnet_identify(weights, o->arch, !fresh_fc, &spec, &parts));
    TRINE_CHECK_GOTO(o->in_channels == 0 || o->in_channels == spec.in_channels, TRINE_ERR_WEIGHTS,
                     "weights take images of %d channels, asked for %d", spec.in_channels, o->in_channels);
    TRINE_CHECK_GOTO(fresh_fc || o->classes == 0 || o->classes == spec.outputs, TRINE_ERR_WEIGHTS,
                     "weights have %d outputs of fc, asked for %d", spec.outputs, o->classes);
    TRINE_TRY_GOTO(trine__resnet_allocate(context, spec.variant, spec.in_channels,
                                          fresh_fc ? o->embedding_dim : spec.outputs, !spec.stem_pool, parts,
                                          &net));
    snprintf(net->fc_name, sizeof net->fc_name, "%s", trine__source_fc_name(weights));
    TRINE_TRY_GOTO(trine_stream_create(context, 0, &stream));
    TRINE_TRY_GOTO(trine__resnet_blank(net, stream));
    if (fresh_fc)
        TRINE_TRY_GOTO(trine__resnet_initialise(net, stream, o->seed, TRINE__FC_WEIGHT, TRINE__FC_BIAS + 1));
    TRINE_TRY_GOTO(load_parameters(net, stream, weights, fresh_fc ? TRINE__FC_BIAS + 1 : 0));
    if (parts.tracked) TRINE_TRY_GOTO(load_statistics(net, stream, weights));
    TRINE_TRY_GOTO(load_policies(net, weights));
    net->assert_state = assert_state;
    *out = net;
    net = NULL;
cleanup:
    trine_stream_destroy(&stream);
    trine_resnet_destroy(&net);
    trine__spec_free(&spec);
    return status;
}

static trine_status save_parameter(const trine_resnet *net, trine_stream *stream, int index, const char *fc,
                                   trine_weights *w)
{
    const trine__parameter *p = &net->params[index];
    char name[2 * TRINE__NAME_BYTES];
    int64_t dims[4];
    void *values = NULL;
    for (int i = 0; i < p->rank; i++) dims[i] = p->dims[i];
    source_name(p->name, fc, name, sizeof name);
    TRINE_TRY(trine__calloc(p->count, sizeof(float), &values));
    trine_status status = trine_resnet_parameter_read(net, stream, index, values);
    if (status == TRINE_OK) status = trine_weights_add(w, name, TRINE_F32, p->rank, dims, values);
    free(values);
    return status;
}

static trine_status save_unit(const trine_resnet *net, trine_stream *stream, int unit, trine_weights *w)
{
    const trine__unit *u = &net->spec.units[unit];
    TRINE_TRY(save_parameter(net, stream, trine__conv_parameter(net, unit), "fc", w));
    if (net->affine) {
        TRINE_TRY(save_parameter(net, stream, trine__gamma_parameter(net, unit), "fc", w));
        TRINE_TRY(save_parameter(net, stream, trine__beta_parameter(net, unit), "fc", w));
    }
    if (!net->bns[unit].tracked) return TRINE_OK;
    const size_t channels = (size_t)u->out_channels;
    const int64_t dims[] = {u->out_channels};
    char name[2 * TRINE__NAME_BYTES];
    void *p = NULL;
    TRINE_TRY(trine__calloc(2 * channels, sizeof(float), &p));
    float *mean = p, *var = mean + channels;
    trine_status status = trine_resnet_bn_read(net, stream, unit, mean, var);
    snprintf(name, sizeof name, "%s.running_mean", u->bn);
    if (status == TRINE_OK) status = trine_weights_add(w, name, TRINE_F32, 1, dims, mean);
    snprintf(name, sizeof name, "%s.running_var", u->bn);
    if (status == TRINE_OK) status = trine_weights_add(w, name, TRINE_F32, 1, dims, var);
    snprintf(name, sizeof name, "%s.num_batches_tracked", u->bn);
    if (status == TRINE_OK) status = trine_weights_add(w, name, TRINE_I64, 0, NULL, &net->bns[unit].batches);
    free(p);
    return status;
}

static trine_status save_metadata(const trine_resnet *net, int torchvision_names, trine_weights *w)
{
    trine__text json = {0};
    trine__text_add(&json, "{");
    for (int i = 0; i < net->spec.unit_count; i++) {
        char momentum[32], eps[32];
        number_text(net->bns[i].momentum, momentum);
        number_text(net->bns[i].eps, eps);
        trine__text_add(&json, "%s\"%s\":{\"policy\":\"%s\",\"momentum\":%s,\"eps\":%s}", i ? "," : "",
                        net->spec.units[i].bn, trine__bn_policy_name(net->bns[i].policy), momentum, eps);
    }
    trine__text_add(&json, "}");
    char *text;
    TRINE_TRY(trine__text_take(&json, &text));
    trine_status status = trine_weights_set_metadata(w, "bn", text);
    free(text);
    TRINE_TRY(status);
    TRINE_TRY(trine_weights_set_metadata(w, "trine.format", "1"));
    TRINE_TRY(trine_weights_set_metadata(w, "arch", net->spec.variant->name));
    TRINE_TRY(trine_weights_set_metadata(
        w, "names", torchvision_names || strcmp(net->fc_name, "fc") == 0 ? "torchvision" : "source"));
    return trine_weights_set_metadata(w, "freeze", net->freeze ? net->freeze : "");
}

/* A list in which some layers have running statistics would not make a network again. */
static trine_status check_tracked(const trine_resnet *net)
{
    const bool first = net->bns[0].tracked;
    for (int i = 1; i < net->spec.unit_count; i++)
        TRINE_CHECK(
            net->bns[i].tracked == first, TRINE_ERR_STATE,
            "'%s' has running statistics and '%s' has none: weights hold all or none; give every layer "
            "some",
            net->spec.units[first ? 0 : i].bn, net->spec.units[first ? i : 0].bn);
    return TRINE_OK;
}

static trine_status save(const trine_resnet *net, trine_stream *stream, int torchvision_names,
                         trine_weights **out)
{
    trine_weights *w = NULL;
    TRINE_TRY(check_tracked(net));
    TRINE_TRY(trine_weights_create(&w));
    trine_status status = TRINE_OK;
    const char *fc = torchvision_names ? "fc" : net->fc_name;
    for (int i = 0; i < net->spec.unit_count; i++)
        TRINE_TRY_GOTO(save_unit(net, stream, i, w)); /* torchvision's order */
    TRINE_TRY_GOTO(save_parameter(net, stream, TRINE__FC_WEIGHT, fc, w));
    TRINE_TRY_GOTO(save_parameter(net, stream, TRINE__FC_BIAS, fc, w));
    TRINE_TRY_GOTO(save_metadata(net, torchvision_names, w));
    *out = w;
    return TRINE_OK;
cleanup:
    trine_weights_destroy(&w);
    return status;
}

trine_status trine_resnet_to_weights(const trine_resnet *net, trine_stream *stream, int torchvision_names,
                                     trine_weights **out)
{
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_resnet_to_weights", TRINE__MAY_NOTHING));
    trine_weights *w = NULL;
    const trine_status status = trine__guard_end(&guard, save(net, stream, torchvision_names, &w));
    if (status == TRINE_OK)
        *out = w;
    else
        trine_weights_destroy(&w);
    return status;
}
