/* SPDX-License-Identifier: MIT */
/* Networks from and to named tensors: finding the variant, comparing names and shapes, policies in the
 * metadata. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "net/resnet_init.h"
#include "net/state_guard.h"
#include "trine/session.h"

enum { NAMED_AT_MOST = 3 };

/* fc's tensors are "fc.*" or "linear.*" in the source. */
static const char *source_fc_name(const trine_weights *w)
{
    return !trine_weights_find(w, "fc.weight") && trine_weights_find(w, "linear.weight") ? "linear" : "fc";
}

static void source_name(const char *canonical, const char *fc, char *out, size_t size)
{
    if (strncmp(canonical, "fc.", 3) == 0)
        snprintf(out, size, "%s.%s", fc, canonical + 3);
    else
        snprintf(out, size, "%s", canonical);
}

/* A list of at most a few names in a sentence. */
typedef struct name_list {
    trine__text text;
    int count;
} name_list;

static void list_name(name_list *list, const char *name)
{
    if (list->count++ < NAMED_AT_MOST)
        trine__text_add(&list->text, "%s'%s'", list->count > 1 ? ", " : "", name);
}

static void list_close(name_list *list)
{
    if (list->count > NAMED_AT_MOST)
        trine__text_add(&list->text, " and %d more", list->count - NAMED_AT_MOST);
}

static void text_dims(trine__text *text, int rank, const int64_t *dims)
{
    trine__text_add(text, "[");
    for (int i = 0; i < rank; i++) trine__text_add(text, "%s%lld", i ? "," : "", (long long)dims[i]);
    trine__text_add(text, "]");
}

/* How a list of tensors differs from what a spec wants. */
typedef struct comparison {
    name_list missing, unexpected;
    trine__text shapes;
    int misshaped;
    size_t matched;
} comparison;

static void comparison_free(comparison *c)
{
    trine__text_free(&c->missing.text);
    trine__text_free(&c->unexpected.text);
    trine__text_free(&c->shapes);
}

static void compare_tensor(const trine_weights *w, const char *name, int rank, const int64_t *dims,
                           bool required, comparison *c)
{
    const trine_weights_tensor *t = trine_weights_find(w, name);
    if (!t) {
        if (required) list_name(&c->missing, name);
        return;
    }
    c->matched++;
    bool same = t->rank == rank;
    for (int i = 0; same && i < rank; i++) same = t->dims[i] == dims[i];
    if (same) return;
    if (c->misshaped++ < NAMED_AT_MOST) {
        trine__text_add(&c->shapes, "%s'%s' is ", c->misshaped > 1 ? ", " : "", name);
        text_dims(&c->shapes, t->rank, t->dims);
        trine__text_add(&c->shapes, ", expected ");
        text_dims(&c->shapes, rank, dims);
    }
}

/* `wanted` is told every name that belongs to the network, so that what is left is unexpected. */
static bool is_known(const trine__spec *s, const char *fc, const char *name)
{
    const char *dot = strrchr(name, '.');
    if (!dot) return false;
    const size_t length = (size_t)(dot - name);
    const bool weight = strcmp(dot, ".weight") == 0, bias = strcmp(dot, ".bias") == 0;
    const bool buffer = strcmp(dot, ".running_mean") == 0 || strcmp(dot, ".running_var") == 0 ||
                        strcmp(dot, ".num_batches_tracked") == 0;
    if ((weight || bias) && strlen(fc) == length && strncmp(fc, name, length) == 0) return true;
    for (int i = 0; i < s->unit_count; i++) {
        const trine__unit *u = &s->units[i];
        if (weight && strlen(u->conv) == length && strncmp(u->conv, name, length) == 0) return true;
        if ((weight || bias || buffer) && strlen(u->bn) == length && strncmp(u->bn, name, length) == 0)
            return true;
    }
    return false;
}

static void compare(const trine_weights *w, const trine__spec *s, bool with_fc, comparison *c)
{
    char name[2 * TRINE__NAME_BYTES];
    const char *fc = source_fc_name(w);
    for (int i = 0; i < s->unit_count; i++) {
        const trine__unit *u = &s->units[i];
        const int64_t conv[] = {u->out_channels, u->in_channels / u->groups, u->kernel, u->kernel},
                      vector[] = {u->out_channels};
        snprintf(name, sizeof name, "%s.weight", u->conv);
        compare_tensor(w, name, 4, conv, true, c);
        static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
        for (size_t j = 0; j < TRINE_COUNTOF(parts); j++) {
            snprintf(name, sizeof name, "%s.%s", u->bn, parts[j]);
            compare_tensor(w, name, 1, vector, true, c);
        }
        snprintf(name, sizeof name, "%s.num_batches_tracked", u->bn);
        compare_tensor(w, name, 0, NULL, false, c);
    }
    if (with_fc) {
        const int64_t weight[] = {s->outputs, s->features}, bias[] = {s->outputs};
        snprintf(name, sizeof name, "%s.weight", fc);
        compare_tensor(w, name, 2, weight, true, c);
        snprintf(name, sizeof name, "%s.bias", fc);
        compare_tensor(w, name, 1, bias, true, c);
    }
    for (size_t i = 0; i < trine_weights_count(w); i++)
        if (!is_known(s, fc, trine_weights_at(w, i)->name))
            list_name(&c->unexpected, trine_weights_at(w, i)->name);
    list_close(&c->missing);
    list_close(&c->unexpected);
    if (c->misshaped > NAMED_AT_MOST)
        trine__text_add(&c->shapes, " and %d more", c->misshaped - NAMED_AT_MOST);
}

