/* SPDX-License-Identifier: MIT */
/* Two readers of one order (trunk_draws.c): the loader's plan says what is decoded next, and the trainer, which
 * computes the features in that order, knows by it what each row is. Features wait in a store: all that are
 * distinct, or as many as a micro-batch has where none are kept. */
#include "learn/trunk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/augment.h"
#include "learn/feature_store.h"
#include "learn/trunk_draws.h"
#include "net/session_private.h"

enum { MICRO_BATCH = 16 };

struct trine__trunk {
    trine__trunk_options options;
    trine_session *session; /* of micro-batches */
    trine_tensor micro;     /* its input, for trine__trunk_run() */
    trine_shape shape;      /* of a step's features */
    int cb;
    size_t row_floats;
    /* Data sets: */
    trine__feed *images, *features; /* micro-batches on their way in; steps on their way to the tail */
    trine__loader *loader;          /* from the first step on */
    trine__sampler *sampler;
    trine__draws planned, arriving;
    trine__feature_store store;
    size_t rows;            /* of the store */
    bool *absent;           /* [rows] nothing could be read */
    int64_t *place;         /* [keys] row of the store, -1: not yet; NULL: nothing is kept */
    uint64_t arrived, used; /* draws: computed, handed out */
    int *indices, *labels;  /* of a step */
    float *read, *gathered; /* features of a micro-batch, of a step */
    char note[512];
};

/* ---- what is kept, and where ---- */

/* "fc", or the first block behind the trunk. */
static void tail_name(const trine__trunk *t, char *out, size_t size)
{
    const trine__spec *spec = &t->options.net->spec;
    const int block = t->options.position - TRINE__AT_STEM;
    if (block >= spec->block_count) {
        snprintf(out, size, "fc");
        return;
    }
    const char *unit = spec->units[spec->blocks[block].first].conv, *dot = strrchr(unit, '.');
    snprintf(out, size, "%.*s", dot ? (int)(dot - unit) : (int)strlen(unit), unit);
}

static void write_note(trine__trunk *t, const trine__draws_options *draws, const char *why)
{
    char tail[TRINE__NAME_BYTES];
    tail_name(t, tail, sizeof tail);
    if (t->place)
        snprintf(
            t->note, sizeof t->note,
            "everything before %s is frozen: it is evaluated once for each of %zu images%s, and %.1f MiB "
            "of features are kept %s",
            tail, draws->images, draws->flip ? " and their mirror images" : "",
            (double)t->store.bytes / (1 << 20), t->store.on_disk ? "on disk" : "in memory");
    else
        snprintf(t->note, sizeof t->note,
                 "everything before %s is frozen: it is evaluated at every step (%s)", tail, why);
}

/* Open the store for every distinct image, if that is wanted and there is room; else *why says why not. */
static trine_status keep_features(trine__trunk *t, trine__draws_options *draws, const char **why)
{
    const trine__trunk_options *o = &t->options;
    const size_t keys = trine__draws_keys(draws),
                 limit = o->memory_bytes ? o->memory_bytes : trine__feature_memory();
    size_t drawn = SIZE_MAX, bytes;
    void *memory;
    const trine_augment *a = &o->loader.augment;
    *why = o->cache == TRINE_FEATURES_OFF               ? "features are not kept"
           : a->crop || trine__augments_resized_crop(a) ? "random crops hardly ever repeat"
                                                        : "random changes hardly ever repeat";
    if (o->cache == TRINE_FEATURES_OFF || !trine__augment_repeats(a)) return TRINE_OK;
    trine__mul_size(draws->steps, (size_t)o->images.n, &drawn);
    t->rows = drawn < keys ? drawn : keys;
    const bool fits = trine__mul_size(t->rows, t->row_floats * sizeof(float), &bytes) && bytes <= limit;
    TRINE_CHECK(fits || o->cache != TRINE_FEATURES_MEMORY, TRINE_ERR_NOMEM,
                "features of %zu images take %.0f MiB, more than the %.0f MiB that they may have", t->rows,
                (double)t->rows * (double)t->row_floats * sizeof(float) / (1 << 20),
                (double)limit / (1 << 20));
    const bool disk = o->cache == TRINE_FEATURES_DISK || !fits;
    const trine_status status = trine__feature_store_open(&t->store, t->rows, t->row_floats, disk);
    if (status != TRINE_OK && o->cache == TRINE_FEATURES_AUTO) {
        *why = trine_last_error();
        return TRINE_OK;
    }
    TRINE_TRY(status);
    draws->once = true;
    draws->all_first = t->rows == keys;
    TRINE_TRY(trine__calloc(keys, sizeof *t->place, &memory));
    t->place = memory;
    for (size_t i = 0; i < keys; i++) t->place[i] = -1;
    return TRINE_OK;
}

