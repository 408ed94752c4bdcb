/* SPDX-License-Identifier: MIT */
/* The memory of a session: one arena for activations, for the temporary memory of each node while it runs, and for weights that are
 * prepared anew for every use; buffers for those that stay prepared, as many as a modest amount of memory holds. */
#include "net/arena.h"
#include "net/plan.h"
#include "op/batchnorm_sums.h"

enum {
    SMALL_BYTES = 4 << 20,    /* of prepared weights that always stay */
    MODEST_BYTES = 184 << 20, /* of parameters, arena and prepared weights: large ones stay up to it */
    PRODUCTS_PER_BYTE = 32 /* multiply-adds that outweigh preparing a byte: up to a quarter of their time */
};

static double multiply_adds(const trine_session *s, int unit)
{
    const trine__unit *spec = &s->net->spec.units[unit];
    const trine_shape *y = &s->values[s->units[unit].y].tensor.shape;
    const double per_value = (double)spec->kernel * spec->kernel * spec->in_channels / spec->groups;
    return per_value * y->n * y->c * y->h * y->w;
}

/* Of prepared weights that may yet stay; 0: none. Those that train change with every step. */
static size_t keepable_bytes(const trine__session_unit *u, int direction)
{
    return !u->planned || u->conv_trains || u->prepared[direction]
               ? 0
               : trine_conv2d_prepared_bytes(u->conv, (trine_direction)direction);
}

/* Large ones are not always worth their memory: not where a batch's products outweigh preparing them. */
static bool always_stays(const trine_session *s, int unit, size_t bytes)
{
    return bytes <= SMALL_BYTES || multiply_adds(s, unit) < PRODUCTS_PER_BYTE * (double)bytes;
}

static trine_status create_prepared(trine_session *s, size_t *kept)
{
    for (int i = 0; i < s->net->spec.unit_count; i++)
        for (int d = 0; d < (int)TRINE_COUNTOF(s->units->prepared); d++) {
            const size_t bytes = keepable_bytes(&s->units[i], d);
            if (bytes == 0 || !always_stays(s, i, bytes)) continue;
            TRINE_TRY(
                trine__buffer_set_create(&s->buffers, s->net->context, bytes, &s->units[i].prepared[d]));
            *kept += bytes;
        }
    return TRINE_OK;
}

/* Among those that do not stay yet the one that takes least memory; NULL: there is none. */
static trine_buffer **smallest_left(trine_session *s, size_t *bytes)
{
    trine_buffer **smallest = NULL;
    for (int i = 0; i < s->net->spec.unit_count; i++)
        for (int d = 0; d < (int)TRINE_COUNTOF(s->units->prepared); d++) {
            const size_t own = keepable_bytes(&s->units[i], d);
            if (own == 0 || (smallest && own >= *bytes)) continue;
            smallest = &s->units[i].prepared[d];
            *bytes = own;
        }
    return smallest;
}

/* The rest, as far as the whole, `taken` up to now, stays modest. The arena, whose size decides it, has room for them all the same. */
static trine_status create_prepared_more(trine_session *s, size_t taken)
{
    size_t bytes = 0;
    for (trine_buffer **next; (next = smallest_left(s, &bytes)) && taken + bytes <= MODEST_BYTES;
         taken += bytes)
        TRINE_TRY(trine__buffer_set_create(&s->buffers, s->net->context, bytes, next));
    return TRINE_OK;
}

static size_t batchnorm_bytes(const trine_session *s, const trine__session_unit *u)
{
    const bool sums = u->mode.batch || u->affine_trains;
    return sums ? trine_batchnorm_partial_bytes(u->bn, &s->values[u->y].tensor.shape) : 0;
}

/* Temporary memory of a node. */
static size_t workspace_bytes(const trine_session *s, const trine__node *node)
{
    const trine__session_unit *u = &s->units[node->unit];
    const int n = s->shape.n;
    switch (node->kind) {
    case TRINE__NODE_CONV:
        return trine_conv2d_workspace_bytes(u->conv, TRINE_FORWARD, n);
    case TRINE__NODE_CONV_DATA:
        return trine_conv2d_workspace_bytes(u->conv, TRINE_BACKWARD_DATA, n);
    case TRINE__NODE_CONV_WEIGHTS:
        return trine_conv2d_workspace_bytes(u->conv, TRINE_BACKWARD_WEIGHTS, n);
    case TRINE__NODE_BN_BACKWARD:
        return node->summed_by >= 0 ? 0 : batchnorm_bytes(s, u); /* the sums come from elsewhere */
    case TRINE__NODE_FC:
    case TRINE__NODE_FC_WEIGHTS:
    case TRINE__NODE_FC_DATA:
        return trine_linear_workspace_bytes(s->fc, s->stream, n);
    default:
        return 0;
    }
}

