/* SPDX-License-Identifier: MIT */
/* What a session's plan looks like from outside. */
#include "net/choices.h"

/* The layer that a node belongs to, for the profile. */
const char *trine__node_scope(const trine_session *s, const trine__node *node)
{
    const trine__spec *spec = &s->net->spec;
    switch (node->kind) {
    case TRINE__NODE_CONV:
    case TRINE__NODE_CONV_WEIGHTS:
    case TRINE__NODE_CONV_DATA:
        return spec->units[node->unit].conv;
    case TRINE__NODE_BN:
    case TRINE__NODE_BN_BACKWARD:
        return spec->units[node->unit].bn;
    case TRINE__NODE_SUBSAMPLE:
    case TRINE__NODE_SUBSAMPLE_BACKWARD:
        return "shortcut";
    case TRINE__NODE_MAX_POOL:
    case TRINE__NODE_MAX_POOL_BACKWARD:
    case TRINE__NODE_GLOBAL_POOL:
    case TRINE__NODE_GLOBAL_POOL_BACKWARD:
        return "pool";
    default:
        return "fc";
    }
}

int trine_session_convolution(const trine_session *s, int i, trine_session_conv *out)
{
    if (i < 0 || i >= s->net->spec.unit_count || !s->units[i].planned) return 0;
    const trine__unit *spec = &s->net->spec.units[i];
    const trine__session_unit *u = &s->units[i];
    const trine_shape *x = &s->values[u->x].tensor.shape, *y = &s->values[u->y].tensor.shape;
    *out = (trine_session_conv){.name = spec->conv,
                                .in_channels = spec->in_channels,
                                .out_channels = spec->out_channels,
                                .kernel = spec->kernel,
                                .stride = spec->stride,
                                .groups = spec->groups,
                                .h = x->h,
                                .w = x->w,
                                .p = y->h,
                                .q = y->w,
                                .macs = (double)spec->out_channels * (spec->in_channels / spec->groups) *
                                        spec->kernel * spec->kernel * y->h * y->w};
    for (int d = 0; d <= TRINE_BACKWARD_WEIGHTS; d++)
        out->algorithm[d] = trine_conv2d_algorithm(u->conv, (trine_direction)d);
    return 1;
}

trine_status trine_session_tuning(const trine_session *s, char text[TRINE_SESSION_TUNING])
{
    trine__choices choices = {0};
    const trine_status status = trine__choices_add(&choices, s);
    if (status == TRINE_OK) trine__choices_text(&choices, text);
    trine__choices_free(&choices);
    return status;
}
