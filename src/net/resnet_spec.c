/* SPDX-License-Identifier: MIT */
#include "net/resnet_spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* He et al. 2016 (and its section 4.2 for 32x32 images), Xie et al. 2017 (ResNeXt), Zagoruyko and Komodakis
 * 2016 (wide). */
/* clang-format off */
const trine__variant trine__variants[] = {
    /* name            exp st  blocks           width grp wpg 3x3 proj small classes */
    {"resnet18",         1, 4, {2, 2, 2, 2},    64,   1,  64, 1, 1, 0, 1000},
    {"resnet34",         1, 4, {3, 4, 6, 3},    64,   1,  64, 1, 1, 0, 1000},
    {"resnet50",         4, 4, {3, 4, 6, 3},    64,   1,  64, 1, 1, 0, 1000},
    {"resnet101",        4, 4, {3, 4, 23, 3},   64,   1,  64, 1, 1, 0, 1000},
    {"resnet152",        4, 4, {3, 8, 36, 3},   64,   1,  64, 1, 1, 0, 1000},
    {"resnext50_32x4d",  4, 4, {3, 4, 6, 3},    64,  32,   4, 1, 1, 0, 1000},
    {"resnext101_32x8d", 4, 4, {3, 4, 23, 3},   64,  32,   8, 1, 1, 0, 1000},
    {"resnext101_64x4d", 4, 4, {3, 4, 23, 3},   64,  64,   4, 1, 1, 0, 1000},
    {"wide_resnet50_2",  4, 4, {3, 4, 6, 3},    64,   1, 128, 1, 1, 0, 1000},
    {"wide_resnet101_2", 4, 4, {3, 4, 23, 3},   64,   1, 128, 1, 1, 0, 1000},
    {"resnet20_cifar",   1, 3, {3, 3, 3, 0},    16,   1,  64, 1, 0, 1, 10},
    {"resnet32_cifar",   1, 3, {5, 5, 5, 0},    16,   1,  64, 1, 0, 1, 10},
    {"resnet44_cifar",   1, 3, {7, 7, 7, 0},    16,   1,  64, 1, 0, 1, 10},
    {"resnet56_cifar",   1, 3, {9, 9, 9, 0},    16,   1,  64, 1, 0, 1, 10},
    {"resnet110_cifar",  1, 3, {18, 18, 18, 0}, 16,   1,  64, 1, 0, 1, 10},
};
/* clang-format on */
const int trine__variant_count = (int)TRINE_COUNTOF(trine__variants);

const trine__variant *trine__variant_find(const char *name)
{
    for (int i = 0; i < trine__variant_count; i++)
        if (strcmp(trine__variants[i].name, name) == 0) return &trine__variants[i];
    return NULL;
}

static trine__unit *add_unit(trine__spec *s, const char *conv, const char *bn, int in, int out, int kernel,
                             int stride, int groups)
{
    trine__unit *u = &s->units[s->unit_count++];
    snprintf(u->conv, sizeof u->conv, "%s", conv);
    snprintf(u->bn, sizeof u->bn, "%s", bn);
    u->in_channels = in;
    u->out_channels = out;
    u->kernel = kernel;
    u->stride = stride;
    u->pad = kernel / 2;
    u->groups = groups;
    return u;
}

static void add_block(trine__spec *s, int stage, int index, int in, int width, int stride)
{
    const trine__variant *v = s->variant;
    const int out = width * v->expansion, bottleneck = v->expansion > 1;
    trine__block *b = &s->blocks[s->block_count++];
    *b = (trine__block){
        .first = s->unit_count, .projection = -1, .stride = stride, .in_channels = in, .out_channels = out};
    char conv[TRINE__NAME_BYTES], bn[TRINE__NAME_BYTES];
    const int inner = bottleneck ? width * v->width_per_group / 64 * v->groups : width;
    const int count = bottleneck ? 3 : 2;
    for (int i = 0; i < count; i++) {
        const int kernel = bottleneck && i != 1 ? 1 : 3;
        const int strided = bottleneck ? (v->stride_in_3x3 ? i == 1 : i == 0) : i == 0;
        snprintf(conv, sizeof conv, "layer%d.%d.conv%d", stage + 1, index, i + 1);
        snprintf(bn, sizeof bn, "layer%d.%d.bn%d", stage + 1, index, i + 1);
        add_unit(s, conv, bn, i == 0 ? in : inner, i == count - 1 ? out : inner, kernel, strided ? stride : 1,
                 bottleneck && i == 1 ? v->groups : 1);
    }
    b->count = count;
    if (v->projection && (stride != 1 || in != out)) {
        snprintf(conv, sizeof conv, "layer%d.%d.downsample.0", stage + 1, index);
        snprintf(bn, sizeof bn, "layer%d.%d.downsample.1", stage + 1, index);
        b->projection = s->unit_count;
        add_unit(s, conv, bn, in, out, 1, stride, 1);
    }
}

trine_status trine__spec_create(const trine__variant *v, int in_channels, int outputs, int small_stem,
                                trine__spec *out)
{
    trine__spec s = {.variant = v, .in_channels = in_channels, .outputs = outputs};
    int blocks = 0;
    for (int i = 0; i < v->stages; i++) blocks += v->blocks[i];
    void *p = NULL;
    TRINE_TRY(trine__calloc((size_t)blocks * 4 + 1, sizeof *s.units, &p));
    s.units = p;
    const trine_status status = trine__calloc((size_t)blocks, sizeof *s.blocks, &p);
    if (status != TRINE_OK) {
        free(s.units);
        return status;
    }
    s.blocks = p;
    const int small = v->small_images || small_stem;
    s.stem_pool = !small;
    add_unit(&s, "conv1", "bn1", in_channels, v->width, small ? 3 : 7, small ? 1 : 2, 1);
    int channels = v->width;
    for (int stage = 0; stage < v->stages; stage++) {
        const int width = v->width << stage;
        for (int i = 0; i < v->blocks[stage]; i++) {
            add_block(&s, stage, i, channels, width, i == 0 && stage > 0 ? 2 : 1);
            channels = width * v->expansion;
        }
    }
    s.features = channels;
    *out = s;
    return TRINE_OK;
}

void trine__spec_free(trine__spec *spec)
{
    free(spec->units);
    free(spec->blocks);
    *spec = (trine__spec){0};
}
