/* SPDX-License-Identifier: MIT */
/* Where weights lie: [ceil(k/kb)][ceil(c/cb)][taps][cb][kb], padding zero; kb = cb = 1 is the dense [k][c][taps]. The device's
 * side of it is cl/conv2d_weights.clh. */
#ifndef TRINE_OP_CONV2D_WEIGHTS_H
#define TRINE_OP_CONV2D_WEIGHTS_H

#include "trine/conv2d.h"

typedef struct trine__weight_layout {
    int k, c, taps; /* filters, channels of a group, R*S */
    int kb, cb;
} trine__weight_layout;

trine__weight_layout trine__conv2d_weight_layout(const trine_conv2d_desc *desc);
/* Floats, padding included. */
size_t trine__weight_layout_count(const trine__weight_layout *layout);
void trine__weight_layout_to_dense(const trine__weight_layout *layout, const float *stored, float *dense);
void trine__weight_layout_from_dense(const trine__weight_layout *layout, const float *dense, float *stored);

#endif
