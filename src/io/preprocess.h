/* SPDX-License-Identifier: MIT */
/* Preprocessing with a choice of where the crop lies and whether the image is mirrored: the loader's
 * augmentation. */
#ifndef TRINE_IO_PREPROCESS_H
#define TRINE_IO_PREPROCESS_H

#include "base/memory.h"
#include "base/random.h"
#include "io/image_private.h"

/* Largest resize, pad and crop. */
enum { TRINE__PREPROCESS_SIDE_MAX = 1 << 14 };

/* TRINE_ERR_ARG: a side outside 0..TRINE__PREPROCESS_SIDE_MAX, mean not finite, std not finite or not > 0. */
trine_status trine__preprocess_check(const trine_preprocess *p);

/* What the network sees of a resized image: output pixel (x, y) shows its pixel (x + left, y + top), black
 * outside it, and then the rows may be mirrored. */
typedef struct trine__view {
    trine__window window;
    bool mirrored;
} trine__view;

/* The first number that trine__preprocess_resize() draws with `flip`: mirror the image? */
bool trine__preprocess_flips(trine__random *random);

/* The first step, with random numbers from `random` where `flip` or `crop` is set (see trine__augment in
 * io/loader.h): choose the view, and replace the pixels by resized ones where `resize` asks for it, no more of
 * them than the view shows. `p` is valid (trine__preprocess_check()). On failure the image is as it was. */
trine_status trine__preprocess_resize(const trine_preprocess *p, bool flip, bool crop, trine__random *random,
                                      trine_image *image, trine__view *view);

/* The other steps: [3][height][width] of the view. */
void trine__preprocess_write(const trine_preprocess *p, const trine_image *resized, const trine__view *view,
                             float *out);

#endif
