/* SPDX-License-Identifier: MIT */
/** Random changes of training images, as torchvision's transforms make them. */
#ifndef TRINE_AUGMENT_H
#define TRINE_AUGMENT_H

#include "trine/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What is changed, in this order; zeroed: nothing. What is drawn for an image depends on the run's seed, the batch and the place in it
 *  only, never on the number of threads. */
typedef struct trine_augment {
    int flip; /**< mirrored with probability 1/2: RandomHorizontalFlip */
    int crop; /**< where the preprocessing crops, at random: RandomCrop; in a direction where that leaves no room (no crop, or one of
                   the resized image's side) 4 black pixels on both sides are cropped away again (He et al. 2016, section 4.2) */
    /** RandomResizedCrop: a part of the decoded image, of an area of scale[0] to scale[1] of it and a ratio of width to height of
     *  ratio[0] to ratio[1], resized to what preprocessing makes; in place of its resize, pad and crop, and of `crop` above.
     *  Bit for bit Pillow's crop() and resize(BILINEAR). scale {0, 0}: none; ratio {0, 0}: 3/4 to 4/3. */
    double scale[2], ratio[2];
    /** ColorJitter: three factors from [max(0, 1 - x), 1 + x] and a turn of the hue from [-x, x] of the circle, in an order that is
     *  drawn, too. Bit for bit what it makes of a Pillow image, of 8 bits after each of the four. 0: none. */
    double brightness, contrast, saturation, hue;
    /** RandomErasing, on the normalised values: with this probability a rectangle of an area of erase_scale[0] to erase_scale[1] of the
     *  image and a ratio of height to width of erase_ratio[0] to erase_ratio[1] becomes 0, or (erase_random) standard normal numbers.
     *  {0, 0}: 0.02 to 0.33, and 0.3 to 3.3. */
    double erase;
    double erase_scale[2], erase_ratio[2];
    int erase_random;
} trine_augment;

/** From text: "none", or a list of changes, each once: flip; crop; flip-crop (both); rrc[:scale=A-B][:ratio=A-B] (scale 0.08-1);
 *  jitter[:brightness=X][:contrast=X][:saturation=X][:hue=X] (0.4, 0.4, 0.4, 0.1; with numbers those that are not named are 0);
 *  erase[:p=X][:scale=A-B][:ratio=A-B][:value=0|random] (p 0.5).
 *  @param out  untouched on failure   @return TRINE_ERR_ARG, in a sentence that begins with "augment" */
TRINE_API trine_status trine_augment_parse(const char *text, trine_augment *out);

enum { TRINE_AUGMENT_TEXT = 512 };
/** The reverse: equal changes give equal texts, which trine_augment_parse() reads back to the last bit.
 *  @return TRINE_ERR_ARG: trine_augment_check() */
TRINE_API trine_status trine_augment_text(const trine_augment *augment, char text[TRINE_AUGMENT_TEXT]);
/** @return TRINE_ERR_ARG: a range that is empty or outside (scales within 0 to 1, ratios above 0, hue at most 0.5, probability at most 1),
 *          or both kinds of crop */
TRINE_API trine_status trine_augment_check(const trine_augment *augment);

#ifdef __cplusplus
}
#endif
#endif
