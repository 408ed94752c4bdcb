/* SPDX-License-Identifier: MIT */
/* conv2d by register tiles in channel blocks: forward, backward_data (one launch a phase of the stride) and
 * backward_weights. Tile sizes follow from vector width and register count; one program serves every shape
 * with the same tile, stride and border. */
#include <stdio.h>
#include <stdlib.h>

#include "op/conv2d_private.h"

enum {
    MAX_EDGE = 4,
    MAX_ROW = 16, /* taps of a row that make a pixel's values */
    MAX_PHASES = 16,
    FLAG_RELU = 1,
    FLAG_BETA = 2,
    TILE_PIXELS_PER_ITEM = 64,
    MIN_ITEMS_PER_UNIT = 8,
    WEIGHT_BLOCKS = 4 /* most channel blocks of a filter gradient's work-item, either side */
};

/* Channels as one direction's packed product sees them (cl/conv2d_packing.clh). */
typedef struct sides {
    int out_channels, in_channels, out_per_group, in_per_group;
    int merge, groups;      /* merged groups */
    int group_kb, group_in; /* blocks of KV*CB and CBI in a merged group */
    int kv, cb, cbi;
    int out_blocks, in_blocks;
} sides;

/* Taps of one axis that reach one phase of the result: input = base + j * step_in + t * delta, weight = first
 * + t * step. */
typedef struct axis {
    int count;       /* results of this phase */
    int offset;      /* first result */
    int base, delta; /* in the input */
    int first, step, taps;
} axis;

typedef struct phase {
    axis rows, columns;
} phase;

typedef struct direct_state {
    trine__kernel *kernel, *pack; /* `pack` is conv2d_unpack for backward_weights */
    trine__kernel *pad; /* NCHW images: their rows, padded to `padded` floats in the workspace; or NULL */
    int padded;
    sides side;
    size_t packed_count;  /* floats */
    int tile, edge, step; /* TW, E, IS */
    int phase_count, phase_stride;
    phase phases[MAX_PHASES];
    int in_h, in_w, out_h, out_w; /* images as the kernel sees them (1x1: one row) */
} direct_state;

/* One tap that never lies beyond the border. */
static bool one_tap(const trine_conv2d_desc *d)
{
    return d->kernel_h == 1 && d->kernel_w == 1 && d->pad_h == 0 && d->pad_w == 0;
}

/* A 1x1 convolution of stride 1 sees the image as one row. */
static bool is_pointwise(const trine_conv2d_desc *d)
{
    return one_tap(d) && d->stride_h == 1 && d->stride_w == 1;
}

static bool choose_sides(const trine_conv2d *op, trine_direction direction, sides *s)
{
    const trine_conv2d_desc *d = &op->desc;
    const bool swap = direction == TRINE_BACKWARD_DATA;
    *s = (sides){.out_channels = swap ? d->in_channels : d->out_channels,
                 .in_channels = swap ? d->out_channels : d->in_channels,
                 .cb = swap ? d->in_cb : d->out_cb,
                 .cbi = swap ? d->out_cb : d->in_cb};
    if (s->cb < 4 || (s->cbi != s->cb && (s->cbi != 1 || swap))) return false;
    s->out_per_group = s->out_channels / d->groups;
    s->in_per_group = s->in_channels / d->groups;
    for (s->merge = 1; s->merge < d->groups; s->merge++)
        if (d->groups % s->merge == 0 && s->out_per_group * s->merge % s->cb == 0 &&
            s->in_per_group * s->merge % s->cbi == 0)
            break; /* at `groups` all are one dense group, whose last block may be padded */
    s->groups = d->groups / s->merge;
    const int group_blocks = trine__ceil_div(s->out_per_group * s->merge, s->cb);
    const int vectors =
        op->context->caps.vector_width >= s->cb && direction != TRINE_BACKWARD_WEIGHTS ? 2 : 1;
    s->kv = group_blocks % vectors == 0 ? vectors : 1;
    s->group_kb = group_blocks / s->kv;
    s->group_in = trine__ceil_div(s->in_per_group * s->merge, s->cbi);
    s->out_blocks = trine__ceil_div(s->out_channels, s->cb);
    s->in_blocks = trine__ceil_div(s->in_channels, s->cbi);
    return true;
}

