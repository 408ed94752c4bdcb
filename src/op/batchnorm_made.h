/* SPDX-License-Identifier: MIT */
/* BatchNorm's last pass, forward or backward, left to the operator that reads its result next (cl/bn_made.clh). */
#ifndef TRINE_OP_BATCHNORM_MADE_H
#define TRINE_OP_BATCHNORM_MADE_H

#include "rt/launch.h"
#include "trine/batchnorm.h"

/* kind: of cl/bn_made.clh. x may be NULL in the backward pass, `with` in the forward pass. */
typedef struct trine__batchnorm_made {
    const trine_tensor *x, *with;
    const trine_buffer *mean, *c1, *c2, *c3;
    trine_tensor *to;
    int kind;
} trine__batchnorm_made;

/* Arguments of a kernel that has MADE_PARAMETERS. */
enum { TRINE__MADE_ARGS = 8 };

static inline size_t trine__made_args(const trine__batchnorm_made *made, trine__arg *args)
{
    const trine__arg own[TRINE__MADE_ARGS] = {trine__arg_tensor(made->x),    trine__arg_tensor(made->with),
                                              trine__arg_buffer(made->mean), trine__arg_buffer(made->c1),
                                              trine__arg_buffer(made->c2),   trine__arg_buffer(made->c3),
                                              trine__arg_tensor(made->to),   trine__arg_i32(made->kind)};
    for (size_t i = 0; i < TRINE__MADE_ARGS; i++) args[i] = own[i];
    return TRINE__MADE_ARGS;
}

/* trine_batchnorm_apply() without its last pass, and what that would have done. *made stays until the operator's next call. */
trine_status trine__batchnorm_apply_later(trine_batchnorm *bn, trine_stream *stream, const trine_tensor *x,
                                          const trine_batchnorm_saved *saved, const trine_buffer *gamma,
                                          const trine_buffer *beta, const trine_tensor *residual, int relu,
                                          trine_tensor *y, trine__batchnorm_made *made);

/* The same of trine_batchnorm_backward(), or with sums in `parts` > 0 parts of trine__batchnorm_backward_from(). Something must be summed up, and the
 * mask be y's or, with sums, in dy already: it is not made again. */
trine_status trine__batchnorm_backward_later(trine_batchnorm *bn, trine_stream *stream,
                                             const trine_batchnorm_gradients *g, int parts,
                                             trine__batchnorm_made *made);

#endif
