/* SPDX-License-Identifier: MIT */
/* Losses in double: every triplet enumerated, every gradient summed term by term. */
#ifndef TRINE_TESTS_REF_LOSS_H
#define TRINE_TESTS_REF_LOSS_H

#include <stdint.h>

/* y = x / max(|x|, 1e-12) for rows [n][d]; norms [n]. */
void ref_l2norm_forward(const double *x, int n, int d, double *y, double *norms);
/* dx from x (not y) and dy. */
void ref_l2norm_backward(const double *x, const double *dy, int n, int d, double *dx);

/* stats: mean loss, share of rows whose largest logit (lowest index among equals) is the label's. dz may be
 * NULL. */
void ref_cross_entropy(const double *z, const int32_t *labels, int n, int k, double stats[2], double *dz);

/* mining 0 batch-hard, 1 batch-all, 2 semi-hard; distance 0 euclidean, 1 squared, 2 cosine. */
typedef struct ref_triplet_desc {
    int mining, distance, soft;
    double margin;
} ref_triplet_desc;

typedef struct ref_triplet_result {
    double stats[6];   /* as trine_triplet_run() */
    double largest;    /* distance of any pair */
    double unit;       /* largest magnitude of d distance / d component in any term */
    double *gradient;  /* [n][d] */
    double *magnitude; /* [n][d]: the same sum over absolute values, for error bounds */
    long doubtful; /* decisions (hinge, farthest, closest, farther) nearer than `tolerance`, exact ties not
                      counted */
} ref_triplet_result;

/* tolerance: relative to 1 + the largest distance. Free with ref_triplet_free(). */
ref_triplet_result ref_triplet(const ref_triplet_desc *desc, const double *e, const int32_t *labels, int n,
                               int d, double tolerance);
void ref_triplet_free(ref_triplet_result *r);

/* torch.nn.TripletMarginLoss; reduction 0 none, 1 mean, 2 sum. p may be INFINITY. */
typedef struct ref_margin_desc {
    double margin, p, eps;
    int swap, reduction;
} ref_margin_desc;

/* loss [n]; gradients [n][d] of the reduced loss (none: of the sum). Returns the reduced loss (none: 0). */
double ref_triplet_margin(const ref_margin_desc *desc, const double *a, const double *pos, const double *neg,
                          int n, int d, double *loss, double *da, double *dp, double *dn);

#endif