/* ---- making ---- */

static trine_status open_session(trine__trunk *t)
{
    const trine__trunk_options *o = &t->options;
    trine_shape micro = o->images;
    if (micro.n > MICRO_BATCH) micro.n = MICRO_BATCH;
    TRINE_TRY(trine__session_create_trunk(o->net, o->stream, &micro, o->position, &t->session));
    const trine_tensor y = trine__session_output(t->session);
    const trine_shape one = {1, y.shape.c, y.shape.h, y.shape.w};
    t->shape = y.shape;
    t->shape.n = o->images.n;
    t->cb = y.cb;
    t->row_floats = trine_tensor_elements(&one, y.cb);
    return TRINE_OK;
}

static trine_status open_data(trine__trunk *t)
{
    const trine__trunk_options *o = &t->options;
    const size_t batch = (size_t)o->images.n;
    trine__draws_options draws = {.images = trine_dataset_count(o->loader.dataset),
                                  .flip = o->loader.augment.flip,
                                  .seed = o->loader.seed,
                                  .steps = o->batches};
    const char *why;
    void *memory;
    trine_shape micro = o->images;
    micro.n = trine__session_output(t->session).shape.n;
    TRINE_TRY(keep_features(t, &draws, &why));
    write_note(t, &draws, why);
    if (!t->place) {
        t->rows = (size_t)micro.n;
        TRINE_TRY(trine__feature_store_open(&t->store, t->rows, t->row_floats, false));
    }
    t->planned.options = t->arriving.options = draws;
    TRINE_TRY(trine__calloc(t->rows, sizeof *t->absent, &memory));
    t->absent = memory;
    TRINE_TRY(trine__calloc(batch, sizeof *t->indices, &memory));
    t->indices = memory;
    TRINE_TRY(trine__calloc(batch, sizeof *t->labels, &memory));
    t->labels = memory;
    TRINE_TRY(trine__calloc((size_t)micro.n * t->row_floats, sizeof *t->read, &memory));
    t->read = memory;
    TRINE_TRY(trine__calloc(batch * t->row_floats, sizeof *t->gathered, &memory));
    t->gathered = memory;
    TRINE_TRY(trine__feed_create(o->stream, &micro, 1, &t->images));
    return trine__feed_create(o->stream, &t->shape, t->cb, &t->features);
}

trine_status trine__trunk_create(const trine__trunk_options *options, trine__trunk **out)
{
    void *memory;
    trine_status status;
    TRINE_TRY(trine__calloc(1, sizeof(trine__trunk), &memory));
    trine__trunk *t = memory;
    t->options = *options;
    TRINE_TRY_GOTO(open_session(t));
    if (options->loader.dataset) TRINE_TRY_GOTO(open_data(t));
    *out = t;
    return TRINE_OK;
cleanup:
    trine__trunk_destroy(&t);
    return status;
}

