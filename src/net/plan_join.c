/* SPDX-License-Identifier: MIT */
/* Work that a plan's nodes take off each other, because each pass of a BatchNorm waits for memory: a data gradient masks what it writes and sums it
 * up for the backward pass of the BatchNorm that reads it next; a convolution makes what it reads, as the last pass of
 * the BatchNorm right before it would. */
#include "net/plan.h"
#include "op/conv2d_made.h"

static bool sums_up(const trine__session_unit *u)
{
    return u->mode.batch || u->affine_trains;
}

/* The BatchNorm's backward pass that alone reads what data gradient i has written, if what it makes its sums from is there by then; or i. */
static size_t reader_of(const trine_session *s, size_t i)
{
    const int dx = s->nodes[i].out;
    size_t j = i + 1;
    while (j < s->node_count && s->nodes[j].in != dx && s->nodes[j].out != dx && s->nodes[j].extra != dx) j++;
    if (j == s->node_count || s->nodes[j].kind != TRINE__NODE_BN_BACKWARD || s->nodes[j].in != dx) return i;
    const trine__session_unit *u = &s->units[s->nodes[j].unit];
    return sums_up(u) && s->values[u->z].first < (int)i ? j : i;
}

static trine_status join_sums(trine_session *s, size_t i)
{
    trine__node *node = &s->nodes[i];
    const size_t j = node->kind == TRINE__NODE_CONV_DATA ? reader_of(s, i) : i;
    if (j == i) return TRINE_OK;
    TRINE_TRY(
        trine__conv2d_sums_create(s->units[node->unit].conv, s->shape.n, node[-1].later, &node->sum_parts));
    if (node->sum_parts == 0) return TRINE_OK;
    node->sums_at = (int)j;
    s->nodes[j].summed_by = (int)i;
    return TRINE_OK;
}

/* Can BatchNorm node i leave its last pass to others? */
static bool can_leave(const trine__session_unit *u, const trine__node *node)
{
    if (node->out < 0) return false;
    if (node->kind == TRINE__NODE_BN) return true;
    const bool masked = !u->relu || !u->y_again || node->summed_by >= 0; /* in dy, before the last pass */
    return node->kind == TRINE__NODE_BN_BACKWARD && sums_up(u) && masked;
}

/* What node i would have read has to stay for the next one. */
static void keep(trine_session *s, int value, size_t i)
{
    if (value >= 0 && s->values[value].last <= (int)i) s->values[value].last = (int)i + 1;
}

static trine_status join_last_pass(trine_session *s, size_t i)
{
    trine__node *node = &s->nodes[i];
    const trine__node *next = node + 1;
    if (i + 1 >= s->node_count || next->in != node->out || !can_leave(&s->units[node->unit], node))
        return TRINE_OK;
    const bool forward = node->kind == TRINE__NODE_BN;
    const trine_direction direction = forward ? TRINE_FORWARD : TRINE_BACKWARD_DATA;
    trine_conv2d *conv = s->units[next->unit].conv;
    if (next->kind != (forward ? TRINE__NODE_CONV : TRINE__NODE_CONV_DATA) ||
        !trine__conv2d_can_make(conv, direction, s->shape.n))
        return TRINE_OK;
    TRINE_TRY(trine__conv2d_make_create(conv, direction));
    node->later = true;
    keep(s, node->in, i);
    keep(s, forward ? node->extra : s->units[node->unit].z, i);
    return TRINE_OK;
}

trine_status trine__plan_join(trine_session *s)
{
    for (size_t i = 0; i < s->node_count; i++) {
        TRINE_TRY(join_sums(s, i));
        TRINE_TRY(join_last_pass(s, i));
    }
    return TRINE_OK;
}
