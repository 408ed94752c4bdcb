/* SPDX-License-Identifier: MIT */
/* conv2d by minimal filtering, F(4x4, 3x3) and F(2x2, 3x3): 3x3 convolutions of stride 1, F(2x2) of stride 2 too, all directions. The filters are
 * transformed once per update. A call goes through the image by chunks of tiles: transformed patches and products
 * lie in the workspace, a kernel for each and one for the way back, while the chunk lies in the last cache. Where channels are
 * few enough for a core's own cache, and the filters few beside them, all of it is one kernel without a workspace. */
#include <limits.h>

#include "op/conv2d_winograd.h"

enum {
    CHUNK_BYTES = 8 << 20, /* of transformed patches and products */
    FUSED_PART = 4,    /* of local memory, as which CPUs report a core's own cache: for transformed patches */
    FUSED_READS = 4,   /* floats of filters read in one pass, for each that it need not move */
    MOST_GROUPS = 2,   /* of TT tiles in a work-item */
    MOST_TILES = 8,    /* in a group of the filter gradient, which keeps none in registers */
    ACCUMULATORS = 12, /* that hide a multiply-add's latency */
    MIN_ITEMS_PER_UNIT = 4,
    OUTPUT_ARGS = 14, /* without sums */
    FUSED_ARGS = 25,
    UNPACK_CHANNELS = 4,  /* CHANNELS of conv2d_winograd_unpack.cl */
    SMALL_BYTES = 1 << 20 /* of transformed filters */
};

/* How one call is cut up. */
typedef struct cut {
    int tiles;       /* in all */
    int groups;      /* of TT tiles in a work-item */
    int blocks;      /* of groups * TT tiles, in a chunk */
    size_t v_floats; /* of a chunk */
    size_t m_floats; /* of products, or of the gradient's tiles */
} cut;

/* Bytes of local memory that keep the products of `groups` times TT tiles. */
static size_t products_local(const trine__winograd *s, int groups)
{
    return (size_t)(s->shape.planes * (s->kv * groups * s->tt + 1) * s->cb) * sizeof(float);
}

/* Bytes of local memory of the transformed patches of `groups` times TT tiles. */
static size_t patches_local(const trine__winograd *s, int groups)
{
    return (size_t)(s->shape.planes * (s->in_blocks * groups * s->tt + 1) * s->cb) * sizeof(float);
}

/* Few channels: a work-item's patches stay where they are multiplied. */
static bool fits_fused(const trine_context *ctx, const trine__winograd *s, int groups)
{
    return patches_local(s, groups) <= ctx->caps.local_bytes / FUSED_PART &&
           patches_local(s, groups) + products_local(s, groups) <= ctx->caps.local_bytes;
}

/* One pass reads all filters for every few tiles that it keeps; otherwise their patches and products are written and read once. Where the first
 * is several times the second, memory is what one pass waits for. The batch is not known here: a small one may take fewer groups. */
static bool worth_fusing(const trine_context *ctx, const trine__winograd *s)
{
    const int groups = fits_fused(ctx, s, MOST_GROUPS) ? MOST_GROUPS : 1;
    const size_t moved = 2 * (size_t)(s->shape.planes * (s->in_blocks + s->out_blocks) * s->cb);
    return fits_fused(ctx, s, 1) && s->u_count / (size_t)(groups * s->tt) <= FUSED_READS * moved;
}

/* Tiles whose accumulators hide the latency of a multiply-add, or all there are registers for. */
static int least_tiles(int registers, int most)
{
    const int least = trine__ceil_div(ACCUMULATORS, registers);
    return least < most ? least : most;
}

/* So many of a group that an image, and a batch of eight, leave few places of the last group empty; more are better by one tile's
 * share of loads. */
static int choose_tiles(const trine__winograd *s, int least, int most)
{
    const int tiles = s->shape.tile_rows * s->shape.tile_columns;
    int best = most;
    long best_cost = LONG_MAX;
    for (int tt = most; tt >= least; tt--) {
        const long cost = (long)(tt + 1) * (8L * trine__ceil_div(tiles, tt) + trine__ceil_div(8 * tiles, tt));
        if (cost < best_cost) best = tt, best_cost = cost;
    }
    return best;
}

