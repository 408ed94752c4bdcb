/* SPDX-License-Identifier: MIT */
/* conv2d by minimal filtering for devices that run work-groups in parallel, F(4x4, 3x3) and F(2x2, 3x3): 3x3 convolutions of stride 1, all
 * directions, every padding and channel blocks. Filters are transformed once per update. A call goes through the tiles by chunks:
 * transformed patches, a matrix product for every plane with tiles in local memory, and the way back with the epilogue, or, for the
 * filter gradient, with the sum of its parts. */
#include <stdio.h>

#include "op/conv2d_winograd_shape.h"

enum {
    BLOCK = 64, /* tiles and channels of a row of planes are a multiple of this, as products' tiles are */
    CHUNK_BYTES = 32 << 20, /* of transformed patches and products: GPUs' last caches have 4 to 100 MiB */
    ALLOCATION_PARTS = 8,   /* ... and of a device with little memory, this part of its largest buffer */
    GROUPS_PER_UNIT = 4,    /* work-groups that keep a compute unit busy */
    SHORTEST_SPLIT = 4,     /* BLOCKs of tiles */
    TM = 4, /* cl/conv2d_gemm.clh's TM and TN: a work-group of side x side makes side*TM x side*TM */
    SIDES = 2,
    PRODUCTS_PER_FLOAT = 32, /* that a GPU does while it moves a float from or to memory, */
    SHARING_IMAGES = 8       /* with so many images that share a filter: see cost() */
};

static const int sides[SIDES] = {16, 8}; /* of work-groups */

typedef struct winograd_gemm_state {
    trine__kernel *filter, *input, *output; /* forward, backward_data */
    trine__kernel *gradient, *unpack;       /* backward_weights, with `input` */
    trine__kernel *multiply[SIDES];         /* NULL: the device has no room for such a group */
    trine__winograd_shape shape;
    int in_stride, out_stride; /* channels in whole blocks */
    bool weights;              /* backward_weights */
} winograd_gemm_state;

/* How one call is cut up. */
typedef struct cut {
    int tiles;      /* in all */
    int t_count;    /* in a chunk */
    int share;      /* of a chunk's tiles, in a part of the filter gradient */
    int splits;     /* such parts */
    size_t v_count; /* floats of a chunk's patches */
    size_t m_count; /* of its products, or of the gradient's tiles */
} cut;

static bool runs(const trine__caps *caps, int side)
{
    const int floats = side * (2 * side * TM + 8); /* of local memory */
    return caps->max_local_size >= (size_t)(side * side) && caps->max_local_size >= TRINE__LOCAL &&
           caps->local_bytes >= sizeof(float) * (size_t)floats;
}

static size_t filter_count(const winograd_gemm_state *s)
{
    return (size_t)s->shape.planes * (size_t)(s->weights ? s->shape.out_channels : s->shape.in_channels) *
           (size_t)(s->weights ? s->in_stride : s->out_stride);
}

/* Floats of a chunk of so many tiles, patches and products. */
static size_t chunk_count(const winograd_gemm_state *s, int tiles)
{
    return (size_t)s->shape.planes * (size_t)(s->shape.in_channels + s->shape.out_channels) * (size_t)tiles;
}

static bool plan(const trine_conv2d *op, trine_direction direction, int mo, winograd_gemm_state *s)
{
    const trine__caps *caps = &op->context->caps;
    const size_t most = (size_t)1 << 30; /* floats: positions are ints */
    *s = (winograd_gemm_state){.weights = direction == TRINE_BACKWARD_WEIGHTS};
    if (!runs(caps, sides[SIDES - 1]) || !trine__winograd_shape_of(op, direction, mo, &s->shape) ||
        s->shape.stride != 1)
        return false;
    s->in_stride = (int)trine__round_up((size_t)s->shape.in_channels, BLOCK);
    s->out_stride = (int)trine__round_up((size_t)s->shape.out_channels, BLOCK);
    return filter_count(s) < most && filter_count(s) * sizeof(float) <= caps->max_allocation &&
           chunk_count(s, BLOCK) < most;
}

static bool supports4(const trine_conv2d *op, trine_direction direction)
{
    winograd_gemm_state s;
    return plan(op, direction, 4, &s);
}

static bool supports2(const trine_conv2d *op, trine_direction direction)
{
    winograd_gemm_state s;
    return plan(op, direction, 2, &s);
}