static bool fits(const comparison *c)
{
    return c->missing.count == 0 && c->unexpected.count == 0 && c->misshaped == 0;
}

static trine_status misfit(const char *arch, const comparison *c)
{
    trine__text t = {0};
    trine__text_add(&t, "weights do not fit %s:", arch);
    const char *separator = " ";
    if (c->missing.count) {
        trine__text_add(&t, "%smissing %s", separator, c->missing.text.data ? c->missing.text.data : "?");
        separator = "; ";
    }
    if (c->unexpected.count) {
        trine__text_add(&t, "%sunexpected %s", separator,
                        c->unexpected.text.data ? c->unexpected.text.data : "?");
        separator = "; ";
    }
    if (c->misshaped) trine__text_add(&t, "%s%s", separator, c->shapes.data ? c->shapes.data : "?");
    const trine_status status = trine__fail(TRINE_ERR_WEIGHTS, "%s", t.data ? t.data : "weights do not fit");
    trine__text_free(&t);
    return status;
}

/* The spec of `variant` with the sizes that the weights decide: image channels, stem, outputs. */
static trine_status spec_for(const trine_weights *w, const trine__variant *variant, trine__spec *out)
{
    char name[32];
    snprintf(name, sizeof name, "%s.weight", source_fc_name(w));
    const trine_weights_tensor *conv1 = trine_weights_find(w, "conv1.weight"),
                               *fc = trine_weights_find(w, name);
    const bool has_stem = conv1 && conv1->rank == 4 && conv1->dims[1] >= 1 && conv1->dims[1] <= 4096;
    const bool has_fc = fc && fc->rank == 2 && fc->dims[0] >= 1 && fc->dims[0] <= 1 << 20;
    return trine__spec_create(variant, has_stem ? (int)conv1->dims[1] : 3,
                              has_fc ? (int)fc->dims[0] : variant->classes, has_stem && conv1->dims[2] == 3,
                              out);
}

/* Tensors that fit, less those that do not: the variant with the most is the one that a sentence is about. */
static long likeness(const comparison *c)
{
    return (long)c->matched - 2L * c->misshaped - c->missing.count - c->unexpected.count;
}

/* Find the variant (or check the one asked for); *spec holds the sizes. */
static trine_status identify(const trine_weights *w, const char *arch, bool with_fc, trine__spec *spec)
{
    const trine__variant *closest = NULL;
    long most = 0;
    size_t matched = 0;
    for (int i = 0; i < trine__variant_count; i++) {
        const trine__variant *v = &trine__variants[i];
        if (arch && strcmp(arch, v->name) != 0) continue;
        comparison c = {0};
        TRINE_TRY(spec_for(w, v, spec));
        compare(w, spec, with_fc, &c);
        const bool good = fits(&c);
        if (!closest || likeness(&c) > most) {
            closest = v;
            most = likeness(&c);
            matched = c.matched;
        }
        comparison_free(&c);
        if (good) return TRINE_OK;
        trine__spec_free(spec);
    }
    TRINE_CHECK(closest, TRINE_ERR_ARG, "unknown variant '%s'", arch);
    TRINE_CHECK(arch || matched >= 2, TRINE_ERR_WEIGHTS,
                "weights are of no ResNet variant that trine knows (%zu tensors, the first '%s')",
                trine_weights_count(w), trine_weights_count(w) ? trine_weights_at(w, 0)->name : "");
    comparison c = {0};
    TRINE_TRY(spec_for(w, closest, spec));
    compare(w, spec, with_fc, &c);
    const trine_status status = misfit(closest->name, &c);
    comparison_free(&c);
    trine__spec_free(spec);
    return status;
}

/* Values of a tensor as float32; NaN and infinity are refused. */
static trine_status tensor_floats(const trine_weights_tensor *t, size_t count, float **out)
{
    void *p = NULL;
    TRINE_TRY(trine__calloc(count, sizeof(float), &p));
    float *values = p;
    for (size_t i = 0; i < count; i++) {
        values[i] = t->dtype == TRINE_F32 ? ((const float *)t->data)[i] : (float)trine_weights_value(t, i);
        if (isfinite(values[i])) continue;
        const char *what = isnan(values[i]) ? "NaN" : "infinity";
        free(values);
        return trine__fail(TRINE_ERR_WEIGHTS, "weights: '%s' holds %s at element %zu", t->name, what, i);
    }
    *out = values;
    return TRINE_OK;
}

