/* SPDX-License-Identifier: MIT */
/* conv2d as an implicit matrix product with tiles in local memory, for devices that run work-groups in parallel: every kernel, stride,
 * padding, dilation, number of groups and channel blocks. */
#include <stdio.h>

#include "op/conv2d_gemm_tiles.h"
#include "op/conv2d_mma.h"
#include "op/conv2d_taps.h"

enum {
    LANES = 32,           /* neighbouring filters of packed weights: cl/conv2d_gemm_layout.clh */
    MAX_SOURCE_SHIFT = 3, /* sources in a block of packed weights: at most a step of the narrowest tile */
    MAX_TAPS = 1024,      /* of a filter */
    MAX_REACH = 1 << 13,  /* of images, padding and dilated filters: cl/conv2d_gemm.clh's corners */
    MAX_PHASES = 64,      /* of a stride */
    SHORTEST_SPLIT = 1024 /* pixels */
};

typedef struct gemm_state {
    trine__kernel *kernels[TRINE__TILES],
        *pack; /* NULL: the device cannot run such a tile. `pack`: prepare; backward_weights' second pass */
    trine_buffer *taps;
    int sources, results; /* channels of a group that are read and written */
    int source_shift;     /* of packed weights' blocks */
    int step_h, step_w;   /* pixels read from one result to the next */
    int os_h, os_w;       /* results of a phase are this far apart */
    bool mma;             /* conv2d_mma */
    int phase_count;
    trine__phase phases[MAX_PHASES];
} gemm_state;

typedef struct tap {
    int32_t row, column, position, unused; /* an int4 */
} tap;

static bool supports(const trine_conv2d *op, trine_direction direction)
{
    (void)direction;
    const trine_conv2d_desc *d = &op->desc;
    const int reach[] = {op->h, op->w, d->pad_h, d->pad_w};
    for (size_t i = 0; i < TRINE_COUNTOF(reach); i++)
        if (reach[i] > MAX_REACH) return false;
    return d->kernel_h <= MAX_TAPS && d->kernel_w <= MAX_TAPS && d->kernel_h * d->kernel_w <= MAX_TAPS &&
           d->dilation_h * (d->kernel_h - 1) <= MAX_REACH && d->dilation_w * (d->kernel_w - 1) <= MAX_REACH &&
           d->stride_h <= MAX_PHASES && d->stride_w <= MAX_PHASES &&
           d->stride_h * d->stride_w <= MAX_PHASES &&
           trine__tile_runs(&op->context->caps, &trine__tiles[TRINE__SMALLEST_TILE]);
}

/* Of packed weights: 1 << it sources lie in a block. */
static int source_shift_of(int sources)
{
    int shift = 0;
    while (shift < MAX_SOURCE_SHIFT && 1 << shift < sources) shift++;
    return shift;
}

typedef struct kernel_options {
    char text[192];
} kernel_options;

static kernel_options options_of(const trine_conv2d *op, trine_direction direction, const trine__tile *t,
                                 int source_shift, bool mma)
{
    kernel_options o;
    snprintf(o.text, sizeof o.text, "%s%s%s",
             trine__tile_shape(&op->context->caps, t, 1 << source_shift).text,
             trine__conv2d_storage_options(op, direction), mma ? trine__conv2d_mma_options(op).text : "");
    return o;
}

/* Weights are rounded to halves on the way, and with activations in single precision both to TF32: only where activations are halves too,
 * or where it is allowed, so that nothing changes precision by itself. */
static bool supports_mma(const trine_conv2d *op, trine_direction direction)
{
    return trine__conv2d_mma_options(op).text[0] && trine__tile_runs(&op->context->caps, &trine__tiles[0]) &&
           supports(op, direction) &&
           trine__conv2d_mma_builds(op,
                                    options_of(op, TRINE_FORWARD, &trine__tiles[0],
                                               source_shift_of(op->desc.in_channels / op->desc.groups), true)
                                        .text);
}

/* By name, or where `trine tune` found it right and fast: no GPU has run it yet. */
static bool prefers_mma(const trine_conv2d *op, trine_direction direction)
{
    (void)op;
    (void)direction;
    return false;
}

