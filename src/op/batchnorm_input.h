/* SPDX-License-Identifier: MIT */
/* BatchNorm and ReLU of what an operator reads, applied while it reads it: x becomes max(0, (x - mean)*a + b), bit for bit as trine_batchnorm_apply()
 * writes it, and nobody need write it. */
#ifndef TRINE_OP_BATCHNORM_INPUT_H
#define TRINE_OP_BATCHNORM_INPUT_H

#include "trine/batchnorm.h"

/* Each [C rounded up to the channel block]; all NULL: x is read as it is. */
typedef struct trine__batchnorm_input {
    const trine_buffer *mean, *a, *b;
} trine__batchnorm_input;

/* trine_batchnorm_apply()'s a and b, for trine__batchnorm_input_of(). They stay until the operator's next call but trine_batchnorm_statistics(). */
trine_status trine__batchnorm_coefficients(trine_batchnorm *bn, trine_stream *stream,
                                           const trine_batchnorm_saved *saved, const trine_buffer *gamma,
                                           const trine_buffer *beta);
trine__batchnorm_input trine__batchnorm_input_of(const trine_batchnorm *bn,
                                                 const trine_batchnorm_saved *saved);

#endif
