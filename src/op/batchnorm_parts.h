/* SPDX-License-Identifier: MIT */
/* Batch statistics in parts (cl/bn_parts.clh): what trine_batchnorm_partials() writes, or a convolution instead, and
 * trine_batchnorm_statistics() reads. Any partition of a tensor's pixels does. */
#ifndef TRINE_OP_BATCHNORM_PARTS_H
#define TRINE_OP_BATCHNORM_PARTS_H

#include "trine/batchnorm.h"

/* Bytes of so many parts. */
static inline size_t trine__batchnorm_parts_bytes(const trine_batchnorm *bn, size_t parts)
{
    enum { PARTS_HEADER = 16 };
    return PARTS_HEADER * sizeof(float) + parts * (2 * trine_batchnorm_channel_bytes(bn) + sizeof(float));
}

#endif