/* Vector registers that one pixel's accumulators take. */
static int registers_per_pixel(const trine_context *ctx, const sides *s)
{
    const int width = ctx->caps.vector_width < 4 ? 4 : ctx->caps.vector_width;
    const int registers = s->kv * s->cb / width;
    return registers < 1 ? 1 : registers;
}

/* The tile of at most `q` pixels with the least estimated time for a row of q: per tile and tap-channel, half
 * a cycle for each accumulator register (two multiply-adds a cycle, latency of four) and one for the loop. */
static int choose_tile(const trine_context *ctx, const sides *s, int q)
{
    const int per_pixel = registers_per_pixel(ctx, s);
    int largest = (ctx->caps.vector_registers - per_pixel - 1) / per_pixel;
    if (largest > q) largest = q;
    int best = 1;
    double best_cost = 1e30;
    for (int tile = largest < 1 ? 1 : largest; tile >= 1; tile--) {
        const double work = 0.5 * tile * per_pixel;
        const double cost = trine__ceil_div(q, tile) * ((work < 4.0 ? 4.0 : work) + 1.0);
        if (cost < best_cost) {
            best = tile;
            best_cost = cost;
        }
    }
    return best;
}

/* Pixels at either end of a row's tiles that some tap may look up beyond the border. */
static int edge_pixels(const axis *a, int step, int width, int tile)
{
    const int reach = (a->taps - 1) * a->delta;
    const int lowest = a->base + (reach < 0 ? reach : 0), highest = a->base + (reach > 0 ? reach : 0);
    const int left = lowest < 0 ? trine__ceil_div(-lowest, step) : 0;
    const int beyond = highest + (a->count - 1) * step - (width - 1);
    const int right = beyond > 0 ? trine__ceil_div(beyond, step) : 0;
    const int edge = left > right ? left : right;
    return edge > tile ? tile : edge;
}

static axis forward_axis(int out, int kernel, int pad, int dilation)
{
    return (axis){.count = out, .base = -pad, .delta = dilation, .step = 1, .taps = kernel};
}

/* Taps r with (offset + pad - r*dilation) divisible by stride form an arithmetic progression. */
static axis backward_axis(int in, int offset, int kernel, int stride, int pad, int dilation)
{
    axis a = {.count = trine__ceil_div(in - offset, stride), .offset = offset, .step = 1};
    for (int r = 0; r < kernel; r++) {
        const int reach = offset + pad - r * dilation;
        if (reach % stride != 0) continue;
        if (a.taps == 0) {
            a.first = r;
            a.base = reach / stride;
        } else if (a.taps == 1) {
            a.step = r - a.first;
        }
        a.taps++;
    }
    a.delta = -(a.step * dilation) / stride;
    return a;
}

static void plan_phases(const trine_conv2d *op, trine_direction direction, direct_state *s)
{
    const trine_conv2d_desc *d = &op->desc;
    const bool flat = is_pointwise(d);
    const int h = flat ? 1 : op->h, w = flat ? op->h * op->w : op->w, p = flat ? 1 : op->p,
              q = flat ? op->p * op->q : op->q;
    if (direction == TRINE_BACKWARD_DATA) {
        s->in_h = p, s->in_w = q, s->out_h = h, s->out_w = w;
        s->step = 1;
        s->phase_stride = d->stride_h;
        for (int y = 0; y < d->stride_h && y < h; y++)
            for (int x = 0; x < d->stride_w && x < w; x++)
                s->phases[s->phase_count++] =
                    (phase){backward_axis(h, y, d->kernel_h, d->stride_h, d->pad_h, d->dilation_h),
                            backward_axis(w, x, d->kernel_w, d->stride_w, d->pad_w, d->dilation_w)};
        return;
    }
    s->in_h = h, s->in_w = w, s->out_h = p, s->out_w = q;
    s->step = d->stride_h;
    s->phase_stride = 1;
    s->phase_count = 1;
    s->phases[0] = (phase){forward_axis(p, d->kernel_h, d->pad_h, d->dilation_h),
                           forward_axis(q, d->kernel_w, d->pad_w, d->dilation_w)};
    if (s->side.cbi == 1 && d->kernel_w > 1 && d->kernel_w <= MAX_ROW && d->dilation_w == 1) {
        s->padded = w + 2 * d->pad_w;
        s->in_w = s->padded;
        s->phases[0].columns = forward_axis(q, 1, 0, 1); /* the taps of a row are a pixel's values */
    }
}

