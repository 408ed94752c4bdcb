/* SPDX-License-Identifier: MIT */
/* Preprocessing with a choice of where the crop lies and whether the image is mirrored: the loader's
 * augmentation. */
#ifndef TRINE_IO_PREPROCESS_H
#define TRINE_IO_PREPROCESS_H

#include "base/memory.h"
#include "base/random.h"
#include "trine/image.h"

/* Largest resize, pad and crop. */
enum { TRINE__PREPROCESS_SIDE_MAX = 1 << 14 };

/* TRINE_ERR_ARG: a side outside 0..TRINE__PREPROCESS_SIDE_MAX, mean not finite, std not finite or not > 0. */
trine_status trine__preprocess_check(const trine_preprocess *p);

/* The first step: replace the pixels by resized ones where `resize` asks for it. On failure the image is as
 * it was. */
trine_status trine__preprocess_resize(const trine_preprocess *p, trine_image *image);

/* The first number that the next function draws with `flip`: mirror the image? */
bool trine__preprocess_flips(trine__random *random);

/* The other steps, on a resized image, with random numbers from `random` where `flip` or `crop` is set (see
 * trine__augment in io/loader.h). `p` is valid (trine__preprocess_check()); out has the size that
 * trine_preprocess_size() told. */
void trine__preprocess_write(const trine_preprocess *p, const trine_image *resized, bool flip, bool crop,
                             trine__random *random, float *out);

#endif
