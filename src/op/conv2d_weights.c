/* SPDX-License-Identifier: MIT */
#include "op/conv2d_weights.h"

#include <string.h>

#include "op/conv2d_private.h"

trine__weight_layout trine__conv2d_weight_layout(const trine_conv2d_desc *d)
{
    return (trine__weight_layout){.k = d->out_channels,
                                  .c = d->in_channels / d->groups,
                                  .taps = d->kernel_h * d->kernel_w,
                                  .kb = d->weight_kb,
                                  .cb = d->weight_cb};
}

size_t trine__weight_layout_count(const trine__weight_layout *l)
{
    return trine__round_up((size_t)l->k, (size_t)l->kb) * trine__round_up((size_t)l->c, (size_t)l->cb) *
           (size_t)l->taps;
}

/* Floats from a block of channels to the next. */
static size_t block_floats(const trine__weight_layout *l)
{
    return (size_t)(l->taps * l->cb) * (size_t)l->kb;
}

/* Where filter k begins. */
static size_t filter_offset(const trine__weight_layout *l, int k)
{
    const size_t blocks = (size_t)trine__ceil_div(l->c, l->cb);
    return (size_t)(k / l->kb) * blocks * block_floats(l) + (size_t)(k % l->kb);
}

static bool is_dense(const trine__weight_layout *l)
{
    return l->kb == 1 && l->cb == 1;
}

void trine__weight_layout_to_dense(const trine__weight_layout *l, const float *stored, float *dense)
{
    const size_t step = (size_t)(l->cb * l->kb);
    if (is_dense(l)) memcpy(dense, stored, trine__weight_layout_count(l) * sizeof *dense);
    for (int k = 0; k < l->k && !is_dense(l); k++) {
        const float *block = stored + filter_offset(l, k);
        for (int first = 0; first < l->c; first += l->cb, block += block_floats(l))
            for (int c = 0; c < l->cb && first + c < l->c; c++)
                for (int tap = 0; tap < l->taps; tap++)
                    *dense++ = block[(size_t)tap * step + (size_t)(c * l->kb)];
    }
}

void trine__weight_layout_from_dense(const trine__weight_layout *l, const float *dense, float *stored)
{
    const size_t step = (size_t)(l->cb * l->kb), count = trine__weight_layout_count(l);
    if (is_dense(l))
        memcpy(stored, dense, count * sizeof *stored);
    else
        memset(stored, 0, count * sizeof *stored);
    for (int k = 0; k < l->k && !is_dense(l); k++) {
        float *block = stored + filter_offset(l, k);
        for (int first = 0; first < l->c; first += l->cb, block += block_floats(l))
            for (int c = 0; c < l->cb && first + c < l->c; c++)
                for (int tap = 0; tap < l->taps; tap++)
                    block[(size_t)tap * step + (size_t)(c * l->kb)] = *dense++;
    }
}

void trine_conv2d_choose_weight_blocks(const trine_context *context, trine_conv2d_desc *desc)
{
    trine__conv2d_direct_blocks(context, desc, &desc->weight_kb, &desc->weight_cb);
}

size_t trine_conv2d_weight_count(const trine_conv2d_desc *desc)
{
    const trine__weight_layout layout = trine__conv2d_weight_layout(desc);
    return trine__weight_layout_count(&layout);
}

void trine_conv2d_weights_to_dense(const trine_conv2d_desc *desc, const float *stored, float *dense)
{
    const trine__weight_layout layout = trine__conv2d_weight_layout(desc);
    trine__weight_layout_to_dense(&layout, stored, dense);
}

void trine_conv2d_weights_from_dense(const trine_conv2d_desc *desc, const float *dense, float *stored)
{
    const trine__weight_layout layout = trine__conv2d_weight_layout(desc);
    trine__weight_layout_from_dense(&layout, dense, stored);
}
