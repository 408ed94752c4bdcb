/* SPDX-License-Identifier: MIT */
/* Convolutions that make what they read, by BatchNorm's last pass, and write it for others: it is read from memory once less, and what
 * it is made from comes while products go on. */
#ifndef TRINE_OP_CONV2D_MADE_H
#define TRINE_OP_CONV2D_MADE_H

#include "op/batchnorm_made.h"
#include "op/conv2d_sums.h"

/* Can a direction, forward or backward_data, and is it worth it for n images? Gets it ready to. */
bool trine__conv2d_can_make(const trine_conv2d *op, trine_direction direction, int n);
trine_status trine__conv2d_make_create(trine_conv2d *op, trine_direction direction);

/* trine_conv2d_forward() of made->to. */
trine_status trine__conv2d_forward_made(trine_conv2d *op, trine_stream *stream,
                                        const trine__batchnorm_made *made,
                                        const trine_conv2d_epilogue *epilogue, trine_tensor *y,
                                        trine_buffer *workspace);

/* trine_conv2d_backward_data(); with `made`, whose `to` is dy, dy is made first, with `sums` dx is masked and summed up. */
trine_status trine__conv2d_backward_data_joined(trine_conv2d *op, trine_stream *stream,
                                                const trine_tensor *dy, int beta,
                                                const trine__batchnorm_made *made,
                                                const trine__batchnorm_sums *sums, trine_tensor *dx,
                                                trine_buffer *workspace);

#endif
