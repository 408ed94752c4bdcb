/* SPDX-License-Identifier: MIT */
/* The state of a network before and after a call, and the sentence on what should not have moved. */
#include "net/state_guard.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SENTENCE_BYTES = 512, FAILURE_BYTES = 1024 };

struct parameter {
    uint64_t hash;
    bool trainable, reached, may;
};

struct layer {
    uint64_t hash; /* statistics and counter */
    int64_t batches;
    trine_bn_policy policy;
    float momentum, eps;
    trine__bn_mode mode;
    bool may;
};

struct trine__guarded {
    const trine_resnet *net;
    trine_stream *stream;
    const char *call;
    unsigned may;
    uint64_t *hashes;         /* [parameters + layers]; scratch */
    struct parameter *params; /* as they were */
    struct layer *layers;
    char sentence[SENTENCE_BYTES]; /* on the first thing that moved */
    int moved;
};

static void release(trine__guard *guard)
{
    free(guard->state->hashes);
    free(guard->state->params);
    free(guard->state->layers);
    free(guard->state);
    guard->state = NULL;
}

static trine_status read_hashes(trine__guarded *g)
{
    return trine__state_hashes(g->net, g->stream, g->hashes, g->hashes + g->net->parameter_count);
}

static trine_status allocate(trine__guarded *g)
{
    void *p = NULL;
    const size_t params = (size_t)g->net->parameter_count, layers = (size_t)g->net->spec.unit_count;
    TRINE_TRY(trine__calloc(params + layers, sizeof *g->hashes, &p));
    g->hashes = p;
    TRINE_TRY(trine__calloc(params, sizeof *g->params, &p));
    g->params = p;
    TRINE_TRY(trine__calloc(layers, sizeof *g->layers, &p));
    g->layers = p;
    return TRINE_OK;
}

static void remember(trine__guarded *g)
{
    const trine_resnet *net = g->net;
    for (int i = 0; i < net->parameter_count; i++) {
        const bool trainable = net->params[i].trainable;
        g->params[i] = (struct parameter){.hash = g->hashes[i],
                                          .trainable = trainable,
                                          .reached = true,
                                          .may = trainable && (g->may & TRINE__MAY_TRAIN)};
    }
    for (int i = 0; i < net->spec.unit_count; i++) {
        const trine__bn_layer *bn = &net->bns[i];
        const trine__bn_mode mode = trine__bn_resolve(net, i);
        g->layers[i] = (struct layer){.hash = g->hashes[net->parameter_count + i],
                                      .batches = bn->batches,
                                      .policy = bn->policy,
                                      .momentum = bn->momentum,
                                      .eps = bn->eps,
                                      .mode = mode,
                                      .may = (g->may & TRINE__MAY_STATISTICS) ||
                                             (mode.update && (g->may & TRINE__MAY_UPDATE))};
    }
}

trine_status trine__guard_open(trine__guard *guard, const trine_resnet *net, trine_stream *stream,
                               const char *call, unsigned may)
{
    trine_status status;
    void *p = NULL;
    TRINE_TRY(trine__calloc(1, sizeof *guard->state, &p));
    guard->state = p;
    *guard->state = (trine__guarded){.net = net, .stream = stream, .call = call, .may = may};
    TRINE_TRY_GOTO(allocate(guard->state));
    TRINE_TRY_GOTO(read_hashes(guard->state));
    remember(guard->state);
    return TRINE_OK;
cleanup:
    release(guard);
    return status;
}

void trine__guard_allow_parameter(trine__guard *guard, int i)
{
    if (guard->state) guard->state->params[i].may = true;
}

void trine__guard_allow_layer(trine__guard *guard, int i)
{
    if (guard->state) guard->state->layers[i].may = true;
}

void trine__guard_allow_reached(trine__guard *guard, const bool *reached)
{
    for (int i = 0; guard->state && i < guard->state->net->parameter_count; i++) {
        struct parameter *p = &guard->state->params[i];
        p->reached = reached[i];
        p->may = p->may && reached[i];
    }
}

