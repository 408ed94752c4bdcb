/* SPDX-License-Identifier: MIT */
/* Runs a session's plan. Nothing here waits or allocates, but for planning anew after a change of policy. */
#include "trine/session.h"

#include <stdint.h>
#include <stdlib.h>

#include "net/session_private.h"
#include "net/state_guard.h"
#include "op/conv2d_input.h"
#include "op/conv2d_made.h"

static trine_tensor *tensor(trine_session *s, int value)
{
    return value >= 0 ? &s->values[value].tensor : NULL;
}

/* What a session is made for: all but the plan. */
struct purpose {
    const trine_resnet *net;
    trine_resnet *mutable_net;
    trine_embedding embedding;
    int backward; /* a trine_backward */
    int from, to;
};

static trine_status create(const struct purpose *why, trine_stream *stream, const trine_shape *shape,
                           trine_session **out)
{
    const trine_resnet *net = why->net;
    TRINE_CHECK(shape->n >= 1, TRINE_ERR_SHAPE, "session: batch of %d: need at least 1", shape->n);
    TRINE_CHECK(shape->c == trine__channels_at(net, why->from), TRINE_ERR_SHAPE,
                "session: images have %d channels, %s takes %d", shape->c, net->spec.variant->name,
                trine__channels_at(net, why->from));
    TRINE_CHECK(shape->h >= 1 && shape->w >= 1 && shape->h <= 1 << 15 && shape->w <= 1 << 15, TRINE_ERR_SHAPE,
                "session: images of %d x %d pixels: expected 1 to %d", shape->h, shape->w, 1 << 15);
    TRINE_CHECK(why->backward >= TRINE_BACKWARD_NONE && why->backward <= TRINE_BACKWARD_CHECKPOINT,
                TRINE_ERR_ARG, "session: unknown kind of backward pass %d", why->backward);
    void *p = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine_session), &p));
    trine_session *s = p;
    s->net = net;
    s->mutable_net = why->mutable_net;
    s->stream = stream;
    s->shape = *shape;
    s->embedding = why->embedding;
    s->backward = why->backward != TRINE_BACKWARD_NONE;
    s->checkpoint = why->backward == TRINE_BACKWARD_CHECKPOINT;
    s->from = why->from;
    s->to = why->to;
    trine__guard guard;
    const char *call = why->mutable_net ? "trine_session_create_training" : "trine_session_create_inference";
    trine_status status = trine__guard_begin(&guard, net, stream, call, TRINE__MAY_NOTHING);
    if (status == TRINE_OK) status = trine__guard_end(&guard, trine__plan_make(s));
    if (status != TRINE_OK) {
        trine_session_destroy(&s);
        return status;
    }
    *out = s;
    return TRINE_OK;
}

trine_status trine_session_create_inference(const trine_resnet *net, trine_stream *stream,
                                            const trine_shape *shape, trine_session **out)
{
    const struct purpose why = {.net = net, .to = trine__position_end(net)};
    return create(&why, stream, shape, out);
}

trine_status trine__session_create_trunk(const trine_resnet *net, trine_stream *stream,
                                         const trine_shape *shape, int to, trine_session **out)
{
    const struct purpose why = {.net = net, .to = to};
    return create(&why, stream, shape, out);
}

trine_status trine_session_create_training(trine_resnet *net, trine_stream *stream, const trine_shape *shape,
                                           trine_embedding embedding, int backward, trine_session **out)
{
    const struct purpose why = {net, net, embedding, backward, TRINE__AT_IMAGES, trine__position_end(net)};
    return create(&why, stream, shape, out);
}

trine_status trine__session_create_tail(trine_resnet *net, trine_stream *stream, const trine_shape *shape,
                                        trine_embedding embedding, int backward, int from,
                                        trine_session **out)
{
    const struct purpose why = {net, net, embedding, backward, from, trine__position_end(net)};
    return create(&why, stream, shape, out);
}

void trine_session_destroy(trine_session **session)
{
    if (!session || !*session) return;
    trine__plan_free(*session);
    free(*session);
    *session = NULL;
}