/* Work-groups with barriers are what a CPU is worst at; groups of few channels leave most of a tile empty. */
static bool prefers(const trine_conv2d *op, trine_direction direction)
{
    (void)direction;
    const trine_conv2d_desc *d = &op->desc;
    enum { FEWEST = 16 };
    return !op->context->caps.cpu && (d->groups == 1 || (d->out_channels / d->groups >= FEWEST &&
                                                         d->in_channels / d->groups >= FEWEST));
}

static void destroy(void *state)
{
    gemm_state *s = state;
    for (int i = 0; i < TRINE__TILES; i++) trine__kernel_destroy(&s->kernels[i]);
    trine__kernel_destroy(&s->pack);
    trine_buffer_release(&s->taps);
}

static void plan_forward(const trine_conv2d *op, gemm_state *s, tap *taps)
{
    const trine_conv2d_desc *d = &op->desc;
    for (int i = 0; i < d->kernel_h * d->kernel_w; i++)
        taps[i] = (tap){i / d->kernel_w * d->dilation_h - d->pad_h,
                        i % d->kernel_w * d->dilation_w - d->pad_w, i, 0};
    s->step_h = d->stride_h;
    s->step_w = d->stride_w;
    s->os_h = s->os_w = 1;
    s->phases[s->phase_count++] =
        (trine__phase){.rows = op->p, .columns = op->q, .tap_count = d->kernel_h * d->kernel_w};
}

static void plan_backward_data(const trine_conv2d *op, gemm_state *s, tap *taps)
{
    const trine_conv2d_desc *d = &op->desc;
    int count = 0;
    for (int i = 0; i < d->stride_h && i < op->h; i++)
        for (int j = 0; j < d->stride_w && j < op->w; j++) {
            const trine__axis r = trine__backward_axis(op->h, i, d->kernel_h, d->stride_h, d->pad_h,
                                                       d->dilation_h),
                              c = trine__backward_axis(op->w, j, d->kernel_w, d->stride_w, d->pad_w,
                                                       d->dilation_w);
            s->phases[s->phase_count++] = (trine__phase){r.count, c.count, i, j, count, r.taps * c.taps};
            for (int t = 0; t < r.taps * c.taps; t++) {
                const int tr = t / c.taps, tc = t % c.taps;
                taps[count++] = (tap){r.base + tr * r.delta, c.base + tc * c.delta,
                                      (r.first + tr * r.step) * d->kernel_w + c.first + tc * c.step, 0};
            }
        }
    s->step_h = s->step_w = 1;
    s->os_h = d->stride_h;
    s->os_w = d->stride_w;
}

/* A variant has its tile, what is not tuned those that are chosen from by size. */
static bool takes_tile(const trine_conv2d *op, trine_direction direction, int i)
{
    const int variant = op->variant[direction];
    return variant ? i == variant - 1
                   : i < TRINE__UNTUNED_TILES && trine__tile_runs(&op->context->caps, &trine__tiles[i]);
}

/* CPUs do not gain from another tile what they lose by work-groups with barriers. */
static bool supports_variant(const trine_conv2d *op, trine_direction direction, int variant)
{
    const trine__tile *t = &trine__tiles[variant - 1];
    return !op->context->caps.cpu && trine__tile_runs(&op->context->caps, t) &&
           (t->exchange == TRINE__BY_LOCAL_MEMORY || direction != TRINE_BACKWARD_WEIGHTS) &&
           trine__tile_builds(op->context, t,
                              options_of(op, TRINE_FORWARD, t,
                                         source_shift_of(op->desc.in_channels / op->desc.groups), false)
                                  .text);
}

static bool dense_weights(const trine_conv2d *op)
{
    return op->desc.weight_kb == 1 && op->desc.weight_cb == 1;
}