/* Fill in everything but kernels and buffers; false if this implementation does not take the problem. */
static bool plan(const trine_conv2d *op, trine_direction direction, direct_state *s)
{
    const trine_conv2d_desc *d = &op->desc;
    *s = (direct_state){.packed_count = 0};
    if (d->stride_h != d->stride_w || d->stride_h * d->stride_w > MAX_PHASES) return false;
    if (!choose_sides(op, direction, &s->side)) return false;
    plan_phases(op, direction, s);
    const size_t count = (size_t)s->side.groups * (size_t)s->side.group_kb * (size_t)s->side.group_in *
                         (size_t)d->kernel_h * (size_t)d->kernel_w *
                         (size_t)(s->side.cbi * s->side.kv * s->side.cb);
    if (count >= (size_t)1 << 31) return false;
    s->packed_count = count;
    int narrowest = s->phases[0].columns.count;
    for (int i = 1; i < s->phase_count; i++)
        if (s->phases[i].columns.count < narrowest) narrowest = s->phases[i].columns.count;
    s->tile = choose_tile(op->context, &s->side, narrowest);
    for (int i = 0; i < s->phase_count; i++) {
        const int edge = edge_pixels(&s->phases[i].columns, s->step, s->in_w, s->tile);
        if (edge > s->edge) s->edge = edge;
    }
    return s->edge <= MAX_EDGE;
}

static bool supports(const trine_conv2d *op, trine_direction direction)
{
    direct_state s;
    return plan(op, direction, &s);
}

static void destroy(void *state)
{
    direct_state *s = state;
    trine__kernel_destroy(&s->kernel);
    trine__kernel_destroy(&s->pack);
    trine__kernel_destroy(&s->pad);
    free(s);
}

/* Input channels at a time, and pixels in flight where those are too few to hide the multiply-add's latency. */
static void weight_gradient_tile(const trine_context *ctx, const sides *s, int values, int *channels,
                                 int *pixels)
{
    const int per_channel = registers_per_pixel(ctx, s);
    int ct = (ctx->caps.vector_registers - per_channel - 1) / per_channel;
    if (ct > values) ct = values;
    ct = trine__ceil_div(values, trine__ceil_div(values, ct)); /* parts of one size, about */
    if (ct < 1) ct = 1;
    int px = 1;
    while (ct * per_channel * px * 2 <= ctx->caps.vector_registers / 2) px *= 2;
    *channels = ct;
    *pixels = px;
}

static trine_status create_kernels(trine_conv2d *op, trine_direction direction, direct_state *s)
{
    char options[160];
    const sides *side = &s->side;
    if (direction == TRINE_BACKWARD_WEIGHTS) {
        int channels, pixels;
        const int values = s->padded ? op->desc.kernel_w : side->cbi; /* of a pixel */
        weight_gradient_tile(op->context, side, values, &channels, &pixels);
        snprintf(options, sizeof options,
                 "-DCB=%d -DCBI=%d -DXS=%d -DKV=%d -DCT=%d -DPX=%d -DST=%d -DBLOCKS=%d", side->cb, values,
                 side->cbi, side->kv, channels, pixels, s->step, WEIGHT_BLOCKS);
        if (s->padded) TRINE_TRY(trine__kernel_create(op->context, "conv2d_pad_rows", "", &s->pad));
        TRINE_TRY(trine__kernel_create(op->context, "conv2d_direct_backward_weights", options, &s->kernel));
        return trine__kernel_create(op->context, "conv2d_unpack", "", &s->pack);
    }
    snprintf(options, sizeof options, "-DCB=%d -DCBI=%d -DXS=%d -DKV=%d -DTW=%d -DIS=%d -DE=%d%s", side->cb,
             s->padded ? op->desc.kernel_w : side->cbi, side->cbi, side->kv, s->tile, s->step, s->edge,
             one_tap(&op->desc) && s->phase_count == 1 ? " -DPOINTWISE" : "");
    if (s->padded) TRINE_TRY(trine__kernel_create(op->context, "conv2d_pad_rows", "", &s->pad));
    TRINE_TRY(trine__kernel_create(op->context, "conv2d_direct", options, &s->kernel));
    return trine__kernel_create(op->context, "conv2d_pack", "", &s->pack);
}

