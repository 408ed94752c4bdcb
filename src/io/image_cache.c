/* SPDX-License-Identifier: MIT */
#include "io/image_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io/dataset_private.h"
#include "io/image_private.h"

struct trine__image_cache {
    const trine_dataset *dataset;
    pthread_mutex_t mutex; /* of what follows; an image that is there never changes */
    size_t left;           /* bytes */
    trine_image *images;   /* [images of the data set]; without pixels: not kept; NULL: none ever is */
};

trine_status trine__image_cache_create(const trine_dataset *dataset, size_t bytes, trine__image_cache **out)
{
    void *cache, *images = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine__image_cache), &cache));
    if (bytes > 0 && !dataset->pixels.channels) { /* arrays are decoded already */
        const trine_status status = trine__calloc(trine_dataset_count(dataset), sizeof(trine_image), &images);
        if (status != TRINE_OK) {
            free(cache);
            return status;
        }
    }
    trine__image_cache *c = cache;
    *c = (trine__image_cache){.dataset = dataset, .left = bytes, .images = images};
    pthread_mutex_init(&c->mutex, NULL);
    *out = c;
    return TRINE_OK;
}

static size_t pixel_bytes(const trine_image *image)
{
    return (size_t)image->width * (size_t)image->height * 3;
}

static trine_status copy_image(const char *name, const trine_image *image, trine_image *out)
{
    TRINE_TRY(trine__image_new(name, (uint64_t)image->width, (uint64_t)image->height, out));
    memcpy(out->rgb, image->rgb, pixel_bytes(image));
    return TRINE_OK;
}

trine_status trine__image_cache_read(trine__image_cache *c, size_t i, trine_image *out)
{
    if (!c->images || i >= trine_dataset_count(c->dataset)) return trine_dataset_image(c->dataset, i, out);
    const char *name = trine_dataset_name(c->dataset, i);
    pthread_mutex_lock(&c->mutex);
    trine_image kept = c->images[i];
    pthread_mutex_unlock(&c->mutex);
    if (kept.rgb) return copy_image(name, &kept, out);
    TRINE_TRY(trine_dataset_image(c->dataset, i, out));
    const size_t bytes = pixel_bytes(out);
    pthread_mutex_lock(&c->mutex);
    const bool fits = bytes <= c->left;
    if (fits) c->left -= bytes; /* while it is copied */
    pthread_mutex_unlock(&c->mutex);
    if (!fits || copy_image(name, out, &kept) != TRINE_OK) kept = (trine_image){0};
    pthread_mutex_lock(&c->mutex);
    const bool taken = kept.rgb && !c->images[i].rgb; /* or another thread was first */
    if (taken) c->images[i] = kept;
    if (fits && !taken) c->left += bytes;
    pthread_mutex_unlock(&c->mutex);
    if (!taken) trine_image_free(&kept);
    return TRINE_OK;
}

void trine__image_cache_destroy(trine__image_cache **cache)
{
    trine__image_cache *c = *cache;
    if (!c) return;
    for (size_t i = 0; c->images && i < trine_dataset_count(c->dataset); i++) trine_image_free(&c->images[i]);
    pthread_mutex_destroy(&c->mutex);
    free(c->images);
    free(c);
    *cache = NULL;
}
