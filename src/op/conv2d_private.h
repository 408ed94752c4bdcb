/* SPDX-License-Identifier: MIT */
/* What the implementations of conv2d share: the problem, the call, and the table row. */
#ifndef TRINE_OP_CONV2D_PRIVATE_H
#define TRINE_OP_CONV2D_PRIVATE_H

#include "op/choice.h"
#include "op/conv2d_input.h"
#include "op/conv2d_made.h"
#include "op/direction.h"
#include "rt/launch.h"
#include "trine/batchnorm.h"
#include "trine/conv2d.h"
#include "trine/elementwise.h"

enum { TRINE__DIRECTIONS = 3, TRINE__PREPARED = 2 /* forward and backward_data read weights */ };

typedef struct trine__conv2d_impl trine__conv2d_impl;

struct trine_conv2d {
    trine_context *context;
    trine_conv2d_desc desc;                            /* .algorithm is not kept */
    int h, w, p, q;                                    /* input and output sizes */
    const trine__conv2d_impl *impl[TRINE__DIRECTIONS]; /* NULL: direction not asked for */
    int variant[TRINE__DIRECTIONS];                    /* of the implementation, from 1 on; 0: as it is */
    bool measured[TRINE__DIRECTIONS];                  /* without measurements it would be another */
    void *state[TRINE__DIRECTIONS];                    /* of the implementation */
    trine_batchnorm *statistics;                       /* for emit_bn_partials */
    trine_elementwise *elementwise;                    /* for conv2d_convert.h */
    const trine_buffer *weights[TRINE__PREPARED]; /* what a direction reads; NULL: prepare was not called */
    trine_buffer *own[TRINE__PREPARED];           /* of trine_conv2d_prepare() */
};

/* Operands of one enqueue; which are set follows from the direction. Shapes are already checked. */
typedef struct trine__conv2d_call {
    const trine_tensor *x, *dy;   /* inputs */
    trine__batchnorm_input input; /* of x; set only where the implementation normalises */
    trine_tensor *out;            /* y or dx */
    trine_buffer *dw;
    const trine_conv2d_epilogue *epilogue; /* forward; never NULL */
    int beta;
    trine_buffer *workspace;
    trine_buffer
        *partials; /* forward: statistics of y go here (cl/bn_parts.clh), in bn_parts() parts; NULL: none */
    const trine__batchnorm_made *made; /* how x, or dy, is made and where; NULL: it is there */
    const trine__batchnorm_sums *sums; /* backward_data: dx is masked and summed up; NULL: it is not */
} trine__conv2d_call;

/* For cl/conv2d_epilogue.clh: forward rectifies if the description says so, backward_data adds if the call does. */
static inline int trine__epilogue_flags(const trine_conv2d *op, const trine__conv2d_call *call)
{
    enum { FLAG_RELU = 1, FLAG_BETA = 2 };
    return (!call->dy && op->desc.relu ? FLAG_RELU : 0) | (call->beta ? FLAG_BETA : 0);
}

/* Of channels in blocks of cb, a power of two, for kernels that take it as an argument (cl/block.clh). */
static inline int trine__block_shift(int cb)
{
    int shift = 0;
    while (1 << shift < cb) shift++;
    return shift;
}

struct trine__conv2d_impl {
    const char *name;
    double error_class; /* c of the error bound c * eps * K * max|a| * max|b| */
    bool reads_halves;  /* and writes them; else conv2d converts before and after (conv2d_convert.h) */
    bool normalises;    /* x as trine__conv2d_call.input says, forward and in backward_weights */
    int spread;         /* outputs so far from those that see a NaN may become NaN too */
    bool (*supports)(const trine_conv2d *op, trine_direction direction);
    bool (*prefers)(const trine_conv2d *op,
                    trine_direction direction); /* NULL: always. Of what it supports, what it is good at */
    size_t (*workspace)(const trine_conv2d *op, trine_direction direction, int n); /* NULL: none */
    int (*bn_parts)(const trine_conv2d *op, int n,
                    bool made); /* of y's statistics, that forward can write; 0, or NULL: it cannot */
    int (*sum_parts)(const trine_conv2d *op, int n,
                     bool made); /* of dx's sums, that backward_data can write; 0, or NULL: it cannot */
    bool (*can_make)(const trine_conv2d *op, trine_direction direction,
                     int n); /* what forward or backward_data of n images reads; NULL: no */
    trine_status (*create_making)(trine_conv2d *op, trine_direction direction);
    trine_status (*create_sums)(trine_conv2d *op, bool made); /* what that takes; the state then has it */
    /* Ways of it that are tried by measurement only (tiles and such): "NAME:VARIANT", the last NULL; or NULL, there are none. The number of
     * the one that is wanted is op->variant[direction]. */
    const char *const *variants;
    bool (*supports_variant)(const trine_conv2d *op, trine_direction direction,
                             int variant); /* of what supports() takes */
    size_t state_bytes; /* of op->state[direction], which conv2d allocates, zeroed, and frees */
    trine_status (*create)(trine_conv2d *op, trine_direction direction,
                           void *state); /* what a failure leaves is destroyed */
    size_t (*prepared_bytes)(const trine_conv2d *op, trine_direction direction); /* NULL: reads the weights */
    trine_status (*prepare)(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine_buffer *weights, trine_buffer *prepared);
    trine_status (*enqueue)(trine_conv2d *op, trine_stream *stream, trine_direction direction,
                            const trine__conv2d_call *call);
    void (*destroy)(void *state); /* what the state holds, as far as it has come */
};

/* Picks the implementation of a direction and makes its state. `algorithm`: the only one that will do, or NULL. */
trine_status trine__conv2d_choose(trine_conv2d *op, trine_direction direction, const char *algorithm);
void trine__conv2d_destroy_state(trine_conv2d *op, trine_direction direction);

/* A row's `prefers`: by name, or where `trine tune` found it right and faster. */
bool trine__conv2d_only_measured(const trine_conv2d *op, trine_direction direction);

/* Options of kernels that read weights where the caller has them, for cl/conv2d_weights.clh. */
typedef struct trine__weight_options {
    char text[32];
} trine__weight_options;
trine__weight_options trine__conv2d_weight_options(const trine_conv2d *op);

/* Options for the storage of what a direction's kernels call x and y: x and dy are read, y and dx written; backward_weights reads x and,
 * as its y, dy. */
const char *trine__conv2d_storage_options(const trine_conv2d *op, trine_direction direction);

/* For implementations whose kernels count positions in ints: TRINE_ERR_UNSUPPORTED where a tensor of the call has more elements. */
trine_status trine__conv2d_check_positions(const trine_conv2d *op, trine_direction direction,
                                           const trine__conv2d_call *call);

/* The blocks in which the direct convolution's forward pass reads weights; 1 and 1 where it would merge groups, or does not serve. */
void trine__conv2d_direct_blocks(const trine_context *context, const trine_conv2d_desc *desc, int *kb,
                                 int *cb);

extern const trine__conv2d_impl trine__conv2d_clblast, trine__conv2d_direct;
extern const trine__conv2d_impl trine__conv2d_gemm, trine__conv2d_mma;
extern const trine__conv2d_impl trine__conv2d_plain;
extern const trine__conv2d_impl trine__conv2d_winograd4, trine__conv2d_winograd2;
extern const trine__conv2d_impl trine__conv2d_winograd4_gemm, trine__conv2d_winograd2_gemm;

#endif
