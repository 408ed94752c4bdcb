/* SPDX-License-Identifier: MIT */
/* Plans a session: which nodes run in which order, what each layer must keep for the backward pass, which
 * operators serve. plan_memory.c finds room for it. */
#include <limits.h>
#include <stdlib.h>

#include "net/plan.h"
#include "op/conv2d_input.h"
#include "rt/tensor.h"

trine_status trine__plan_value(trine_session *s, trine_shape shape, int cb, trine_dtype dtype, int *out)
{
    const trine_tensor tensor = {.shape = shape, .cb = cb, .dtype = dtype};
    TRINE_TRY(trine__tensor_check(&shape, cb));
    void *items = s->values;
    TRINE_TRY(trine__reserve(&items, &s->value_capacity, s->value_count + 1, sizeof *s->values));
    s->values = items;
    s->values[s->value_count] =
        (trine__value){.tensor = tensor, .bytes = trine_tensor_bytes(&tensor), .first = INT_MAX, .last = -1};
    *out = (int)s->value_count++;
    return TRINE_OK;
}

trine_status trine__plan_like(trine_session *s, int value, int *out)
{
    const trine_tensor like = s->values[value].tensor;
    return trine__plan_value(s, like.shape, like.cb, like.dtype, out);
}

static void touch(trine_session *s, int value)
{
    if (value < 0) return;
    trine__value *v = &s->values[value];
    const int now = (int)s->node_count;
    if (now < v->first) v->first = now;
    if (now > v->last) v->last = now;
}

trine_status trine__plan_node(trine_session *s, trine__node node)
{
    void *items = s->nodes;
    TRINE_TRY(trine__reserve(&items, &s->node_capacity, s->node_count + 1, sizeof *s->nodes));
    s->nodes = items;
    node.workspace = node.prepared = node.partials = TRINE__NO_VALUE;
    node.summed_by = TRINE__NO_NODE;
    touch(s, node.in);
    touch(s, node.out);
    touch(s, node.extra);
    if (node.kind == TRINE__NODE_BN_BACKWARD) { /* reads the unit's own values too */
        const trine__session_unit *u = &s->units[node.unit];
        if (!u->fused) touch(s, u->z);
        if (u->relu && !u->y_again) touch(s, u->y);
    }
    s->nodes[s->node_count++] = node;
    return TRINE_OK;
}

/* A unit that reads `x`, as far as that decides how it runs, and its convolution. */
static trine_status begin_unit(trine_session *s, int unit, int x, bool relu)
{
    trine__session_unit *u = &s->units[unit];
    u->planned = true;
    u->y_copy = TRINE__NO_VALUE;
    u->source = TRINE__NO_UNIT;
    u->x = x;
    u->relu = relu;
    u->grads = s->backward && (trine__requires_grad(s, x) || u->conv_trains || u->affine_trains);
    u->fused = !u->mode.batch && !(u->grads && u->affine_trains);
    const trine_tensor *in = &s->values[x].tensor;
    trine_conv2d_desc desc = trine__conv_desc(s->net, unit);
    desc.in_dtype = in->dtype;
    desc.out_dtype = s->net->precision;
    desc.batch = s->shape.n;
    desc.relu = u->fused && u->relu;
    desc.emit_bn_partials = u->mode.batch;
    const unsigned directions = 1u << TRINE_FORWARD | (u->conv_trains ? 1u << TRINE_BACKWARD_WEIGHTS : 0) |
                                (trine__requires_grad(s, x) ? 1u << TRINE_BACKWARD_DATA : 0);
    return trine_conv2d_create(s->net->context, &desc, in->shape.h, in->shape.w, directions, &u->conv);
}

/* Does a unit's convolution normalise what it reads, in every pass that reads it? */
static bool normalises(const trine__session_unit *u)
{
    return trine__conv2d_normalises(u->conv, TRINE_FORWARD) &&
           (!u->conv_trains || trine__conv2d_normalises(u->conv, TRINE_BACKWARD_WEIGHTS));
}

/* Convolution, BatchNorm, residual and ReLU of one unit; *y is its output. `next` is the unit that alone reads it, or TRINE__NO_UNIT: where
 * that one's convolution normalises what it reads, y is never written. */
