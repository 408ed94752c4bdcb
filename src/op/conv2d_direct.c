/* SPDX-License-Identifier: MIT */
/* conv2d by register tiles in channel blocks: forward and backward_data (one launch a phase of the stride); the
 * filter gradient is in conv2d_direct_gradient.c. Tile sizes follow from vector width and register count; kernel
 * size, stride, padding and dilation are a table of taps over arranged images, so that few programs serve. */
#include <stdio.h>

#include "op/conv2d_direct.h"
#include "rt/buffer.h"

enum {
    MAX_ROW = 16,  /* taps of a row that make a pixel's values */
    MADE_PART = 8, /* of local memory, for what a work-item makes */
    MADE_TILES = 5,
    LEAST_MADE_TILES = 2,
    MADE_ITEMS_PER_UNIT = 7,
    BASE_ARGS = 28, /* of conv2d_direct, whatever more it does */
    SLAB_PART = 4,  /* of local memory, for pixels that all blocks of filters go by */
    MAX_TILE = 14,  /* pixels: more addresses do not fit into registers, and 14 divides 28 and 56 */
};

static bool choose_sides(const trine_context *ctx, const trine_conv2d_desc *d, trine_direction direction,
                         trine__direct_sides *s)
{
    const bool swap = direction == TRINE_BACKWARD_DATA;
    *s = (trine__direct_sides){.out_channels = swap ? d->in_channels : d->out_channels,
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
    const bool equal = s->in_per_group == s->out_per_group && s->cbi == s->cb;
    s->grouped = d->groups > 1 && equal && s->in_per_group * s->merge == s->cb && s->in_per_group >= 4 &&
                 trine__grouped_supports(d) &&
                 (s->merge > 1 || direction != TRINE_BACKWARD_WEIGHTS); /* nothing to gain from spreading */
    const int group_blocks = trine__ceil_div(s->out_per_group * s->merge, s->cb);
    const int vectors = ctx->caps.vector_width >= s->cb ? 2 : 1;
    s->kv = group_blocks % vectors == 0 ? vectors : 1;
    s->block_in = s->grouped ? s->in_per_group : s->cbi;
    s->group_kb = group_blocks / s->kv;
    s->group_in = s->grouped ? 1 : trine__ceil_div(s->in_per_group * s->merge, s->cbi);
    s->out_blocks = trine__ceil_div(s->out_channels, s->cb);
    s->in_blocks = trine__ceil_div(s->in_channels, s->cbi);
    return true;
}

/* No zeros between merged groups: filters follow each other as they do outside. */
static bool in_callers_order(const trine__direct_sides *s)
{
    return s->merge == 1 || s->block_in < s->cbi;
}

void trine__conv2d_direct_blocks(const trine_context *context, const trine_conv2d_desc *desc, int *kb,
                                 int *cb)
{
    trine__direct_sides s;
    const bool blocked = choose_sides(context, desc, TRINE_FORWARD, &s) && in_callers_order(&s);
    *kb = blocked ? s.kv * s.cb : 1;
    *cb = blocked ? s.block_in : 1;
}

bool trine__direct_in_place(const trine_conv2d *op, const trine__direct *s, int kb)
{
    return in_callers_order(&s->side) && op->desc.weight_kb == kb && op->desc.weight_cb == s->side.block_in &&
           trine_conv2d_weight_count(&op->desc) == s->packed_count;
}

int trine__direct_registers(const trine_context *ctx, const trine__direct_sides *s)
{
    const int width = ctx->caps.vector_width < 4 ? 4 : ctx->caps.vector_width;
    const int registers = s->kv * s->cb / width;
    return registers < 1 ? 1 : registers;
}

/* Pixels of a tile: what the accumulators leave room for, at most `pixels`. */
static int choose_tile(const trine_context *ctx, const trine__direct_sides *s, int pixels)
{
    const int per_pixel = trine__direct_registers(ctx, s);
    int tile = (ctx->caps.vector_registers - per_pixel - 1) / per_pixel;
    if (tile > MAX_TILE) tile = MAX_TILE;
    if (tile > pixels) tile = pixels;
    return tile < 1 ? 1 : tile;
}

static void add_tap(trine__direct *s, const trine_conv2d_desc *d, int u, int v, int weight)
{
    const int values = s->merged_rows ? d->kernel_w : s->side.cbi;
    s->taps[s->tap_count++] =
        (trine__direct_tap){trine__arrangement_at(&s->in, u, v), weight * values * s->side.kv * s->side.cb};
}

/* forward, and x of backward_weights */
static void plan_forward(const trine_conv2d *op, trine__direct *s)
{
    const trine_conv2d_desc *d = &op->desc;
    s->merged_rows = s->side.cbi == 1 && d->kernel_w > 1 && d->kernel_w <= MAX_ROW && d->dilation_w == 1;
    const bool merged = s->merged_rows;
    const trine__reach rows = {.image = op->h,
                               .pad = d->pad_h,
                               .stride = d->stride_h,
                               .planes = d->kernel_h > 1 ? d->stride_h : 1,
                               .count = op->p + (d->kernel_h - 1) * d->dilation_h / d->stride_h},
                       columns = {.image = op->w,
                                  .pad = d->pad_w,
                                  .stride = merged ? 1 : d->stride_w,
                                  .planes = d->kernel_w > 1 && !merged ? d->stride_w : 1,
                                  .count = merged ? (op->q - 1) * d->stride_w + d->kernel_w
                                                  : op->q + (d->kernel_w - 1) * d->dilation_w / d->stride_w};
    s->step = merged ? d->stride_w : 1;
    s->in = trine__arrangement_make(&rows, &columns, s->side.cbi);
    const int row_taps = merged ? 1 : d->kernel_w;
    for (int r = 0; r < d->kernel_h; r++)
        for (int c = 0; c < row_taps; c++)
            add_tap(s, d, r * d->dilation_h, c * d->dilation_w, r * row_taps + c);
    s->phase_stride = 1;
    s->phase_count = 1;
    s->phases[0] = (trine__phase){.rows = op->p, .columns = op->q, .tap_count = s->tap_count};
}

/* What the phases of one axis read of the gradient, whose size is `image`. */
static trine__reach backward_reach(const trine__axis *a, int count, int image)
{
    int lowest = 0, highest = 0;
    for (int i = 0; i < count; i++) {
        if (a[i].taps == 0) continue;
        const int other = a[i].base + (a[i].taps - 1) * a[i].delta; /* delta <= 0 */
        if (other < lowest) lowest = other;
        if (a[i].base + a[i].count - 1 > highest) highest = a[i].base + a[i].count - 1;
    }
    return (trine__reach){image, -lowest, 1, 1, highest - lowest + 1};
}

static void plan_backward_data(const trine_conv2d *op, trine__direct *s)
{
    const trine_conv2d_desc *d = &op->desc;
    trine__axis rows[TRINE__DIRECT_PHASES], columns[TRINE__DIRECT_PHASES];
    const int row_count = d->stride_h < op->h ? d->stride_h : op->h,
              column_count = d->stride_w < op->w ? d->stride_w : op->w;
    for (int i = 0; i < row_count; i++)
        rows[i] = trine__backward_axis(op->h, i, d->kernel_h, d->stride_h, d->pad_h, d->dilation_h);
    for (int i = 0; i < column_count; i++)
        columns[i] = trine__backward_axis(op->w, i, d->kernel_w, d->stride_w, d->pad_w, d->dilation_w);
    const trine__reach row_reach = backward_reach(rows, row_count, op->p),
                       column_reach = backward_reach(columns, column_count, op->q);
    s->step = 1;
    s->in = trine__arrangement_make(&row_reach, &column_reach, s->side.cbi);
    s->phase_stride = d->stride_h;
    for (int i = 0; i < row_count; i++)
        for (int j = 0; j < column_count; j++) {
            const trine__axis *r = &rows[i], *c = &columns[j];
            trine__phase *f = &s->phases[s->phase_count++];
            *f = (trine__phase){r->count, c->count, i, j, s->tap_count, 0};
            for (int tr = 0; tr < r->taps; tr++)
                for (int tc = 0; tc < c->taps; tc++)
                    add_tap(s, d, s->in.top + r->base + tr * r->delta, s->in.left + c->base + tc * c->delta,
                            (r->first + tr * r->step) * d->kernel_w + c->first + tc * c->step);
            f->tap_count = s->tap_count - f->first_tap;
        }
}

/* Fill in everything but kernels and buffers; false if this implementation does not take the problem. */
static bool plan(const trine_conv2d *op, trine_direction direction, trine__direct *s)
{
    const trine_conv2d_desc *d = &op->desc;
    *s = (trine__direct){.packed_count = 0};
    if (d->stride_h != d->stride_w || d->stride_h * d->stride_w > TRINE__DIRECT_PHASES ||
        d->kernel_h * d->kernel_w > TRINE__DIRECT_TAPS)
        return false;
    if (!choose_sides(op->context, d, direction, &s->side)) return false;
    const trine__direct_sides *side = &s->side;
    const size_t weights = (size_t)(side->groups * side->group_kb) *
                           (size_t)(side->group_in * side->block_in * side->kv * side->cb) *
                           (size_t)(d->kernel_h * d->kernel_w);
    s->packed_count = weights;
    if (side->grouped) {
        s->in.identity = true;
        return weights < (size_t)1 << 31;
    }
    if (direction == TRINE_BACKWARD_DATA)
        plan_backward_data(op, s);
    else
        plan_forward(op, s);
    if (weights >= (size_t)1 << 31 || trine__arrangement_floats(&s->in) >= (size_t)1 << 31) return false;
    int fewest = s->phases[0].rows * s->phases[0].columns;
    for (int i = 1; i < s->phase_count; i++)
        if (s->phases[i].rows * s->phases[i].columns < fewest)
            fewest = s->phases[i].rows * s->phases[i].columns;
    s->tile = choose_tile(op->context, side, fewest);
    return true;
}

static bool supports(const trine_conv2d *op, trine_direction direction)
{
    trine__direct s;
    return plan(op, direction, &s);
}

static void destroy(void *state)
{
    trine__direct *s = state;
    trine__kernel_destroy(&s->kernel);
    for (int i = 0; i < TRINE__DIRECT_KERNELS; i++) trine__kernel_destroy(&s->more[i]);
    trine__kernel_destroy(&s->pack);
    trine__kernel_destroy(&s->arrange);
    trine_buffer_release(&s->table);
}

static bool pointwise(const trine__direct *s)
{
    return s->tap_count == 1 && s->taps[0].x == 0;
}

/* Of a pixel. */
static int values_of(const trine_conv2d *op, const trine__direct *s)
{
    return s->merged_rows ? op->desc.kernel_w : s->side.cbi;
}

static trine_status create_kernel(const trine_conv2d *op, const trine__direct *s, int more,
                                  trine__kernel **out)
{
    char options[160];
    const trine__direct_sides *side = &s->side;
    snprintf(options, sizeof options, "-DCB=%d -DCBI=%d -DXS=%d -DKV=%d -DTW=%d -DIS=%d%s%s%s", side->cb,
             values_of(op, s), side->cbi, side->kv, s->tile, s->step, pointwise(s) ? " -DPOINTWISE" : "",
             more & TRINE__DIRECT_SUMS ? " -DSUMS" : "", more & TRINE__DIRECT_MADE ? " -DMADE" : "");
    return trine__kernel_create(op->context, "conv2d_direct", options, out);
}

static trine_status create_kernels(trine_conv2d *op, trine_direction direction, trine__direct *s)
{
    const trine__direct_sides *side = &s->side;
    trine_context *ctx = op->context;
    const int values = values_of(op, s);
    if (!s->in.identity) TRINE_TRY(trine__arrangement_kernel(ctx, &s->in, &s->arrange));
    if (s->tap_count > 0)
        TRINE_TRY(trine__buffer_from_host(ctx, s->taps, (size_t)s->tap_count * sizeof *s->taps, &s->table));
    if (direction == TRINE_BACKWARD_WEIGHTS) return trine__direct_gradient_create(op, s, values);
    if (side->grouped)
        TRINE_TRY(trine__grouped_create(op, direction, s));
    else
        TRINE_TRY(create_kernel(op, s, 0, &s->kernel));
    if (direction == TRINE_FORWARD && trine__direct_in_place(op, s, side->kv * side->cb)) return TRINE_OK;
    return trine__kernel_create(ctx, "conv2d_pack", trine__conv2d_weight_options(op).text, &s->pack);
}

static trine_status create(trine_conv2d *op, trine_direction direction, void *state)
{
    plan(op, direction, state);
    return create_kernels(op, direction, state);
}

trine_status trine__direct_launch_packing(trine_conv2d *op, trine_stream *stream, const trine__direct *s,
                                          trine__arg *args, const int *more, size_t more_count,
                                          const char *label)
{
    const trine__direct_sides *side = &s->side;
    const int values[] = {side->out_per_group, side->in_per_group, side->merge,
                          side->group_kb,      side->group_in,     op->desc.kernel_h * op->desc.kernel_w,
                          side->kv * side->cb, side->block_in};
    size_t count = 2;
    for (size_t i = 0; i < TRINE_COUNTOF(values); i++) args[count++] = trine__arg_i32(values[i]);
    for (size_t i = 0; i < more_count; i++) args[count++] = trine__arg_i32(more[i]);
    return trine__launch(
        stream, s->pack, args, count,
        trine__grid_tiles((size_t)side->group_in, (size_t)(side->groups * side->group_kb), 1), label);
}

static size_t prepared_bytes(const trine_conv2d *op, trine_direction direction)
{
    const trine__direct *s = op->state[direction];
    return s->pack ? s->packed_count * sizeof(float) : 0;
}

static trine_status prepare(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine_buffer *weights, trine_buffer *prepared)
{
    trine__direct *s = op->state[direction];
    trine__arg args[16] = {trine__arg_buffer(weights), trine__arg_buffer(prepared)};
    const int transposed = direction == TRINE_BACKWARD_DATA;
    return trine__direct_launch_packing(op, stream, s, args, &transposed, 1, "prepare");
}

/* Tiles that one work-item takes: about a cache-friendly row, fewer where that leaves the device short of
 * work. */
static int tiles_per_item(const trine_context *ctx, int tiles, int tile, size_t others)
{
    int chunk = trine__ceil_div(tiles, trine__ceil_div(tiles * tile, TRINE__DIRECT_PIXELS_PER_ITEM));
    const size_t wanted = (size_t)ctx->caps.compute_units * TRINE__DIRECT_ITEMS_PER_UNIT;
    while (chunk > 1 && others * (size_t)trine__ceil_div(tiles, chunk) < wanted) chunk = (chunk + 1) / 2;
    return chunk;
}

/* The same where a work-item makes what it reads and goes through all filters: its pixels stay in a core's own cache, and none has the last tile alone,
 * which reads what the one before has made. */
static int tiles_of_making(const trine_context *ctx, const trine__direct *s, int tiles)
{
    const size_t pixel = (size_t)(s->side.group_in * s->in.values) * sizeof(float);
    const int fit = (int)(ctx->caps.local_bytes / MADE_PART / (pixel * (size_t)s->tile)),
              share = tiles / (ctx->caps.compute_units * MADE_ITEMS_PER_UNIT);
    int chunk = fit < share ? fit : share;
    if (chunk > MADE_TILES) chunk = MADE_TILES;
    if (chunk < LEAST_MADE_TILES) chunk = LEAST_MADE_TILES;
    while (chunk < tiles && tiles % chunk == 1) chunk++;
    return chunk < tiles ? chunk : tiles;
}

/* Tiles of a work-item of a launch that writes so many pixels. */
static int chunk_of(const trine_conv2d *op, const trine__direct *s, int pixels, bool made)
{
    const int tiles = trine__ceil_div(pixels, s->tile);
    return made ? tiles_of_making(op->context, s, tiles)
                : tiles_per_item(op->context, tiles, s->tile, (size_t)(s->side.groups * s->side.group_kb));
}

/* One a work-item. */
static int parts_of(const trine_conv2d *op, const trine__direct *s, int pixels, bool made)
{
    if (s->side.grouped || s->phase_count > 1) return 0;
    return trine__ceil_div(trine__ceil_div(pixels, s->tile), chunk_of(op, s, pixels, made));
}

static int bn_parts(const trine_conv2d *op, int n, bool made)
{
    return parts_of(op, op->state[TRINE_FORWARD], n * op->p * op->q, made);
}

static int sum_parts(const trine_conv2d *op, int n, bool made)
{
    return parts_of(op, op->state[TRINE_BACKWARD_DATA], n * op->h * op->w, made);
}

/* Work-items whose pixels stay in a core's own cache, as which CPUs report local memory, while all blocks of filters go by; at most an
 * image's. */
static int items_per_slab(const trine_context *ctx, const trine__direct *s, int chunk, int items, int images)
{
    const int most = trine__ceil_div(items, images);
    const size_t bytes =
        (size_t)(chunk * s->tile) * (size_t)(s->side.group_in * s->in.values) * sizeof(float);
    const size_t slab = ctx->caps.local_bytes / SLAB_PART / (bytes ? bytes : 1);
    return slab >= (size_t)most ? most : slab < 1 ? 1 : (int)slab;
}

static trine_status launch_phase(trine_conv2d *op, trine_stream *stream, const trine__direct *s,
                                 const trine__phase *f, const trine_tensor *in,
                                 const trine__conv2d_call *call)
{
    const trine__direct_sides *side = &s->side;
    const trine_shape *out = &call->out->shape;
    const int pixels = in->shape.n * f->rows * f->columns, tiles = trine__ceil_div(pixels, s->tile);
    const int w_block = (int)(s->packed_count / (size_t)(side->groups * side->group_kb * side->group_in));
    const size_t blocks = (size_t)(side->groups * side->group_kb);
    const int chunk = chunk_of(op, s, pixels, call->made != NULL), items = trine__ceil_div(tiles, chunk);
    const int slab = call->made ? items : items_per_slab(op->context, s, chunk, items, in->shape.n);
    const int kind = (call->made ? TRINE__DIRECT_MADE : 0) | (call->sums ? TRINE__DIRECT_SUMS : 0);
    const bool one_row =
        s->in.width == f->columns * s->step && out->w == f->columns; /* nothing between rows */
    const trine_conv2d_epilogue *e = call->epilogue;
    const trine_direction direction = call->dy ? TRINE_BACKWARD_DATA : TRINE_FORWARD;
    trine__arg args[BASE_ARGS + TRINE__MADE_ARGS + TRINE__SUMS_ARGS] = {
        s->arrange ? trine__arg_buffer(call->workspace) : trine__arg_tensor(in),
        trine__arg_buffer(op->weights[direction]),
        trine__arg_buffer(s->table),
        trine__arg_buffer(e->scale),
        trine__arg_buffer(e->shift),
        trine__arg_tensor(e->residual),
        trine__arg_tensor(call->out),
        trine__arg_buffer(call->partials),
        trine__arg_i32((int)trine__arrangement_floats(&s->in)),
        trine__arg_i32(s->in.width * s->in.values),
        trine__arg_i32(w_block),
        trine__arg_i32(f->first_tap),
        trine__arg_i32(f->tap_count),
        trine__arg_i32(one_row ? 1 : f->rows),
        trine__arg_i32(one_row ? f->rows * f->columns : f->columns),
        trine__arg_i32(pixels),
        trine__arg_i32(tiles),
        trine__arg_i32(chunk),
        trine__arg_i32(side->in_blocks),
        trine__arg_i32(f->tap_count > 0 ? side->group_in : 0),
        trine__arg_i32(side->out_blocks),
        trine__arg_i32(side->group_kb),
        trine__arg_i32(out->h),
        trine__arg_i32(out->w),
        trine__arg_i32(f->oy),
        trine__arg_i32(f->ox),
        trine__arg_i32(s->phase_stride),
        trine__arg_i32(trine__epilogue_flags(op, call))};
    size_t count = BASE_ARGS;
    if (call->made) count += trine__made_args(call->made, args + count);
    if (call->sums) count += trine__sums_args(call->sums, args + count);
    trine__kernel *kernel = kind ? s->more[kind] : s->kernel;
    TRINE_CHECK(kernel, TRINE_ERR_STATE, "conv2d_direct: not made ready to make its input, or sums");
    return trine__launch(
        stream, kernel, args, count,
        trine__grid_tiles((size_t)slab, call->made ? 1 : blocks, (size_t)trine__ceil_div(items, slab)),
        trine__direction_name(direction));
}

static trine_status create_sums(trine_conv2d *op, bool made)
{
    trine__direct *s = op->state[TRINE_BACKWARD_DATA];
    const int kind = TRINE__DIRECT_SUMS | (made ? TRINE__DIRECT_MADE : 0);
    return s->more[kind] ? TRINE_OK : create_kernel(op, s, kind, &s->more[kind]);
}

/* Work-items that go through all filters are few: not where some cores would go without. */
static bool can_make(const trine_conv2d *op, trine_direction direction, int n)
{
    const trine__direct *s = op->state[direction];
    const trine__caps *caps = &op->context->caps;
    const bool fits = pointwise(s) && s->in.identity && !s->side.grouped && s->phase_count == 1 &&
                      s->side.groups == 1 && s->side.cbi == s->side.cb;
    const int pixels = n * s->phases[0].rows * s->phases[0].columns;
    return caps->cpu && fits &&
           trine__ceil_div(pixels, s->tile) >= LEAST_MADE_TILES * MADE_ITEMS_PER_UNIT * caps->compute_units;
}

static trine_status create_making(trine_conv2d *op, trine_direction direction)
{
    trine__direct *s = op->state[direction];
    return s->more[TRINE__DIRECT_MADE]
               ? TRINE_OK
               : create_kernel(op, s, TRINE__DIRECT_MADE, &s->more[TRINE__DIRECT_MADE]);
}

static size_t workspace(const trine_conv2d *op, trine_direction direction, int n)
{
    const trine__direct *s = op->state[direction];
    const size_t copied =
        s->arrange ? (size_t)(n * s->side.in_blocks) * trine__arrangement_floats(&s->in) : 0;
    return sizeof(float) *
           (copied + (direction == TRINE_BACKWARD_WEIGHTS ? trine__direct_partial_count(op, s, n) : 0));
}

static trine_status enqueue(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine__conv2d_call *call)
{
    const trine__direct *s = op->state[direction];
    if (direction == TRINE_BACKWARD_WEIGHTS) return trine__direct_gradient_enqueue(op, stream, s, call);
    if (s->side.grouped) return trine__grouped_enqueue(op, stream, s, call);
    const trine_tensor *in = direction == TRINE_FORWARD ? call->x : call->dy;
    if (s->arrange)
        TRINE_TRY(trine__arrange(stream, s->arrange, &s->in, in, call->workspace, 0,
                                 trine__direction_name(direction)));
    for (int i = 0; i < s->phase_count; i++)
        if (s->phases[i].tap_count > 0 || !call->beta)
            TRINE_TRY(launch_phase(op, stream, s, &s->phases[i], in, call));
    return TRINE_OK;
}

const trine__conv2d_impl trine__conv2d_direct = {
    .name = "conv2d_direct",
    .error_class = 1.0,
    .supports = supports,
    .workspace = workspace,
    .bn_parts = bn_parts,
    .sum_parts = sum_parts,
    .can_make = can_make,
    .create_making = create_making,
    .create_sums = create_sums,
    .state_bytes = sizeof(trine__direct),
    .create = create,
    .prepared_bytes = prepared_bytes,
    .prepare = prepare,
    .enqueue = enqueue,
    .destroy = destroy,
};
