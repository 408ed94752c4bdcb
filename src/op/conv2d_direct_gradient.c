/* SPDX-License-Identifier: MIT */
/* The direct convolution's filter gradient: register tiles of input channels, partial sums over parts of the batch where the layer
 * alone leaves the device short of work. */
#include <stdio.h>

#include "op/conv2d_direct.h"

enum {
    MOST_BLOCKS = 16, /* of CB channels of a work-item, either side */
    SUMS_PART = 8,    /* of local memory, as which CPUs report a core's own cache, for a work-item's sums */
    SPLIT_COST =
        8, /* reads that a partial sum takes as long as: written, read and added up in another launch */
    NOMINAL_BATCH = 8 /* for which a cut is chosen, so that a smaller batch never takes more memory */
};

/* Blocks of channels that lie side by side in dw where it is laid out as the partial sums; 0 where it is not. */
static int result_blocks(const trine_conv2d *op, const trine__direct *s)
{
    const int block = s->side.kv * s->side.cb, blocks = op->desc.weight_kb / block;
    return blocks >= 1 && (blocks == 1 || !s->side.grouped) && trine__direct_in_place(op, s, blocks * block)
               ? blocks
               : 0;
}

/* Parts that input channels are taken in, and pixels in flight where a part is too small to hide the
 * multiply-add's latency. */
static void weight_gradient_tile(const trine_context *ctx, const trine__direct_sides *s, int values,
                                 int *parts, int *pixels)
{
    const int per_channel = trine__direct_registers(ctx, s);
    int ct = (ctx->caps.vector_registers - per_channel - 1) / per_channel;
    if (ct > values) ct = values;
    *parts = trine__ceil_div(values, ct < 1 ? 1 : ct);
    ct = trine__ceil_div(values, *parts);
    int px = 1;
    while (ct * per_channel * px * 2 <= ctx->caps.vector_registers / 2) px *= 2;
    *pixels = px;
}

trine_status trine__direct_gradient_create(trine_conv2d *op, trine__direct *s, int values)
{
    char options[160];
    const trine__direct_sides *side = &s->side;
    const int side_by_side = result_blocks(op, s);
    if (side->grouped) {
        TRINE_TRY(trine__grouped_create(op, TRINE_BACKWARD_WEIGHTS, s));
    } else {
        int parts, pixels;
        weight_gradient_tile(op->context, side, values, &parts, &pixels);
        snprintf(options, sizeof options,
                 "-DCB=%d -DCBI=%d -DXS=%d -DKV=%d -DOKV=%d -DPARTS=%d -DPX=%d -DST=%d", side->cb, values,
                 side->cbi, side->kv, side_by_side ? side_by_side : 1, parts, pixels, s->step);
        TRINE_TRY(trine__kernel_create(op->context, "conv2d_direct_backward_weights", options, &s->kernel));
    }
    return trine__kernel_create(op->context, side_by_side ? "conv2d_add_splits" : "conv2d_unpack",
                                side_by_side ? "" : trine__conv2d_weight_options(op).text, &s->pack);
}

/* How the filter gradient is shared out. */
typedef struct weight_cut {
    int splits;                    /* parts of the batch that get partial sums of their own */
    int c_count, k_count, t_count; /* blocks of channels, and taps, of a work-item */
} weight_cut;

/* Work-items of a part of the batch. */
static int items_of(const trine__direct *s, const weight_cut *cut)
{
    return trine__ceil_div(s->tap_count, cut->t_count) * s->side.groups *
           trine__ceil_div(s->side.group_in, cut->c_count) * trine__ceil_div(s->side.group_kb, cut->k_count);
}

/* Floats that a batch's work-items read of x and dy, and write and read again of partial sums. */
static double traffic(const trine_conv2d *op, const trine__direct *s, const weight_cut *cut)
{
    const trine__direct_sides *side = &s->side;
    const double pixels = (double)op->p * op->q, image = (double)trine__arrangement_floats(&s->in),
                 taps = cut->t_count * pixels * side->cbi * s->step,
                 t_items = trine__ceil_div(s->tap_count, cut->t_count);
    const double x = trine__ceil_div(side->group_kb, cut->k_count) * side->group_in *
                     (taps < image ? taps : image),
                 dy = trine__ceil_div(side->group_in, cut->c_count) * side->group_kb *
                      (side->kv * side->cb * pixels);
    return NOMINAL_BATCH * side->groups * t_items * (x + dy) +
           (cut->splits > 1 ? SPLIT_COST * cut->splits * (double)s->packed_count : 0.0);
}

/* The blocks that read least, of those whose sums a core's own cache holds and which leave every core busy, with parts of the batch
 * where the layer alone does not. */
