/* SPDX-License-Identifier: MIT */
/* Decoded images of a data set, kept for the next time that they are asked for. */
#ifndef TRINE_IO_IMAGE_CACHE_H
#define TRINE_IO_IMAGE_CACHE_H

#include "trine/image.h"

typedef struct trine__image_cache trine__image_cache;

/* Keeps the images that are read first, as many as fit `bytes` of pixels (0: none). The data set outlives it. */
trine_status trine__image_cache_create(const trine_dataset *dataset, size_t bytes, trine__image_cache **out);
/* As trine_dataset_image(), the caller's own copy. From any thread. */
trine_status trine__image_cache_read(trine__image_cache *cache, size_t i, trine_image *out);
void trine__image_cache_destroy(trine__image_cache **cache);

#endif
