/* SPDX-License-Identifier: MIT */
/* Data gradients that a BatchNorm's backward pass reads next: masked, with its sums made while they are written, which saves reading them
 * from memory once more. */
#ifndef TRINE_OP_CONV2D_SUMS_H
#define TRINE_OP_CONV2D_SUMS_H

#include "op/batchnorm_sums.h"
#include "trine/conv2d.h"

/* Get backward_data ready to make sums, of batches up to n: *parts is how many parts they come in at most, 0 where it cannot.
 * made: beside making dy (conv2d_made.h). */
trine_status trine__conv2d_sums_create(trine_conv2d *op, int n, bool made, int *parts);

/* In how many parts they come of n images. */
int trine__conv2d_sum_parts(const trine_conv2d *op, int n, bool made);

#endif
