/* SPDX-License-Identifier: MIT */
#include "net/arena.h"

#include <stdlib.h>

static bool overlap_in_time(const trine__value *a, const trine__value *b)
{
    return a->taken_first <= b->taken_last && b->taken_first <= a->taken_last;
}

static int larger_first(const void *a, const void *b)
{
    const trine__value *const *x = a, *const *y = b;
    if ((*x)->bytes != (*y)->bytes) return (*x)->bytes < (*y)->bytes ? 1 : -1;
    return *x < *y ? -1 : *x > *y;
}

/* `offset`, or the next multiple of `limit` where the value would cross it. */
static size_t within_buffer(size_t offset, size_t size, size_t limit)
{
    return offset % limit + size > limit ? trine__round_up(offset, limit) : offset;
}

/* Lowest offset at which `v` fits among those placed that live at the same time. placed[] is in order of
 * offset. */
static size_t lowest_gap(const trine__value *v, size_t size, trine__value *const *placed, size_t count,
                         size_t alignment, size_t limit)
{
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        const trine__value *other = placed[i];
        if (!overlap_in_time(v, other)) continue;
        if (offset + size <= other->offset) break;
        const size_t end = other->offset + trine__round_up(other->bytes, alignment);
        if (end > offset) offset = within_buffer(end, size, limit);
    }
    return offset;
}

static bool placed_alone(const trine__value *v)
{
    return !v->external && v->last >= 0 && !v->over;
}

/* From when to when a value's bytes are in use, by itself or by those that take them over. */
static void join_lifetimes(trine__value *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        values[i].taken_first = values[i].first;
        values[i].taken_last = values[i].last;
    }
    for (size_t i = count; i-- > 0;) {
        trine__value *v = &values[i], *under = v->over;
        if (under && v->taken_last > under->taken_last) under->taken_last = v->taken_last;
    }
}

trine_status trine__arena_place(trine__value *values, size_t count, size_t alignment, size_t limit,
                                size_t *bytes)
{
    void *p = NULL;
    TRINE_TRY(trine__calloc(2 * count, sizeof(trine__value *), &p));
    trine__value **order = p, **placed = order + count;
    size_t wanted = 0, total = alignment;
    trine_status status = TRINE_OK;
    join_lifetimes(values, count);
    for (size_t i = 0; i < count; i++)
        if (placed_alone(&values[i])) order[wanted++] = &values[i];
    qsort(order, wanted, sizeof *order, larger_first);
    for (size_t i = 0; i < wanted; i++) {
        trine__value *v = order[i];
        const size_t size = trine__round_up(v->bytes, alignment);
        TRINE_CHECK_GOTO(size <= limit, TRINE_ERR_NOMEM,
                         "one activation tensor takes %zu bytes, the device allocates at most %zu at once: "
                         "use a smaller batch",
                         size, limit);
        v->offset = lowest_gap(v, size, placed, i, alignment, limit);
        if (v->offset + size > total) total = v->offset + size;
        size_t at = i;
        for (; at > 0 && placed[at - 1]->offset > v->offset; at--) placed[at] = placed[at - 1];
        placed[at] = v;
    }
    for (size_t i = 0; i < count; i++)
        if (values[i].over) values[i].offset = values[i].over->offset;
    *bytes = total;
cleanup:
    free(order);
    return status;
}