static weight_cut cut_weights(const trine_conv2d *op, const trine__direct *s, int n)
{
    const trine__direct_sides *side = &s->side;
    const trine__caps *caps = &op->context->caps;
    const int wanted = caps->compute_units * TRINE__DIRECT_ITEMS_PER_UNIT;
    if (side->grouped) {
        const int splits = trine__ceil_div(wanted, side->groups * side->group_kb);
        return (weight_cut){splits < n ? splits : n, 1, 1, 1};
    }
    weight_cut best = {.c_count = 1, .k_count = 1, .t_count = 1};
    best.splits = trine__ceil_div(wanted, items_of(s, &best));
    if (best.splits > n) best.splits = n;
    double least = traffic(op, s, &best);
    const size_t sums =
        s->packed_count / (size_t)(side->groups * side->group_in * side->group_kb * s->tap_count);
    for (int c = 1; c <= MOST_BLOCKS && c < 2 * side->group_in; c *= 2)
        for (int k = 1; k * side->kv <= MOST_BLOCKS && k < 2 * side->group_kb; k *= 2)
            for (int parts = 1; parts <= s->tap_count; parts++) {
                weight_cut cut = {0, c, k, trine__ceil_div(s->tap_count, parts)};
                cut.splits = trine__ceil_div(wanted, items_of(s, &cut));
                const double cost = traffic(op, s, &cut);
                if (cut.splits > n || cost >= least ||
                    (size_t)(c * k * cut.t_count) * sums * sizeof(float) > caps->local_bytes / SUMS_PART)
                    continue;
                best = cut;
                least = cost;
            }
    return best;
}

size_t trine__direct_partial_count(const trine_conv2d *op, const trine__direct *s, int n)
{
    const int splits = cut_weights(op, s, n).splits;
    return splits == 1 && result_blocks(op, s) ? 0 : s->packed_count * (size_t)splits;
}

/* Arguments of conv2d_add_splits are conv2d_unpack's without the packing's description. */
static trine_status add_splits(trine_stream *stream, const trine__direct *s, trine__arg *args,
                               const int more[3])
{
    for (int i = 0; i < 3; i++) args[2 + i] = trine__arg_i32(more[i]);
    return trine__launch(stream, s->pack, args, 5, trine__grid_lines(s->packed_count, 1, 1, TRINE__LOCAL),
                         trine__direction_name(TRINE_BACKWARD_WEIGHTS));
}

/* Partial sums, or dw itself, into `to`. */
static trine_status launch_partial(trine_conv2d *op, trine_stream *stream, const trine__direct *s,
                                   const trine__conv2d_call *call, const weight_cut *cut, trine_buffer *to,
                                   int beta)
{
    const trine__direct_sides *side = &s->side;
    const int n = call->x->shape.n;
    const size_t x_at = s->arrange ? trine__direct_partial_count(op, s, n) : 0;
    const bool one_row = s->in.width == op->q * s->step; /* nothing between the rows */
    const int p = one_row ? 1 : op->p, q = one_row ? op->p * op->q : op->q;
    const char *label = trine__direction_name(TRINE_BACKWARD_WEIGHTS);
    if (s->arrange)
        TRINE_TRY(trine__arrange(stream, s->arrange, &s->in, call->x, call->workspace, x_at, label));
    const trine__arg args[] = {s->arrange ? trine__arg_buffer(call->workspace) : trine__arg_tensor(call->x),
                               trine__arg_tensor(call->dy),
                               trine__arg_buffer(to),
                               trine__arg_buffer(s->table),
                               trine__arg_i32((int)x_at),
                               trine__arg_i32((int)trine__arrangement_floats(&s->in)),
                               trine__arg_i32(s->in.width * s->in.values),
                               trine__arg_i32(n),
                               trine__arg_i32(p),
                               trine__arg_i32(q),
                               trine__arg_i32(side->in_blocks),
                               trine__arg_i32(side->group_in),
                               trine__arg_i32(side->out_blocks),
                               trine__arg_i32(side->group_kb),
                               trine__arg_i32(s->tap_count),
                               trine__arg_i32(trine__ceil_div(TRINE__DIRECT_PIXELS_PER_ITEM, q)),
                               trine__arg_i32(2 * TRINE__DIRECT_PIXELS_PER_ITEM),
                               trine__arg_i32(cut->c_count),
                               trine__arg_i32(cut->k_count),
                               trine__arg_i32(cut->t_count),
                               trine__arg_i32(beta)};
    const size_t c_items = (size_t)trine__ceil_div(side->group_in, cut->c_count),
                 t_items = (size_t)trine__ceil_div(s->tap_count, cut->t_count),
                 k_items = (size_t)(side->groups * trine__ceil_div(side->group_kb, cut->k_count));
    return trine__launch(stream, s->kernel, args, TRINE_COUNTOF(args),
                         trine__grid_tiles(c_items * t_items, k_items, (size_t)cut->splits), label);
}

trine_status trine__direct_gradient_enqueue(trine_conv2d *op, trine_stream *stream, const trine__direct *s,
                                            const trine__conv2d_call *call)
{
    const weight_cut cut = cut_weights(op, s, call->x->shape.n);
    const bool in_place = result_blocks(op, s) != 0, at_once = in_place && cut.splits == 1;
    trine_buffer *to = at_once ? call->dw : call->workspace;
    const int beta = at_once && call->beta;
    if (s->side.grouped)
        TRINE_TRY(trine__grouped_launch_gradient(stream, s, op, call, to, cut.splits, beta));
    else
        TRINE_TRY(launch_partial(op, stream, s, call, &cut, to, beta));
    if (at_once) return TRINE_OK;
    trine__arg unpack[16] = {trine__arg_buffer(call->workspace), trine__arg_buffer(call->dw)};
    const int more[] = {cut.splits, (int)s->packed_count, call->beta};
    if (in_place) return add_splits(stream, s, unpack, more);
    return trine__direct_launch_packing(op, stream, s, unpack, more, TRINE_COUNTOF(more),
                                        trine__direction_name(TRINE_BACKWARD_WEIGHTS));
}