static trine_status create(trine_conv2d *op, trine_direction direction, void **state)
{
    void *memory = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(direct_state), &memory));
    direct_state *s = memory;
    plan(op, direction, s);
    const trine_status status = create_kernels(op, direction, s);
    if (status != TRINE_OK) {
        destroy(s);
        return status;
    }
    *state = s;
    return TRINE_OK;
}

/* The packing's description, in the order of conv2d_pack's and conv2d_unpack's arguments, behind `args[2]`. */
static trine_status launch_packing(trine_conv2d *op, trine_stream *stream, const direct_state *s,
                                   trine__arg *args, const int *more, size_t more_count, const char *label)
{
    const sides *side = &s->side;
    const int values[] = {side->out_per_group, side->in_per_group, side->merge,
                          side->group_kb,      side->group_in,     op->desc.kernel_h * op->desc.kernel_w,
                          side->kv * side->cb, side->cbi};
    size_t count = 2;
    for (size_t i = 0; i < TRINE_COUNTOF(values); i++) args[count++] = trine__arg_i32(values[i]);
    for (size_t i = 0; i < more_count; i++) args[count++] = trine__arg_i32(more[i]);
    return trine__launch(
        stream, s->pack, args, count,
        trine__grid_tiles((size_t)side->group_in, (size_t)(side->groups * side->group_kb), 1), label);
}

static size_t prepared_bytes(const trine_conv2d *op, trine_direction direction)
{
    return ((const direct_state *)op->state[direction])->packed_count * sizeof(float);
}

static trine_status prepare(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine_buffer *weights, trine_buffer *prepared)
{
    direct_state *s = op->state[direction];
    trine__arg args[16] = {trine__arg_buffer(weights), trine__arg_buffer(prepared)};
    const int transposed = direction == TRINE_BACKWARD_DATA;
    return launch_packing(op, stream, s, args, &transposed, 1, "prepare");
}

/* Tiles that one work-item takes: about a cache-friendly row, fewer where that leaves the device short of
 * work. */
static int tiles_per_item(const trine_context *ctx, int tiles, int tile, size_t others)
{
    int chunk = trine__ceil_div(tiles, trine__ceil_div(tiles * tile, TILE_PIXELS_PER_ITEM));
    const size_t wanted = (size_t)ctx->caps.compute_units * MIN_ITEMS_PER_UNIT;
    while (chunk > 1 && others * (size_t)trine__ceil_div(tiles, chunk) < wanted) chunk = (chunk + 1) / 2;
    return chunk;
}