void trine__trunk_destroy(trine__trunk **trunk)
{
    if (!trunk || !*trunk) return;
    trine__trunk *t = *trunk;
    trine__loader_destroy(&t->loader); /* before what its plan reads */
    trine__draws_close(&t->planned);
    trine__draws_close(&t->arriving);
    trine__sampler_destroy(&t->sampler);
    trine__feed_destroy(&t->images);
    trine__feed_destroy(&t->features);
    trine_session_destroy(&t->session);
    trine_buffer_release(&t->micro.buffer);
    trine__feature_store_close(&t->store);
    void *const arrays[] = {t->absent, t->place, t->indices, t->labels, t->read, t->gathered};
    for (size_t i = 0; i < TRINE_COUNTOF(arrays); i++) free(arrays[i]);
    free(t);
    *trunk = NULL;
}

trine_shape trine__trunk_shape(const trine__trunk *trunk)
{
    return trunk->shape;
}

trine_status trine__trunk_tensor(const trine__trunk *trunk, trine_tensor *out)
{
    return trine_tensor_create(trunk->options.stream->context, &trunk->shape, trunk->cb, out);
}

const trine_session *trine__trunk_session(const trine__trunk *trunk)
{
    return trunk->session;
}

const char *trine__trunk_note(const trine__trunk *trunk)
{
    return trunk->note;
}

size_t trine__trunk_bad_count(trine__trunk *trunk)
{
    return trunk->loader ? trine__loader_bad_count(trunk->loader) : 0;
}

/* ---- running ---- */

static void plan(void *user, size_t batch, trine__loader_row *rows, int capacity, int *count)
{
    trine__draws *draws = user;
    (void)batch;
    for (*count = 0; *count < capacity && trine__draws_next(draws, &rows[*count]);) ++*count;
}

/* Loader and readers, from `batch` on. */
static trine_status start(trine__trunk *t, size_t batch)
{
    const trine__trunk_options *o = &t->options;
    trine__loader_options loader = o->loader;
    trine__draws *const readers[] = {&t->planned, &t->arriving};
    for (size_t i = 0; i < TRINE_COUNTOF(readers); i++) {
        trine__sampler *sampler;
        trine__draws_options draws = readers[i]->options;
        draws.first_step = batch;
        TRINE_TRY(o->open_sampler(o->sampler_user, &sampler));
        TRINE_TRY(trine__draws_open(readers[i], &draws, sampler));
    }
    TRINE_TRY(o->open_sampler(o->sampler_user, &t->sampler));
    loader.batch_capacity = trine__session_output(t->session).shape.n;
    loader.first_batch = 0;
    if (t->place && !t->planned.options.flip) loader.cache_bytes = 0; /* each image is decoded once */
    loader.plan = plan;
    loader.plan_user = &t->planned;
    return trine__loader_create(&loader, &t->loader);
}

/* The next micro-batch through the trunk and into the store. */
static trine_status pull(trine__trunk *t)
{
    const trine__trunk_options *o = &t->options;
    trine__batch b;
    trine__feed_slot *slot;
    int rows = 0, first = -1;
    TRINE_TRY(trine__loader_next(t->loader, &b));
    TRINE_CHECK(b.count > 0, TRINE_ERR_STATE, "features: the images ended before the steps");
    for (int i = 0; i < b.count; i++) {
        if (first < 0 && b.ok[i]) first = i;
        rows += b.ok[i];
    }
    if (rows > 0) {
        TRINE_CHECK(b.height == o->images.h && b.width == o->images.w, TRINE_ERR_DATA,
                    "%s: is %dx%d pixels after preprocessing, but other images are %dx%d",
                    trine_dataset_name(o->loader.dataset, (size_t)b.indices[first]), b.width, b.height,
                    o->images.w, o->images.h);
        TRINE_TRY(trine__feed_push(t->images, b.x, NULL, b.ok, b.count, &slot));
        TRINE_TRY(trine_session_forward(t->session, &slot->x));
        TRINE_TRY(trine__feed_used(t->images, slot));
        TRINE_TRY(trine_buffer_read(o->stream, trine__session_output(t->session).buffer, 0, t->read,
                                    (size_t)rows * t->row_floats * sizeof *t->read));
    }
    const float *features = t->read;
    for (int i = 0; i < b.count; i++) {
        trine__loader_row row;
        TRINE_CHECK(trine__draws_next(&t->arriving, &row), TRINE_ERR_STATE, "features: an image too many");
        const size_t place = (size_t)(t->arrived++ % t->rows);
        if (t->place) t->place[trine__draws_key(&t->arriving.options, &row)] = (int64_t)place;
        t->absent[place] = !b.ok[i];
        if (!b.ok[i]) continue;
        memcpy(trine__feature_store_row(&t->store, place), features, t->row_floats * sizeof *features);
        features += t->row_floats;
    }
    return TRINE_OK;
}

