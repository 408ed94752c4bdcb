/* SPDX-License-Identifier: MIT */
/** A look at a data set before anything is trained on it: sizes, classes, unreadable images, and images that are there twice. */
#ifndef TRINE_SURVEY_H
#define TRINE_SURVEY_H

#include "trine/image.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What was found. Immutable once made. */
typedef struct trine_survey trine_survey;

typedef struct trine_survey_summary {
    size_t images;           /**< of the data set */
    size_t looked_at;        /**< of them, decoded, evenly spaced; those below are of these */
    size_t unreadable, grey; /**< images that do not decode; images whose channels are equal */
    int min_width, max_width, min_height, max_height; /**< pixels; 0 where nothing decodes */
    int mixed_sizes;                                  /**< 1: not all are of one size */
    int classes;           /**< that have images; this and what follows counts all images */
    int single_classes;    /**< of one image */
    int smallest, largest; /**< class numbers (the lowest, among equals) */
    size_t smallest_images, largest_images;
} trine_survey_summary;

/** Decode and look. Unreadable images are counted, not refused. The result does not depend on the threads.
 *  @param most    images to decode at most; 0: all
 *  @param threads 0: one a processor
 *  @param out     untouched on failure; free it with trine_survey_destroy()
 *  @return TRINE_ERR_NOMEM */
TRINE_API trine_status trine_survey_create(const trine_dataset *data, size_t most, int threads,
                                           trine_survey **out);
TRINE_API trine_survey_summary trine_survey_get_summary(const trine_survey *survey);
/** Number in the data set of unreadable image k (of summary.unreadable), in order. */
TRINE_API size_t trine_survey_unreadable(const trine_survey *survey, size_t k);

/** An image of one survey and one of another (or of the same). */
typedef struct trine_survey_pair {
    size_t a, b; /**< numbers in their data sets */
} trine_survey_pair;

/** Images of b that look like one of a: the same scene at 16 x 16 grey levels, up to what another size, another quality of JPEG or a
 *  little more or less light changes; for each the first one in a. Images without contrast all look alike: they
 *  are told only where every pixel agrees.
 *  Differences of neighbouring pixels are compared first (dHash, Krawetz 2013), then the pixels.
 *  @param b        may be a: then pairs within it, a < b
 *  @param pairs    the first `capacity` pairs, in the order of b; NULL where that is 0
 *  @return the number of such images of b */
TRINE_API size_t trine_survey_duplicates(const trine_survey *a, const trine_survey *b,
                                         trine_survey_pair *pairs, size_t capacity);
/** Destroy and set *survey to NULL; accepts NULL. */
TRINE_API void trine_survey_destroy(trine_survey **survey);

#ifdef __cplusplus
}
#endif
#endif