static bool plan(const trine_conv2d *op, trine_direction direction, int mo, trine__winograd *s)
{
    const trine_conv2d_desc *d = &op->desc;
    const trine__caps *caps = &op->context->caps;
    *s = (trine__winograd){.cb = d->in_cb};
    if (!trine__winograd_shape_of(op, direction, mo, &s->shape)) return false;
    if (d->pad_h > 2 || d->pad_w > 2 || d->in_cb != d->out_cb || d->in_cb < 4) return false;
    s->in_blocks = trine__ceil_div(s->shape.in_channels, s->cb);
    s->out_blocks = trine__ceil_div(s->shape.out_channels, s->cb);
    const int width = caps->vector_width < 4 ? 4 : caps->vector_width;
    const int registers = s->cb > width ? s->cb / width : 1; /* of a channel block */
    s->kv = caps->vector_width >= s->cb && s->out_blocks % 2 == 0 ? 2 : 1;
    const int most = (caps->vector_registers - s->kv * registers - 1) /
                     (s->kv * registers); /* vectors beside a filter's */
    if (most < 1) return false;
    s->tt = direction == TRINE_BACKWARD_WEIGHTS ? choose_tiles(s, MOST_TILES / 2, MOST_TILES)
                                                : choose_tiles(s, least_tiles(s->kv * registers, most), most);
    s->ct = trine__ceil_div(s->cb, trine__ceil_div(s->cb, most));
    s->u_count =
        (size_t)s->shape.planes * (size_t)(s->in_blocks * s->cb + 1) * (size_t)(s->out_blocks * s->cb);
    return s->u_count < (size_t)1 << 31;
}

/* Tiles that a work-item of the filter gradient goes through at a time; the products' take one group. */
static int groups_of(bool weights)
{
    return weights ? MOST_GROUPS : 1;
}

/* Of the patches, products or gradients of a block of tiles (PLANE_FLOATS of cl/conv2d_winograd.clh). */
static size_t side_floats(const trine__winograd *s, int channel_blocks, bool weights)
{
    return (size_t)s->shape.planes * (size_t)((channel_blocks * groups_of(weights) * s->tt + 1) * s->cb);
}

static size_t block_floats(const trine__winograd *s, bool weights)
{
    return side_floats(s, s->in_blocks, weights) + side_floats(s, s->out_blocks, weights);
}

/* Tile blocks of a chunk, of `all`. */
static int blocks_of_chunk(const trine__winograd *s, bool weights, int all)
{
    const size_t fit = CHUNK_BYTES / (block_floats(s, weights) * sizeof(float)), most = fit < 2 ? 2 : fit;
    return most < (size_t)all ? (int)most : all;
}

static cut cut_call(const trine__winograd *s, int n, bool weights)
{
    cut c = {.tiles = n * s->shape.tile_rows * s->shape.tile_columns, .groups = groups_of(weights)};
    const int all = trine__ceil_div(c.tiles, c.groups * s->tt), most = blocks_of_chunk(s, weights, all);
    c.blocks = trine__ceil_div(all, trine__ceil_div(all, most)); /* chunks of one size */
    c.v_floats = (size_t)c.blocks * side_floats(s, s->in_blocks, weights);
    c.m_floats = (size_t)c.blocks * side_floats(s, s->out_blocks, weights);
    return c;
}

static bool supports4(const trine_conv2d *op, trine_direction direction)
{
    trine__winograd s;
    return plan(op, direction, 4, &s);
}

static bool supports2(const trine_conv2d *op, trine_direction direction)
{
    trine__winograd s;
    return plan(op, direction, 2, &s);
}

/* Products that a core does while a byte of the transformed filters comes from memory, shared by some images. With AVX-512 a value that lets
 * 256 > 256 channels of 14x14 go by F(2x2), which trine tune found 1.7 times as fast on one machine, and keeps 512 > 512 of 7x7 below nine products. */