size_t trine_session_bytes(const trine_session *session)
{
    return session->bytes;
}

int trine_session_trains(const trine_session *session)
{
    return session->trains;
}

/* What lives in this node only, or NULL. */
static trine_buffer *temporary(const trine_session *s, int value)
{
    return value < 0 ? NULL : s->values[value].tensor.buffer;
}

/* Weights as `direction` reads them: where they stay so, until they are written; else they are prepared for every use. */
static trine_status prepare_weights(trine_session *s, const trine__node *node, trine_direction direction)
{
    trine__session_unit *u = &s->units[node->unit];
    const trine__parameter *conv = &s->net->params[trine__conv_parameter(s->net, node->unit)];
    const bool kept = u->prepared[direction] != NULL;
    if (kept && u->prepared_version[direction] == conv->version) return TRINE_OK;
    u->prepared_version[direction] = conv->version;
    return trine_conv2d_prepare_in(u->conv, s->stream, direction, conv->view,
                                   kept ? u->prepared[direction] : temporary(s, node->prepared));
}

/* Folded statistics, where the network has changed since. */
static trine_status refresh(trine_session *s, int unit)
{
    const trine_resnet *net = s->net;
    trine__session_unit *u = &s->units[unit];
    const int gamma = trine__gamma_parameter(net, unit), beta = trine__beta_parameter(net, unit);
    const trine__bn_layer *bn = &net->bns[unit];
    if (u->mode.batch) return TRINE_OK;
    uint64_t newest = bn->version;
    if (trine__parameter_version(net, gamma) > newest) newest = trine__parameter_version(net, gamma);
    if (trine__parameter_version(net, beta) > newest) newest = trine__parameter_version(net, beta);
    if (u->folded_version == newest) return TRINE_OK;
    if (u->fused)
        TRINE_TRY(trine_batchnorm_fold(u->bn, s->stream, bn->mean, bn->var, trine__parameter_view(net, gamma),
                                       trine__parameter_view(net, beta), u->scale, u->shift));
    if (s->backward || !u->fused)
        TRINE_TRY(trine_batchnorm_use_running(u->bn, s->stream, bn->mean, bn->var, &u->saved));
    u->folded_version = newest;
    return TRINE_OK;
}

static trine_status check_input(const trine_session *s, const trine_tensor *x)
{
    const trine_shape *have = &x->shape, *want = &s->shape;
    const int cb = s->values[s->input].tensor.cb;
    TRINE_CHECK(have->n >= 1 && have->n <= want->n && have->c == want->c && have->h == want->h &&
                    have->w == want->w && x->cb == cb && x->dtype == TRINE_F32,
                TRINE_ERR_SHAPE,
                "session: input is [%d,%d,%d,%d] in blocks of %d as %s, planned for at most [%d,%d,%d,%d] in "
                "blocks of %d as F32",
                have->n, have->c, have->h, have->w, x->cb, trine_dtype_name(x->dtype), want->n, want->c,
                want->h, want->w, cb);
    for (int i = 0; i < s->net->spec.unit_count; i++) {
        const trine__session_unit *u = &s->units[i];
        if (!u->planned) continue;
        const trine_shape *y = &s->values[u->y].tensor.shape;
        const char *name = s->net->spec.units[i].bn;
        const bool enough = !u->mode.batch || (double)have->n * y->h * y->w >= 2;
        TRINE_CHECK(
            enough || s->net->bns[i].tracked, TRINE_ERR_SHAPE,
            "%s: %d image of %d x %d is one value per channel, which has no batch statistics, and the "
            "layer has no running ones; give larger images or more of them, or give the layer running "
            "statistics (trine recalibrate, trine_resnet_bn_write())",
            name, have->n, y->h, y->w);
        TRINE_CHECK(enough, TRINE_ERR_SHAPE,
                    "%s: %d image of %d x %d is one value per channel, which has no batch statistics; give "
                    "larger images or more of them, or normalise with running statistics (bn '%s=eval')",
                    name, have->n, y->h, y->w, name);
    }
    return TRINE_OK;
}

