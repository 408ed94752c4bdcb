/* SPDX-License-Identifier: MIT */
/* A network's parameters: layout in flat buffers, initial values, access. */
#include "trine/resnet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/text.h"
#include "net/resnet_init.h"
#include "net/state_guard.h"
#include "trine/session.h"

int trine_resnet_variant_count(void)
{
    return trine__variant_count;
}

const char *trine_resnet_variant_name(int i)
{
    return i >= 0 && i < trine__variant_count ? trine__variants[i].name : NULL;
}

/* Parameters lie in backward order: fc.weight, fc.bias, then for each unit from the last: weight, gamma,
 * beta (where there are such). */
static int unit_parameters(const trine_resnet *net)
{
    return net->affine ? 3 : 1;
}

int trine__conv_parameter(const trine_resnet *net, int unit)
{
    return 2 + unit_parameters(net) * (net->spec.unit_count - 1 - unit);
}

int trine__gamma_parameter(const trine_resnet *net, int unit)
{
    return net->affine ? trine__conv_parameter(net, unit) + 1 : -1;
}

int trine__beta_parameter(const trine_resnet *net, int unit)
{
    return net->affine ? trine__conv_parameter(net, unit) + 2 : -1;
}

const trine_buffer *trine__parameter_view(const trine_resnet *net, int index)
{
    return index >= 0 ? net->params[index].view : NULL;
}

bool trine__parameter_trains(const trine_resnet *net, int index)
{
    return index >= 0 && net->params[index].trainable;
}

uint64_t trine__parameter_version(const trine_resnet *net, int index)
{
    return index >= 0 ? net->params[index].version : 0;
}

static size_t aligned_floats(const trine_resnet *net, size_t count)
{
    return trine__round_up(count * sizeof(float), net->context->caps.alignment) / sizeof(float);
}

trine_conv2d_desc trine__conv_desc(const trine_resnet *net, int unit)
{
    const trine__unit *u = &net->spec.units[unit];
    const int block = trine__trunk_block(net->context);
    trine_conv2d_desc desc = trine_conv2d_desc_default(u->in_channels, u->out_channels, u->kernel);
    desc.stride_h = desc.stride_w = u->stride;
    desc.pad_h = desc.pad_w = u->pad;
    desc.groups = u->groups;
    desc.in_cb = unit == 0 ? 1 : block; /* images come as NCHW */
    desc.out_cb = block;
    desc.allow_tf32 = net->allow_tf32;
    trine_conv2d_choose_weight_blocks(net->context, &desc);
    return desc;
}

static void describe(trine_resnet *net, int index, const char *layer, const char *part, int rank,
                     const int *dims)
{
    trine__parameter *p = &net->params[index];
    snprintf(p->name, sizeof p->name, "%s.%s", layer, part);
    p->rank = rank;
    p->count = 1;
    for (int i = 0; i < rank; i++) {
        p->dims[i] = dims[i];
        p->count *= (size_t)dims[i];
    }
    p->layout = (trine__weight_layout){(int)p->count, 1, 1, 1, 1};
    p->stored = p->count;
    p->trainable = true;
}

static void describe_all(trine_resnet *net)
{
    const trine__spec *s = &net->spec;
    describe(net, TRINE__FC_WEIGHT, "fc", "weight", 2, (int[]){s->outputs, s->features});
    describe(net, TRINE__FC_BIAS, "fc", "bias", 1, (int[]){s->outputs});
    for (int i = 0; i < s->unit_count; i++) {
        const trine__unit *u = &s->units[i];
        describe(net, trine__conv_parameter(net, i), u->conv, "weight", 4,
                 (int[]){u->out_channels, u->in_channels / u->groups, u->kernel, u->kernel});
        trine__parameter *conv = &net->params[trine__conv_parameter(net, i)];
        const trine_conv2d_desc desc = trine__conv_desc(net, i);
        conv->layout = trine__conv2d_weight_layout(&desc);
        conv->stored = trine__weight_layout_count(&conv->layout);
        if (!net->affine) continue;
        describe(net, trine__gamma_parameter(net, i), u->bn, "weight", 1, &u->out_channels);
        describe(net, trine__beta_parameter(net, i), u->bn, "bias", 1, &u->out_channels);
    }
}