/* What an image costs, in products: those of `taps` planes of `places` tiles (or pixels), with `moved` floats of each plane, tile and
 * channel that go to memory and come back, and the filters, which some images share. An estimate that no GPU has confirmed: by makers'
 * tables, discrete ones do 28 to 76 multiply-adds for each float that memory delivers, of which products with tiles in local memory reach
 * about half. */
static double cost(const trine_conv2d_desc *d, double taps, double places, double moved)
{
    const double pairs = (double)d->in_channels * d->out_channels,
                 channels = (double)d->in_channels + d->out_channels;
    return taps * (places * (pairs + moved * channels * PRODUCTS_PER_FLOAT) +
                   pairs * PRODUCTS_PER_FLOAT / SHARING_IMAGES);
}

static double winograd_cost(const trine_conv2d *op, const trine__winograd_shape *shape)
{
    return cost(&op->desc, shape->planes, (double)shape->tile_rows * shape->tile_columns, 2);
}

/* Cheaper than nine products a pixel, which need no way to memory and back. */
static bool worthwhile(const trine_conv2d *op, const trine__winograd_shape *shape)
{
    return !op->context->caps.cpu &&
           winograd_cost(op, shape) < cost(&op->desc, 9, (double)shape->out_h * shape->out_w, 0);
}

/* The larger tile where it costs less: not where it is mostly beyond the border, or its filters outweigh the image. */
static bool prefers4(const trine_conv2d *op, trine_direction direction)
{
    winograd_gemm_state s, other;
    return plan(op, direction, 4, &s) && worthwhile(op, &s.shape) &&
           !(plan(op, direction, 2, &other) &&
             winograd_cost(op, &other.shape) <= winograd_cost(op, &s.shape));
}

static bool prefers2(const trine_conv2d *op, trine_direction direction)
{
    winograd_gemm_state s;
    return plan(op, direction, 2, &s) && worthwhile(op, &s.shape);
}

static void destroy(void *state)
{
    winograd_gemm_state *s = state;
    trine__kernel **const kernels[] = {&s->filter, &s->input, &s->output, &s->gradient, &s->unpack};
    for (size_t i = 0; i < TRINE_COUNTOF(kernels); i++) trine__kernel_destroy(kernels[i]);
    for (int i = 0; i < SIDES; i++) trine__kernel_destroy(&s->multiply[i]);
}

static trine_status create_kernels(const trine_conv2d *op, trine_direction direction, winograd_gemm_state *s)
{
    trine_context *ctx = op->context;
    const trine_conv2d_desc *d = &op->desc;
    const trine_dtype in = direction == TRINE_BACKWARD_DATA ? d->out_dtype : d->in_dtype,
                      out = direction == TRINE_BACKWARD_DATA ? d->in_dtype : d->out_dtype;
    char reads[48], writes[48], filters[64];
    snprintf(filters, sizeof filters, "-DMO=%d %s", s->shape.mo, trine__conv2d_weight_options(op).text);
    snprintf(reads, sizeof reads, "-DMO=%d%s", s->shape.mo, trine__storage_options(in, TRINE_F32));
    snprintf(writes, sizeof writes, "-DMO=%d%s", s->shape.mo,
             s->weights ? trine__storage_options(out, TRINE_F32) : trine__storage_options(TRINE_F32, out));
    TRINE_TRY(trine__kernel_create(ctx, "conv2d_winograd_gemm_input", reads, &s->input));
    for (int i = 0; i < SIDES; i++) {
        if (!runs(&ctx->caps, sides[i])) continue;
        char options[32];
        snprintf(options, sizeof options, "-DSIDE=%d%s", sides[i], s->weights ? " -DALONG" : "");
        TRINE_TRY(trine__kernel_create(ctx, "conv2d_winograd_gemm_multiply", options, &s->multiply[i]));
    }
    if (s->weights) {
        TRINE_TRY(trine__kernel_create(ctx, "conv2d_winograd_gemm_gradient", writes, &s->gradient));
        return trine__kernel_create(ctx, "conv2d_winograd_gemm_unpack", filters, &s->unpack);
    }
    TRINE_TRY(trine__kernel_create(ctx, "conv2d_winograd_gemm_filter", filters, &s->filter));
    return trine__kernel_create(ctx, "conv2d_winograd_gemm_output", writes, &s->output);
}

static trine_status create(trine_conv2d *op, trine_direction direction, void *state)
{
    plan(op, direction, op->impl[direction] == &trine__conv2d_winograd4_gemm ? 4 : 2, state);
    return create_kernels(op, direction, state);
}

static size_t prepared_bytes(const trine_conv2d *op, trine_direction direction)
{
    return filter_count(op->state[direction]) * sizeof(float);
}

