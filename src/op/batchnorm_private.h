/* SPDX-License-Identifier: MIT */
/* What batchnorm.c, which has the operator and its forward passes, shares with batchnorm_backward.c. */
#ifndef TRINE_OP_BATCHNORM_PRIVATE_H
#define TRINE_OP_BATCHNORM_PRIVATE_H

#include "op/batchnorm_made.h"
#include "rt/launch.h"

enum {
    TRINE__BN_PARTIALS,
    TRINE__BN_STATISTICS,
    TRINE__BN_COEFFICIENTS,
    TRINE__BN_APPLY,
    TRINE__BN_BACKWARD_PARTIALS,
    TRINE__BN_BACKWARD_STATISTICS,
    TRINE__BN_BACKWARD_APPLY,
    TRINE__BN_KERNELS
};

/* cl/bn_made.clh */
enum { TRINE__MADE_FORWARD = 0, TRINE__MADE_RELU = 1, TRINE__MADE_BACKWARD = 2 };

struct trine_batchnorm {
    trine_context *context;
    int channels, cb, blocks;
    float eps;
    trine__kernel
        *kernels[TRINE__BN_KERNELS]
                [TRINE__STORAGES]; /* each made at its first use: inference folds and needs only one */
    trine_buffer *scratch[4];      /* [blocks*cb] each: a, b; or k1, k2, k3 of the backward pass, with a in
                                        k1's place, and b */
};

/* What a work-item goes through (cl/bn_run.clh). */
typedef struct trine__bn_span {
    int run, blocks; /* units, which are pixels or chunks of an image's block; blocks */
    trine__grid grid;
} trine__bn_span;

/* For chunks that are reduced, and for single pixels. */
trine__bn_span trine__bn_chunk_span(const trine_batchnorm *bn, const trine_shape *shape);
trine__bn_span trine__bn_pixel_span(const trine_batchnorm *bn, const trine_shape *shape);
trine__grid trine__bn_block_grid(
    const trine_batchnorm
        *bn); /* one work-item or work-group a block, which is a channel where blocks are of 1 */
int trine__bn_chunk_pixels(const trine_batchnorm *bn);
int trine__bn_chunks(const trine_batchnorm *bn, const trine_shape *shape); /* of an image's block */

/* Is a result so large that whoever reads it next will not find it in the caches? What is written in place is there already. */
int trine__bn_streams(const trine_tensor *in, const trine_tensor *out);

/* `dtype`: of the tensors among the arguments. */
trine_status trine__bn_launch(trine_batchnorm *bn, trine_stream *stream, int kernel, trine_dtype dtype,
                              const trine__arg *args, size_t count, trine__grid grid);

/* a and b of bn_apply. */
trine_status trine__bn_affine(trine_batchnorm *bn, trine_stream *stream, const trine_batchnorm_saved *saved,
                              const trine_buffer *gamma, const trine_buffer *beta, trine_buffer *a,
                              trine_buffer *b);

/* Like `x`, of which no more is asked than that it suits the operator. */
trine_status trine__bn_check_tensor(const trine_batchnorm *bn, const char *name, const trine_tensor *t,
                                    const trine_tensor *x);
trine_status trine__bn_check_partials(const trine_batchnorm *bn, const trine_shape *shape,
                                      const trine_buffer *partials);

#endif