static trine_status launch_phase(trine_conv2d *op, trine_stream *stream, const direct_state *s,
                                 const phase *f, const trine_tensor *in, const trine__conv2d_call *call,
                                 int flags)
{
    const sides *side = &s->side;
    const axis *r = &f->rows, *c = &f->columns;
    const int row_taps = s->padded ? 1 : op->desc.kernel_w, taps = op->desc.kernel_h * row_taps;
    const int tiles = trine__ceil_div(c->count, s->tile);
    const size_t blocks = (size_t)(side->groups * side->group_kb), batch = (size_t)in->shape.n;
    const int chunk = tiles_per_item(op->context, tiles, s->tile, (size_t)r->count * blocks * batch);
    const trine_conv2d_epilogue *e = call->epilogue;
    const trine__arg args[] = {s->padded ? trine__arg_buffer(call->workspace) : trine__arg_tensor(in),
                               trine__arg_buffer(op->weights[call->dy ? TRINE_BACKWARD_DATA : TRINE_FORWARD]),
                               trine__arg_buffer(e->scale),
                               trine__arg_buffer(e->shift),
                               trine__arg_tensor(e->residual),
                               trine__arg_tensor(call->out),
                               trine__arg_buffer(op->context->zeros),
                               trine__arg_i32(s->in_h),
                               trine__arg_i32(s->in_w),
                               trine__arg_i32(r->count),
                               trine__arg_i32(c->count),
                               trine__arg_i32(tiles),
                               trine__arg_i32(chunk),
                               trine__arg_i32(side->in_blocks),
                               trine__arg_i32(side->group_in),
                               trine__arg_i32(side->out_blocks),
                               trine__arg_i32(side->group_kb),
                               trine__arg_i32(taps),
                               trine__arg_i32(row_taps),
                               trine__arg_i32(r->first),
                               trine__arg_i32(c->first),
                               trine__arg_i32(r->step),
                               trine__arg_i32(c->step),
                               trine__arg_i32(r->taps),
                               trine__arg_i32(c->taps),
                               trine__arg_i32(r->base),
                               trine__arg_i32(c->base),
                               trine__arg_i32(r->delta),
                               trine__arg_i32(c->delta),
                               trine__arg_i32(s->out_h),
                               trine__arg_i32(s->out_w),
                               trine__arg_i32(r->offset),
                               trine__arg_i32(c->offset),
                               trine__arg_i32(s->phase_stride),
                               trine__arg_i32(flags)};
    const size_t chunks = (size_t)trine__ceil_div(tiles, chunk);
    return trine__launch(stream, s->kernel, args, TRINE_COUNTOF(args),
                         trine__grid_tiles(chunks * (size_t)r->count, blocks, batch),
                         trine__direction_name(call->dy ? TRINE_BACKWARD_DATA : TRINE_FORWARD));
}

/* How the filter gradient is shared out. */
typedef struct weight_cut {
    int splits;           /* parts of the batch that get partial sums of their own */
    int c_count, k_count; /* channel blocks of a work-item */
} weight_cut;

/* As many blocks an item as leave every core busy; narrow layers split the batch too. */
static weight_cut cut_weights(const trine_conv2d *op, const direct_state *s, int n)
{
    const sides *side = &s->side;
    const int taps = op->desc.kernel_h * (s->padded ? 1 : op->desc.kernel_w),
              wanted = op->context->caps.compute_units * MIN_ITEMS_PER_UNIT;
    weight_cut cut = {.c_count = WEIGHT_BLOCKS, .k_count = WEIGHT_BLOCKS};
    for (;;) {
        const int items = taps * side->groups * trine__ceil_div(side->group_in, cut.c_count) *
                          trine__ceil_div(side->group_kb, cut.k_count);
        cut.splits = trine__ceil_div(wanted, items);
        if (cut.splits > n) cut.splits = n;
        if (items * cut.splits >= wanted || (cut.c_count == 1 && cut.k_count == 1)) return cut;
        if (cut.c_count >= cut.k_count)
            cut.c_count /= 2;
        else
            cut.k_count /= 2;
    }
}

/* Floats of the partial sums, behind which padded rows lie. */
static size_t partial_count(const trine_conv2d *op, const direct_state *s, int n)
{
    return s->packed_count * (size_t)cut_weights(op, s, n).splits;
}

static size_t workspace(const trine_conv2d *op, trine_direction direction, int n)
{
    const direct_state *s = op->state[direction];
    const size_t padded = (size_t)n * (size_t)op->desc.in_channels * (size_t)op->h * (size_t)s->padded;
    return sizeof(float) * (padded + (direction == TRINE_BACKWARD_WEIGHTS ? partial_count(op, s, n) : 0));
}

/* The image's rows, padded, from float `at` of the workspace on. */
static trine_status pad_rows(trine_conv2d *op, trine_stream *stream, const direct_state *s,
                             const trine__conv2d_call *call, size_t at, trine_direction direction)
{
    const trine_shape *x = &call->x->shape;
    const int rows = x->n * x->c * x->h;
    const trine__arg args[] = {trine__arg_tensor(call->x),    trine__arg_buffer(call->workspace),
                               trine__arg_i32((int)at),       trine__arg_i32(rows),
                               trine__arg_i32(x->w),          trine__arg_i32(s->padded),
                               trine__arg_i32(op->desc.pad_w)};
    return trine__launch(stream, s->pad, args, TRINE_COUNTOF(args),
                         trine__grid_lines((size_t)rows, 1, 1, TRINE__LOCAL),
                         trine__direction_name(direction));
}