/* BatchNorm with its saved statistics. */
static trine_status apply_bn(trine_session *s, const trine__node *node)
{
    const trine__session_unit *u = &s->units[node->unit];
    const trine_buffer *gamma = trine__parameter_view(s->net, trine__gamma_parameter(s->net, node->unit)),
                       *beta = trine__parameter_view(s->net, trine__beta_parameter(s->net, node->unit));
    const trine_tensor *x = tensor(s, node->in), *residual = tensor(s, node->extra);
    trine_tensor *y = tensor(s, node->out);
    return node->later
               ? trine__batchnorm_apply_later(u->bn, s->stream, x, &u->saved, gamma, beta, residual, u->relu,
                                              y, &s->made)
               : trine_batchnorm_apply(u->bn, s->stream, x, &u->saved, gamma, beta, residual, u->relu, y);
}

/* What the node before has left to this one, or NULL. */
static const trine__batchnorm_made *left_to(const trine_session *s, const trine__node *node)
{
    return node > s->nodes && node[-1].later ? &s->made : NULL;
}

static trine_status run_bn(trine_session *s, const trine__node *node)
{
    trine__session_unit *u = &s->units[node->unit];
    const trine_tensor *z = tensor(s, node->in);
    if (u->mode.batch) {
        const trine__bn_layer *bn = &s->net->bns[node->unit];
        const float factor = u->mode.cumulative ? (float)(1.0 / ((double)bn->batches + 1)) : bn->momentum;
        TRINE_TRY(trine_batchnorm_statistics(u->bn, s->stream, &z->shape, temporary(s, node->partials),
                                             &u->saved, u->mode.update ? bn->mean : NULL,
                                             u->mode.update ? bn->var : NULL, factor));
        if (u->mode.update) {
            trine__bn_layer *moved = &s->mutable_net->bns[node->unit];
            if (moved->batches < INT64_MAX) moved->batches++;
            moved->version = ++s->mutable_net->next_version;
        }
    }
    if (node->out >= 0) return apply_bn(s, node);
    return trine__batchnorm_coefficients(
        u->bn, s->stream, &u->saved,
        trine__parameter_view(s->net, trine__gamma_parameter(s->net, node->unit)),
        trine__parameter_view(s->net, trine__beta_parameter(s->net, node->unit)));
}

/* How a unit's convolution is to normalise what it reads. */
static trine__batchnorm_input input_of(const trine_session *s, const trine__session_unit *u)
{
    const trine__session_unit *source = u->source >= 0 ? &s->units[u->source] : NULL;
    return source ? trine__batchnorm_input_of(source->bn, &source->saved) : (trine__batchnorm_input){0};
}

static trine_status run_conv(trine_session *s, const trine__node *node)
{
    const trine__session_unit *u = &s->units[node->unit];
    const trine_conv2d_epilogue epilogue = {.scale = u->scale,
                                            .shift = u->shift,
                                            .residual = tensor(s, node->extra),
                                            .bn_partials = temporary(s, node->partials)};
    TRINE_TRY(prepare_weights(s, node, TRINE_FORWARD));
    const trine__batchnorm_made *made = left_to(s, node);
    if (made)
        return trine__conv2d_forward_made(u->conv, s->stream, made, &epilogue, tensor(s, node->out),
                                          temporary(s, node->workspace));
    const trine__batchnorm_input input = input_of(s, u);
    return trine__conv2d_forward_of(u->conv, s->stream, tensor(s, node->in), &input, &epilogue,
                                    tensor(s, node->out), temporary(s, node->workspace));
}