static trine_status forward_unit(trine_session *s, int unit, int x, int residual, bool relu, int next, int *y)
{
    const trine__unit *spec = &s->net->spec.units[unit];
    trine__session_unit *u = &s->units[unit];
    if (!u->conv)
        TRINE_TRY(begin_unit(s, unit, x, relu)); /* those that have begun are in a block, where all rectify */
    u->residual = residual;
    const trine_shape *in = &s->values[x].tensor.shape;
    const trine_shape shape = {in->n, spec->out_channels,
                               (in->h + 2 * spec->pad - spec->kernel) / spec->stride + 1,
                               (in->w + 2 * spec->pad - spec->kernel) / spec->stride + 1};
    const int cb = trine__trunk_block(s->net->context);
    TRINE_TRY(trine__plan_value(s, shape, cb, s->net->precision, &u->y));
    u->z = u->y;
    if (!u->fused && u->grads && !s->checkpoint) TRINE_TRY(trine__plan_like(s, u->y, &u->z));
    u->y_again = u->z != u->y && residual < 0;
    s->values[u->y].requires_grad = u->grads || trine__requires_grad(s, residual);
    *y = u->y;
    TRINE_TRY(trine__plan_node(s, (trine__node){.kind = TRINE__NODE_CONV,
                                                .unit = unit,
                                                .in = trine__unit_input(s, u),
                                                .out = u->z,
                                                .extra = u->fused ? residual : TRINE__NO_VALUE}));
    if (u->fused) return TRINE_OK;
    int written = u->y;
    if (next >= 0 && u->y_again && relu) {
        TRINE_TRY(begin_unit(s, next, u->y, true));
        if (normalises(&s->units[next])) {
            s->units[next].source = unit;
            written = TRINE__NO_VALUE;
        }
    }
    return trine__plan_node(
        s,
        (trine__node){.kind = TRINE__NODE_BN, .unit = unit, .in = u->z, .out = written, .extra = residual});
}

/* What a block adds to its last convolution: its input, or that projected or subsampled. */
static trine_status forward_shortcut(trine_session *s, int index, int x, int *shortcut)
{
    const trine__block *b = &s->net->spec.blocks[index];
    *shortcut = x;
    if (b->projection >= 0)
        return forward_unit(s, b->projection, x, TRINE__NO_VALUE, false, TRINE__NO_UNIT, shortcut);
    if (b->stride == 1 && b->in_channels == b->out_channels) return TRINE_OK;
    trine_shape shape = s->values[x].tensor.shape;
    shape.c = b->out_channels;
    shape.h = (shape.h - 1) / b->stride + 1;
    shape.w = (shape.w - 1) / b->stride + 1;
    TRINE_TRY(trine__plan_value(s, shape, s->values[x].tensor.cb, s->net->precision, shortcut));
    s->values[*shortcut].requires_grad = trine__requires_grad(s, x);
    return trine__plan_node(s, (trine__node){.kind = TRINE__NODE_SUBSAMPLE,
                                             .unit = index,
                                             .in = x,
                                             .out = *shortcut,
                                             .extra = TRINE__NO_VALUE});
}

/* The shortcut comes as late as it can: what the first convolutions give is mostly smaller. */
static trine_status forward_block(trine_session *s, int index, int x, int *y)
{
    const trine__block *b = &s->net->spec.blocks[index];
    int shortcut = TRINE__NO_VALUE, current = x;
    for (int i = 0; i < b->count; i++) {
        const int unit = b->first + i, next = i < b->count - 1 ? unit + 1 : TRINE__NO_UNIT;
        if (i == b->count - 1) TRINE_TRY(forward_shortcut(s, index, x, &shortcut));
        TRINE_TRY(forward_unit(s, unit, current, shortcut, true, next, &current));
    }
    *y = current;
    return TRINE_OK;
}

