/* SPDX-License-Identifier: MIT */
/* Element types, and the conversions of half precision on the host. */
#ifndef TRINE_BASE_DTYPE_H
#define TRINE_BASE_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

#include "trine/dtype.h"

/* As safetensors spells it. @return false: not a known one */
bool trine__dtype_from_name(const char *name, trine_dtype *out);

/* IEEE 754 binary16: exact; and to the nearest, ties to even, infinity from 65520 on, NaN stays NaN. */
float trine__half_to_float(uint16_t half);
uint16_t trine__half_from_float(float value);

#endif