/* Where the features of a step's image are, once they are there. */
static trine_status find(trine__trunk *t, const trine__loader_row *row, size_t *place)
{
    const uint64_t draw = t->used++;
    if (!t->place) {
        while (t->arrived <= draw) TRINE_TRY(pull(t));
        *place = (size_t)(draw % t->rows);
        return TRINE_OK;
    }
    const int64_t *known = &t->place[trine__draws_key(&t->arriving.options, row)];
    while (*known < 0) TRINE_TRY(pull(t));
    *place = (size_t)*known;
    return TRINE_OK;
}

trine_status trine__trunk_next(trine__trunk *t, size_t batch, trine_tensor *x, const trine_buffer **labels,
                               trine__feed_slot **slot)
{
    const trine_dataset *data = t->options.loader.dataset;
    if (!t->loader) TRINE_TRY(start(t, batch));
    const int count = trine__sampler_batch(t->sampler, batch, t->indices);
    int rows = 0;
    for (int i = 0; i < count; i++) {
        const trine__loader_row row = {t->indices[i], (uint64_t)batch, (uint64_t)i};
        size_t place;
        TRINE_TRY(find(t, &row, &place));
        if (t->absent[place]) continue;
        memcpy(t->gathered + (size_t)rows * t->row_floats, trine__feature_store_row(&t->store, place),
               t->row_floats * sizeof *t->gathered);
        t->labels[rows++] = trine_dataset_label(data, (size_t)t->indices[i]);
    }
    TRINE_CHECK(rows > 0, TRINE_ERR_DATA, "batch %zu: none of its %d images can be read", batch + 1, count);
    TRINE_TRY(trine__feed_push(t->features, t->gathered, t->labels, NULL, rows, slot));
    *x = (*slot)->x;
    *labels = (*slot)->labels;
    return TRINE_OK;
}

trine_status trine__trunk_used(trine__trunk *trunk, trine__feed_slot *slot)
{
    return trine__feed_used(trunk->features, slot);
}

trine_status trine__trunk_run(trine__trunk *t, const trine_tensor *x, trine_tensor *features)
{
    trine_stream *stream = t->options.stream;
    trine_shape shape = t->options.images;
    const int most = trine__session_output(t->session).shape.n;
    shape.n = 1;
    const size_t in = trine_tensor_elements(&shape, 1) * sizeof(float), out = t->row_floats * sizeof(float);
    shape.n = most;
    if (!t->micro.buffer) TRINE_TRY(trine_tensor_create(stream->context, &shape, 1, &t->micro));
    for (int first = 0; first < x->shape.n; first += most) {
        const size_t at = (size_t)first;
        t->micro.shape.n = x->shape.n - first < most ? x->shape.n - first : most;
        const size_t rows = (size_t)t->micro.shape.n;
        TRINE_TRY(trine__stream_copy(stream, x->buffer, at * in, t->micro.buffer, 0, rows * in));
        TRINE_TRY(trine_session_forward(t->session, &t->micro));
        TRINE_TRY(trine__stream_copy(stream, trine__session_output(t->session).buffer, 0, features->buffer,
                                     at * out, rows * out));
    }
    return TRINE_OK;
}
