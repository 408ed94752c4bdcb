/* SPDX-License-Identifier: MIT */
/* Which of the device's matrix units conv2d_gemm's kernels may use. */
#ifndef TRINE_OP_CONV2D_MMA_H
#define TRINE_OP_CONV2D_MMA_H

#include "op/conv2d_private.h"

typedef struct trine__mma_options {
    char text[48];
} trine__mma_options;

/* The kernels' options for the unit that takes the problem as its activations are stored; "" where there is none. */
trine__mma_options trine__conv2d_mma_options(const trine_conv2d *op);

/* What a driver tells of its device only suggests a unit: the compiler has the last word, once a context. `options`: all of conv2d_gemm's
 * for the problem. */
bool trine__conv2d_mma_builds(const trine_conv2d *op, const char *options);

#endif