/* Bytes of the weights that a node prepares for itself. */
static size_t prepared_bytes(const trine_session *s, const trine__node *node)
{
    if (node->kind != TRINE__NODE_CONV && node->kind != TRINE__NODE_CONV_DATA) return 0;
    const trine__session_unit *u = &s->units[node->unit];
    const trine_direction direction = node->kind == TRINE__NODE_CONV ? TRINE_FORWARD : TRINE_BACKWARD_DATA;
    return u->prepared[direction] ? 0 : trine_conv2d_prepared_bytes(u->conv, direction);
}

/* `bytes` that live from node i to node `last` only. */
static trine_status add_temporary(trine_session *s, size_t i, size_t last, size_t bytes, int *value)
{
    if (bytes == 0) return TRINE_OK;
    void *items = s->values;
    TRINE_TRY(trine__reserve(&items, &s->value_capacity, s->value_count + 1, sizeof *s->values));
    s->values = items;
    s->values[s->value_count] = (trine__value){.bytes = bytes, .first = (int)i, .last = (int)last};
    *value = (int)s->value_count++;
    return TRINE_OK;
}

static trine_status add_temporaries(trine_session *s)
{
    for (size_t i = 0; i < s->node_count; i++) {
        trine__node *node = &s->nodes[i];
        TRINE_TRY(add_temporary(s, i, i, workspace_bytes(s, node), &node->workspace));
        TRINE_TRY(add_temporary(s, i, i, prepared_bytes(s, node), &node->prepared));
        if (node->sum_parts > 0) {
            trine__node *reader = &s->nodes[node->sums_at];
            TRINE_TRY(add_temporary(s, i, (size_t)node->sums_at,
                                    trine__batchnorm_sums_bytes(s->units[reader->unit].bn, node->sum_parts),
                                    &node->partials));
            reader->partials = node->partials;
        }
        if (i >= s->forward_count || node->kind != TRINE__NODE_CONV || !s->units[node->unit].mode.batch)
            continue;
        TRINE_TRY(add_temporary(s, i, i + 1, batchnorm_bytes(s, &s->units[node->unit]), &node->partials));
        s->nodes[i + 1].partials = node->partials;
    }
    return TRINE_OK;
}

/* The sum of a block is written over the residual where nobody reads that again: epilogues and BatchNorm read an element
 * of it and write the same one. */
static void place_sums(trine_session *s)
{
    for (size_t i = 0; i < s->node_count; i++) {
        const trine__node *node = &s->nodes[i];
        if ((node->kind != TRINE__NODE_CONV && node->kind != TRINE__NODE_BN) || node->extra < 0) continue;
        trine__value *residual = &s->values[node->extra], *y = &s->values[node->out];
        const int last = (int)i + (node->later ? 1 : 0); /* reads both */
        if (residual->last == last && y->first == (int)i && !residual->external &&
            residual->bytes == y->bytes && residual < y)
            y->over = residual;
    }
}

/* One buffer, or several where the device does not allocate so much at once; and every value's view. */
static trine_status create_arena(trine_session *s)
{
    trine_context *ctx = s->net->context;
    const size_t alignment = ctx->caps.alignment, limit = ctx->caps.max_allocation / alignment * alignment;
    TRINE_TRY(trine__arena_place(s->values, s->value_count, alignment, limit, &s->bytes));
    trine_buffer *part = NULL;
    for (size_t start = 0; start < s->bytes; start += limit) {
        const size_t size = s->bytes - start < limit ? s->bytes - start : limit;
        TRINE_TRY(trine__buffer_set_create(&s->buffers, ctx, size, &part));
        for (size_t i = 0; i < s->value_count; i++) {
            trine__value *v = &s->values[i];
            if (v->external || v->last < 0 || v->offset / limit != start / limit) continue;
            TRINE_TRY(
                trine__buffer_set_view(&s->buffers, part, v->offset - start, v->bytes, &v->tensor.buffer));
        }
    }
    return TRINE_OK;
}

trine_status trine__plan_memory(trine_session *s)
{
    size_t kept = 0;
    TRINE_TRY(create_prepared(s, &kept));
    TRINE_TRY(add_temporaries(s));
    place_sums(s);
    TRINE_TRY(create_arena(s));
    return create_prepared_more(s, kept + s->bytes + (size_t)s->net->flat_count * sizeof(float));
}