static trine_status run_forward(trine_session *s, const trine__node *node)
{
    trine_tensor *x = tensor(s, node->in), *y = tensor(s, node->out);
    switch (node->kind) {
    case TRINE__NODE_CONV:
        TRINE_TRY(refresh(s, node->unit));
        return run_conv(s, node);
    case TRINE__NODE_BN:
        return run_bn(s, node);
    case TRINE__NODE_MAX_POOL: {
        const trine_tensor *index = tensor(s, node->extra);
        return trine_pool2d_forward(s->max_pool, s->stream, x, y, index ? index->buffer : NULL);
    }
    case TRINE__NODE_SUBSAMPLE: {
        const trine__block *b = &s->net->spec.blocks[node->unit];
        return trine_subsample_forward(s->elementwise, s->stream, x, b->stride,
                                       (b->out_channels - b->in_channels) / 2, y);
    }
    case TRINE__NODE_GLOBAL_POOL:
        return trine_pool2d_forward(s->global_pool, s->stream, x, y, NULL);
    case TRINE__NODE_CONVERT:
        return trine_reorder(s->elementwise, s->stream, x, y);
    case TRINE__NODE_FC:
        return trine_linear_forward(s->fc, s->stream, x, s->net->params[TRINE__FC_WEIGHT].view,
                                    s->net->params[TRINE__FC_BIAS].view, y, temporary(s, node->workspace));
    default:
        return trine__fail(TRINE_ERR_STATE, "session: node %d in the forward pass", (int)node->kind);
    }
}

static trine_status forward(trine_session *s, const trine_tensor *x, bool updates_only)
{
    int updates = 0;
    if (s->plan_version != s->net->plan_version) {
        TRINE_TRY(trine_stream_sync(s->stream));
        trine__plan_free(s);
        const trine_status status = trine__plan_make(s);
        if (status != TRINE_OK) {
            trine__plan_free(s);
            return status;
        }
    }
    TRINE_TRY(check_input(s, x));
    for (size_t i = 0; i < s->value_count; i++) s->values[i].tensor.shape.n = x->shape.n;
    s->values[s->input].tensor.buffer = x->buffer;
    s->batch = 0;
    for (int i = 0; i < s->net->spec.unit_count; i++) updates += s->units[i].mode.update;
    for (size_t i = 0; i < s->forward_count; i++) {
        const trine__node *node = &s->nodes[i];
        if (updates_only && updates == 0) return TRINE_OK;
        trine__stream_scope(s->stream, trine__node_scope(s, node));
        const trine_status status = run_forward(s, node);
        trine__stream_scope(s->stream, NULL);
        TRINE_TRY(status);
        if (node->kind == TRINE__NODE_BN) updates -= s->units[node->unit].mode.update;
    }
    s->batch = x->shape.n;
    s->values_version = s->net->values_version;
    return TRINE_OK;
}

static trine_status guarded_forward(trine_session *s, const trine_tensor *x, bool updates_only,
                                    const char *call)
{
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, s->net, s->stream, call,
                                 s->mutable_net ? TRINE__MAY_UPDATE : TRINE__MAY_NOTHING));
    return trine__guard_end(&guard, forward(s, x, updates_only));
}

trine_status trine_session_forward(trine_session *session, const trine_tensor *x)
{
    return guarded_forward(session, x, false, "trine_session_forward");
}

trine_status trine__session_update(trine_session *session, const trine_tensor *x)
{
    return guarded_forward(session, x, true, "trine_recalibration_add");
}

static trine_tensor result(const trine_session *s, int value)
{
    return value >= 0 ? s->values[value].tensor : (trine_tensor){.cb = 1};
}

trine_tensor trine_session_features(const trine_session *session)
{
    return result(session, session->features);
}

trine_tensor trine_session_logits(const trine_session *session)
{
    return result(session, session->logits);
}

trine_tensor trine__session_output(const trine_session *session)
{
    return result(session, session->output);
}

trine_tensor trine_session_embedding(const trine_session *session)
{
    return result(session, session->embedding == TRINE_EMBED_FC ? session->logits : session->features);
}

/* A parameter's gradient buffer; *accumulate says whether something is there already, and marks it as
 * reached. */
static trine_buffer *reach(trine_gradients *g, int parameter, int *accumulate)
{
    *accumulate = g->reached[parameter];
    g->reached[parameter] = true;
    return g->view[parameter];
}

