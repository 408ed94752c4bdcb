/* SPDX-License-Identifier: MIT */
/* The loader: a ring of batches. Workers take images (not batches) in order, so that the batch the consumer
 * waits for has all of them; whatever is told to the outside (errors, log, counts) is gathered per row and
 * told in order at delivery, so that it does not depend on which worker was first. One mutex guards
 * everything but the pixels of a row, which belong to the worker that fills it. */
#include "io/loader.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/image_cache.h"
#include "io/image_private.h"
#include "io/preprocess.h"

/* Batches decoded ahead, and one in the consumer's hands. */
enum { RING = 3 + 1 };

/* Purpose of the augmentation's random streams: "augment". */
static const uint64_t augment_purpose = 0x6175676d656e74u;

/* An unreadable image met while filling a row. */
struct bad {
    struct bad *next;
    int index;
    char *sentence;
};

struct row {
    trine_status status; /* of the row: TRINE_OK also for a row left out */
    char *sentence;      /* of a failed row; NULL if memory was out */
    struct bad *bad, **bad_end;
    int width, height; /* after preprocessing; 0: left out */
};

struct batch {
    int count, taken, done;
    int width, height; /* of the first row that was decoded; 0: none yet */
    void *x;           /* [capacity][3][height][width] float */
    size_t x_capacity; /* bytes */
    int *indices, *labels;
    bool *ok;
    trine__loader_row *plan; /* [capacity] */
    struct row *rows;        /* [capacity] */
};

struct trine__loader {
    trine__loader_options options;
    pthread_mutex_t mutex;
    pthread_cond_t work, delivery; /* something to take; a row was finished */
    pthread_t *threads;
    int thread_count;
    struct batch ring[RING];
    size_t planned, delivered; /* batches, those before first_batch included */
    bool holding;              /* the consumer has batch delivered - 1 */
    bool ended, stop;
    trine_status failed;
    char *failed_sentence;
    trine__image_cache *cache;
    bool *known_bad; /* [images] */
    size_t bad_count;
};

static void row_clear(struct row *r)
{
    while (r->bad) {
        struct bad *next = r->bad->next;
        free(r->bad->sentence);
        free(r->bad);
        r->bad = next;
    }
    free(r->sentence);
    *r = (struct row){0};
    r->bad_end = &r->bad;
}

/* Keep this thread's sentence for the consumer's thread; a NULL (no memory) is told as such. */
static char *keep_sentence(void)
{
    char *copy = NULL;
    return trine__strdup(trine_last_error(), &copy) == TRINE_OK ? copy : NULL;
}

static void row_fail(struct row *r, trine_status status)
{
    r->sentence = keep_sentence();
    r->status = status;
}

/* Ask the plan for one more batch. Called with the mutex held, which makes it one caller at a time and in
 * order. */
static void plan_batch(trine__loader *l)
{
    const trine__loader_options *o = &l->options;
    struct batch *b = &l->ring[l->planned % RING];
    b->taken = b->done = b->count = b->width = b->height = 0;
    for (int i = 0; i < o->batch_capacity; i++) {
        b->plan[i] = (trine__loader_row){-1, l->planned, (uint64_t)i};
        row_clear(&b->rows[i]);
    }
    o->plan(o->plan_user, l->planned, b->plan, o->batch_capacity, &b->count);
    bool valid = b->count >= 0 && b->count <= o->batch_capacity;
    for (int i = 0; valid && i < b->count; i++) {
        b->indices[i] = b->plan[i].index;
        valid = b->indices[i] >= 0 && (size_t)b->indices[i] < trine_dataset_count(o->dataset);
        b->ok[i] = false;
    }
    if (!valid) { /* one row, already done, that carries the failure */
        trine__fail(TRINE_ERR_ARG, "loader: the plan of batch %zu names images that do not exist",
                    l->planned);
        row_fail(&b->rows[0], TRINE_ERR_ARG);
        b->count = b->taken = b->done = 1;
    }
    if (b->count == 0) {
        l->ended = true;
    } else {
        l->planned++;
    }
    pthread_cond_broadcast(&l->work);
    pthread_cond_broadcast(&l->delivery);
}

/* The oldest batch with an image to take, planning a new one if need be; waits. NULL: stop. With the mutex
 * held. */
static struct batch *next_work(trine__loader *l)
{
    for (;;) {
        if (l->stop) return NULL;
        for (size_t n = l->delivered; n < l->planned; n++) {
            struct batch *b = &l->ring[n % RING];
            if (b->taken < b->count) return b;
        }
        if (!l->ended && l->planned - (l->delivered - (l->holding ? 1 : 0)) < RING)
            plan_batch(l);
        else
            pthread_cond_wait(&l->work, &l->mutex);
    }
}

