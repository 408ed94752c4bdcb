/* SPDX-License-Identifier: MIT */
/* What the image decoders share. Every sentence starts with `name`, the file's path. */
#ifndef TRINE_IO_IMAGE_PRIVATE_H
#define TRINE_IO_IMAGE_PRIVATE_H

#include "base/memory.h"
#include "trine/image.h"

/* Larger images are refused: their pixels alone would fill three quarters of a gigabyte. */
enum { TRINE__IMAGE_PIXELS_MAX = 1 << 28 };

/* Allocate black pixels. TRINE_ERR_FORMAT for an empty side or more than TRINE__IMAGE_PIXELS_MAX pixels. */
trine_status trine__image_new(const char *name, uint64_t width, uint64_t height, trine_image *out);

/* A part of an image. */
typedef struct trine__window {
    int left, top, width, height;
} trine__window;

/* The window's pixels, at least one and all inside, of what trine_image_resize() makes of the image. */
trine_status trine__image_resize_window(const trine_image *image, int width, int height,
                                        const trine__window *window, trine_image *out);

trine_status trine__jpeg_decode(const unsigned char *data, size_t bytes, const char *name, trine_image *out);
trine_status trine__png_decode(const unsigned char *data, size_t bytes, const char *name, trine_image *out);
trine_status trine__pnm_decode(const unsigned char *data, size_t bytes, const char *name, trine_image *out);

#endif