static trine_status create_kernels(trine_conv2d *op, trine_direction direction, gemm_state *s,
                                   const tap *taps)
{
    const bool weights = direction == TRINE_BACKWARD_WEIGHTS;
    const char *in_layout = trine__conv2d_weight_options(op).text;
    const int tap_count = op->desc.kernel_h * op->desc.kernel_w;
    TRINE_TRY(trine__buffer_from_host(op->context, taps, (size_t)tap_count * sizeof *taps, &s->taps));
    for (int i = 0; i < (s->mma ? 1 : TRINE__TILES); i++) {
        if (!takes_tile(op, direction, i)) continue;
        const trine__tile *t = &trine__tiles[i];
        TRINE_TRY(trine__tile_create(op->context, t, direction,
                                     options_of(op, direction, t, s->source_shift, s->mma).text,
                                     &s->kernels[i]));
    }
    if (weights && dense_weights(op))
        return trine__kernel_create(op->context, "conv2d_add_splits", "", &s->pack);
    return trine__kernel_create(op->context, weights ? "conv2d_unpack" : "conv2d_gemm_pack", in_layout,
                                &s->pack);
}

static trine_status create_as(trine_conv2d *op, trine_direction direction, bool mma, gemm_state *s)
{
    tap taps[MAX_TAPS];
    s->mma = mma;
    const trine_conv2d_desc *d = &op->desc;
    const bool backward = direction == TRINE_BACKWARD_DATA;
    s->sources = (backward ? d->out_channels : d->in_channels) / d->groups;
    s->results = (backward ? d->in_channels : d->out_channels) / d->groups;
    if (backward)
        plan_backward_data(op, s, taps);
    else
        plan_forward(op, s, taps);
    s->source_shift = source_shift_of(s->sources);
    return create_kernels(op, direction, s, taps);
}

static trine_status create(trine_conv2d *op, trine_direction direction, void *state)
{
    return create_as(op, direction, false, state);
}

static trine_status create_mma(trine_conv2d *op, trine_direction direction, void *state)
{
    return create_as(op, direction, true, state);
}

/* Packed weights: blocks of LANES filters, and of sources. */
static int result_blocks(const gemm_state *s)
{
    return trine__ceil_div(s->results, LANES);
}

static int source_blocks(const gemm_state *s)
{
    return trine__ceil_div(s->sources, 1 << s->source_shift);
}

static size_t prepared_bytes(const trine_conv2d *op, trine_direction direction)
{
    const trine_conv2d_desc *d = &op->desc;
    const gemm_state *s = op->state[direction];
    return sizeof(float) * (size_t)d->groups * (size_t)result_blocks(s) * (size_t)source_blocks(s) *
               (size_t)(d->kernel_h * d->kernel_w * LANES)
           << s->source_shift;
}

static trine_status prepare(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine_buffer *weights, trine_buffer *prepared)
{
    const trine_conv2d_desc *d = &op->desc;
    const gemm_state *s = op->state[direction];
    const int taps = d->kernel_h * d->kernel_w;
    const trine__arg args[] = {trine__arg_buffer(weights),
                               trine__arg_buffer(prepared),
                               trine__arg_i32(s->results),
                               trine__arg_i32(s->sources),
                               trine__arg_i32(taps),
                               trine__arg_i32(s->source_shift),
                               trine__arg_i32(direction == TRINE_BACKWARD_DATA)};
    return trine__launch(stream, s->pack, args, TRINE_COUNTOF(args),
                         trine__grid_lines((size_t)(LANES * taps) << s->source_shift,
                                           (size_t)source_blocks(s), (size_t)(d->groups * result_blocks(s)),
                                           TRINE__LOCAL),
                         "prepare");
}

/* The tile for so many columns of results. */
static int choose_tile(const trine_conv2d *op, const gemm_state *s, size_t columns, bool splits)
{
    return trine__tile_choose(&op->context->caps, s->kernels, s->results, columns, op->desc.groups, splits);
}

/* How the filter gradient is shared out: the tile, and how many parts the pixels of all images are added up in to keep the device busy. */
typedef struct gradient_cut {
    int tile, splits;
} gradient_cut;

static gradient_cut cut_gradient(const trine_conv2d *op, const gemm_state *s, int n)
{
    const trine_conv2d_desc *d = &op->desc;
    const size_t columns = (size_t)(s->sources * d->kernel_h * d->kernel_w);
    gradient_cut cut = {.tile = choose_tile(op, s, columns, true)};
    const size_t count = trine__tile_count(&trine__tiles[cut.tile], s->results, columns) * (size_t)d->groups,
                 wanted = (size_t)op->context->caps.compute_units * TRINE__GROUPS_PER_UNIT;
    const int most = trine__ceil_div(n * op->p * op->q, SHORTEST_SPLIT);
    cut.splits = (int)((wanted + count - 1) / count);
    if (cut.splits > most) cut.splits = most;
    return cut;
}