static trine_status load_parameters(trine_resnet *net, trine_stream *stream, const trine_weights *w,
                                    int first)
{
    char name[2 * TRINE__NAME_BYTES];
    for (int i = first; i < net->parameter_count; i++) {
        source_name(net->params[i].name, net->fc_name, name, sizeof name);
        float *values;
        TRINE_TRY(tensor_floats(trine_weights_find(w, name), net->params[i].count, &values));
        const trine_status status = trine_resnet_parameter_write(net, stream, i, values);
        free(values);
        TRINE_TRY(status);
    }
    return TRINE_OK;
}

static trine_status load_statistics(trine_resnet *net, trine_stream *stream, const trine_weights *w)
{
    char name[2 * TRINE__NAME_BYTES];
    for (int i = 0; i < net->spec.unit_count; i++) {
        const trine__unit *u = &net->spec.units[i];
        float *mean = NULL, *var = NULL;
        snprintf(name, sizeof name, "%s.running_mean", u->bn);
        trine_status status = tensor_floats(trine_weights_find(w, name), (size_t)u->out_channels, &mean);
        if (status == TRINE_OK) {
            snprintf(name, sizeof name, "%s.running_var", u->bn);
            status = tensor_floats(trine_weights_find(w, name), (size_t)u->out_channels, &var);
        }
        snprintf(name, sizeof name, "%s.num_batches_tracked", u->bn);
        const trine_weights_tensor *count = trine_weights_find(w, name);
        const int64_t batches = count && count->bytes ? (int64_t)trine_weights_value(count, 0) : 0;
        if (status == TRINE_OK) status = trine_resnet_bn_write(net, stream, i, mean, var, batches);
        if (status == TRINE_ERR_ARG) status = TRINE_ERR_WEIGHTS; /* a negative variance comes from the file */
        free(mean);
        free(var);
        TRINE_TRY(status);
    }
    return TRINE_OK;
}

/* A number as text, whatever the program's locale: a decimal comma becomes a point. */
static void momentum_text(double value, char text[32])
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

/* Metadata "bn": {"bn1": {"policy": "eval", "momentum": 0.1}, ...}; layers that are not named keep "auto". */
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
        char spec[256], number[32];
        momentum_text(momentum->valuedouble, number);
        snprintf(spec, sizeof spec, "%s=%s:momentum=%s", layer->string, policy->valuestring, number);
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
    trine_resnet *net = NULL;
    trine_stream *stream = NULL;
    trine_status status;
    bool assert_state = false;
    TRINE_TRY(trine__guard_default(&assert_state));
    TRINE_TRY(trine__resnet_check_options(o));
    TRINE_TRY(identify(weights, o->arch, !fresh_fc, &spec));
    TRINE_CHECK_GOTO(o->in_channels == 0 || o->in_channels == spec.in_channels, TRINE_ERR_WEIGHTS,
                     "weights take images of %d channels, asked for %d", spec.in_channels, o->in_channels);
    TRINE_CHECK_GOTO(fresh_fc || o->classes == 0 || o->classes == spec.outputs, TRINE_ERR_WEIGHTS,
                     "weights have %d outputs of fc, asked for %d", spec.outputs, o->classes);
    TRINE_TRY_GOTO(trine__resnet_allocate(context, spec.variant, spec.in_channels,
                                          fresh_fc ? o->embedding_dim : spec.outputs, !spec.stem_pool, &net));
    snprintf(net->fc_name, sizeof net->fc_name, "%s", source_fc_name(weights));
    TRINE_TRY_GOTO(trine_stream_create(context, 0, &stream));
    TRINE_TRY_GOTO(trine__stream_zero(stream, net->parameters, 0, net->flat_count * sizeof(float)));
    TRINE_TRY_GOTO(trine__stream_zero(stream, net->statistics, 0, net->statistics_count * sizeof(float)));
    if (fresh_fc)
        TRINE_TRY_GOTO(trine__resnet_initialise(net, stream, o->seed, TRINE__FC_WEIGHT, TRINE__FC_BIAS + 1));
    TRINE_TRY_GOTO(load_parameters(net, stream, weights, fresh_fc ? TRINE__FC_BIAS + 1 : 0));
    TRINE_TRY_GOTO(load_statistics(net, stream, weights));
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
    TRINE_TRY(save_parameter(net, stream, trine__gamma_parameter(net, unit), "fc", w));
    TRINE_TRY(save_parameter(net, stream, trine__beta_parameter(net, unit), "fc", w));
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
        char number[32];
        momentum_text(net->bns[i].momentum, number);
        trine__text_add(&json, "%s\"%s\":{\"policy\":\"%s\",\"momentum\":%s}", i ? "," : "",
                        net->spec.units[i].bn, trine__bn_policy_name(net->bns[i].policy), number);
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

static trine_status save(const trine_resnet *net, trine_stream *stream, int torchvision_names,
                         trine_weights **out)
{
    trine_weights *w = NULL;
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
