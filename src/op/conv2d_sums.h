/* SPDX-License-Identifier: MIT */
/* Data gradients that a BatchNorm's backward pass reads next: masked, with its sums made while they are written, which saves reading them
 * from memory once more. */
#ifndef TRINE_OP_CONV2D_SUMS_H
#define TRINE_OP_CONV2D_SUMS_H

#include "op/batchnorm_sums.h"
#include "trine/conv2d.h"

/* Get backward_data ready to make sums, of batches up to n: *parts is how many parts they come in at most, 0 where it cannot. */
trine_status trine__conv2d_sums_create(trine_conv2d *op, int n, int *parts);

/* trine_conv2d_backward_data() that makes them, in trine__conv2d_sum_parts() parts of n images. */
int trine__conv2d_sum_parts(const trine_conv2d *op, int n);
trine_status trine__conv2d_backward_data_sums(trine_conv2d *op, trine_stream *stream, const trine_tensor *dy,
                                              int beta, const trine__batchnorm_sums *sums, trine_tensor *dx,
                                              trine_buffer *workspace);

#endif