static trine_status place(trine_resnet *net)
{
    const trine__spec *s = &net->spec;
    for (int i = 0; i < net->parameter_count; i++) {
        net->params[i].offset = net->flat_count;
        net->flat_count += aligned_floats(net, net->params[i].stored);
    }
    for (int i = s->unit_count - 1; i >= 0; i--) {
        const size_t channels = aligned_floats(net, (size_t)s->units[i].out_channels);
        net->bns[i].mean_offset = net->statistics_count;
        net->bns[i].var_offset = net->statistics_count + channels;
        net->statistics_count += 2 * channels;
    }
    TRINE_TRY(trine__buffer_set_create(&net->views, net->context, net->flat_count * sizeof(float),
                                       &net->parameters));
    TRINE_TRY(trine__buffer_set_create(&net->views, net->context, net->statistics_count * sizeof(float),
                                       &net->statistics));
    for (int i = 0; i < net->parameter_count; i++)
        TRINE_TRY(trine__buffer_set_view(&net->views, net->parameters, net->params[i].offset * sizeof(float),
                                         net->params[i].stored * sizeof(float), &net->params[i].view));
    for (int i = 0; i < s->unit_count; i++) {
        trine__bn_layer *bn = &net->bns[i];
        const size_t bytes = (size_t)s->units[i].out_channels * sizeof(float);
        TRINE_TRY(trine__buffer_set_view(&net->views, net->statistics, bn->mean_offset * sizeof(float), bytes,
                                         &bn->mean));
        TRINE_TRY(trine__buffer_set_view(&net->views, net->statistics, bn->var_offset * sizeof(float), bytes,
                                         &bn->var));
        bn->eps = 1e-5f;
        bn->momentum = 0.1f;
        bn->policy = TRINE_BN_AUTO;
    }
    return TRINE_OK;
}

trine_status trine__resnet_allocate(trine_context *context, const trine__variant *variant, int in_channels,
                                    int outputs, int small_stem, trine__bn_parts parts, trine_resnet **out)
{
    TRINE_CHECK(in_channels >= 1 && in_channels <= 4096, TRINE_ERR_ARG,
                "%d image channels: expected 1 to 4096", in_channels);
    TRINE_CHECK(outputs >= 1 && outputs <= 1 << 20, TRINE_ERR_ARG, "%d outputs of fc: expected 1 to %d",
                outputs, 1 << 20);
    trine_status status;
    void *p = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine_resnet), &p));
    trine_resnet *net = p;
    net->context = context;
    snprintf(net->fc_name, sizeof net->fc_name, "fc");
    TRINE_TRY_GOTO(trine__spec_create(variant, in_channels, outputs, small_stem, &net->spec));
    net->affine = parts.affine;
    net->parameter_count = 2 + unit_parameters(net) * net->spec.unit_count;
    TRINE_TRY_GOTO(trine__calloc((size_t)net->parameter_count, sizeof *net->params, &p));
    net->params = p;
    TRINE_TRY_GOTO(trine__calloc((size_t)net->spec.unit_count, sizeof *net->bns, &p));
    net->bns = p;
    net->plan_version = net->next_version = 1;
    describe_all(net);
    TRINE_TRY_GOTO(place(net));
    for (int i = 0; i < net->spec.unit_count; i++) net->bns[i].tracked = parts.tracked;
    *out = net;
    return TRINE_OK;
cleanup:
    trine_resnet_destroy(&net);
    return status;
}

void trine_resnet_destroy(trine_resnet **net)
{
    if (!net || !*net) return;
    trine__buffer_set_release(&(*net)->views);
    trine__spec_free(&(*net)->spec);
    free((*net)->params);
    free((*net)->bns);
    free((*net)->freeze);
    free(*net);
    *net = NULL;
}

/* Initial values of one parameter. */
static void initialise(const trine_resnet *net, int index, uint64_t seed, float *values)
{
    const trine__parameter *p = &net->params[index];
    trine__random random = trine__random_stream(seed, 0x696e6974 /* initial values */, (uint64_t)index);
    if (p->rank == 4) {
        const double std = sqrt(2.0 / ((double)p->dims[0] * p->dims[2] * p->dims[3]));
        for (size_t i = 0; i < p->count; i++) values[i] = (float)(std * trine__random_normal(&random));
    } else if (index == TRINE__FC_WEIGHT || index == TRINE__FC_BIAS) {
        const double bound = 1.0 / sqrt((double)net->spec.features);
        for (size_t i = 0; i < p->count; i++)
            values[i] = (float)(bound * (2.0 * trine__random_unit(&random) - 1.0));
    } else {
        const bool gamma = strcmp(strrchr(p->name, '.'), ".weight") == 0;
        for (size_t i = 0; i < p->count; i++) values[i] = gamma ? 1.0f : 0.0f;
    }
}

