/* SPDX-License-Identifier: MIT */
/* Minimal filtering's plan on CPUs, which its directions share: conv2d_winograd.c has all of them, conv2d_winograd_gradient.c the filter
 * gradient of few channels, conv2d_winograd_kernels.c the kernels. */
#ifndef TRINE_OP_CONV2D_WINOGRAD_H
#define TRINE_OP_CONV2D_WINOGRAD_H

#include "op/conv2d_winograd_shape.h"

typedef struct trine__winograd {
    trine__kernel *filter, *input, *multiply, *output; /* forward, backward_data */
    trine__kernel *fused;                              /* instead of what comes before `unpack`, or NULL */
    trine__kernel *sums; /* `fused` or `output` that masks and sums up what it writes, or NULL */
    trine__kernel *gradient, *accumulate, *unpack; /* backward_weights, with `input` */
    trine__winograd_shape shape;                   /* MO, A*A, ... */
    int kv, tt;                                    /* channel blocks and tiles in registers */
    int ct;                                        /* channels in registers, for backward_weights */
    int cb, in_blocks, out_blocks;
    size_t u_count; /* floats */
} trine__winograd;

/* Kernels of a direction, in one pass or by chunks of tiles; those with sums; destroys all that are there. */
trine_status trine__winograd_create(const trine_conv2d *op, trine_direction direction, bool fused,
                                    trine__winograd *s);
trine_status trine__winograd_create_sums(trine_conv2d *op, bool made);
void trine__winograd_destroy(void *state);

/* Does the filter gradient in one pass fit a core's own cache? Its parts, for so many images, that get sums of their own. */
bool trine__winograd_gradient_fits(const trine_context *ctx, const trine__winograd *s);
int trine__winograd_gradient_splits(const trine__winograd *s, int n);

/* s->fused; sums of all parts to the beginning of the workspace. */
trine_status trine__winograd_gradient_enqueue(const trine_conv2d *op, trine_stream *stream,
                                              const trine__winograd *s, const trine__conv2d_call *call);

#endif
