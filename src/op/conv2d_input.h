/* SPDX-License-Identifier: MIT */
/* Convolutions of what is yet to be normalised: BatchNorm and ReLU are applied on the way in, and their result is never written. */
#ifndef TRINE_OP_CONV2D_INPUT_H
#define TRINE_OP_CONV2D_INPUT_H

#include "op/batchnorm_input.h"
#include "trine/conv2d.h"

/* Do forward, or backward_weights, take an input that is yet to be normalised? For those that do, trine_conv2d_forward() and
 * trine_conv2d_backward_weights() of such an input. */
bool trine__conv2d_normalises(const trine_conv2d *op, trine_direction direction);
trine_status trine__conv2d_forward_of(trine_conv2d *op, trine_stream *stream, const trine_tensor *x,
                                      const trine__batchnorm_input *input,
                                      const trine_conv2d_epilogue *epilogue, trine_tensor *y,
                                      trine_buffer *workspace);
trine_status trine__conv2d_backward_weights_of(trine_conv2d *op, trine_stream *stream, const trine_tensor *x,
                                               const trine__batchnorm_input *input, const trine_tensor *dy,
                                               int beta, trine_buffer *dw, trine_buffer *workspace);

#endif
