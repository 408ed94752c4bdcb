/* SPDX-License-Identifier: MIT */
/* The random changes of trine/augment.h, one by one: what is drawn for an image, and what that makes of it. */
#ifndef TRINE_IO_AUGMENT_H
#define TRINE_IO_AUGMENT_H

#include "base/random.h"
#include "io/image_private.h"
#include "trine/augment.h"

static inline bool trine__augments_resized_crop(const trine_augment *a)
{
    return a->scale[1] > 0;
}

static inline bool trine__augments_colors(const trine_augment *a)
{
    return a->brightness > 0 || a->contrast > 0 || a->saturation > 0 || a->hue > 0;
}

/* Is an image one of two, itself or mirrored, however often it is drawn? */
bool trine__augment_repeats(const trine_augment *augment);
/* Is anything changed? */
bool trine__augments(const trine_augment *augment);

/* With ranges in place of {0, 0}. */
trine_augment trine__augment_complete(const trine_augment *augment);

/* The functions below take what trine__augment_complete() gives, and draw one image's numbers from `random`, in the order in which they
 * are listed here, after what mirrors and crops (io/preprocess.h). */

/* RandomResizedCrop.get_params(): ten tries, then the largest central part of an allowed ratio. @param width,height of the image */
trine__window trine__draw_resized_crop(const trine_augment *augment, trine__random *random, int width,
                                       int height);

/* ColorJitter's four changes in the order of their numbers. */
enum { TRINE__BRIGHTNESS, TRINE__CONTRAST, TRINE__SATURATION, TRINE__HUE, TRINE__COLORS };
typedef struct trine__jitter {
    int order[TRINE__COLORS];
    double factor[TRINE__COLORS]; /* NaN: this one is not changed */
} trine__jitter;
trine__jitter trine__draw_jitter(const trine_augment *augment, trine__random *random);

/* RandomErasing.get_params(): the rectangle, empty where nothing is erased (ten tries found none, or the probability says so). */
trine__window trine__draw_erasing(const trine_augment *augment, trine__random *random, int width, int height);

/* Change the pixels in place: the bytes of torchvision's adjust_brightness(), adjust_contrast(), adjust_saturation() and adjust_hue() on
 * Pillow images (src/io/color_jitter.c). */
void trine__image_jitter(trine_image *image, const trine__jitter *jitter);
/* The rectangle of x [3][height][width] becomes 0, or normal numbers from `noise`. */
void trine__erase(float *x, int width, int height, const trine__window *rectangle,
                  const trine__random *noise);

#endif