/* The first thing that moved gets the sentence. */
static void TRINE_PRINTF(2, 3) blame(trine__guarded *g, const char *format, ...)
{
    if (g->moved++) return;
    va_list args;
    va_start(args, format);
    vsnprintf(g->sentence, sizeof g->sentence, format, args);
    va_end(args);
}

static void compare_parameter(trine__guarded *g, int i)
{
    const struct parameter *was = &g->params[i];
    const trine__parameter *is = &g->net->params[i];
    if (is->trainable != was->trainable)
        blame(g, "%s was %s", is->name, was->trainable ? "frozen" : "made trainable");
    if (was->may || g->hashes[i] == was->hash) return;
    blame(g, "%s changed, %s", is->name,
          !(g->may & TRINE__MAY_TRAIN) ? "which this call does not do"
          : !was->trainable            ? "and it is frozen"
                                       : "and no gradient reached it");
}

static void compare_layer(trine__guarded *g, int i)
{
    const struct layer *was = &g->layers[i];
    const trine__bn_layer *is = &g->net->bns[i];
    const char *name = g->net->spec.units[i].bn;
    if (is->policy != was->policy)
        blame(g, "%s's policy changed from %s to %s", name, trine__bn_policy_name(was->policy),
              trine__bn_policy_name(is->policy));
    if (is->momentum != was->momentum)
        blame(g, "%s's momentum changed from %g to %g", name, (double)was->momentum, (double)is->momentum);
    if (is->eps != was->eps)
        blame(g, "%s's eps changed from %g to %g", name, (double)was->eps, (double)is->eps);
    if (was->may || g->hashes[g->net->parameter_count + i] == was->hash) return;
    char batches[80] = "";
    if (is->batches != was->batches)
        snprintf(batches, sizeof batches, " (batches tracked: %lld, were %lld)", (long long)is->batches,
                 (long long)was->batches);
    if (g->may & TRINE__MAY_UPDATE)
        blame(g, "%s's running statistics changed%s, and its policy (%s) does not update them", name, batches,
              trine__bn_mode_name(was->mode));
    else
        blame(g, "%s's running statistics changed%s, which this call does not do", name, batches);
}

/* Statistics first: they are what moves behind one's back. */
static trine_status compare(trine__guarded *g)
{
    TRINE_TRY(read_hashes(g));
    for (int i = 0; i < g->net->spec.unit_count; i++) compare_layer(g, i);
    for (int i = 0; i < g->net->parameter_count; i++) compare_parameter(g, i);
    if (g->moved == 0) return TRINE_OK;
    char more[40] = "";
    if (g->moved > 1) snprintf(more, sizeof more, "; %d more moved", g->moved - 1);
    return trine__fail(TRINE_ERR_CHECK, "%s: %s (state assertion%s)", g->call, g->sentence, more);
}

trine_status trine__guard_close(trine__guard *guard, trine_status status)
{
    char failure[FAILURE_BYTES];
    if (status == TRINE_ERR_CHECK) { /* a guard within has told it already */
        release(guard);
        return status;
    }
    snprintf(failure, sizeof failure, "%s", trine_last_error());
    const trine_status compared = compare(guard->state);
    release(guard);
    if (status == TRINE_OK || compared == TRINE_OK) return status == TRINE_OK ? compared : status;
    if (compared == TRINE_ERR_CHECK)
        return trine__fail(compared, "%s, and the call failed: %s", trine_last_error(), failure);
    return trine__fail(status, "%s", failure); /* of the two failures, the call's own */
}

void trine_resnet_assert_state(trine_resnet *net, int on)
{
    net->assert_state = on != 0;
}

trine_status trine__guard_default(bool *on)
{
    const char *text = getenv("TRINE_ASSERT_STATE");
    const bool off = !text || !text[0] || strcmp(text, "0") == 0;
    TRINE_CHECK(off || strcmp(text, "1") == 0, TRINE_ERR_ARG,
                "TRINE_ASSERT_STATE is '%s': expected 1 (on) or 0 (off)", text);
    *on = !off;
    return TRINE_OK;
}