static size_t gradient_count(const trine_conv2d *op, const gemm_state *s)
{
    return (size_t)op->desc.out_channels * (size_t)(s->sources * op->desc.kernel_h * op->desc.kernel_w);
}

static size_t workspace(const trine_conv2d *op, trine_direction direction, int n)
{
    if (direction != TRINE_BACKWARD_WEIGHTS) return 0;
    const gemm_state *s = op->state[direction];
    const int splits = cut_gradient(op, s, n).splits;
    return splits == 1 && dense_weights(op) ? 0 : sizeof(float) * (size_t)splits * gradient_count(op, s);
}

/* dw from partial sums; conv2d_unpack's packed layout with blocks of one filter and one channel is what they have. */
static trine_status add_up(trine_conv2d *op, trine_stream *stream, const gemm_state *s,
                           const trine__conv2d_call *call, int splits)
{
    const trine_conv2d_desc *d = &op->desc;
    const char *label = trine__direction_name(TRINE_BACKWARD_WEIGHTS);
    const size_t count = gradient_count(op, s);
    if (dense_weights(op)) {
        const trine__arg args[] = {trine__arg_buffer(call->workspace), trine__arg_buffer(call->dw),
                                   trine__arg_i32(splits), trine__arg_i32((int)count),
                                   trine__arg_i32(call->beta)};
        return trine__launch(stream, s->pack, args, TRINE_COUNTOF(args),
                             trine__grid_lines(count, 1, 1, TRINE__LOCAL), label);
    }
    const trine__arg args[] = {trine__arg_buffer(call->workspace),
                               trine__arg_buffer(call->dw),
                               trine__arg_i32(s->results),
                               trine__arg_i32(s->sources),
                               trine__arg_i32(1),
                               trine__arg_i32(s->results),
                               trine__arg_i32(s->sources),
                               trine__arg_i32(d->kernel_h * d->kernel_w),
                               trine__arg_i32(1),
                               trine__arg_i32(1),
                               trine__arg_i32(splits),
                               trine__arg_i32((int)count),
                               trine__arg_i32(call->beta)};
    return trine__launch(stream, s->pack, args, TRINE_COUNTOF(args),
                         trine__grid_tiles((size_t)s->sources, (size_t)d->out_channels, 1), label);
}

static trine_status enqueue_weights(trine_conv2d *op, trine_stream *stream, const gemm_state *s,
                                    const trine__conv2d_call *call)
{
    const trine_conv2d_desc *d = &op->desc;
    const int taps = d->kernel_h * d->kernel_w, pixels = call->x->shape.n * op->p * op->q;
    const gradient_cut cut = cut_gradient(op, s, call->x->shape.n);
    const bool at_once = cut.splits == 1 && dense_weights(op);
    const trine__arg args[] = {trine__arg_tensor(call->x),
                               trine__arg_tensor(call->dy),
                               trine__arg_buffer(at_once ? call->dw : call->workspace),
                               trine__arg_buffer(s->taps),
                               trine__arg_i32(d->groups),
                               trine__arg_i32(s->sources),
                               trine__arg_i32(s->results),
                               trine__arg_i32(taps),
                               trine__arg_i32(op->h),
                               trine__arg_i32(op->w),
                               trine__arg_i32(op->p),
                               trine__arg_i32(op->q),
                               trine__arg_i32(d->stride_h),
                               trine__arg_i32(d->stride_w),
                               trine__arg_i32(pixels),
                               trine__arg_i32(trine__ceil_div(pixels, cut.splits)),
                               trine__arg_i32(trine__block_shift(d->in_cb)),
                               trine__arg_i32(trine__block_shift(d->out_cb)),
                               trine__arg_i32(at_once && call->beta)};
    TRINE_TRY(trine__launch(stream, s->kernels[cut.tile], args, TRINE_COUNTOF(args),
                            trine__tile_grid(&trine__tiles[cut.tile], (size_t)(s->sources * taps), s->results,
                                             (size_t)(d->groups * cut.splits)),
                            trine__direction_name(TRINE_BACKWARD_WEIGHTS)));
    return at_once ? TRINE_OK : add_up(op, stream, s, call, cut.splits);
}

