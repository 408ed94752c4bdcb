/* SPDX-License-Identifier: MIT */
/* The learning-rate schedule that depends on the losses so far. */
#ifndef TRINE_LEARN_SCHEDULE_H
#define TRINE_LEARN_SCHEDULE_H

/* torch.optim.lr_scheduler.ReduceLROnPlateau with its defaults: mode min, factor 0.1, patience 10, threshold
 * 1e-4 relative, cooldown 0, min_lr 0, eps 1e-8. */
typedef struct trine__plateau {
    double lr; /* of the next step */
    double best;
    int bad; /* means in a row that were not better */
} trine__plateau;

trine__plateau trine__plateau_start(double lr);
/* Take the mean loss of one more epoch. */
void trine__plateau_update(trine__plateau *p, double mean_loss);

#endif
