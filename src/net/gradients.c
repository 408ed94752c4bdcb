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
    TRINE_TRY_GOTO(trine__loss_scale_create(net->context, stream, &g->scale));
    *out = g;
    return TRINE_OK;
cleanup:
    trine_gradients_destroy(&g);
    return status;
}

void trine_gradients_clear(trine_gradients *gradients)
{
    memset(gradients->reached, 0, (size_t)gradients->count * sizeof *gradients->reached);
    gradients->scaled = false;
}

int trine_gradients_reached(const trine_gradients *gradients, int i)
{
    return i >= 0 && i < gradients->count && gradients->reached[i];
}

trine_status trine_gradients_read(const trine_gradients *gradients, trine_stream *stream, int i, float *out)
{
    TRINE_CHECK(i >= 0 && i < gradients->count, TRINE_ERR_ARG, "gradient %d: there are %d", i,
                gradients->count);
    const trine__parameter *p = &gradients->net->params[i];
    trine__loss_scale_state state = {.inverse = 1};
    TRINE_TRY(trine__parameter_read(p, stream, gradients->view[i], out));
    if (!gradients->scaled) return TRINE_OK;
    TRINE_TRY(trine__loss_scale_read(gradients->scale, stream, &state));
    for (size_t k = 0; k < p->count; k++) out[k] *= state.inverse;
    return TRINE_OK;
}

trine_status trine_gradients_scale(const trine_gradients *gradients, trine_stream *stream, float *scale,
                                   uint64_t *skipped)
{
    trine__loss_scale_state state;
    TRINE_TRY(trine__loss_scale_read(gradients->scale, stream, &state));
    *scale = state.scale;
    *skipped = (uint64_t)state.skipped;
    return TRINE_OK;
}

void trine_gradients_destroy(trine_gradients **gradients)
{
    if (!gradients || !*gradients) return;
    trine__buffer_set_release(&(*gradients)->views);
    trine__loss_scale_destroy(&(*gradients)->scale);
    trine__gradient_norm_destroy(&(*gradients)->norm);
    free((*gradients)->view);
    free((*gradients)->reached);
    free(*gradients);
    *gradients = NULL;
}

/* Parameters [first, end) that train and were reached, have taken as many steps and (with rates) one learning rate, lie next to each
 * other: mostly all of them. */
typedef struct run {
    int first, end;
    size_t at, floats; /* in the flat buffers */
} run;

/* The next run from parameter `from` on. @return false: there is none */
static bool next_run(const trine_resnet *net, const trine_gradients *g, const uint64_t *counts,
                     const float *rates, int from, run *out)
{
    const trine__parameter *p = net->params;
    while (from < net->parameter_count && !(p[from].trainable && g->reached[from])) from++;
    if (from == net->parameter_count) return false;
    int end = from;
    while (end < net->parameter_count && p[end].trainable && g->reached[end] && counts[end] == counts[from] &&
           (!rates || rates[end] == rates[from]))
        end++;
    *out = (run){from, end, p[from].offset, p[end - 1].offset + p[end - 1].stored - p[from].offset};
    return true;
}

/* The factor that averages and clips what was reached, on the device; then it is what optimizers follow. */
static trine_status scale(const trine_resnet *net, trine_stream *stream, trine_gradients *g,
                          const uint64_t *counts, const trine__step_options *options,
                          const trine_buffer **scaling)
{
    const float factor = options->batches > 1 ? 1.0f / (float)options->batches : 1.0f;
    const float most = options->clip_norm > 0 ? options->clip_norm : INFINITY;
    run r = {0};
    if (!g->norm) TRINE_TRY(trine__gradient_norm_create(net->context, net->parameter_count, &g->norm));
    trine__gradient_norm_clear(g->norm);
    while (next_run(net, g, counts, NULL, r.end, &r))
        TRINE_TRY(trine__gradient_norm_add(g->norm, stream, g->flat, r.at, r.floats));
    TRINE_TRY(trine__gradient_norm_clip(g->norm, stream, *scaling, factor, most));
    *scaling = trine__gradient_norm_buffer(g->norm);
    return TRINE_OK;
}

static trine_status step(trine_resnet *net, trine_stream *stream, trine_optimizer *optimizer,
                         trine_gradients *gradients, float lr, const trine__step_options *options)
{
    TRINE_CHECK(isfinite(lr) && lr >= 0, TRINE_ERR_ARG, "step: learning rate %g, want a number >= 0",
                (double)lr);
    uint64_t *counts;
    const float *rates = options->rates;
    const trine_buffer *scaling = gradients->scaled ? trine__loss_scale_buffer(gradients->scale) : NULL;
    run r = {0};
    TRINE_TRY(trine__optimizer_counts(optimizer, (size_t)net->parameter_count, net->flat_count, &counts));
    trine_optimizer_advance(optimizer);
    while (scaling && next_run(net, gradients, counts, NULL, r.end, &r))
        TRINE_TRY(trine__loss_scale_check(gradients->scale, stream, gradients->flat, r.at, r.floats));
    if (options->clip_norm > 0 || options->batches > 1)
        TRINE_TRY(scale(net, stream, gradients, counts, options, &scaling));
    r.end = 0;
    while (next_run(net, gradients, counts, rates, r.end, &r)) {
        const uint64_t number = counts[r.first] + 1;
        for (int i = r.first; i < r.end; i++) {
            counts[i] = number;
            net->params[i].version = net->values_version = ++net->next_version;
        }
        TRINE_TRY(trine__optimizer_step_number(optimizer, stream, net->parameters, gradients->flat, scaling,
                                               r.at, r.floats, rates ? rates[r.first] : lr, number));
    }
    return gradients->scaled ? trine__loss_scale_update(gradients->scale, stream) : TRINE_OK;
}

trine_status trine__resnet_step_with(trine_resnet *net, trine_stream *stream, trine_optimizer *optimizer,
                                     trine_gradients *gradients, float lr, const trine__step_options *options)
{
    TRINE_CHECK(gradients->count == net->parameter_count &&
                    trine_buffer_bytes(gradients->flat) == net->flat_count * sizeof(float),
                TRINE_ERR_ARG, "the gradients are of another network");
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_resnet_step", TRINE__MAY_TRAIN));
    trine__guard_allow_reached(&guard, gradients->reached);
    return trine__guard_end(&guard, step(net, stream, optimizer, gradients, lr, options));
}

trine_status trine_resnet_step(trine_resnet *net, trine_stream *stream, trine_optimizer *optimizer,
                               const trine_gradients *gradients, float lr)
{
    const trine__step_options plain = {0};
    /* Without clipping and averaging the gradients are only read. */
    return trine__resnet_step_with(net, stream, optimizer, (trine_gradients *)gradients, lr, &plain);
}
