/* SPDX-License-Identifier: MIT */
#include "learn/batches.h"

#include <stdlib.h>

#include "io/preprocess.h"
#include "learn/threads.h"

/* First image of batch i; `all` for those after the last. */
static size_t first_of(const trine__batches *b, size_t i)
{
    if (i >= b->count) return b->all;
    /* i * all / count without overflow: all = q * count + r */
    return b->o.even ? i * (b->all / b->count) + i * (b->all % b->count) / b->count : i * (size_t)b->o.batch;
}

/* The loader's plan; user: trine__batches. */
static void plan(void *user, size_t batch, trine__loader_row *rows, int capacity, int *count)
{
    const trine__batches *b = user;
    *count = 0;
    for (size_t i = first_of(b, batch); i < first_of(b, batch + 1) && *count < capacity; i++)
        rows[(*count)++].index = (int)i;
}

static trine_status choose_sizes(trine__batches *b)
{
    const trine__batches_options *o = &b->o;
    b->all = o->data ? trine_dataset_count(o->data) : (size_t)o->shape.n;
    b->shape = o->shape;
    if (o->data) {
        TRINE_TRY(trine__preprocess_check(&o->preprocess));
        b->shape.c = 3;
        TRINE_TRY(trine__feed_image_size(o->data, &o->preprocess, o->skip_bad, &b->shape.h, &b->shape.w));
    }
    b->count = (b->all + (size_t)o->batch - 1) / (size_t)o->batch;
    b->shape.n = (size_t)o->batch > b->all ? (int)b->all : o->batch;
    return TRINE_OK;
}

trine_status trine__batches_create(trine_stream *stream, const trine__batches_options *options,
                                   trine__batches **out)
{
    void *memory;
    trine_status status;
    TRINE_TRY(trine__calloc(1, sizeof(trine__batches), &memory));
    trine__batches *b = memory;
    b->o = *options;
    TRINE_TRY_GOTO(choose_sizes(b));
    TRINE_TRY_GOTO(trine__feed_create(stream, &b->shape, 1, &b->feed));
    TRINE_TRY_GOTO(trine__calloc((size_t)b->shape.n, sizeof *b->indices, &memory));
    b->indices = memory;
    TRINE_TRY_GOTO(trine__calloc((size_t)b->shape.n, sizeof *b->labels, &memory));
    b->labels = memory;
    *out = b;
    return TRINE_OK;
cleanup:
    trine__batches_destroy(&b);
    return status;
}

trine_status trine__batches_rewind(trine__batches *b, bool tell)
{
    const trine__batches_options *o = &b->o;
    b->next = b->seen = 0;
    b->any = false;
    if (!o->data) return TRINE_OK;
    trine__loader_destroy(&b->loader);
    const trine__loader_options options = {.dataset = o->data,
                                           .preprocess = o->preprocess,
                                           .batch_capacity = b->shape.n,
                                           .threads = trine__threads(o->threads),
                                           .on_bad = o->skip_bad ? TRINE__BAD_SKIP : TRINE__BAD_FAIL,
                                           .plan = plan,
                                           .plan_user = b,
                                           .log = tell ? o->log : NULL,
                                           .log_user = o->log_user};
    return trine__loader_create(&options, &b->loader);
}

static void report(trine__batches *b, int images)
{
    b->seen += (size_t)images;
    if (b->o.progress && images) b->o.progress(b->o.progress_user, b->seen, b->all);
}

static trine_status next_of_array(trine__batches *b)
{
    const size_t each = (size_t)b->shape.c * (size_t)b->shape.h * (size_t)b->shape.w;
    const size_t first = first_of(b, b->next);
    if (b->next == b->count) return TRINE_OK;
    b->rows = b->waiting = (int)(first_of(b, ++b->next) - first);
    for (int i = 0; i < b->rows; i++) b->indices[i] = (int)first + i;
    return trine__feed_push(b->feed, b->o.array + first * each, NULL, NULL, b->rows, &b->slot);
}

static trine_status none_readable(const trine__batches *b)
{
    return trine__fail(TRINE_ERR_DATA, "none of the %zu images can be read, %s first", b->all,
                       trine_dataset_name(b->o.data, 0));
}

static trine_status next_of_data(trine__batches *b)
{
    trine__batch loaded;
    do {
        TRINE_TRY(trine__loader_next(b->loader, &loaded));
        const size_t bad = trine__loader_bad_count(b->loader);
        if (bad > b->bad) b->bad = bad;
        for (int i = 0; i < loaded.count; i++) {
            if (!loaded.ok[i]) continue;
            TRINE_CHECK(loaded.height == b->shape.h && loaded.width == b->shape.w, TRINE_ERR_DATA,
                        "%s: is %dx%d pixels after preprocessing, but images before it are %dx%d",
                        trine_dataset_name(b->o.data, (size_t)loaded.indices[i]), loaded.width, loaded.height,
                        b->shape.w, b->shape.h);
            b->labels[b->rows] = loaded.labels[i];
            b->indices[b->rows++] = loaded.indices[i];
        }
        if (b->rows == 0) report(b, loaded.count);
    } while (b->rows == 0 && loaded.count > 0);
    if (b->rows == 0) return b->any ? TRINE_OK : none_readable(b);
    b->any = true;
    b->waiting = loaded.count;
    return trine__feed_push(b->feed, loaded.x, NULL, loaded.ok, loaded.count, &b->slot);
}

trine_status trine__batches_next(trine__batches *b, trine_tensor *x)
{
    b->rows = 0;
    TRINE_TRY(b->o.data ? next_of_data(b) : next_of_array(b));
    if (b->rows) *x = b->slot->x;
    return TRINE_OK;
}

trine_status trine__batches_used(trine__batches *b)
{
    TRINE_TRY(trine__feed_used(b->feed, b->slot));
    report(b, b->waiting);
    return TRINE_OK;
}

void trine__batches_destroy(trine__batches **batches)
{
    if (!batches || !*batches) return;
    trine__batches *b = *batches;
    trine__loader_destroy(&b->loader);
    trine__feed_destroy(&b->feed);
    free(b->indices);
    free(b->labels);
    free(b);
    *batches = NULL;
}
