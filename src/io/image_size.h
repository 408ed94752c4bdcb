/* SPDX-License-Identifier: MIT */
/* Sizes of images without decoding them. */
#ifndef TRINE_IO_IMAGE_SIZE_H
#define TRINE_IO_IMAGE_SIZE_H

#include <stdbool.h>

#include "trine/image.h"

/* Width and height as a JPEG's, PNG's or PNM's header has them. False: none of these, or the header is not whole. */
bool trine__image_header_size(const unsigned char *data, size_t bytes, int *width, int *height);
/* The same for image i of a folder; false also where the file cannot be opened, and for IDX, whose images have one size. */
bool trine__dataset_image_size(const trine_dataset *ds, size_t i, int *width, int *height);
/* What trine_dataset_one_size() has found before, without a look at any file; false: it has not, or there is no one size. */
bool trine__dataset_known_size(const trine_dataset *ds, int *width, int *height);

#endif
