/* SPDX-License-Identifier: MIT */
/* Positions in a network, between which a session can run a part, and how far the frozen part reaches. */
#include "net/session_private.h"

int trine__position_after_block(int block)
{
    return TRINE__AT_STEM + 1 + block;
}

int trine__position_features(const trine_resnet *net)
{
    return trine__position_after_block(net->spec.block_count);
}

int trine__position_end(const trine_resnet *net)
{
    return trine__position_features(net) + 1;
}

static bool frozen_unit(const trine_resnet *net, int unit)
{
    const trine__bn_mode mode = trine__bn_resolve(net, unit);
    return mode.frozen && !mode.batch && !net->params[trine__conv_parameter(net, unit)].trainable;
}

int trine__frozen_position(const trine_resnet *net)
{
    const trine__spec *spec = &net->spec;
    if (!frozen_unit(net, 0)) return TRINE__AT_IMAGES;
    for (int i = 0; i < spec->block_count; i++) {
        const trine__block *b = &spec->blocks[i];
        bool frozen = b->projection < 0 || frozen_unit(net, b->projection);
        for (int k = 0; k < b->count; k++) frozen = frozen && frozen_unit(net, b->first + k);
        if (!frozen) return TRINE__AT_STEM + i;
    }
    return trine__position_features(net); /* pooling has nothing that could train */
}

int trine__channels_at(const trine_resnet *net, int position)
{
    const trine__spec *spec = &net->spec;
    if (position == TRINE__AT_IMAGES) return spec->in_channels;
    if (position == TRINE__AT_STEM) return spec->units[0].out_channels;
    return position >= trine__position_features(net)
               ? spec->features
               : spec->blocks[position - TRINE__AT_STEM - 1].out_channels;
}

static uint64_t unit_version(const trine_resnet *net, int unit)
{
    const int parameters[] = {trine__conv_parameter(net, unit), trine__gamma_parameter(net, unit),
                              trine__beta_parameter(net, unit)};
    uint64_t newest = net->bns[unit].version;
    for (size_t i = 0; i < TRINE_COUNTOF(parameters); i++)
        if (parameters[i] >= 0 && net->params[parameters[i]].version > newest)
            newest = net->params[parameters[i]].version;
    return newest;
}

uint64_t trine__version_before(const trine_resnet *net, int position)
{
    const trine__spec *spec = &net->spec;
    uint64_t newest = position > TRINE__AT_IMAGES ? unit_version(net, 0) : 0;
    for (int i = 0; i < spec->block_count && trine__position_after_block(i) <= position; i++) {
        const trine__block *b = &spec->blocks[i];
        for (int k = b->first; k < b->first + b->count; k++)
            if (unit_version(net, k) > newest) newest = unit_version(net, k);
        if (b->projection >= 0 && unit_version(net, b->projection) > newest)
            newest = unit_version(net, b->projection);
    }
    return newest;
}