static trine_status forward_stem(trine_session *s, int *y)
{
    int current;
    TRINE_TRY(forward_unit(s, 0, s->input, TRINE__NO_VALUE, true, TRINE__NO_UNIT, &current));
    if (s->net->spec.stem_pool) {
        const trine_pool2d_desc desc = {.kind = TRINE_POOL_MAX,
                                        .kernel_h = 3,
                                        .kernel_w = 3,
                                        .stride_h = 2,
                                        .stride_w = 2,
                                        .pad_h = 1,
                                        .pad_w = 1,
                                        .dilation_h = 1,
                                        .dilation_w = 1};
        const trine_shape in = s->values[current].tensor.shape;
        const int cb = s->values[current].tensor.cb, x = current;
        trine_shape shape;
        TRINE_TRY(trine_pool2d_create(s->net->context, &desc, cb, in.h, in.w, &s->max_pool));
        trine_pool2d_output_shape(s->max_pool, in.n, in.c, &shape);
        TRINE_TRY(trine__plan_value(s, shape, cb, s->net->precision, &current));
        s->values[current].requires_grad = trine__requires_grad(s, x);
        if (trine__requires_grad(s, x)) TRINE_TRY(trine__plan_value(s, shape, cb, TRINE_F32, &s->pool_index));
        TRINE_TRY(trine__plan_node(
            s, (trine__node){.kind = TRINE__NODE_MAX_POOL, .in = x, .out = current, .extra = s->pool_index}));
    }
    *y = current;
    return TRINE_OK;
}

static trine_status forward_pool(trine_session *s, int x)
{
    const trine_shape in = s->values[x].tensor.shape;
    const int cb = s->values[x].tensor.cb;
    const trine_pool2d_desc desc = {.kind = TRINE_POOL_ADAPTIVE_AVERAGE, .output_h = 1, .output_w = 1};
    TRINE_TRY(trine_pool2d_create(s->net->context, &desc, cb, in.h, in.w, &s->global_pool));
    TRINE_TRY(trine__plan_value(s, (trine_shape){in.n, in.c, 1, 1}, cb, TRINE_F32, &s->features));
    s->values[s->features].requires_grad = trine__requires_grad(s, x);
    return trine__plan_node(
        s, (trine__node){
               .kind = TRINE__NODE_GLOBAL_POOL, .in = x, .out = s->features, .extra = TRINE__NO_VALUE});
}

static trine_status forward_fc(trine_session *s)
{
    const trine__spec *spec = &s->net->spec;
    const int n = s->values[s->features].tensor.shape.n;
    TRINE_TRY(trine_linear_create(s->net->context, spec->features, spec->outputs, n, NULL, &s->fc));
    TRINE_TRY(trine__plan_value(s, (trine_shape){n, spec->outputs, 1, 1}, 1, TRINE_F32, &s->logits));
    return trine__plan_node(
        s,
        (trine__node){.kind = TRINE__NODE_FC, .in = s->features, .out = s->logits, .extra = TRINE__NO_VALUE});
}

/* What the session takes in and gives out is in single precision; activations between are stored as the network says. */
static trine_status convert(trine_session *s, trine_dtype dtype, int *value)
{
    const trine_tensor from = s->values[*value].tensor;
    const int x = *value;
    if (from.dtype == dtype) return TRINE_OK;
    TRINE_TRY(trine__plan_value(s, from.shape, from.cb, dtype, value));
    return trine__plan_node(
        s, (trine__node){.kind = TRINE__NODE_CONVERT, .in = x, .out = *value, .extra = TRINE__NO_VALUE});
}

/* Everything between the session's positions. */
static trine_status plan_forward(trine_session *s)
{
    const trine_resnet *net = s->net;
    const bool images = s->from == TRINE__AT_IMAGES;
    TRINE_TRY(
        trine__plan_value(s, s->shape, images ? 1 : trine__trunk_block(net->context), TRINE_F32, &s->input));
    s->values[s->input].external = true;
    int current = s->input;
    const int features = trine__position_features(net);
    if (images)
        TRINE_TRY(forward_stem(s, &current));
    else if (s->from < features)
        TRINE_TRY(convert(s, net->precision, &current));
    for (int i = images ? 0 : s->from - TRINE__AT_STEM;
         i < net->spec.block_count && trine__position_after_block(i) <= s->to; i++)
        TRINE_TRY(forward_block(s, i, current, &current));
    if (s->from == features)
        s->features = s->input;
    else if (s->to >= features)
        TRINE_TRY(forward_pool(s, current));
    else
        TRINE_TRY(convert(s, TRINE_F32, &current));
    if (s->to == trine__position_end(net) && (!s->mutable_net || s->embedding == TRINE_EMBED_FC))
        TRINE_TRY(forward_fc(s));
    s->output = s->logits >= 0 ? s->logits : s->features >= 0 ? s->features : current;
    if (s->features >= 0) s->values[s->features].last = INT_MAX;
    s->values[s->output].last = INT_MAX;
    s->forward_count = s->node_count;
    return TRINE_OK;
}