static double products_per_byte(const trine__caps *caps)
{
    return caps->vector_width >= 16 ? 2.75 : 2;
}

/* What a channel pair costs one image, in products: reading the transformed filters counts too, unless a core's own cache holds them. */
static double cost(const trine__caps *caps, trine_direction direction, const trine__winograd *s)
{
    const bool read = direction != TRINE_BACKWARD_WEIGHTS && s->u_count * sizeof(float) > SMALL_BYTES;
    return (double)s->shape.planes * ((double)s->shape.tile_rows * s->shape.tile_columns +
                                      (read ? products_per_byte(caps) * sizeof(float) : 0));
}

/* Cheaper than nine products a pixel of y, which is what the direct data gradient of a stride takes too; enough channels for the
 * products to outweigh the transforms, and images that are not mostly border. */
static bool worthwhile(const trine_conv2d *op, trine_direction direction, const trine__winograd *s)
{
    return op->context->caps.cpu && s->shape.in_channels >= 16 && s->shape.out_channels >= 16 &&
           s->shape.out_h >= 4 && s->shape.out_w >= 4 &&
           cost(&op->context->caps, direction, s) < 9.0 * op->p * op->q;
}

/* The larger tile where it costs less: not where it is mostly beyond the border, or its filters outweigh the image. */
static bool prefers4(const trine_conv2d *op, trine_direction direction)
{
    trine__winograd s, other;
    const trine__caps *caps = &op->context->caps;
    return plan(op, direction, 4, &s) && worthwhile(op, direction, &s) &&
           !(plan(op, direction, 2, &other) && cost(caps, direction, &other) <= cost(caps, direction, &s));
}

static bool prefers2(const trine_conv2d *op, trine_direction direction)
{
    trine__winograd s;
    return plan(op, direction, 2, &s) && worthwhile(op, direction, &s);
}

static trine_status create(trine_conv2d *op, trine_direction direction, void *state)
{
    plan(op, direction, op->impl[direction] == &trine__conv2d_winograd4 ? 4 : 2, state);
    const bool fused = direction == TRINE_BACKWARD_WEIGHTS ? trine__winograd_gradient_fits(op->context, state)
                                                           : worth_fusing(op->context, state);
    return trine__winograd_create(op, direction, fused, state);
}

static size_t prepared_bytes(const trine_conv2d *op, trine_direction direction)
{
    return ((const trine__winograd *)op->state[direction])->u_count * sizeof(float);
}

static trine_status prepare(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine_buffer *weights, trine_buffer *prepared)
{
    const trine__winograd *s = op->state[direction];
    const trine__arg args[] = {trine__arg_buffer(weights), trine__arg_buffer(prepared),
                               trine__arg_i32(s->shape.in_channels), trine__arg_i32(s->shape.out_channels),
                               trine__arg_i32(direction == TRINE_BACKWARD_DATA)};
    return trine__launch(stream, s->filter, args, TRINE_COUNTOF(args),
                         trine__grid_tiles((size_t)s->in_blocks, (size_t)(s->out_blocks / s->kv), 1),
                         "prepare");
}

/* The most that any batch up to n takes: chunks of a smaller one may be larger. */
static size_t workspace(const trine_conv2d *op, trine_direction direction, int n)
{
    const trine__winograd *s = op->state[direction];
    const bool weights = direction == TRINE_BACKWARD_WEIGHTS;
    if (s->fused)
        return weights ? (size_t)trine__winograd_gradient_splits(s, n) * s->u_count * sizeof(float) : 0;
    const int all =
        trine__ceil_div(n * s->shape.tile_rows * s->shape.tile_columns, groups_of(weights) * s->tt);
    return (block_floats(s, weights) * (size_t)blocks_of_chunk(s, weights, all) +
            (weights ? s->u_count : 0)) *
           sizeof(float);
}

/* One for TT tiles, in either form of the kernels. */
static int parts_of(const trine__winograd *s, int n)
{
    return trine__ceil_div(n * s->shape.tile_rows * s->shape.tile_columns, s->tt);
}