trine_status trine__resnet_initialise(trine_resnet *net, trine_stream *stream, uint64_t seed, int first,
                                      int last)
{
    for (int i = first; i < last; i++) {
        void *values = NULL;
        TRINE_TRY(trine__calloc(net->params[i].count, sizeof(float), &values));
        initialise(net, i, seed, values);
        const trine_status status = trine_resnet_parameter_write(net, stream, i, values);
        free(values);
        TRINE_TRY(status);
    }
    return TRINE_OK;
}

trine_status trine__resnet_blank(trine_resnet *net, trine_stream *stream)
{
    void *p = NULL;
    int widest = 0;
    for (int i = 0; i < net->spec.unit_count; i++)
        if (net->spec.units[i].out_channels > widest) widest = net->spec.units[i].out_channels;
    TRINE_TRY(trine__calloc((size_t)widest, sizeof(float), &p));
    float *ones = p;
    for (int c = 0; c < widest; c++) ones[c] = 1.0f;
    trine_status status = TRINE_OK;
    TRINE_TRY_GOTO(trine__stream_zero(stream, net->parameters, 0, net->flat_count * sizeof(float)));
    TRINE_TRY_GOTO(trine__stream_zero(stream, net->statistics, 0, net->statistics_count * sizeof(float)));
    for (int i = 0; i < net->spec.unit_count; i++) {
        TRINE_TRY_GOTO(trine_buffer_write(stream, net->bns[i].var, 0, ones,
                                          (size_t)net->spec.units[i].out_channels * sizeof(float)));
        net->bns[i].version = ++net->next_version;
    }
cleanup:
    free(p);
    return status;
}

static trine_status unknown_variant(const char *name)
{
    trine__text names = {0};
    for (int i = 0; i < trine__variant_count; i++)
        trine__text_add(&names, "%s%s", i ? ", " : "", trine__variants[i].name);
    const trine_status status = trine__fail(TRINE_ERR_ARG, "unknown variant '%s': expected one of %s", name,
                                            names.data ? names.data : "?");
    trine__text_free(&names);
    return status;
}

trine_status trine__resnet_check_options(const trine_resnet_options *o)
{
    TRINE_CHECK(
        o->in_channels >= 0 && o->classes >= 0 && o->embedding_dim >= 0, TRINE_ERR_ARG,
        "network of %d image channels, %d classes, embedding of %d: expected 0 (the variant's own) or more",
        o->in_channels, o->classes, o->embedding_dim);
    return TRINE_OK;
}

trine_status trine_resnet_create(trine_context *context, const trine_resnet_options *options,
                                 trine_resnet **out)
{
    TRINE_CHECK(options && options->arch, TRINE_ERR_ARG, "a new network needs a variant's name");
    bool assert_state = false;
    TRINE_TRY(trine__guard_default(&assert_state));
    TRINE_TRY(trine__resnet_check_options(options));
    const trine__variant *v = trine__variant_find(options->arch);
    if (!v) return unknown_variant(options->arch);
    const int outputs = options->embedding_dim > 0 ? options->embedding_dim
                        : options->classes > 0     ? options->classes
                                                   : v->classes;
    const trine__bn_parts parts = {.affine = !options->bn_without_affine,
                                   .tracked = !options->bn_without_statistics};
    trine_status status;
    trine_stream *stream = NULL;
    trine_resnet *net = NULL;
    TRINE_TRY(trine__resnet_allocate(context, v, options->in_channels > 0 ? options->in_channels : 3, outputs,
                                     options->small_stem, parts, &net));
    TRINE_TRY_GOTO(trine_stream_create(context, 0, &stream));
    TRINE_TRY_GOTO(trine__resnet_blank(net, stream));
    TRINE_TRY_GOTO(trine__resnet_initialise(net, stream, options->seed, 0, net->parameter_count));
    net->assert_state = assert_state; /* from here on: the first values had to be written */
    *out = net;
    net = NULL;
cleanup:
    trine_stream_destroy(&stream);
    trine_resnet_destroy(&net);
    return status;
}

const char *trine_resnet_arch(const trine_resnet *net)
{
    return net->spec.variant->name;
}

int trine_resnet_features(const trine_resnet *net)
{
    return net->spec.features;
}

int trine_resnet_outputs(const trine_resnet *net)
{
    return net->spec.outputs;
}

