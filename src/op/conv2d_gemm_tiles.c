/* SPDX-License-Identifier: MIT */
#include "op/conv2d_gemm_tiles.h"

#include <stdio.h>

#include "rt/sub_groups.h"

const trine__tile trine__tiles[TRINE__TILES] = {{16, 4, 4, 1.0, TRINE__BY_LOCAL_MEMORY},
                                                {8, 4, 4, 0.7, TRINE__BY_LOCAL_MEMORY},
                                                {16, 4, 8, 1.0, TRINE__BY_LOCAL_MEMORY},
                                                {64, 16, 1, 1.0, TRINE__BY_SUB_GROUPS}};
const char *const trine__tile_variants[TRINE__TILES + 1] = {
    "conv2d_gemm:16x4x4", "conv2d_gemm:8x4x4", "conv2d_gemm:16x4x8", "conv2d_gemm:subgroups", NULL};

static bool by_local_memory(const trine__tile *t)
{
    return t->exchange == TRINE__BY_LOCAL_MEMORY;
}

bool trine__tile_runs(const trine__caps *caps, const trine__tile *t)
{
    if (!by_local_memory(t))
        return caps->max_local_size >= (size_t)t->side && caps->sub_groups != TRINE__NO_SUB_GROUPS;
    const int floats = t->side * (t->side * (t->tm + t->tn) + 8);
    return caps->max_local_size >= (size_t)(t->side * t->side) &&
           caps->local_bytes >= sizeof(float) * (size_t)floats;
}

const char *trine__tile_kernel(const trine__tile *t, trine_direction direction)
{
    return direction == TRINE_BACKWARD_WEIGHTS ? "conv2d_gemm_backward_weights"
           : by_local_memory(t)                ? "conv2d_gemm"
                                               : "conv2d_gemm_subgroups";
}

trine__tile_options trine__tile_shape(const trine__caps *caps, const trine__tile *t, int sources)
{
    trine__tile_options o;
    const int used = snprintf(o.text, sizeof o.text, "-DSIDE=%d -DTM=%d -DTN=%d", t->side, t->tm, t->tn);
    static const int kinds[] = {[TRINE__SUB_GROUPS] = 1,
                                [TRINE__SUB_GROUPS_IMITATED] = 2,
                                [TRINE__SUB_GROUPS_KHR] = 3}; /* SUB_GROUP of cl/conv2d_gemm_subgroups.cl */
    if (!by_local_memory(t))
        snprintf(o.text + used, sizeof o.text - (size_t)used, " -DSTEP=%d -DSUB_GROUP=%d", sources,
                 kinds[caps->sub_groups]);
    return o;
}

trine_status trine__tile_create(trine_context *context, const trine__tile *t, trine_direction direction,
                                const char *options, trine__kernel **out)
{
    TRINE_TRY(trine__kernel_create(context, trine__tile_kernel(t, direction), options, out));
    if (by_local_memory(t) || context->caps.sub_groups != TRINE__SUB_GROUPS_KHR || context->rehearsal)
        return TRINE_OK;
    const size_t local[3] = {(size_t)t->side, 1, 1};
    const trine_status status = trine__sub_groups_check(*out, local);
    if (status != TRINE_OK) trine__kernel_destroy(out);
    return status;
}

bool trine__tile_builds(trine_context *context, const trine__tile *t, const char *options)
{
    int known = context->sub_group_trial;
    if (by_local_memory(t) || context->rehearsal) return true;
    if (known) return known > 0;
    trine__kernel *kernel = NULL;
    const trine_status status = trine__tile_create(context, t, TRINE_FORWARD, options, &kernel);
    trine__kernel_destroy(&kernel);
    known = status == TRINE_OK ? 1 : -1;
    if (known < 0) trine__log(context, "conv2d: conv2d_gemm:subgroups left out: %s", trine_last_error());
    context->sub_group_trial = known;
    return known > 0;
}

static size_t tile_rows(const trine__tile *t)
{
    return (size_t)(by_local_memory(t) ? t->side * t->tm : t->tm);
}

size_t trine__tile_count(const trine__tile *t, int results, size_t columns)
{
    const size_t bm = tile_rows(t), bn = (size_t)(t->side * t->tn);
    return ((size_t)results + bm - 1) / bm * ((columns + bn - 1) / bn);
}

trine__grid trine__tile_grid(const trine__tile *t, size_t columns, int results, size_t z)
{
    const size_t bm = tile_rows(t), bn = (size_t)(t->side * t->tn), side = (size_t)t->side,
                 down = by_local_memory(t) ? side : 1;
    return (trine__grid){{(columns + bn - 1) / bn * side, ((size_t)results + bm - 1) / bm * down, z},
                         {side, down, 1}};
}

/* Rounds in which the device takes its work-groups (one round at least, and `splits` of the reduction make more of them), and the work
 * of a group. */
int trine__tile_choose(const trine__caps *caps, trine__kernel *const kernels[TRINE__TILES], int results,
                       size_t columns, int groups, bool splits)
{
    const size_t at_once = (size_t)caps->compute_units * TRINE__GROUPS_PER_UNIT;
    int best = -1;
    double best_cost = 0;
    for (int i = 0; i < TRINE__TILES; i++) {
        if (!kernels[i]) continue;
        const trine__tile *t = &trine__tiles[i];
        const size_t count = trine__tile_count(t, results, columns) * (size_t)groups,
                     rounds = splits ? count : (count + at_once - 1) / at_once;
        const double cost = (double)rounds * (double)tile_rows(t) * t->side * t->tn / t->speed;
        if (best >= 0 && cost >= best_cost) continue;
        best = i;
        best_cost = cost;
    }
    return best;
}
