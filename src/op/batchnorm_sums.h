/* SPDX-License-Identifier: MIT */
/* The sums of batch normalization's backward pass, made by whoever writes the gradient that they are of (cl/bn_sums.clh). */
#ifndef TRINE_OP_BATCHNORM_SUMS_H
#define TRINE_OP_BATCHNORM_SUMS_H

#include "rt/launch.h"
#include "trine/batchnorm.h"

/* What the mask and the sums are made from, as trine_batchnorm_gradients has it, and where the sums go. */
typedef struct trine__batchnorm_sums {
    const trine_tensor *x, *y;
    const trine_buffer *mean, *a, *b;
    trine_buffer *out;
    int relu;
} trine__batchnorm_sums;

/* Arguments of a kernel that has SUMS_PARAMETERS. */
enum { TRINE__SUMS_ARGS = 7 };

static inline size_t trine__sums_args(const trine__batchnorm_sums *sums, trine__arg *args)
{
    const trine__arg own[TRINE__SUMS_ARGS] = {trine__arg_tensor(sums->x),    trine__arg_tensor(sums->y),
                                              trine__arg_buffer(sums->mean), trine__arg_buffer(sums->a),
                                              trine__arg_buffer(sums->b),    trine__arg_buffer(sums->out),
                                              trine__arg_i32(sums->relu)};
    for (size_t i = 0; i < TRINE__SUMS_ARGS; i++) args[i] = own[i];
    return TRINE__SUMS_ARGS;
}

/* Bytes of g->partials for sums in so many parts. */
size_t trine__batchnorm_sums_bytes(const trine_batchnorm *bn, int parts);

/* Has *out say how g->dy's writer is to mask it and where its sums go, g->partials; it stays until the operator's next call. Then
 * the rest of trine_batchnorm_backward(), from the same g. */
trine_status trine__batchnorm_sums_of(trine_batchnorm *bn, trine_stream *stream,
                                      const trine_batchnorm_gradients *g, trine__batchnorm_sums *out);
trine_status trine__batchnorm_backward_from(trine_batchnorm *bn, trine_stream *stream,
                                            const trine_batchnorm_gradients *g, int parts);

#endif
