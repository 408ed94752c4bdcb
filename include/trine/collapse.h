/* SPDX-License-Identifier: MIT */
/** Does training collapse? A look at the records of a trainer's steps that costs nothing on the device. */
#ifndef TRINE_COLLAPSE_H
#define TRINE_COLLAPSE_H

#include "trine/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What shows it. "At first" is the largest value of the run's first 8 steps. Distances are alike where d_an is below 1.5 d_ap (give or
 *  take a thousandth of what they were at first) and a triplet loss is above half of what it is for d_ap = d_an: a run that has
 *  learned its task, with a loss and an active fraction of 0 and negatives that are far away, shows none of these. Steps without any
 *  term count for nothing. */
typedef enum trine_collapse_sign {
    TRINE_COLLAPSE_NONE = 0,
    /** embedding_norm below 2 % of at first and distances alike, or (normalised) below 1 %, or below 10 % and the next sign; 8 steps */
    TRINE_COLLAPSE_NORM = 1,
    /** d_ap and d_an below 5 % of at first (squared and cosine distance: 0.25 %) and alike; 8 steps */
    TRINE_COLLAPSE_DISTANCE = 2,
    /** the loss within 5 % of the margin, d_ap and d_an below 20 % (4 %) of at first, 8 steps; or within 2 % for 100 steps
     *  (batch-hard, batch-all and hardest-fraction: the losses of semi-hard mining live there) */
    TRINE_COLLAPSE_MARGIN = 3,
    /** the same of a soft margin's loss and temperature * ln 2, which it gives for d_ap = d_an */
    TRINE_COLLAPSE_LN2 = 4,
    /** triplet, no soft margin: every term active for 200 steps, d_an not above d_ap, and the loss neither falling (by one standard
     *  error) nor below that of the first 16 steps (by two) */
    TRINE_COLLAPSE_ALL_ACTIVE = 5,
    /** triplet, no soft margin: no term active for 50 steps, and yet d_an below 1.05 d_ap */
    TRINE_COLLAPSE_NONE_ACTIVE = 6,
    /** classify: over 200 steps the mean loss within 2 % of that of guessing by the classes' shares alone (ln(classes) where they are
     *  even), the mean accuracy hardly above the largest share, and the loss not falling (by one standard error) */
    TRINE_COLLAPSE_GUESSING = 7,
    /** classify: over 200 steps the loss above 0.9 times that of guessing, neither falling nor below that of the first 16 steps (as for
     *  ALL_ACTIVE), and the mean accuracy hardly above the largest share */
    TRINE_COLLAPSE_NO_PROGRESS = 8,
    /** classify: the loss above 10 times that of guessing and that of the first step, 8 steps */
    TRINE_COLLAPSE_DIVERGED = 9
} trine_collapse_sign;

/** "none", "norm", "distance", "margin", "ln2", "all-active", "none-active", "guessing", "no-progress", "diverged"; NULL for another
 *  number. */
TRINE_API const char *trine_collapse_sign_name(trine_collapse_sign sign);

/** What was found. */
typedef struct trine_collapse {
    trine_collapse_sign sign;
    trine_step_record record;         /**< of the step at which it was certain */
    float first_norm, first_distance; /**< at first; the larger one of d_ap and d_an (classify: 0) */
    char text[640];                   /**< one sentence: the step, the sign, its values, and what to change */
} trine_collapse;

/** What a run's records are compared with. */
typedef struct trine_collapse_guard trine_collapse_guard;
/** @param options of the trainer, read now: objective, loss, normalize, lr, warmup   @param net advice on BatchNorm looks at its
 *         policies, and its outputs are the classes until trine_collapse_guard_set_classes(); NULL: neither
 *  @return TRINE_ERR_ARG: unknown objective; TRINE_ERR_NOMEM */
TRINE_API trine_status trine_collapse_guard_create(const trine_trainer_options *options,
                                                   const trine_resnet *net, trine_collapse_guard **out);
/** Classify: the shares of the classes that there are, from the labels of the training data. Of one class alone nothing is found. */
TRINE_API void trine_collapse_guard_set_classes(trine_collapse_guard *guard, const trine_dataset *data);
/** The next step's record, in order, as a trine_step_fn gets it.
 *  @param found written if the call returns 1   @return 1 at the first step at which a sign is certain, once a run; else 0 */
TRINE_API int trine_collapse_guard_step(trine_collapse_guard *guard, const trine_step_record *record,
                                        trine_collapse *found);
TRINE_API void trine_collapse_guard_destroy(trine_collapse_guard **guard);

#ifdef __cplusplus
}
#endif
#endif
