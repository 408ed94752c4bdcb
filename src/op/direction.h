/* SPDX-License-Identifier: MIT */
/* The directions' names, for problems, sentences and labels. */
#ifndef TRINE_OP_DIRECTION_H
#define TRINE_OP_DIRECTION_H

#include "trine/conv2d.h"

/* "forward", "backward_data", "backward_weights": also the labels of their launches; of prepare's it is "prepare" */
const char *trine__direction_name(trine_direction direction);

#endif