static trine_status enqueue_weights(trine_conv2d *op, trine_stream *stream, const direct_state *s,
                                    const trine__conv2d_call *call)
{
    const trine_conv2d_desc *d = &op->desc;
    const sides *side = &s->side;
    const int n = call->x->shape.n, row_taps = s->padded ? 1 : d->kernel_w, taps = d->kernel_h * row_taps;
    const size_t x_at = s->padded ? partial_count(op, s, n) : 0;
    const weight_cut cut = cut_weights(op, s, n);
    const int row_block = trine__ceil_div(TILE_PIXELS_PER_ITEM, s->out_w),
              column_block = 2 * TILE_PIXELS_PER_ITEM;
    if (s->padded) TRINE_TRY(pad_rows(op, stream, s, call, x_at, TRINE_BACKWARD_WEIGHTS));
    const trine__arg args[] = {s->padded ? trine__arg_buffer(call->workspace) : trine__arg_tensor(call->x),
                               trine__arg_tensor(call->dy),
                               trine__arg_buffer(call->workspace),
                               trine__arg_i32((int)x_at),
                               trine__arg_i32(n),
                               trine__arg_i32(s->in_h),
                               trine__arg_i32(s->in_w),
                               trine__arg_i32(s->out_h),
                               trine__arg_i32(s->out_w),
                               trine__arg_i32(side->in_blocks),
                               trine__arg_i32(side->group_in),
                               trine__arg_i32(side->out_blocks),
                               trine__arg_i32(side->group_kb),
                               trine__arg_i32(taps),
                               trine__arg_i32(row_taps),
                               trine__arg_i32(d->pad_h),
                               trine__arg_i32(s->padded ? 0 : d->pad_w),
                               trine__arg_i32(d->dilation_h),
                               trine__arg_i32(d->dilation_w),
                               trine__arg_i32(row_block),
                               trine__arg_i32(column_block),
                               trine__arg_i32(cut.c_count),
                               trine__arg_i32(cut.k_count)};
    const size_t c_items = (size_t)trine__ceil_div(side->group_in, cut.c_count),
                 k_items = (size_t)(side->groups * trine__ceil_div(side->group_kb, cut.k_count));
    TRINE_TRY(trine__launch(stream, s->kernel, args, TRINE_COUNTOF(args),
                            trine__grid_tiles(c_items * (size_t)taps, k_items, (size_t)cut.splits),
                            trine__direction_name(TRINE_BACKWARD_WEIGHTS)));
    trine__arg unpack[16] = {trine__arg_buffer(call->workspace), trine__arg_buffer(call->dw)};
    const int more[] = {cut.splits, (int)s->packed_count, call->beta};
    return launch_packing(op, stream, s, unpack, more, TRINE_COUNTOF(more),
                          trine__direction_name(TRINE_BACKWARD_WEIGHTS));
}

static trine_status enqueue(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine__conv2d_call *call)
{
    const direct_state *s = op->state[direction];
    if (direction == TRINE_BACKWARD_WEIGHTS) return enqueue_weights(op, stream, s, call);
    const int flags =
        (direction == TRINE_FORWARD && op->desc.relu ? FLAG_RELU : 0) | (call->beta ? FLAG_BETA : 0);
    const trine_tensor *in = direction == TRINE_FORWARD ? call->x : call->dy;
    if (s->padded) TRINE_TRY(pad_rows(op, stream, s, call, 0, TRINE_FORWARD));
    for (int i = 0; i < s->phase_count; i++)
        TRINE_TRY(launch_phase(op, stream, s, &s->phases[i], in, call, flags));
    return TRINE_OK;
}

const trine__conv2d_impl trine__conv2d_direct = {
    .name = "conv2d_direct",
    .error_class = 1.0,
    .supports = supports,
    .workspace = workspace,
    .create = create,
    .prepared_bytes = prepared_bytes,
    .prepare = prepare,
    .enqueue = enqueue,
    .destroy = destroy,
};
