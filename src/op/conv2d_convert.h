/* SPDX-License-Identifier: MIT */
/* Half-precision activations for implementations that know floats only. */
#ifndef TRINE_OP_CONV2D_CONVERT_H
#define TRINE_OP_CONV2D_CONVERT_H

#include "op/conv2d_private.h"

/* Does a direction go through copies in single precision? */
bool trine__conv2d_converts(const trine_conv2d *op, trine_direction direction);
/* Bytes of workspace, the implementation's own included. */
size_t trine__conv2d_convert_workspace(const trine_conv2d *op, trine_direction direction, int n);
/* Enqueue: halves into floats, the implementation, floats into halves. */
trine_status trine__conv2d_convert(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                                   const trine__conv2d_call *call);

#endif
