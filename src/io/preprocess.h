/* SPDX-License-Identifier: MIT */
/* Preprocessing with a choice of where the crop lies and whether the image is mirrored: the loader's
 * augmentation. */
#ifndef TRINE_IO_PREPROCESS_H
#define TRINE_IO_PREPROCESS_H

#include "base/memory.h"
#include "io/augment.h"

/* Largest resize, pad and crop. */
enum { TRINE__PREPROCESS_SIDE_MAX = 1 << 14 };

/* TRINE_ERR_ARG: a side outside 0..TRINE__PREPROCESS_SIDE_MAX, mean not finite, std not finite or not > 0. */
trine_status trine__preprocess_check(const trine_preprocess *p);

/* What the network sees of a resized image: output pixel (x, y) shows its pixel (x + left, y + top), black
 * outside it, then the rows may be mirrored, and what is normalised loses a rectangle. */
typedef struct trine__view {
    trine__window window;
    bool mirrored;
    trine__window erased; /* of the output; no pixels: nothing is */
    bool noisy;           /* it becomes normal numbers from `noise`, not 0 */
    trine__random noise;
} trine__view;

/* The first number that trine__preprocess_resize() draws with `flip`: mirror the image? */
bool trine__preprocess_flips(trine__random *random);

/* The first step, with random numbers from `random` where there is something to augment: choose the view, replace the pixels by
 * resized ones where they have another size, no more of them than the view shows, and change their colours.
 * `p` is valid (trine__preprocess_check()), `augment` complete (trine__augment_complete()). After a failure the image may be the
 * decoded one or any of these. */
trine_status trine__preprocess_resize(const trine_preprocess *p, const trine_augment *augment,
                                      trine__random *random, trine_image *image, trine__view *view);

/* The other steps: [3][height][width] of the view. */
void trine__preprocess_write(const trine_preprocess *p, const trine_image *resized, const trine__view *view,
                             float *out);

#endif
