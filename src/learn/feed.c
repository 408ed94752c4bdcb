/* SPDX-License-Identifier: MIT */
/* Three slots go round. The upload of a batch waits (on the device) for the step that last read its slot, the
 * step for the upload; the host waits only where it would overwrite memory that is still being uploaded,
 * which keeps it at most a few batches ahead. */
#include "learn/feed.h"

#include <stdlib.h>
#include <string.h>

#include "io/image_size.h"

static trine_status create_slot(trine__feed *f, int cb, trine__feed_slot *slot)
{
    void *memory;
    const size_t n = (size_t)f->shape.n;
    size_t floats;
    TRINE_CHECK(trine__mul_size(n, f->row_floats, &floats), TRINE_ERR_NOMEM,
                "a batch of %d images of %dx%d exceeds the address space", f->shape.n, f->shape.h,
                f->shape.w);
    TRINE_TRY(trine__calloc(floats, sizeof *slot->host_x, &memory));
    slot->host_x = memory;
    TRINE_TRY(trine__calloc(n, sizeof *slot->host_labels, &memory));
    slot->host_labels = memory;
    TRINE_TRY(trine_tensor_create(f->compute->context, &f->shape, cb, &slot->x));
    return trine_buffer_create(f->compute->context, n * sizeof *slot->host_labels, &slot->labels);
}

trine_status trine__feed_create(trine_stream *compute, const trine_shape *shape, int cb, trine__feed **out)
{
    void *memory;
    const trine_shape one = {1, shape->c, shape->h, shape->w};
    TRINE_TRY(trine__calloc(1, sizeof(trine__feed), &memory));
    trine__feed *f = memory;
    f->compute = compute;
    f->shape = *shape;
    f->row_floats = trine_tensor_elements(&one, cb);
    trine_status status;
    TRINE_TRY_GOTO(trine_stream_create(compute->context, 0, &f->upload));
    for (int i = 0; i < TRINE__FEED_SLOTS; i++) TRINE_TRY_GOTO(create_slot(f, cb, &f->slots[i]));
    *out = f;
    return TRINE_OK;
cleanup:
    trine__feed_destroy(&f);
    return status;
}

trine_status trine__feed_push(trine__feed *f, const float *x, const int *labels, const bool *ok, int count,
                              trine__feed_slot **out)
{
    trine__feed_slot *slot = &f->slots[f->next++ % TRINE__FEED_SLOTS];
    const size_t row = f->row_floats;
    size_t rows = 0;
    TRINE_TRY(trine__event_wait(&slot->uploaded));
    for (int i = 0; i < count; i++) {
        if (ok && !ok[i]) continue;
        memcpy(slot->host_x + rows * row, x + (size_t)i * row, row * sizeof *x);
        slot->host_labels[rows++] = labels ? labels[i] : 0;
    }
    TRINE_TRY(trine__stream_after(f->upload, &slot->used));
    trine__event_release(&slot->used);
    TRINE_TRY(trine__stream_write_nocopy(f->upload, slot->x.buffer, 0, slot->host_x,
                                         rows * row * sizeof *slot->host_x, NULL));
    TRINE_TRY(trine__stream_write_nocopy(f->upload, slot->labels, 0, slot->host_labels,
                                         rows * sizeof *slot->host_labels, &slot->uploaded));
    TRINE_TRY(trine__stream_after(f->compute, &slot->uploaded));
    slot->x.shape.n = (int)rows;
    *out = slot;
    return TRINE_OK;
}

trine_status trine__feed_used(trine__feed *f, trine__feed_slot *slot)
{
    return trine__stream_mark(f->compute, &slot->used);
}

void trine__feed_destroy(trine__feed **feed)
{
    if (!feed || !*feed) return;
    trine__feed *f = *feed;
    trine_stream_destroy(&f->upload);
    for (int i = 0; i < TRINE__FEED_SLOTS; i++) {
        trine__feed_slot *slot = &f->slots[i];
        trine__event_release(&slot->uploaded);
        trine__event_release(&slot->used);
        trine_buffer_release(&slot->x.buffer);
        trine_buffer_release(&slot->labels);
        free(slot->host_x);
        free(slot->host_labels);
    }
    free(f);
    *feed = NULL;
}

/* Image `first` is the first readable one, width x height after preprocessing: do the headers of the rest agree? */
static trine_status check_same_size(const trine_dataset *data, const trine_preprocess *preprocess,
                                    size_t first, int height, int width)
{
    int w, h;
    if (trine__dataset_known_size(data, &w, &h)) { /* the headers have been read */
        trine_preprocess_size(preprocess, w, h, &w, &h);
        if (w == width && h == height) return TRINE_OK;
    }
    for (size_t i = first + 1; i < trine_dataset_count(data); i++) {
        if (!trine__dataset_image_size(data, i, &w, &h)) continue; /* unreadable: told when it is its turn */
        trine_preprocess_size(preprocess, w, h, &w, &h);
        TRINE_CHECK(
            w == width && h == height, TRINE_ERR_DATA,
            "%s is %dx%d after preprocessing, %s is %dx%d: a batch needs images of one size (crop them)",
            trine_dataset_name(data, i), w, h, trine_dataset_name(data, first), width, height);
    }
    return TRINE_OK;
}

trine_status trine__feed_image_size(const trine_dataset *data, const trine_preprocess *preprocess,
                                    bool skip_bad, int *height, int *width)
{
    if (preprocess->crop > 0) {
        *height = *width = preprocess->crop;
        return TRINE_OK;
    }
    const size_t count = trine_dataset_count(data);
    for (size_t i = 0; i < count; i++) {
        trine_image image = {0};
        const trine_status status = trine_dataset_image(data, i, &image);
        if (status == TRINE_OK) {
            trine_preprocess_size(preprocess, image.width, image.height, width, height);
            trine_image_free(&image);
            return check_same_size(data, preprocess, i, *height, *width);
        }
        if (!skip_bad || status == TRINE_ERR_NOMEM) return status;
    }
    return trine__fail(TRINE_ERR_DATA, "none of the %zu images can be read, %s first", count,
                       trine_dataset_name(data, 0));
}