static bool is_bad_image(trine_status status)
{
    return status == TRINE_ERR_OPEN || status == TRINE_ERR_FORMAT || status == TRINE_ERR_DATA;
}

static trine__random augmentation(uint64_t seed, uint64_t batch, uint64_t slot)
{
    return trine__random_stream(seed ^ augment_purpose, batch, slot);
}

/* Decode, measure and resize; `plan` tells the row's draw. */
static trine_status load_image(const trine__loader *l, int index, const trine__loader_row *plan,
                               trine_image *image, trine__view *view, struct row *r)
{
    const trine__loader_options *o = &l->options;
    trine__random random = augmentation(o->seed, plan->batch, plan->slot);
    const char *name = trine_dataset_name(o->dataset, (size_t)index);
    int width, height;
    TRINE_TRY(trine__image_cache_read(l->cache, (size_t)index, image));
    trine_preprocess_size(&o->preprocess, image->width, image->height, &width, &height);
    trine_status status = TRINE_OK;
    TRINE_CHECK_GOTO(width <= TRINE__IMAGE_PIXELS_MAX / height, TRINE_ERR_DATA,
                     "%s: %dx%d pixels become %dx%d by preprocessing, the limit is %d pixels", name,
                     image->width, image->height, width, height, (int)TRINE__IMAGE_PIXELS_MAX);
    status = trine__preprocess_resize(&o->preprocess, &o->augment, &random, image, view);
    if (status != TRINE_OK) {
        trine__fail_context(status, "%s", name);
        goto cleanup;
    }
    r->width = width;
    r->height = height;
    return TRINE_OK;
cleanup:
    trine_image_free(image);
    return status;
}

static trine_status remember_bad(struct row *r, int index)
{
    char *sentence = keep_sentence();
    void *memory;
    const trine_status status = sentence ? trine__calloc(1, sizeof(struct bad), &memory)
                                         : trine__fail(TRINE_ERR_NOMEM, "out of host memory");
    if (status != TRINE_OK) {
        free(sentence);
        return status;
    }
    struct bad *bad = memory;
    *bad = (struct bad){NULL, index, sentence};
    *r->bad_end = bad;
    r->bad_end = &bad->next;
    return TRINE_OK;
}

/* The image of a row or its substitute; *index tells which. TRINE_OK with no pixels: the row is left out. */
static trine_status find_image(const trine__loader *l, int *index, const trine__loader_row *plan,
                               trine_image *image, trine__view *view, struct row *r)
{
    const trine__loader_options *o = &l->options;
    const size_t count = trine_dataset_count(o->dataset);
    const int first = *index, label = trine_dataset_label(o->dataset, (size_t)first);
    for (size_t step = 0; step < count; step++) {
        const int i = (int)(((size_t)first + step) % count);
        if (trine_dataset_label(o->dataset, (size_t)i) != label) continue;
        const trine_status status = load_image(l, i, plan, image, view, r);
        if (status == TRINE_OK) {
            *index = i;
            return TRINE_OK;
        }
        if (!is_bad_image(status) || o->on_bad == TRINE__BAD_FAIL) return status;
        TRINE_TRY(remember_bad(r, i));
        if (o->on_bad == TRINE__BAD_SKIP) return TRINE_OK;
    }
    return TRINE_OK;
}

/* Room for the batch's rows once the first image tells their size. NULL: this row has another size (told at
 * delivery) or memory is out (r->status). */
static float *row_memory(trine__loader *l, struct batch *b, int slot, struct row *r)
{
    float *x = NULL;
    const size_t row = (size_t)r->width * (size_t)r->height * 3;
    pthread_mutex_lock(&l->mutex);
    if (b->width == 0) {
        size_t bytes = row * sizeof(float);
        trine_status status = TRINE_OK;
        if (!trine__mul_size(bytes, (size_t)b->count, &bytes))
            status = trine__fail(TRINE_ERR_NOMEM, "a batch of %d images exceeds the address space", b->count);
        else if (bytes > b->x_capacity) { /* nothing to keep: no realloc */
            free(b->x);
            b->x = NULL;
            b->x_capacity = 0;
            status = trine__calloc(bytes, 1, &b->x);
            if (status == TRINE_OK) b->x_capacity = bytes;
        }
        if (status == TRINE_OK) {
            b->width = r->width;
            b->height = r->height;
        } else {
            row_fail(r, status);
        }
    }
    if (r->status == TRINE_OK && b->width == r->width && b->height == r->height)
        x = (float *)b->x + row * (size_t)slot;
    pthread_mutex_unlock(&l->mutex);
    return x;
}

bool trine__augment_flips(uint64_t seed, uint64_t batch, uint64_t slot)
{
    trine__random random = augmentation(seed, batch, slot);
    return trine__preprocess_flips(&random);
}

