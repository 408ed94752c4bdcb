/* SPDX-License-Identifier: MIT */
/* The mined losses in double, with candidates beyond the batch: every distance, every term, one after the other. */
#ifndef TRINE_TESTS_REF_TRIPLET_H
#define TRINE_TESTS_REF_TRIPLET_H

#include <stdint.h>

#include "trine/loss.h" /* the description, as a public type */

typedef struct ref_mined {
    double stats[7];   /* as trine_triplet_run() */
    double largest;    /* distance of any pair */
    double *gradient;  /* [n][d] */
    double *magnitude; /* [n][d]: the same sum over absolute values, for error bounds */
} ref_mined;

/* candidates [m][d], of which the first n are the batch; labels [m]. Free with ref_mined_free(). */
ref_mined ref_triplet_mined(const trine_triplet_desc *desc, const double *candidates, const int32_t *labels,
                            int n, int m, int d, uint64_t step);
void ref_mined_free(ref_mined *r);

#endif