static trine_status launch_phase(trine_conv2d *op, trine_stream *stream, const gemm_state *s,
                                 const trine__phase *f, const trine_tensor *in,
                                 const trine__conv2d_call *call, trine_direction direction)
{
    const trine_conv2d_desc *d = &op->desc;
    const trine_conv2d_epilogue *e = call->epilogue;
    const trine_shape *out = &call->out->shape;
    const int pixels = in->shape.n * f->rows * f->columns;
    const int padded = s->results + call->out->cb - 1, /* at most */
        chosen = choose_tile(op, s, (size_t)pixels, false);
    const trine__arg args[] = {trine__arg_tensor(in),
                               trine__arg_buffer(op->weights[direction]),
                               trine__arg_buffer(s->taps),
                               trine__arg_buffer(e->scale),
                               trine__arg_buffer(e->shift),
                               trine__arg_tensor(e->residual),
                               trine__arg_tensor(call->out),
                               trine__arg_i32(s->sources),
                               trine__arg_i32(s->results),
                               trine__arg_i32(s->source_shift),
                               trine__arg_i32(d->kernel_h * d->kernel_w),
                               trine__arg_i32(in->shape.h),
                               trine__arg_i32(in->shape.w),
                               trine__arg_i32(f->rows),
                               trine__arg_i32(f->columns),
                               trine__arg_i32(pixels),
                               trine__arg_i32(s->step_h),
                               trine__arg_i32(s->step_w),
                               trine__arg_i32(out->h),
                               trine__arg_i32(out->w),
                               trine__arg_i32(f->oy),
                               trine__arg_i32(f->ox),
                               trine__arg_i32(s->os_h),
                               trine__arg_i32(s->os_w),
                               trine__arg_i32(f->first_tap),
                               trine__arg_i32(f->tap_count),
                               trine__arg_i32(trine__block_shift(in->cb)),
                               trine__arg_i32(trine__block_shift(call->out->cb)),
                               trine__arg_i32(trine__epilogue_flags(op, call))};
    return trine__launch(stream, s->kernels[chosen], args, TRINE_COUNTOF(args),
                         trine__tile_grid(&trine__tiles[chosen], (size_t)pixels, padded, (size_t)d->groups),
                         trine__direction_name(direction));
}

static trine_status enqueue(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine__conv2d_call *call)
{
    TRINE_TRY(trine__conv2d_check_positions(op, direction, call));
    const gemm_state *s = op->state[direction];
    if (direction == TRINE_BACKWARD_WEIGHTS) return enqueue_weights(op, stream, s, call);
    const trine_tensor *in = direction == TRINE_FORWARD ? call->x : call->dy;
    for (int i = 0; i < s->phase_count; i++)
        if (s->phases[i].tap_count > 0 || !call->beta)
            TRINE_TRY(launch_phase(op, stream, s, &s->phases[i], in, call, direction));
    return TRINE_OK;
}

const trine__conv2d_impl trine__conv2d_gemm = {
    .name = "conv2d_gemm",
    .variants = trine__tile_variants,
    .supports_variant = supports_variant,
    .error_class = 1.0,
    .reads_halves = true,
    .supports = supports,
    .prefers = prefers,
    .workspace = workspace,
    .state_bytes = sizeof(gemm_state),
    .create = create,
    .prepared_bytes = prepared_bytes,
    .prepare = prepare,
    .enqueue = enqueue,
    .destroy = destroy,
};

const trine__conv2d_impl trine__conv2d_mma = {
    .name = "conv2d_mma",
    .error_class = 1.0,
    .reads_halves = true,
    .supports = supports_mma,
    .prefers = prefers_mma,
    .workspace = workspace,
    .state_bytes = sizeof(gemm_state),
    .create = create_mma,
    .prepared_bytes = prepared_bytes,
    .prepare = prepare,
    .enqueue = enqueue,
    .destroy = destroy,
};
