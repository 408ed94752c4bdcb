/* SPDX-License-Identifier: MIT */
/* The gradient buffer of a network, and the optimizer step over what it holds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/session_private.h"
#include "net/state_guard.h"
#include "op/optimizer.h"

trine_status trine_gradients_create(const trine_resnet *net, trine_stream *stream, trine_gradients **out)
{
    trine_status status;
    void *p = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine_gradients), &p));
    trine_gradients *g = p;
    g->net = net;
    g->count = net->parameter_count;
    TRINE_TRY_GOTO(trine__calloc((size_t)g->count, sizeof *g->view, &p));
    g->view = p;
    TRINE_TRY_GOTO(trine__calloc((size_t)g->count, sizeof *g->reached, &p));
    g->reached = p;
    TRINE_TRY_GOTO(
        trine__buffer_set_create(&g->views, net->context, net->flat_count * sizeof(float), &g->flat));
    TRINE_TRY_GOTO(trine__stream_zero(stream, g->flat, 0,
                                      net->flat_count * sizeof(float))); /* the gaps stay zero for ever */
    for (int i = 0; i < g->count; i++)
        TRINE_TRY_GOTO(trine__buffer_set_view(&g->views, g->flat, net->params[i].offset * sizeof(float),
                                              net->params[i].stored * sizeof(float), &g->view[i]));
    *out = g;
    return TRINE_OK;
cleanup:
    trine_gradients_destroy(&g);
    return status;
}

void trine_gradients_clear(trine_gradients *gradients)
{
    memset(gradients->reached, 0, (size_t)gradients->count * sizeof *gradients->reached);
}

int trine_gradients_reached(const trine_gradients *gradients, int i)
{
    return i >= 0 && i < gradients->count && gradients->reached[i];
}

trine_status trine_gradients_read(const trine_gradients *gradients, trine_stream *stream, int i, float *out)
{
    TRINE_CHECK(i >= 0 && i < gradients->count, TRINE_ERR_ARG, "gradient %d: there are %d", i,
                gradients->count);
    return trine__parameter_read(&gradients->net->params[i], stream, gradients->view[i], out);
}

void trine_gradients_destroy(trine_gradients **gradients)
{
    if (!gradients || !*gradients) return;
    trine__buffer_set_release(&(*gradients)->views);
    free((*gradients)->view);
    free((*gradients)->reached);
    free(*gradients);
    *gradients = NULL;
}

static trine_status step(trine_resnet *net, trine_stream *stream, trine_optimizer *optimizer,
                         const trine_gradients *gradients, float lr)
{
    TRINE_CHECK(isfinite(lr) && lr >= 0, TRINE_ERR_ARG, "step: learning rate %g, want a number >= 0",
                (double)lr);
    uint64_t *counts;
    TRINE_TRY(trine__optimizer_counts(optimizer, (size_t)net->parameter_count, net->flat_count, &counts));
    trine_optimizer_advance(optimizer);
    for (int i = 0; i < net->parameter_count;) {
        if (!net->params[i].trainable || !gradients->reached[i]) {
            i++;
            continue;
        }
        /* one launch for neighbours that have taken as many steps: mostly one in all */
        const uint64_t number = counts[i] + 1;
        int end = i;
        for (; end < net->parameter_count && net->params[end].trainable && gradients->reached[end] &&
               counts[end] + 1 == number;
             end++) {
            counts[end] = number;
            net->params[end].version = net->values_version = ++net->next_version;
        }
        const size_t first = net->params[i].offset,
                     last = net->params[end - 1].offset + net->params[end - 1].stored;
        TRINE_TRY(trine__optimizer_step_number(optimizer, stream, net->parameters, gradients->flat, first,
                                               last - first, lr, number));
        i = end;
    }
    return TRINE_OK;
}

trine_status trine_resnet_step(trine_resnet *net, trine_stream *stream, trine_optimizer *optimizer,
                               const trine_gradients *gradients, float lr)
{
    TRINE_CHECK(gradients->count == net->parameter_count &&
                    trine_buffer_bytes(gradients->flat) == net->flat_count * sizeof(float),
                TRINE_ERR_ARG, "the gradients are of another network");
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_resnet_step", TRINE__MAY_TRAIN));
    trine__guard_allow_reached(&guard, gradients->reached);
    return trine__guard_end(&guard, step(net, stream, optimizer, gradients, lr));
}
