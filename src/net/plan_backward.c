/* SPDX-License-Identifier: MIT */
/* Plans the backward pass of a session. What a BatchNorm without a residual has put out is not kept for it: the
 * mask comes from the BatchNorm's input, and a filter gradient's input is made from it once more, unless it
 * normalises what it reads. With checkpoint, the inputs of BatchNorms are not kept either: a block's convolutions
 * run once more. */
#include "net/plan.h"
#include "op/conv2d_made.h"

/* The input of a unit's convolution, for its filter gradient: as it is, or made again from what is kept. */
static trine_status input_again(trine_session *s, int x, int *out)
{
    *out = x;
    for (int i = 0; i < s->net->spec.unit_count; i++) {
        trine__session_unit *u = &s->units[i];
        if (!u->planned || !u->y_again || u->y != x) continue;
        if (u->y_copy < 0) {
            TRINE_TRY(trine__plan_like(s, x, &u->y_copy));
            TRINE_TRY(trine__plan_node(s, (trine__node){.kind = TRINE__NODE_BN,
                                                        .unit = i,
                                                        .in = u->z,
                                                        .out = u->y_copy,
                                                        .extra = TRINE__NO_VALUE}));
        }
        *out = u->y_copy;
    }
    return TRINE_OK;
}

/* A unit's convolution once more, from `x`; with `wanted`, what comes after it, too. Statistics are those that the
 * forward pass has saved. */
static trine_status unit_again(trine_session *s, int unit, int x, bool wanted)
{
    trine__session_unit *u = &s->units[unit];
    const int kept = u->y;
    u->x = x;
    if (u->fused && !wanted) return TRINE_OK;
    if (wanted) {
        TRINE_TRY(trine__plan_like(s, kept, &u->y));
        s->values[u->y].requires_grad = s->values[kept].requires_grad;
    }
    u->z = u->y;
    if (!u->fused && u->grads) TRINE_TRY(trine__plan_like(s, u->y, &u->z));
    u->y_again = u->z != u->y && u->residual < 0;
    TRINE_TRY(trine__plan_node(
        s, (trine__node){
               .kind = TRINE__NODE_CONV, .unit = unit, .in = x, .out = u->z, .extra = TRINE__NO_VALUE}));
    if (u->fused || !wanted) return TRINE_OK;
    return trine__plan_node(
        s, (trine__node){
               .kind = TRINE__NODE_BN, .unit = unit, .in = u->z, .out = u->y, .extra = TRINE__NO_VALUE});
}

/* What the backward pass of a block reads, from the block's input. Its output is kept: the next block's input. */
static trine_status block_again(trine_session *s, int index)
{
    const trine__block *b = &s->net->spec.blocks[index];
    const int last = b->first + b->count - 1, x = s->units[b->first].x;
    if (b->projection >= 0 && s->units[b->projection].grads)
        TRINE_TRY(unit_again(s, b->projection, x, false));
    if (!s->units[last].grads) return TRINE_OK; /* nothing on the way trains */
    for (int i = b->first, current = x; i <= last; i++) {
        TRINE_TRY(unit_again(s, i, current, i < last));
        current = s->units[i].y;
    }
    return TRINE_OK;
}

/* The gradient of a unit's input. */
static trine_status unit_data(trine_session *s, int unit, int dz, int target, int *dx)
{
    *dx = target;
    if (target < 0) TRINE_TRY(trine__plan_like(s, s->units[unit].x, dx));
    return trine__plan_node(s, (trine__node){.kind = TRINE__NODE_CONV_DATA,
                                             .unit = unit,
                                             .in = dz,
                                             .out = *dx,
                                             .extra = TRINE__NO_VALUE,
                                             .accumulate = target >= 0});
}

/* Gradients of one unit. `dy` is overwritten: with the masked gradient if keep_dy, with dz otherwise. *dx is
 * the gradient of the unit's input: `target` (added to) where given, a new value otherwise, none where
 * nothing upstream trains. */
static trine_status backward_unit(trine_session *s, int unit, int dy, bool keep_dy, int target, int *dx)
{
    const trine__session_unit *u = &s->units[unit];
    const bool data = trine__requires_grad(s, u->x), need_dz = data || u->conv_trains;
    int dz = TRINE__NO_VALUE;
    *dx = TRINE__NO_VALUE;
    if (need_dz) {
        dz = dy;
        if (keep_dy) TRINE_TRY(trine__plan_like(s, dy, &dz));
    }
    if (need_dz || u->affine_trains || (keep_dy && u->relu))
        TRINE_TRY(trine__plan_node(s, (trine__node){.kind = TRINE__NODE_BN_BACKWARD,
                                                    .unit = unit,
                                                    .in = dy,
                                                    .out = dz,
                                                    .extra = TRINE__NO_VALUE}));
    /* a convolution that can make dz comes first */
    const bool data_first = data && trine__conv2d_can_make(u->conv, TRINE_BACKWARD_DATA, s->shape.n);
    if (data_first) TRINE_TRY(unit_data(s, unit, dz, target, dx));
    if (u->conv_trains) {
        int x = trine__unit_input(s, u);
        if (u->source < 0) TRINE_TRY(input_again(s, u->x, &x));
        TRINE_TRY(trine__plan_node(s, (trine__node){.kind = TRINE__NODE_CONV_WEIGHTS,
                                                    .unit = unit,
                                                    .in = dz,
                                                    .out = TRINE__NO_VALUE,
                                                    .extra = x}));
    }
    return data && !data_first ? unit_data(s, unit, dz, target, dx) : TRINE_OK;
}