static int bn_parts(const trine_conv2d *op, int n, bool made)
{
    (void)made; /* none is */
    return parts_of(op->state[TRINE_FORWARD], n);
}

static int sum_parts(const trine_conv2d *op, int n, bool made)
{
    (void)made;
    return parts_of(op->state[TRINE_BACKWARD_DATA], n);
}

/* Patches of x (or dy) of a chunk of tiles, transformed, at the workspace's beginning. */
static trine_status launch_input(trine_stream *stream, const trine__winograd *s, const cut *c, int first,
                                 int blocks, const trine_tensor *in, const trine__conv2d_call *call,
                                 const char *label)
{
    const trine__arg args[] = {trine__arg_tensor(in),
                               trine__arg_buffer(call->input.mean),
                               trine__arg_buffer(call->input.a),
                               trine__arg_buffer(call->input.b),
                               trine__arg_buffer(call->workspace),
                               trine__arg_i32(s->shape.in_h),
                               trine__arg_i32(s->shape.in_w),
                               trine__arg_i32(s->shape.tile_rows),
                               trine__arg_i32(s->shape.tile_columns),
                               trine__arg_i32(c->tiles),
                               trine__arg_i32(first),
                               trine__arg_i32(c->groups * s->tt),
                               trine__arg_i32(s->shape.pad_h),
                               trine__arg_i32(s->shape.pad_w)};
    return trine__launch(stream, s->input, args, TRINE_COUNTOF(args),
                         trine__grid_tiles((size_t)s->in_blocks, (size_t)blocks, 1), label);
}

static trine_status enqueue_chunk(const trine_conv2d *op, trine_stream *stream, const trine__winograd *s,
                                  const cut *c, int first, int blocks, const trine_tensor *in,
                                  const trine__conv2d_call *call)
{
    const trine_direction direction = call->dy ? TRINE_BACKWARD_DATA : TRINE_FORWARD;
    const char *label = trine__direction_name(direction);
    const trine_conv2d_epilogue *e = call->epilogue;
    TRINE_TRY(launch_input(stream, s, c, first, blocks, in, call, label));
    const trine__arg multiply[] = {
        trine__arg_buffer(call->workspace), trine__arg_buffer(op->weights[direction]),
        trine__arg_i32((int)c->v_floats), trine__arg_i32(blocks), trine__arg_i32(s->in_blocks)};
    TRINE_TRY(trine__launch(stream, s->multiply, multiply, TRINE_COUNTOF(multiply),
                            trine__grid_tiles((size_t)(s->out_blocks / s->kv), (size_t)s->shape.planes, 1),
                            label));
    trine__arg output[OUTPUT_ARGS + TRINE__SUMS_ARGS] = {trine__arg_buffer(call->workspace),
                                                         trine__arg_buffer(e->scale),
                                                         trine__arg_buffer(e->shift),
                                                         trine__arg_tensor(e->residual),
                                                         trine__arg_tensor(call->out),
                                                         trine__arg_buffer(call->partials),
                                                         trine__arg_i32((int)c->v_floats),
                                                         trine__arg_i32(s->shape.out_h),
                                                         trine__arg_i32(s->shape.out_w),
                                                         trine__arg_i32(s->shape.tile_rows),
                                                         trine__arg_i32(s->shape.tile_columns),
                                                         trine__arg_i32(c->tiles),
                                                         trine__arg_i32(first),
                                                         trine__arg_i32(trine__epilogue_flags(op, call))};
    const size_t more = call->sums ? trine__sums_args(call->sums, output + OUTPUT_ARGS) : 0;
    return trine__launch(stream, call->sums ? s->sums : s->output, output, OUTPUT_ARGS + more,
                         trine__grid_tiles((size_t)s->out_blocks, (size_t)blocks, 1), label);
}

