/* SPDX-License-Identifier: MIT */
/* Minimal filtering's filter gradient of few channels: patches are transformed where they are multiplied. */
#include "op/conv2d_winograd.h"

enum {
    PATCHES_PART = 4, /* of local memory, as which CPUs report a core's own cache: for transformed patches */
    SUMS_PART = 3,    /* for a work-item's sums */
    LEAST_TILES = 8,  /* at a time, so that sums are not read and written too often */
    MOST_TILES = 32,  /* more gain nothing */
    TILES_OF_SPLIT = 64, /* at least, that sums of their own are worth */
    FEW_SPLITS = 8,
    MOST_SPLITS = 16, /* where all their sums together stay below SPLIT_BYTES */
    SPLIT_BYTES = 1 << 20,
    MIN_ITEMS_PER_UNIT = 4
};

/* Bytes of local memory that `tiles` patches of `blocks` channel blocks take. */
static size_t patches(const trine__winograd *s, int blocks, int tiles)
{
    return (size_t)(s->shape.planes * (blocks * tiles + 1) * s->cb) * sizeof(float);
}

/* Tiles at a time. */
static int choose_tiles(const trine_context *ctx, const trine__winograd *s)
{
    int tiles = MOST_TILES;
    while (tiles > LEAST_TILES &&
           patches(s, s->in_blocks + s->out_blocks, tiles) > ctx->caps.local_bytes / PATCHES_PART)
        tiles /= 2;
    return tiles;
}

bool trine__winograd_gradient_fits(const trine_context *ctx, const trine__winograd *s)
{
    return s->u_count * sizeof(float) <= ctx->caps.local_bytes / SUMS_PART &&
           patches(s, s->in_blocks + s->out_blocks, LEAST_TILES) <= ctx->caps.local_bytes / PATCHES_PART;
}

int trine__winograd_gradient_splits(const trine__winograd *s, int n)
{
    const int tiles = n * s->shape.tile_rows * s->shape.tile_columns;
    const size_t fit = SPLIT_BYTES / (s->u_count * sizeof(float));
    int splits = fit < FEW_SPLITS ? FEW_SPLITS : fit < MOST_SPLITS ? (int)fit : MOST_SPLITS;
    while (splits > 1 && tiles < splits * TILES_OF_SPLIT) splits--;
    return splits;
}

trine_status trine__winograd_gradient_enqueue(const trine_conv2d *op, trine_stream *stream,
                                              const trine__winograd *s, const trine__conv2d_call *call)
{
    const int n = call->x->shape.n, splits = trine__winograd_gradient_splits(s, n),
              tiles = choose_tiles(op->context, s), pairs = s->out_blocks / s->kv,
              wanted = op->context->caps.compute_units * MIN_ITEMS_PER_UNIT;
    int parts = 1;
    while (parts < pairs && splits * parts < wanted) parts++;
    const trine__arg args[] = {trine__arg_tensor(call->x),
                               trine__arg_buffer(call->input.mean),
                               trine__arg_buffer(call->input.a),
                               trine__arg_buffer(call->input.b),
                               trine__arg_tensor(call->dy),
                               trine__arg_buffer(call->workspace),
                               trine__arg_local(patches(s, s->in_blocks, tiles)),
                               trine__arg_local(patches(s, s->out_blocks, tiles)),
                               trine__arg_i32((int)s->u_count),
                               trine__arg_i32(s->shape.in_h),
                               trine__arg_i32(s->shape.in_w),
                               trine__arg_i32(s->shape.pad_h),
                               trine__arg_i32(s->shape.pad_w),
                               trine__arg_i32(s->shape.out_h),
                               trine__arg_i32(s->shape.out_w),
                               trine__arg_i32(s->shape.tile_rows),
                               trine__arg_i32(s->shape.tile_columns),
                               trine__arg_i32(n * s->shape.tile_rows * s->shape.tile_columns),
                               trine__arg_i32(tiles),
                               trine__arg_i32(s->in_blocks),
                               trine__arg_i32(s->out_blocks)};
    return trine__launch(stream, s->fused, args, TRINE_COUNTOF(args),
                         trine__grid_tiles((size_t)splits, (size_t)parts, 1),
                         trine__direction_name(TRINE_BACKWARD_WEIGHTS));
}