static trine_status prepare(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine_buffer *weights, trine_buffer *prepared)
{
    const winograd_gemm_state *s = op->state[direction];
    const trine__arg args[] = {trine__arg_buffer(weights), trine__arg_buffer(prepared),
                               trine__arg_i32(s->shape.in_channels), trine__arg_i32(s->shape.out_channels),
                               trine__arg_i32(direction == TRINE_BACKWARD_DATA)};
    return trine__launch(
        stream, s->filter, args, TRINE_COUNTOF(args),
        trine__grid_lines((size_t)s->out_stride, (size_t)s->shape.in_channels, 1, TRINE__LOCAL), "prepare");
}

/* BLOCKs of tiles of n images, and of a chunk at most. */
static size_t all_blocks(const winograd_gemm_state *s, int n)
{
    const size_t tiles = (size_t)n * (size_t)s->shape.tile_rows * (size_t)s->shape.tile_columns;
    return (tiles + BLOCK - 1) / BLOCK;
}

static size_t most_blocks(const trine_conv2d *op, const winograd_gemm_state *s, size_t all)
{
    const size_t share = op->context->caps.max_allocation / ALLOCATION_PARTS,
                 bytes = share < CHUNK_BYTES ? share : CHUNK_BYTES,
                 fit = bytes / (chunk_count(s, BLOCK) * sizeof(float)), most = fit < 1 ? 1 : fit;
    return most < all ? most : all;
}

static size_t group_count(int side, int rows, int columns)
{
    const int size = side * TM;
    return (size_t)trine__ceil_div(rows, size) * (size_t)trine__ceil_div(columns, size);
}

/* In how many parts the filter gradient of a chunk of so many blocks is added up to keep the device busy. */
static int splits_of(const trine_conv2d *op, const winograd_gemm_state *s, size_t blocks)
{
    const size_t count = (size_t)s->shape.planes *
                         group_count(sides[0], s->shape.out_channels, s->shape.in_channels),
                 wanted = (size_t)op->context->caps.compute_units * GROUPS_PER_UNIT,
                 most = (blocks + SHORTEST_SPLIT - 1) / SHORTEST_SPLIT, splits = (wanted + count - 1) / count;
    return (int)(splits < most ? splits : most);
}

static cut cut_call(const trine_conv2d *op, const winograd_gemm_state *s, int n)
{
    const size_t all = all_blocks(s, n), most = most_blocks(op, s, all), chunks = (all + most - 1) / most,
                 blocks = (all + chunks - 1) / chunks; /* chunks of one size */
    cut c = {.tiles = n * s->shape.tile_rows * s->shape.tile_columns, .t_count = (int)blocks * BLOCK};
    const int splits = s->weights ? splits_of(op, s, blocks) : 1;
    c.share = trine__ceil_div((int)blocks, splits) * BLOCK;
    c.splits = trine__ceil_div(c.t_count, c.share);
    c.v_count = (size_t)s->shape.planes * (size_t)s->shape.in_channels * (size_t)c.t_count;
    c.m_count = (size_t)s->shape.planes * (size_t)s->shape.out_channels * (size_t)c.t_count;
    return c;
}

/* The most that any batch up to n takes: chunks of a smaller one may be larger. */
static size_t workspace(const trine_conv2d *op, trine_direction direction, int n)
{
    const winograd_gemm_state *s = op->state[direction];
    const size_t blocks = most_blocks(op, s, all_blocks(s, n));
    const size_t parts = s->weights ? (size_t)splits_of(op, s, blocks) * filter_count(s) : 0;
    return (chunk_count(s, BLOCK) * blocks + parts) * sizeof(float);
}

/* The larger group, unless the smaller one is the less work: it pads less, and shares out better what is little. */
static int choose_side(const trine_conv2d *op, const winograd_gemm_state *s, int rows, int columns, int z)
{
    const size_t at_once = (size_t)op->context->caps.compute_units * GROUPS_PER_UNIT;
    const double speed[SIDES] = {1.0, 0.7}; /* of a device full of them: an estimate, as conv2d_gemm's */
    int best = -1;
    double best_cost = 0;
    for (int i = 0; i < SIDES; i++) {
        if (!s->multiply[i]) continue;
        const size_t count = group_count(sides[i], rows, columns) * (size_t)z,
                     rounds = (count + at_once - 1) / at_once;
        const double time = (double)rounds * sides[i] * sides[i] / speed[i];
        if (best >= 0 && time >= best_cost) continue;
        best = i;
        best_cost = time;
    }
    return best;
}

