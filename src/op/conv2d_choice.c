/* SPDX-License-Identifier: MIT */
/* Which implementation of the convolution serves a direction: by name, by preference, or as measured. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op/conv2d_private.h"
#include "rt/tuning.h"

enum { MOST_CANDIDATES = 32 }; /* rows of the table with their variants */

/* Best first where several support and prefer a problem and nobody has measured (by_measurement()). */
static const trine__conv2d_impl *const implementations[] = {&trine__conv2d_winograd4,
                                                            &trine__conv2d_winograd2,
                                                            &trine__conv2d_winograd4_gemm,
                                                            &trine__conv2d_winograd2_gemm,
                                                            &trine__conv2d_direct,
                                                            &trine__conv2d_gemm,
                                                            &trine__conv2d_mma,
                                                            &trine__conv2d_clblast,
                                                            &trine__conv2d_plain};

bool trine__conv2d_only_measured(const trine_conv2d *op, trine_direction direction)
{
    (void)op;
    (void)direction;
    return false;
}

void trine_conv2d_problem(const trine_conv2d_desc *d, int h, int w, trine_direction direction,
                          char text[TRINE_CONV2D_PROBLEM])
{
    snprintf(
        text, TRINE_CONV2D_PROBLEM,
        "conv2d %s %d>%d %dx%d stride %d,%d pad %d,%d dilation %d,%d groups %d of %dx%d blocks %d>%d %s>%s",
        trine__direction_name(direction), d->in_channels, d->out_channels, d->kernel_h, d->kernel_w,
        d->stride_h, d->stride_w, d->pad_h, d->pad_w, d->dilation_h, d->dilation_w, d->groups, h, w, d->in_cb,
        d->out_cb, trine_dtype_name(d->in_dtype), trine_dtype_name(d->out_dtype));
}

/* Who may be chosen: an implementation as it is, or a variant of it (from 1 on). */
typedef struct candidate {
    const trine__conv2d_impl *impl;
    int variant;
    const char *name;
} candidate;

/* All that could serve, best first, a variant behind its implementation. */
static size_t list_candidates(const trine_conv2d *op, trine_direction direction,
                              candidate out[MOST_CANDIDATES])
{
    size_t count = 0;
    for (size_t i = 0; i < TRINE_COUNTOF(implementations); i++) {
        const trine__conv2d_impl *impl = implementations[i];
        if (!impl->supports(op, direction)) continue;
        if (count < MOST_CANDIDATES) out[count++] = (candidate){impl, 0, impl->name};
        for (int v = 1; impl->variants && impl->variants[v - 1]; v++)
            if (count < MOST_CANDIDATES && impl->supports_variant(op, direction, v))
                out[count++] = (candidate){impl, v, impl->variants[v - 1]};
    }
    return count;
}

/* Lower is better, -1 is out of the question: by name, by $TRINE_ALGORITHMS, or by the implementation's preference. */
static int rank_of(const trine_conv2d *op, trine_direction direction, const char *algorithm,
                   const candidate *c)
{
    if (algorithm) return strcmp(algorithm, c->name) == 0 ? 0 : -1;
    if (!op->context->algorithms &&
        (c->variant > 0 || (c->impl->prefers && !c->impl->prefers(op, direction))))
        return -1;
    return trine__algorithm_rank(op->context, c->name);
}

/* The candidate `first`, or what `trine tune` has found to be faster. */
static int by_measurement(const trine_conv2d *op, trine_direction direction, const candidate *list,
                          size_t count, const bool *tried, int first)
{
    const char *names[MOST_CANDIDATES];
    char problem[TRINE_CONV2D_PROBLEM];
    trine_conv2d_problem(&op->desc, op->h, op->w, direction, problem);
    for (size_t i = 0; i < count; i++) names[i] = tried[i] ? NULL : list[i].name;
    return trine__tuning_pick(op->context, problem, op->desc.batch, names, count, first);
}

void trine__conv2d_destroy_state(trine_conv2d *op, trine_direction direction)
{
    if (op->state[direction]) op->impl[direction]->destroy(op->state[direction]);
    free(op->state[direction]);
    op->state[direction] = NULL;
}

static trine_status create_state(trine_conv2d *op, trine_direction direction)
{
    const trine__conv2d_impl *impl = op->impl[direction];
    TRINE_TRY(trine__calloc(1, impl->state_bytes, &op->state[direction]));
    const trine_status status = impl->create(op, direction, op->state[direction]);
    if (status != TRINE_OK) trine__conv2d_destroy_state(op, direction);
    return status;
}

trine_status trine__conv2d_choose(trine_conv2d *op, trine_direction direction, const char *algorithm)
{
    candidate list[MOST_CANDIDATES];
    bool tried[MOST_CANDIDATES] = {false};
    const size_t count = list_candidates(op, direction, list);
    for (;;) {
        int best = -1, best_rank = 0;
        for (size_t i = 0; i < count; i++) {
            const int rank = tried[i] ? -1 : rank_of(op, direction, algorithm, &list[i]);
            if (rank < 0 || (best >= 0 && rank >= best_rank)) continue;
            best = (int)i;
            best_rank = rank;
        }
        if (best < 0) break;
        const int first = best;
        if (!algorithm && !op->context->algorithms)
            best = by_measurement(op, direction, list, count, tried, best);
        op->measured[direction] = best != first;
        op->impl[direction] = list[best].impl;
        op->variant[direction] = list[best].variant;
        const trine_status status = create_state(op, direction);
        if (status != TRINE_ERR_BUILD || algorithm) return status;
        trine__log(op->context, "conv2d: %s left out: %s", list[best].name,
                   trine_last_error()); /* the next one may do */
        op->impl[direction] = NULL;
        tried[best] = true;
    }
    return trine__fail(
        TRINE_ERR_UNSUPPORTED,
        "conv2d %s: no implementation%s%s takes %d -> %d channels, %d x %d, stride %d, groups %d",
        trine__direction_name(direction), algorithm ? " named " : "", algorithm ? algorithm : "",
        op->desc.in_channels, op->desc.out_channels, op->desc.kernel_h, op->desc.kernel_w, op->desc.stride_h,
        op->desc.groups);
}

const char *trine_conv2d_algorithm(const trine_conv2d *op, trine_direction direction)
{
    const trine__conv2d_impl *impl = op->impl[direction];
    const int variant = op->variant[direction];
    return !impl ? NULL : variant ? impl->variants[variant - 1] : impl->name;
}

bool trine__conv2d_choice(const trine_conv2d *op, trine_direction direction, char text[TRINE__CHOICE])
{
    char problem[TRINE_CONV2D_PROBLEM];
    if (!op->impl[direction] || !op->measured[direction]) return false;
    trine_conv2d_problem(&op->desc, op->h, op->w, direction, problem);
    snprintf(text, TRINE__CHOICE, "%s | %s", problem, trine_conv2d_algorithm(op, direction));
    return true;
}

size_t trine_conv2d_algorithms(const trine_conv2d *op, trine_direction direction, const char **names,
                               size_t capacity)
{
    candidate list[MOST_CANDIDATES];
    const size_t count = list_candidates(op, direction, list);
    for (size_t i = 0; i < count && i < capacity; i++) names[i] = list[i].name;
    return count;
}
