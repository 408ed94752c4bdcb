/* SPDX-License-Identifier: MIT */
/* What every tensor must keep to. */
#ifndef TRINE_RT_TENSOR_H
#define TRINE_RT_TENSOR_H

#include "trine/tensor.h"

/* Sizes at least 1, a block of 1 to 16, fewer than 2^31 elements (kernels index with 32 bits):
 * TRINE_ERR_SHAPE, TRINE_ERR_ARG. */
trine_status trine__tensor_check(const trine_shape *shape, int cb);

#endif