/* Patches of the chunk at tile `first`, transformed, at the workspace's beginning. */
static trine_status launch_input(trine_stream *stream, const winograd_gemm_state *s, const cut *c, int first,
                                 const trine_tensor *in, const trine__conv2d_call *call, const char *label)
{
    const trine__winograd_shape *shape = &s->shape;
    const trine__arg args[] = {trine__arg_tensor(in),
                               trine__arg_buffer(call->workspace),
                               trine__arg_i32(shape->in_h),
                               trine__arg_i32(shape->in_w),
                               trine__arg_i32(shape->tile_rows),
                               trine__arg_i32(shape->tile_columns),
                               trine__arg_i32(c->tiles),
                               trine__arg_i32(first),
                               trine__arg_i32(c->t_count),
                               trine__arg_i32(shape->pad_h),
                               trine__arg_i32(shape->pad_w),
                               trine__arg_i32(trine__block_shift(in->cb))};
    return trine__launch(stream, s->input, args, TRINE_COUNTOF(args),
                         trine__grid_lines((size_t)c->t_count, (size_t)shape->in_channels, 1, TRINE__LOCAL),
                         label);
}

/* A matrix product for every plane, `splits` parts of it each. */
static trine_status launch_multiply(const trine_conv2d *op, trine_stream *stream,
                                    const winograd_gemm_state *s, const trine_buffer *a,
                                    trine_buffer *workspace, int columns, int depth, const int strides[3],
                                    size_t a_at, size_t out_at, const cut *c, bool add, const char *label)
{
    const int z = s->shape.planes * c->splits, rows = s->shape.out_channels,
              chosen = choose_side(op, s, rows, columns, z);
    const size_t side = (size_t)sides[chosen];
    const trine__arg args[] = {trine__arg_buffer(a),
                               trine__arg_buffer(workspace),
                               trine__arg_buffer(workspace),
                               trine__arg_i32((int)a_at),
                               trine__arg_i32((int)out_at),
                               trine__arg_i32(rows),
                               trine__arg_i32(columns),
                               trine__arg_i32(depth),
                               trine__arg_i32(strides[0]),
                               trine__arg_i32(strides[1]),
                               trine__arg_i32(strides[2]),
                               trine__arg_i32(s->shape.planes),
                               trine__arg_i32(s->weights ? c->share : depth),
                               trine__arg_i32(add)};
    const trine__grid grid = {{(size_t)trine__ceil_div(columns, sides[chosen] * TM) * side,
                               (size_t)trine__ceil_div(rows, sides[chosen] * TM) * side, (size_t)z},
                              {side, side, 1}};
    return trine__launch(stream, s->multiply[chosen], args, TRINE_COUNTOF(args), grid, label);
}

static trine_status enqueue_chunk(const trine_conv2d *op, trine_stream *stream, const winograd_gemm_state *s,
                                  const cut *c, int first, const trine_tensor *in,
                                  const trine__conv2d_call *call)
{
    const trine__winograd_shape *shape = &s->shape;
    const trine_conv2d_epilogue *e = call->epilogue;
    const trine_direction direction = call->dy ? TRINE_BACKWARD_DATA : TRINE_FORWARD;
    const char *label = trine__direction_name(direction);
    const int strides[] = {s->out_stride, c->t_count, c->t_count},
              columns = c->tiles - first < c->t_count ? c->tiles - first : c->t_count;
    TRINE_TRY(launch_input(stream, s, c, first, in, call, label));
    TRINE_TRY(launch_multiply(op, stream, s, op->weights[direction], call->workspace, columns,
                              shape->in_channels, strides, 0, c->v_count, c, false, label));
    const trine__arg args[] = {trine__arg_buffer(call->workspace),
                               trine__arg_buffer(e->scale),
                               trine__arg_buffer(e->shift),
                               trine__arg_tensor(e->residual),
                               trine__arg_tensor(call->out),
                               trine__arg_i32((int)c->v_count),
                               trine__arg_i32(shape->out_channels),
                               trine__arg_i32(shape->out_h),
                               trine__arg_i32(shape->out_w),
                               trine__arg_i32(shape->tile_rows),
                               trine__arg_i32(shape->tile_columns),
                               trine__arg_i32(c->tiles),
                               trine__arg_i32(first),
                               trine__arg_i32(c->t_count),
                               trine__arg_i32(trine__block_shift(call->out->cb)),
                               trine__arg_i32(trine__epilogue_flags(op, call))};
    const size_t channels = trine__round_up((size_t)shape->out_channels, (size_t)call->out->cb);
    return trine__launch(stream, s->output, args, TRINE_COUNTOF(args),
                         trine__grid_lines((size_t)c->t_count, channels, 1, TRINE__LOCAL), label);
}