static trine_batchnorm_gradients bn_gradients(trine_session *s, const trine__node *node, trine_gradients *g,
                                              bool reached)
{
    const trine__session_unit *u = &s->units[node->unit];
    const trine_resnet *net = s->net;
    trine_batchnorm_gradients call = {
        .x = u->fused ? NULL : tensor(s, u->z),
        .y = u->relu && !u->y_again ? tensor(s, u->y) : NULL,
        .relu = u->relu && u->y_again,
        .dy = tensor(s, node->in),
        .dx = tensor(s, node->out),
        .saved = &u->saved,
        .gamma = trine__parameter_view(net, trine__gamma_parameter(net, node->unit)),
        .beta = trine__parameter_view(net, trine__beta_parameter(net, node->unit)),
        .partials = temporary(s, node->partials >= 0 ? node->partials : node->workspace),
        .batch = u->mode.batch};
    if (u->affine_trains && reached) {
        call.dgamma = reach(g, trine__gamma_parameter(net, node->unit), &call.accumulate_affine);
        call.dbeta = reach(g, trine__beta_parameter(net, node->unit), &call.accumulate_affine);
    }
    return call;
}

static trine_status run_bn_backward(trine_session *s, const trine__node *node, trine_gradients *g)
{
    const trine_batchnorm_gradients call = bn_gradients(s, node, g, true);
    trine_batchnorm *bn = s->units[node->unit].bn;
    const trine__node *maker = node->summed_by >= 0 ? &s->nodes[node->summed_by] : NULL;
    const int parts = maker ? trine__conv2d_sum_parts(s->units[maker->unit].conv, call.dy->shape.n,
                                                      left_to(s, maker) != NULL)
                            : 0;
    if (node->later) return trine__batchnorm_backward_later(bn, s->stream, &call, parts, &s->made);
    return parts > 0 ? trine__batchnorm_backward_from(bn, s->stream, &call, parts)
                     : trine_batchnorm_backward(bn, s->stream, &call);
}

static trine_status run_conv_data(trine_session *s, const trine__node *node, trine_gradients *g)
{
    trine__batchnorm_sums sums;
    TRINE_TRY(prepare_weights(s, node, TRINE_BACKWARD_DATA));
    if (node->sum_parts > 0) {
        const trine__node *reader = &s->nodes[node->sums_at];
        const trine_batchnorm_gradients call = bn_gradients(s, reader, g, false);
        TRINE_TRY(trine__batchnorm_sums_of(s->units[reader->unit].bn, s->stream, &call, &sums));
    }
    return trine__conv2d_backward_data_joined(
        s->units[node->unit].conv, s->stream, tensor(s, node->in), node->accumulate, left_to(s, node),
        node->sum_parts > 0 ? &sums : NULL, tensor(s, node->out), temporary(s, node->workspace));
}

static trine_status run_backward(trine_session *s, const trine__node *node, trine_gradients *g)
{
    trine_tensor *dy = tensor(s, node->in), *dx = tensor(s, node->out), *extra = tensor(s, node->extra);
    int accumulate = 0;
    switch (node->kind) {
    case TRINE__NODE_LOSS_SCALE:
        return trine__loss_scale_apply(g->scale, s->stream, dy, dx);
    case TRINE__NODE_FC_WEIGHTS: {
        trine_buffer *dw = reach(g, TRINE__FC_WEIGHT, &accumulate),
                     *db = reach(g, TRINE__FC_BIAS, &accumulate);
        return trine_linear_backward_weights(s->fc, s->stream, extra, dy, accumulate, dw, db,
                                             temporary(s, node->workspace));
    }
    case TRINE__NODE_FC_DATA:
        return trine_linear_backward_data(s->fc, s->stream, dy, s->net->params[TRINE__FC_WEIGHT].view, dx,
                                          temporary(s, node->workspace));
    case TRINE__NODE_GLOBAL_POOL_BACKWARD:
        return trine_pool2d_backward(s->global_pool, s->stream, dy, NULL, dx);
    case TRINE__NODE_CONV: /* once more, with what the forward pass has folded */
        return run_conv(s, node);
    case TRINE__NODE_BN:
        return apply_bn(s, node);
    case TRINE__NODE_BN_BACKWARD:
        return run_bn_backward(s, node, g);
    case TRINE__NODE_CONV_WEIGHTS: {
        trine_buffer *dw = reach(g, trine__conv_parameter(s->net, node->unit), &accumulate);
        const trine__batchnorm_input input = input_of(s, &s->units[node->unit]);
        return trine__conv2d_backward_weights_of(s->units[node->unit].conv, s->stream, extra, &input, dy,
                                                 accumulate, dw, temporary(s, node->workspace));
    }
    case TRINE__NODE_CONV_DATA:
        return run_conv_data(s, node, g);
    case TRINE__NODE_SUBSAMPLE_BACKWARD: {
        const trine__block *b = &s->net->spec.blocks[node->unit];
        return trine_subsample_backward(s->elementwise, s->stream, dy, b->stride,
                                        (b->out_channels - b->in_channels) / 2, 0, dx);
    }
    case TRINE__NODE_MAX_POOL_BACKWARD:
        return trine_pool2d_backward(s->max_pool, s->stream, dy, extra->buffer, dx);
    default:
        return trine__fail(TRINE_ERR_STATE, "session: node %d in the backward pass", (int)node->kind);
    }
}