static void resolve_units(trine_session *s)
{
    const trine_resnet *net = s->net;
    for (int i = 0; i < net->spec.unit_count; i++) {
        trine__session_unit *u = &s->units[i];
        u->mode = trine__bn_resolve(net, i);
        if (!s->mutable_net) {
            u->mode.batch = !net->bns[i].tracked;
            u->mode.update = false;
        }
        if (!s->backward) continue;
        u->conv_trains = net->params[trine__conv_parameter(net, i)].trainable;
        u->affine_trains = trine__parameter_trains(net, trine__gamma_parameter(net, i)) ||
                           trine__parameter_trains(net, trine__beta_parameter(net, i));
    }
}

/* Does the loss reach anything in the session's part that trains? */
static bool reaches_trainable(const trine_session *s)
{
    const trine_resnet *net = s->net;
    bool trains = s->embedding == TRINE_EMBED_FC &&
                  (net->params[TRINE__FC_WEIGHT].trainable || net->params[TRINE__FC_BIAS].trainable);
    for (int i = 0; i < net->spec.unit_count; i++)
        trains = trains || (s->units[i].planned && (s->units[i].conv_trains || s->units[i].affine_trains));
    return s->backward && trains;
}

/* What a unit needs beside its convolution. */
static trine_status create_unit(trine_session *s, int unit)
{
    trine_context *ctx = s->net->context;
    const trine__unit *spec = &s->net->spec.units[unit];
    trine__session_unit *u = &s->units[unit];
    TRINE_TRY(trine_batchnorm_create(ctx, spec->out_channels, s->values[u->y].tensor.cb,
                                     s->net->bns[unit].eps, &u->bn));
    const size_t bytes = trine_batchnorm_channel_bytes(u->bn);
    TRINE_TRY(trine__buffer_set_create(&s->buffers, ctx, bytes, &u->saved.mean));
    TRINE_TRY(trine__buffer_set_create(&s->buffers, ctx, bytes, &u->saved.rstd));
    if (!u->fused) return TRINE_OK;
    TRINE_TRY(trine__buffer_set_create(&s->buffers, ctx, bytes, &u->scale));
    return trine__buffer_set_create(&s->buffers, ctx, bytes, &u->shift);
}

trine_status trine__plan_make(trine_session *s)
{
    trine_context *ctx = s->net->context;
    void *p = NULL;
    TRINE_TRY(trine__calloc((size_t)s->net->spec.unit_count, sizeof *s->units, &p));
    s->units = p;
    s->batch = 0;
    s->plan_version = s->net->plan_version;
    resolve_units(s);
    TRINE_TRY(trine_elementwise_create(ctx, &s->elementwise));
    s->input = s->output = s->features = s->logits = s->d_embedding = s->pool_index = TRINE__NO_VALUE;
    TRINE_TRY(plan_forward(s));
    s->trains = reaches_trainable(s);
    if (s->trains) TRINE_TRY(trine__plan_backward(s));
    for (int i = 0; i < s->net->spec.unit_count; i++)
        if (s->units[i].planned) TRINE_TRY(create_unit(s, i));
    TRINE_TRY(trine__plan_join(s));
    return trine__plan_memory(s);
}

void trine__plan_free(trine_session *s)
{
    for (int i = 0; s->units && i < s->net->spec.unit_count; i++) {
        trine_conv2d_destroy(&s->units[i].conv);
        trine_batchnorm_destroy(&s->units[i].bn);
    }
    trine_pool2d_destroy(&s->max_pool);
    trine_pool2d_destroy(&s->global_pool);
    trine_linear_destroy(&s->fc);
    trine_elementwise_destroy(&s->elementwise);
    trine__buffer_set_release(&s->buffers);
    free(s->units);
    free(s->values);
    free(s->nodes);
    s->units = NULL;
    s->values = NULL;
    s->nodes = NULL;
    s->value_count = s->value_capacity = s->node_count = s->node_capacity = s->forward_count = 0;
    s->input = s->output = s->features = s->logits = s->d_embedding = s->pool_index = TRINE__NO_VALUE;
    s->plan_version = 0; /* no network's: the next forward pass plans */
    s->bytes = 0;
    s->batch = 0;
    s->trains = false;
}