/* Everything in one launch, whose work-items share the tiles out, and the channel blocks too where that leaves cores idle. */
static trine_status enqueue_fused(const trine_conv2d *op, trine_stream *stream, const trine__winograd *s,
                                  const trine_tensor *in, const trine_buffer *u,
                                  const trine__conv2d_call *call)
{
    const trine_context *ctx = op->context;
    const trine_conv2d_epilogue *e = call->epilogue;
    const int tiles = in->shape.n * s->shape.tile_rows * s->shape.tile_columns,
              wanted = ctx->caps.compute_units * MIN_ITEMS_PER_UNIT, kbs = s->out_blocks / s->kv;
    int groups = MOST_GROUPS, parts = 1;
    while (groups > 1 &&
           (!fits_fused(ctx, s, groups) || trine__ceil_div(tiles, groups * s->tt) * kbs < wanted))
        groups--;
    const int items = trine__ceil_div(tiles, groups * s->tt);
    while (parts < kbs && items * parts < wanted) parts++;
    trine__arg args[FUSED_ARGS + TRINE__SUMS_ARGS] = {trine__arg_tensor(in),
                                                      trine__arg_buffer(call->input.mean),
                                                      trine__arg_buffer(call->input.a),
                                                      trine__arg_buffer(call->input.b),
                                                      trine__arg_buffer(u),
                                                      trine__arg_buffer(e->scale),
                                                      trine__arg_buffer(e->shift),
                                                      trine__arg_tensor(e->residual),
                                                      trine__arg_tensor(call->out),
                                                      trine__arg_buffer(call->partials),
                                                      trine__arg_local(patches_local(s, groups)),
                                                      trine__arg_local(products_local(s, groups)),
                                                      trine__arg_i32(s->shape.in_h),
                                                      trine__arg_i32(s->shape.in_w),
                                                      trine__arg_i32(s->shape.pad_h),
                                                      trine__arg_i32(s->shape.pad_w),
                                                      trine__arg_i32(s->shape.out_h),
                                                      trine__arg_i32(s->shape.out_w),
                                                      trine__arg_i32(s->shape.tile_rows),
                                                      trine__arg_i32(s->shape.tile_columns),
                                                      trine__arg_i32(tiles),
                                                      trine__arg_i32(groups),
                                                      trine__arg_i32(s->in_blocks),
                                                      trine__arg_i32(s->out_blocks),
                                                      trine__arg_i32(trine__epilogue_flags(op, call))};
    const size_t more = call->sums ? trine__sums_args(call->sums, args + FUSED_ARGS) : 0;
    return trine__launch(stream, call->sums ? s->sums : s->fused, args, FUSED_ARGS + more,
                         trine__grid_tiles((size_t)items, (size_t)parts, 1),
                         trine__direction_name(call->dy ? TRINE_BACKWARD_DATA : TRINE_FORWARD));
}

static trine_status weights_chunk(trine_stream *stream, const trine__winograd *s, const cut *c, int first,
                                  int blocks, const trine__conv2d_call *call)
{
    const int t_count = c->groups * s->tt, m_at = (int)c->v_floats, du_at = (int)(c->v_floats + c->m_floats);
    TRINE_TRY(launch_input(stream, s, c, first, blocks, call->x, call,
                           trine__direction_name(TRINE_BACKWARD_WEIGHTS)));
    const trine__arg gradient[] = {trine__arg_tensor(call->dy),
                                   trine__arg_buffer(call->workspace),
                                   trine__arg_i32(m_at),
                                   trine__arg_i32(s->shape.out_h),
                                   trine__arg_i32(s->shape.out_w),
                                   trine__arg_i32(s->shape.tile_rows),
                                   trine__arg_i32(s->shape.tile_columns),
                                   trine__arg_i32(c->tiles),
                                   trine__arg_i32(first),
                                   trine__arg_i32(t_count)};
    TRINE_TRY(trine__launch(stream, s->gradient, gradient, TRINE_COUNTOF(gradient),
                            trine__grid_tiles((size_t)s->out_blocks, (size_t)blocks, 1),
                            trine__direction_name(TRINE_BACKWARD_WEIGHTS)));
    const trine__arg accumulate[] = {trine__arg_buffer(call->workspace),
                                     trine__arg_i32(m_at),
                                     trine__arg_i32(du_at),
                                     trine__arg_i32(blocks),
                                     trine__arg_i32(t_count),
                                     trine__arg_i32(first > 0)};
    return trine__launch(
        stream, s->accumulate, accumulate, TRINE_COUNTOF(accumulate),
        trine__grid_tiles((size_t)s->in_blocks, (size_t)(s->out_blocks / s->kv), (size_t)s->shape.planes),
        trine__direction_name(TRINE_BACKWARD_WEIGHTS));
}