static trine_status weights_chunk(const trine_conv2d *op, trine_stream *stream, const winograd_gemm_state *s,
                                  const cut *c, int first, const trine__conv2d_call *call)
{
    const trine__winograd_shape *shape = &s->shape;
    const char *label = trine__direction_name(TRINE_BACKWARD_WEIGHTS);
    const int strides[] = {c->t_count, c->t_count, s->in_stride};
    TRINE_TRY(launch_input(stream, s, c, first, call->x, call, label));
    const trine__arg args[] = {trine__arg_tensor(call->dy),
                               trine__arg_buffer(call->workspace),
                               trine__arg_i32((int)c->v_count),
                               trine__arg_i32(shape->out_h),
                               trine__arg_i32(shape->out_w),
                               trine__arg_i32(shape->tile_rows),
                               trine__arg_i32(shape->tile_columns),
                               trine__arg_i32(c->tiles),
                               trine__arg_i32(first),
                               trine__arg_i32(c->t_count),
                               trine__arg_i32(trine__block_shift(call->dy->cb))};
    TRINE_TRY(trine__launch(
        stream, s->gradient, args, TRINE_COUNTOF(args),
        trine__grid_lines((size_t)c->t_count, (size_t)shape->out_channels, 1, TRINE__LOCAL), label));
    return launch_multiply(op, stream, s, call->workspace, call->workspace, shape->in_channels, c->t_count,
                           strides, c->v_count, c->v_count + c->m_count, c, first > 0, label);
}

static trine_status unpack(trine_stream *stream, const winograd_gemm_state *s, const cut *c,
                           const trine__conv2d_call *call)
{
    const trine__winograd_shape *shape = &s->shape;
    const trine__arg args[] = {
        trine__arg_buffer(call->workspace),  trine__arg_i32((int)(c->v_count + c->m_count)),
        trine__arg_buffer(call->dw),         trine__arg_i32(shape->in_channels),
        trine__arg_i32(shape->out_channels), trine__arg_i32(s->in_stride),
        trine__arg_i32(c->splits),           trine__arg_i32(call->beta)};
    return trine__launch(
        stream, s->unpack, args, TRINE_COUNTOF(args),
        trine__grid_lines((size_t)shape->in_channels, (size_t)shape->out_channels, 1, TRINE__LOCAL),
        trine__direction_name(TRINE_BACKWARD_WEIGHTS));
}

static trine_status enqueue(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine__conv2d_call *call)
{
    const winograd_gemm_state *s = op->state[direction];
    const bool weights = direction == TRINE_BACKWARD_WEIGHTS;
    const trine_tensor *in = direction == TRINE_BACKWARD_DATA ? call->dy : call->x;
    TRINE_TRY(trine__conv2d_check_positions(op, direction, call));
    const cut all = cut_call(op, s, in->shape.n);
    for (int first = 0; first < all.tiles; first += all.t_count) {
        const int left = (int)trine__round_up((size_t)(all.tiles - first), BLOCK);
        cut c = all;
        if (left < c.t_count) c.t_count = left;
        TRINE_TRY(weights ? weights_chunk(op, stream, s, &c, first, call)
                          : enqueue_chunk(op, stream, s, &c, first, in, call));
        if (all.tiles - first <= all.t_count) break; /* before the sum overflows */
    }
    return weights ? unpack(stream, s, &all, call) : TRINE_OK;
}

const trine__conv2d_impl trine__conv2d_winograd4_gemm = {
    .name = "conv2d_winograd4_gemm",
    .error_class = 16.0,
    .reads_halves = true,
    .spread = 3,
    .supports = supports4,
    .prefers = prefers4,
    .workspace = workspace,
    .state_bytes = sizeof(winograd_gemm_state),
    .create = create,
    .prepared_bytes = prepared_bytes,
    .prepare = prepare,
    .enqueue = enqueue,
    .destroy = destroy,
};

const trine__conv2d_impl trine__conv2d_winograd2_gemm = {
    .name = "conv2d_winograd2_gemm",
    .error_class = 2.0,
    .reads_halves = true,
    .spread = 1,
    .supports = supports2,
    .prefers = prefers2,
    .workspace = workspace,
    .state_bytes = sizeof(winograd_gemm_state),
    .create = create,
    .prepared_bytes = prepared_bytes,
    .prepare = prepare,
    .enqueue = enqueue,
    .destroy = destroy,
};
