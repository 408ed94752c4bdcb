/* SPDX-License-Identifier: MIT */
/* What the implementations of linear share: the problem, the call, and the table row. */
#ifndef TRINE_OP_LINEAR_PRIVATE_H
#define TRINE_OP_LINEAR_PRIVATE_H

#include "op/choice.h"
#include "op/direction.h"
#include "rt/launch.h"
#include "trine/linear.h"

enum { TRINE__LINEAR_DIRECTIONS = 3 };

typedef struct trine__linear_impl trine__linear_impl;

struct trine_linear {
    trine_context *context;
    int in_features, out_features;
    const trine__linear_impl *impl[TRINE__LINEAR_DIRECTIONS];
    void *state[TRINE__LINEAR_DIRECTIONS];   /* of the implementation */
    bool measured[TRINE__LINEAR_DIRECTIONS]; /* without measurements it would be another */
};

/* Operands of one enqueue; which are set follows from the direction. Shapes are already checked. */
typedef struct trine__linear_call {
    const trine_tensor *x, *dy; /* inputs; rows of x (and dx) have ldx floats */
    const trine_buffer *w, *b;
    trine_tensor *out; /* y or dx */
    trine_buffer *dw, *db;
    int beta;
    int images, ldx;
    trine_buffer *workspace;
} trine__linear_call;

struct trine__linear_impl {
    const char *name;
    trine_status (*create)(trine_linear *op, void **state); /* of one direction */
    /* Bytes whatever the block of x; NULL: none. */
    size_t (*workspace)(const trine_linear *op, trine_direction direction, trine_stream *stream, int n);
    trine_status (*forward)(trine_linear *op, trine_stream *stream, const trine__linear_call *call);
    trine_status (*backward_data)(trine_linear *op, trine_stream *stream, const trine__linear_call *call);
    trine_status (*backward_weights)(trine_linear *op, trine_stream *stream, const trine__linear_call *call);
    void (*destroy)(void *state);
};

extern const trine__linear_impl trine__linear_plain;
extern const trine__linear_impl trine__linear_clblast;

#endif