/* What the backward pass reads after block `index`, early enough for the block's last data gradient to make the sums of the BatchNorm that comes next,
 * as it does without checkpoints. After a pooling there is nothing that it could make. */
static trine_status again_before(trine_session *s, int index)
{
    if (index > 0) return block_again(s, index - 1);
    return s->net->spec.stem_pool ? TRINE_OK : unit_again(s, 0, s->input, false);
}

/* Gradient of the block's input, from the gradient of its output (overwritten). With checkpoints the block has run again. */
static trine_status backward_block(trine_session *s, int index, int dy, int *dx)
{
    const trine__block *b = &s->net->spec.blocks[index];
    const int last = b->first + b->count - 1, x = s->units[b->first].x, shortcut = s->units[last].residual;
    const bool keep = trine__requires_grad(s, shortcut);
    int current, target = TRINE__NO_VALUE;
    TRINE_TRY(backward_unit(s, last, dy, keep, TRINE__NO_VALUE, &current));
    for (int i = last - 1; i > b->first && current >= 0; i--)
        TRINE_TRY(backward_unit(s, i, current, false, TRINE__NO_VALUE, &current));
    if (keep && b->projection >= 0) {
        TRINE_TRY(backward_unit(s, b->projection, dy, false, TRINE__NO_VALUE, &target));
    } else if (keep && shortcut != x) {
        TRINE_TRY(trine__plan_like(s, x, &target));
        TRINE_TRY(trine__plan_node(s, (trine__node){.kind = TRINE__NODE_SUBSAMPLE_BACKWARD,
                                                    .unit = index,
                                                    .in = dy,
                                                    .out = target,
                                                    .extra = TRINE__NO_VALUE}));
    } else if (keep) {
        target = dy;
    }
    *dx = target;
    if (s->checkpoint && trine__requires_grad(s, x)) TRINE_TRY(again_before(s, index));
    return current >= 0 ? backward_unit(s, b->first, current, false, target, dx) : TRINE_OK;
}

static trine_status backward_head(trine_session *s, int *dy)
{
    const trine_resnet *net = s->net;
    *dy = TRINE__NO_VALUE;
    TRINE_TRY(trine__plan_like(s, s->embedding == TRINE_EMBED_FC ? s->logits : s->features, &s->d_embedding));
    s->values[s->d_embedding].external = true;
    int d_features = s->d_embedding;
    if (net->precision != TRINE_F32) {
        TRINE_TRY(trine__plan_like(s, s->d_embedding, &d_features));
        TRINE_TRY(trine__plan_node(s, (trine__node){.kind = TRINE__NODE_LOSS_SCALE,
                                                    .in = s->d_embedding,
                                                    .out = d_features,
                                                    .extra = TRINE__NO_VALUE}));
    }
    if (s->embedding == TRINE_EMBED_FC) {
        const int d_logits = d_features;
        if (net->params[TRINE__FC_WEIGHT].trainable || net->params[TRINE__FC_BIAS].trainable)
            TRINE_TRY(trine__plan_node(s, (trine__node){.kind = TRINE__NODE_FC_WEIGHTS,
                                                        .in = d_logits,
                                                        .out = TRINE__NO_VALUE,
                                                        .extra = s->features}));
        if (!trine__requires_grad(s, s->features)) return TRINE_OK;
        TRINE_TRY(trine__plan_like(s, s->features, &d_features));
        TRINE_TRY(trine__plan_node(s, (trine__node){.kind = TRINE__NODE_FC_DATA,
                                                    .in = d_logits,
                                                    .out = d_features,
                                                    .extra = TRINE__NO_VALUE}));
    }
    if (!trine__requires_grad(s, s->features)) return TRINE_OK;
    const trine__block *b = &net->spec.blocks[net->spec.block_count - 1];
    TRINE_TRY(trine__plan_like(s, s->units[b->first + b->count - 1].y, dy));
    return trine__plan_node(s, (trine__node){.kind = TRINE__NODE_GLOBAL_POOL_BACKWARD,
                                             .in = d_features,
                                             .out = *dy,
                                             .extra = TRINE__NO_VALUE});
}

trine_status trine__plan_backward(trine_session *s)
{
    int dy;
    TRINE_TRY(backward_head(s, &dy));
    if (s->checkpoint && dy >= 0) TRINE_TRY(block_again(s, s->net->spec.block_count - 1));
    for (int i = s->net->spec.block_count - 1; dy >= 0 && i >= 0; i--)
        TRINE_TRY(backward_block(s, i, dy, &dy));
    if (dy < 0) return TRINE_OK; /* nothing before this point trains */
    const int stem = s->units[0].y;
    int current = dy;
    if (s->net->spec.stem_pool) {
        TRINE_TRY(trine__plan_like(s, stem, &current));
        TRINE_TRY(trine__plan_node(
            s, (trine__node){
                   .kind = TRINE__NODE_MAX_POOL_BACKWARD, .in = dy, .out = current, .extra = s->pool_index}));
    }
    if (s->checkpoint && s->net->spec.stem_pool) TRINE_TRY(unit_again(s, 0, s->input, false));
    return backward_unit(s, 0, current, false, TRINE__NO_VALUE, &current);
}