static void fill_row(trine__loader *l, struct batch *b, int slot)
{
    const trine__loader_options *o = &l->options;
    struct row *r = &b->rows[slot];
    trine_image image = {0};
    trine__view view;
    const trine_status status = find_image(l, &b->indices[slot], &b->plan[slot], &image, &view, r);
    b->labels[slot] = trine_dataset_label(o->dataset, (size_t)b->indices[slot]);
    if (status == TRINE_OK && image.rgb) {
        float *x = row_memory(l, b, slot, r);
        if (x) trine__preprocess_write(&o->preprocess, &image, &view, x);
        b->ok[slot] = x != NULL;
    }
    trine_image_free(&image);
    if (status != TRINE_OK) row_fail(r, status);
}

static void *worker(void *user)
{
    trine__loader *l = user;
    pthread_mutex_lock(&l->mutex);
    for (struct batch *b; (b = next_work(l)) != NULL;) {
        const int slot = b->taken++;
        pthread_mutex_unlock(&l->mutex);
        fill_row(l, b, slot);
        pthread_mutex_lock(&l->mutex);
        b->done++;
        pthread_cond_signal(&l->delivery);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

static trine_status check_options(const trine__loader_options *o)
{
    TRINE_CHECK(o->dataset && o->plan, TRINE_ERR_ARG, "loader: no data set or no plan");
    TRINE_CHECK(o->batch_capacity >= 1, TRINE_ERR_ARG, "loader: batches of %d images, expected at least 1",
                o->batch_capacity);
    TRINE_CHECK(o->threads >= 1 && o->threads <= 1024, TRINE_ERR_ARG,
                "loader: %d threads, expected 1 to 1024", o->threads);
    TRINE_TRY(trine_augment_check(&o->augment));
    return trine__preprocess_check(&o->preprocess);
}

static trine_status make_ring(trine__loader *l)
{
    const size_t capacity = (size_t)l->options.batch_capacity;
    for (int i = 0; i < RING; i++) {
        struct batch *b = &l->ring[i];
        void *memory;
        TRINE_TRY(trine__calloc(capacity, sizeof *b->indices, &memory));
        b->indices = memory;
        TRINE_TRY(trine__calloc(capacity, sizeof *b->plan, &memory));
        b->plan = memory;
        TRINE_TRY(trine__calloc(capacity, sizeof *b->labels, &memory));
        b->labels = memory;
        TRINE_TRY(trine__calloc(capacity, sizeof *b->ok, &memory));
        b->ok = memory;
        TRINE_TRY(trine__calloc(capacity, sizeof *b->rows, &memory));
        b->rows = memory;
    }
    return TRINE_OK;
}

trine_status trine__loader_create(const trine__loader_options *options, trine__loader **out)
{
    trine_status status = TRINE_OK;
    void *memory;
    TRINE_TRY(check_options(options));
    TRINE_TRY(trine__calloc(1, sizeof(trine__loader), &memory));
    trine__loader *l = memory;
    l->options = *options;
    l->options.augment = trine__augment_complete(&options->augment);
    l->planned = l->delivered = options->first_batch;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->delivery, NULL);
    TRINE_TRY_GOTO(make_ring(l));
    TRINE_TRY_GOTO(trine__image_cache_create(options->dataset, options->cache_bytes, &l->cache));
    TRINE_TRY_GOTO(trine__calloc(trine_dataset_count(options->dataset), sizeof(bool), &memory));
    l->known_bad = memory;
    TRINE_TRY_GOTO(trine__calloc((size_t)options->threads, sizeof *l->threads, &memory));
    l->threads = memory;
    for (int i = 0; i < options->threads; i++) {
        const int error = pthread_create(&l->threads[i], NULL, worker, l);
        TRINE_CHECK_GOTO(error == 0, TRINE_ERR_NOMEM, "loader: thread %d cannot be started: %s", i,
                         strerror(error));
        l->thread_count++;
    }
    *out = l;
    return TRINE_OK;
cleanup:
    trine__loader_destroy(&l);
    return status;
}

static void count_bad(trine__loader *l)
{
    pthread_mutex_lock(&l->mutex);
    l->bad_count++;
    pthread_mutex_unlock(&l->mutex);
}

/* Count and log what row r could not read: "PATH: skipped: reason". */
static void tell_bad(trine__loader *l, const struct row *r)
{
    const trine__loader_options *o = &l->options;
    for (const struct bad *bad = r->bad; bad; bad = bad->next) {
        if (l->known_bad[bad->index]) continue;
        l->known_bad[bad->index] = true;
        count_bad(l);
        if (!o->log) continue;
        const char *name = trine_dataset_name(o->dataset, (size_t)bad->index), *reason = bad->sentence;
        const size_t length = strlen(name);
        if (strncmp(reason, name, length) == 0 && strncmp(reason + length, ": ", 2) == 0)
            reason += length + 2;
        char text[4096];
        snprintf(text, sizeof text, "%s: skipped: %s", name, reason);
        o->log(o->log_user, text);
    }
}

/* Rows in order: the first failure, the first size that differs from the first row's, zeros for rows left
 * out. Without the mutex: no worker touches a batch that is done. */
static trine_status finish_batch(trine__loader *l, struct batch *b)
{
    const trine__loader_options *o = &l->options;
    int first = -1;
    for (int i = 0; i < b->count; i++) {
        struct row *r = &b->rows[i];
        tell_bad(l, r);
        if (r->status != TRINE_OK) {
            if (is_bad_image(r->status)) count_bad(l);
            return trine__fail(r->status, "%s", r->sentence ? r->sentence : "loader: out of host memory");
        }
        if (r->width == 0) continue;
        if (first < 0) first = i;
        const struct row *f = &b->rows[first];
        TRINE_CHECK(r->width == f->width && r->height == f->height, TRINE_ERR_DATA,
                    "%s: is %dx%d pixels after preprocessing, but %s of the same batch is %dx%d",
                    trine_dataset_name(o->dataset, (size_t)b->indices[i]), r->width, r->height,
                    trine_dataset_name(o->dataset, (size_t)b->indices[first]), f->width, f->height);
    }
    if (first < 0 && o->preprocess.crop > 0) { /* no image, yet a known size */
        const size_t bytes =
            (size_t)b->count * 3 * (size_t)o->preprocess.crop * (size_t)o->preprocess.crop * sizeof(float);
        free(b->x);
        b->x = NULL;
        b->x_capacity = 0;
        TRINE_TRY(trine__calloc(bytes, 1, &b->x));
        b->x_capacity = bytes;
        b->width = b->height = o->preprocess.crop;
    }
    const size_t row = (size_t)b->width * (size_t)b->height * 3;
    for (int i = 0; row && i < b->count; i++) {
        if (!b->ok[i]) memset((float *)b->x + row * (size_t)i, 0, row * sizeof(float));
    }
    return TRINE_OK;
}

/* Keep a failure for every later call and let the workers rest. With the mutex held. */
static trine_status fail_for_good(trine__loader *l, trine_status status)
{
    l->failed = status;
    l->failed_sentence = keep_sentence();
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    return status;
}

trine_status trine__loader_next(trine__loader *l, trine__batch *batch)
{
    trine_status status = TRINE_OK;
    pthread_mutex_lock(&l->mutex);
    if (l->failed != TRINE_OK) {
        status = trine__fail(l->failed, "%s",
                             l->failed_sentence ? l->failed_sentence : "loader: out of host memory");
        goto cleanup;
    }
    l->holding = false;
    pthread_cond_broadcast(&l->work);
    struct batch *b = &l->ring[l->delivered % RING];
    while (!(l->planned > l->delivered && b->done == b->count) && !(l->ended && l->planned == l->delivered))
        pthread_cond_wait(&l->delivery, &l->mutex);
    trine__batch result = {0};
    if (l->planned > l->delivered) {
        pthread_mutex_unlock(&l->mutex);
        status = finish_batch(l, b);
        pthread_mutex_lock(&l->mutex);
        if (status != TRINE_OK) {
            fail_for_good(l, status);
            goto cleanup;
        }
        result = (trine__batch){b->count, b->height, b->width, b->x, b->indices, b->labels, b->ok};
        l->delivered++;
        l->holding = true;
    }
    *batch = result;
cleanup:
    pthread_mutex_unlock(&l->mutex);
    return status;
}

size_t trine__loader_bad_count(trine__loader *l)
{
    pthread_mutex_lock(&l->mutex);
    const size_t count = l->bad_count;
    pthread_mutex_unlock(&l->mutex);
    return count;
}

void trine__loader_destroy(trine__loader **loader)
{
    if (!loader || !*loader) return;
    trine__loader *l = *loader;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    for (int i = 0; i < l->thread_count; i++) pthread_join(l->threads[i], NULL);
    for (int i = 0; i < RING; i++) {
        struct batch *b = &l->ring[i];
        for (int r = 0; b->rows && r < l->options.batch_capacity; r++) row_clear(&b->rows[r]);
        free(b->x);
        free(b->indices);
        free(b->plan);
        free(b->labels);
        free(b->ok);
        free(b->rows);
    }
    pthread_mutex_destroy(&l->mutex);
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->delivery);
    free(l->threads);
    free(l->failed_sentence);
    free(l->known_bad);
    trine__image_cache_destroy(&l->cache);
    free(l);
    *loader = NULL;
}
