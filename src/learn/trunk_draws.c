/* SPDX-License-Identifier: MIT */
#include "learn/trunk_draws.h"

#include <stdlib.h>

#include "base/memory.h"

size_t trine__draws_keys(const trine__draws_options *o)
{
    return o->flip ? 2 * o->images : o->images;
}

size_t trine__draws_key(const trine__draws_options *o, const trine__loader_row *row)
{
    if (!o->flip) return (size_t)row->index;
    return 2 * (size_t)row->index + trine__augment_flips(o->seed, row->batch, row->slot);
}

trine_status trine__draws_open(trine__draws *d, const trine__draws_options *options, trine__sampler *sampler)
{
    void *memory;
    *d = (trine__draws){.options = *options, .sampler = sampler, .step = options->first_step};
    TRINE_TRY(trine__calloc((size_t)trine__sampler_capacity(sampler), sizeof *d->indices, &memory));
    d->indices = memory;
    if (!options->once) return TRINE_OK;
    TRINE_TRY(trine__calloc(trine__draws_keys(options), sizeof *d->seen, &memory));
    d->seen = memory;
    return TRINE_OK;
}

/* The data set in its order; with flips each image as it is, then mirrored. A draw that no step makes, with the
 * wanted outcome, stands for each. */
static trine__loader_row listed_row(trine__draws *d)
{
    const trine__draws_options *o = &d->options;
    const size_t key = d->listed++;
    trine__loader_row row = {(int)(o->flip ? key / 2 : key), UINT64_MAX, 0};
    while (trine__draws_key(o, &row) != key) row.slot++;
    d->seen[key] = true;
    return row;
}

bool trine__draws_next(trine__draws *d, trine__loader_row *out)
{
    const trine__draws_options *o = &d->options;
    if (o->once && o->all_first && d->listed < trine__draws_keys(o)) {
        *out = listed_row(d);
        return true;
    }
    for (;;) {
        if (d->at == d->count) {
            if (d->step >= o->steps) return false;
            d->count = trine__sampler_batch(d->sampler, d->step++, d->indices);
            d->at = 0;
        }
        const trine__loader_row row = {d->indices[d->at], d->step - 1, (uint64_t)d->at};
        d->at++;
        if (o->once) {
            const size_t key = trine__draws_key(o, &row);
            if (d->seen[key]) continue;
            d->seen[key] = true;
        }
        *out = row;
        return true;
    }
}

void trine__draws_close(trine__draws *d)
{
    trine__sampler_destroy(&d->sampler);
    free(d->indices);
    free(d->seen);
    *d = (trine__draws){0};
}