/* dw from the sums of so many splits, which begin at du_at. */
static trine_status unpack(trine_stream *stream, const trine__winograd *s, int du_at, int splits,
                           const trine__conv2d_call *call)
{
    const trine__arg args[] = {trine__arg_buffer(call->workspace),    trine__arg_i32(du_at),
                               trine__arg_buffer(call->dw),           trine__arg_i32(s->shape.in_channels),
                               trine__arg_i32(s->shape.out_channels), trine__arg_i32(splits),
                               trine__arg_i32((int)s->u_count),       trine__arg_i32(call->beta)};
    return trine__launch(
        stream, s->unpack, args, TRINE_COUNTOF(args),
        trine__grid_tiles((size_t)(s->in_blocks * s->cb / UNPACK_CHANNELS), (size_t)s->out_blocks, 1),
        trine__direction_name(TRINE_BACKWARD_WEIGHTS));
}

static trine_status enqueue(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine__conv2d_call *call)
{
    const trine__winograd *s = op->state[direction];
    const bool weights = direction == TRINE_BACKWARD_WEIGHTS;
    const trine_tensor *in = direction == TRINE_BACKWARD_DATA ? call->dy : call->x;
    if (s->fused && weights) {
        TRINE_TRY(trine__winograd_gradient_enqueue(op, stream, s, call));
        return unpack(stream, s, 0, trine__winograd_gradient_splits(s, in->shape.n), call);
    }
    if (s->fused) return enqueue_fused(op, stream, s, in, op->weights[direction], call);
    const cut c = cut_call(s, in->shape.n, weights);
    const int t_count = c.groups * s->tt, all = trine__ceil_div(c.tiles, t_count);
    for (int block = 0; block < all; block += c.blocks) {
        const int blocks = all - block < c.blocks ? all - block : c.blocks;
        TRINE_TRY(weights ? weights_chunk(stream, s, &c, block * t_count, blocks, call)
                          : enqueue_chunk(op, stream, s, &c, block * t_count, blocks, in, call));
    }
    return weights ? unpack(stream, s, (int)(c.v_floats + c.m_floats), 1, call) : TRINE_OK;
}

const trine__conv2d_impl trine__conv2d_winograd4 = {
    .name = "conv2d_winograd4",
    .error_class = 16.0,
    .normalises = true,
    .spread = 3,
    .supports = supports4,
    .prefers = prefers4,
    .workspace = workspace,
    .bn_parts = bn_parts,
    .sum_parts = sum_parts,
    .create_sums = trine__winograd_create_sums,
    .state_bytes = sizeof(trine__winograd),
    .create = create,
    .prepared_bytes = prepared_bytes,
    .prepare = prepare,
    .enqueue = enqueue,
    .destroy = trine__winograd_destroy,
};

const trine__conv2d_impl trine__conv2d_winograd2 = {
    .name = "conv2d_winograd2",
    .error_class = 2.0,
    .normalises = true,
    .spread = 1,
    .supports = supports2,
    .prefers = prefers2,
    .workspace = workspace,
    .bn_parts = bn_parts,
    .sum_parts = sum_parts,
    .create_sums = trine__winograd_create_sums,
    .state_bytes = sizeof(trine__winograd),
    .create = create,
    .prepared_bytes = prepared_bytes,
    .prepare = prepare,
    .enqueue = enqueue,
    .destroy = trine__winograd_destroy,
};