static trine_status backward(trine_session *s, const trine_tensor *d_embedding, trine_gradients *gradients)
{
    TRINE_CHECK(s->backward, TRINE_ERR_STATE, "session: made without a backward pass");
    TRINE_CHECK(s->batch > 0, TRINE_ERR_STATE, "session: no forward pass to go back from");
    TRINE_CHECK(s->plan_version == s->net->plan_version, TRINE_ERR_STATE,
                "session: the network's policies changed between the forward and the backward pass");
    TRINE_CHECK(s->values_version == s->net->values_version, TRINE_ERR_STATE,
                "session: the network's parameters changed between the forward and the backward pass");
    TRINE_CHECK(s->trains, TRINE_ERR_ARG,
                "nothing that trains is reached by the loss: every parameter up to the embedding is frozen");
    TRINE_CHECK(gradients->count == s->net->parameter_count &&
                    trine_buffer_bytes(gradients->flat) == s->net->flat_count * sizeof(float),
                TRINE_ERR_ARG, "the gradients are of another network");
    const bool scaled = s->net->precision != TRINE_F32;
    for (int i = 0; i < gradients->count; i++)
        TRINE_CHECK(!gradients->reached[i] || gradients->scaled == scaled, TRINE_ERR_STATE,
                    "the gradients are of a pass in another precision: clear them first");
    TRINE_CHECK(d_embedding->buffer, TRINE_ERR_ARG, "session: the embedding's gradient has no buffer");
    const trine_tensor *want = tensor(s, s->d_embedding);
    const trine_shape *a = &d_embedding->shape, *b = &want->shape;
    TRINE_CHECK(a->n == b->n && a->c == b->c && a->h == 1 && a->w == 1 && d_embedding->cb == want->cb &&
                    d_embedding->dtype == TRINE_F32,
                TRINE_ERR_SHAPE,
                "session: gradient is [%d,%d,%d,%d] in blocks of %d as %s, the embedding [%d,%d,1,1] in "
                "blocks of %d as F32",
                a->n, a->c, a->h, a->w, d_embedding->cb, trine_dtype_name(d_embedding->dtype), b->n, b->c,
                want->cb);
    s->values[s->d_embedding].tensor.buffer = d_embedding->buffer;
    s->batch = 0; /* the pass overwrites what it read */
    gradients->scaled = scaled;
    for (size_t i = s->forward_count; i < s->node_count; i++) {
        trine__stream_scope(s->stream, trine__node_scope(s, &s->nodes[i]));
        const trine_status status = run_backward(s, &s->nodes[i], gradients);
        trine__stream_scope(s->stream, NULL);
        TRINE_TRY(status);
    }
    return TRINE_OK;
}

trine_status trine_session_backward(trine_session *s, const trine_tensor *d_embedding,
                                    trine_gradients *gradients)
{
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, s->net, s->stream, "trine_session_backward", TRINE__MAY_NOTHING));
    return trine__guard_end(&guard, backward(s, d_embedding, gradients));
}