int trine_resnet_in_channels(const trine_resnet *net)
{
    return net->spec.in_channels;
}

int trine_resnet_parameter_count(const trine_resnet *net)
{
    return net->parameter_count;
}

size_t trine_resnet_flat_count(const trine_resnet *net)
{
    return net->flat_count;
}

/* What is dense already is read and written in one go. */
static bool lies_dense(const trine__parameter *p)
{
    return p->layout.kb == 1 && p->layout.cb == 1;
}

trine_status trine__parameter_read(const trine__parameter *p, trine_stream *stream, const trine_buffer *view,
                                   float *dense)
{
    if (lies_dense(p)) return trine_buffer_read(stream, view, 0, dense, p->count * sizeof(float));
    void *stored = NULL;
    TRINE_TRY(trine__calloc(p->stored, sizeof(float), &stored));
    const trine_status status = trine_buffer_read(stream, view, 0, stored, p->stored * sizeof(float));
    if (status == TRINE_OK) trine__weight_layout_to_dense(&p->layout, stored, dense);
    free(stored);
    return status;
}

trine_status trine__parameter_write(const trine__parameter *p, trine_stream *stream, trine_buffer *view,
                                    const float *dense)
{
    if (lies_dense(p)) return trine_buffer_write(stream, view, 0, dense, p->count * sizeof(float));
    void *stored = NULL;
    TRINE_TRY(trine__calloc(p->stored, sizeof(float), &stored));
    trine__weight_layout_from_dense(&p->layout, dense, stored);
    const trine_status status = trine_buffer_write(stream, view, 0, stored, p->stored * sizeof(float));
    free(stored);
    return status;
}

static trine_status check_index(const trine_resnet *net, int i)
{
    TRINE_CHECK(i >= 0 && i < net->parameter_count, TRINE_ERR_ARG, "parameter %d: there are %d", i,
                net->parameter_count);
    return TRINE_OK;
}

trine_status trine_resnet_parameter(const trine_resnet *net, int i, trine_parameter_info *out)
{
    TRINE_TRY(check_index(net, i));
    const trine__parameter *p = &net->params[i];
    *out = (trine_parameter_info){.name = p->name, .rank = p->rank, .trainable = p->trainable};
    memcpy(out->dims, p->dims, sizeof out->dims);
    return TRINE_OK;
}

trine_status trine_resnet_parameter_read(const trine_resnet *net, trine_stream *stream, int i, float *out)
{
    TRINE_TRY(check_index(net, i));
    return trine__parameter_read(&net->params[i], stream, net->params[i].view, out);
}

trine_status trine_resnet_parameter_write(trine_resnet *net, trine_stream *stream, int i, const float *values)
{
    TRINE_TRY(check_index(net, i));
    const trine__parameter *p = &net->params[i];
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_resnet_parameter_write", TRINE__MAY_NOTHING));
    trine__guard_allow_parameter(&guard, i);
    net->params[i].version = net->values_version = ++net->next_version;
    return trine__guard_end(&guard, trine__parameter_write(p, stream, p->view, values));
}

double trine_resnet_macs(const trine_resnet *net, int h, int w)
{
    const trine__spec *s = &net->spec;
    const trine__unit *stem = &s->units[0];
    int rows = (h + 2 * stem->pad - stem->kernel) / stem->stride + 1;
    int columns = (w + 2 * stem->pad - stem->kernel) / stem->stride + 1;
    double macs =
        (double)stem->out_channels * stem->in_channels * stem->kernel * stem->kernel * rows * columns;
    if (s->stem_pool) {
        rows = (rows - 1) / 2 + 1;
        columns = (columns - 1) / 2 + 1;
    }
    for (int b = 0; b < s->block_count; b++) {
        const trine__block *block = &s->blocks[b];
        const int out_rows = (rows - 1) / block->stride + 1, out_columns = (columns - 1) / block->stride + 1;
        bool strided = false;
        for (int i = block->first; i < block->first + block->count + (block->projection >= 0); i++) {
            const trine__unit *u = &s->units[i];
            strided = strided || u->stride > 1 || block->stride == 1 || i == block->projection;
            macs += (double)u->out_channels * (u->in_channels / u->groups) * u->kernel * u->kernel *
                    (strided ? out_rows : rows) * (strided ? out_columns : columns);
        }
        rows = out_rows;
        columns = out_columns;
    }
    return macs + (double)s->features * s->outputs;
}
