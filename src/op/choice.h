/* SPDX-License-Identifier: MIT */
/* Which choices of operators a measurement made (trine/tuning.h), of those that would be others without it. */
#ifndef TRINE_OP_CHOICE_H
#define TRINE_OP_CHOICE_H

#include <stdbool.h>

#include "trine/linear.h"

/* "PROBLEM | ALGORITHM" */
enum { TRINE__CHOICE = 384 };

/* @return false, text left alone: the direction is not there, or the choice is that without measurements */
bool trine__conv2d_choice(const trine_conv2d *op, trine_direction direction, char text[TRINE__CHOICE]);
bool trine__linear_choice(const trine_linear *op, trine_direction direction, char text[TRINE__CHOICE]);

#endif
