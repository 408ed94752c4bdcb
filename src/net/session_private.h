/* SPDX-License-Identifier: MIT */
/* A session's plan: values with lifetimes, nodes in order, one arena. plan.c makes it, session.c runs it. */
#ifndef TRINE_NET_SESSION_PRIVATE_H
#define TRINE_NET_SESSION_PRIVATE_H

#include "net/resnet_private.h"
#include "op/gradient_norm.h"
#include "op/batchnorm_made.h"
#include "op/loss_scale.h"
#include "trine/batchnorm.h"
#include "trine/conv2d.h"
#include "trine/elementwise.h"
#include "trine/linear.h"
#include "trine/pool2d.h"
#include "trine/session.h"

/* A tensor of the plan. Lives from the node that writes it to the last that reads it; the arena reuses its
 * bytes after that. */
typedef struct trine__value {
    trine_tensor tensor;
    size_t bytes, offset;
    int first, last; /* node indices */
    struct trine__value
        *over;          /* the value whose bytes it takes over in the node where that one ends, or NULL */
    bool external;      /* the caller's tensor, bound at each pass */
    bool requires_grad; /* some trainable parameter lies upstream */
    int taken_first, taken_last; /* of its bytes, by those that take them over too: trine__arena_place() */
} trine__value;

typedef enum trine__node_kind {
    TRINE__NODE_CONV, /* x -> y (fused: BatchNorm, residual, ReLU in the epilogue); also in the backward pass */
    TRINE__NODE_BN, /* z -> y with residual and ReLU; in the backward pass with what is saved. No y: only statistics, and a and b for the next convolution */
    TRINE__NODE_MAX_POOL,    /* x -> y, index */
    TRINE__NODE_SUBSAMPLE,   /* x -> y (shortcut option A of `block`) */
    TRINE__NODE_GLOBAL_POOL, /* x -> y */
    TRINE__NODE_FC,          /* x -> y */
    TRINE__NODE_CONVERT,     /* x -> y: from one storage to another */
    TRINE__NODE_LOSS_SCALE,  /* dy -> dx, into half precision's range */
    TRINE__NODE_FC_WEIGHTS,  /* x, dy -> gradients */
    TRINE__NODE_FC_DATA,     /* dy -> dx */
    TRINE__NODE_GLOBAL_POOL_BACKWARD,
    TRINE__NODE_BN_BACKWARD,  /* dy -> dx; dy becomes the masked gradient */
    TRINE__NODE_CONV_WEIGHTS, /* x, dy -> gradients */
    TRINE__NODE_CONV_DATA,    /* dy -> dx, added to if `accumulate` */
    TRINE__NODE_SUBSAMPLE_BACKWARD,
    TRINE__NODE_MAX_POOL_BACKWARD
} trine__node_kind;

enum { TRINE__NO_VALUE = -1, TRINE__NO_UNIT = -1, TRINE__NO_NODE = -1 };

typedef struct trine__node {
    trine__node_kind kind;
    int unit;           /* or block, for SUBSAMPLE */
    int in, out, extra; /* values: see the kinds; extra: residual, index or x of a gradient */
    bool accumulate;
    int workspace,
        prepared; /* values that live in this node only: temporary memory; weights as the convolution reads them */
    int partials; /* statistics that a convolution leaves to its BatchNorm, which is the next node, or sums that a data gradient does */
    int sums_at,
        sum_parts; /* CONV_DATA: the node that its sums are for, in at most so many parts; or none: 0 */
    int summed_by; /* BN_BACKWARD: the node, CONV_DATA, that makes its sums, or TRINE__NO_NODE */
    bool later;    /* BN, BN_BACKWARD: the last pass is left to the next node, which reads its result */
} trine__node;

/* One convolution with its BatchNorm, as this session runs it. */
typedef struct trine__session_unit {
    trine_conv2d *conv;
    trine_batchnorm *bn;
    trine__bn_mode mode;
    bool planned; /* the unit lies in the session's part of the network */
    bool fused;   /* BatchNorm folded into the convolution's epilogue */
    bool relu;
    bool conv_trains, affine_trains;
    bool grads;            /* the backward pass goes through it */
    bool y_again;          /* y is not kept: it can be made from z once more */
    int x, z, y, residual; /* values; z is y where nothing is kept */
    int source; /* the unit whose z is read in place of x, and normalised on the way; or TRINE__NO_UNIT */
    int y_copy; /* y made again, or TRINE__NO_VALUE */
    trine_batchnorm_saved saved;
    trine_buffer *scale, *shift;
    trine_buffer
        *prepared[2]; /* weights as forward and backward_data read them, where they stay so; else NULL */
    uint64_t prepared_version[2], folded_version;
} trine__session_unit;

struct trine_session {
    const trine_resnet *net;
    trine_resnet *mutable_net; /* NULL in inference */
    trine_stream *stream;
    trine_shape shape; /* largest batch */
    trine_embedding embedding;
    bool backward, checkpoint; /* checkpoint: blocks run again before their backward pass */
    int from, to;              /* positions */
    uint64_t plan_version;
    uint64_t values_version;    /* the network's at the last forward pass */
    trine__session_unit *units; /* [spec.unit_count] */
    trine__value *values;
    size_t value_count, value_capacity;
    trine__node *nodes;
    size_t node_count, node_capacity, forward_count;
    int input, output, features, logits, d_embedding, pool_index; /* values */
    bool trains;                                                  /* something trainable is reached */
    trine_pool2d *max_pool, *global_pool;
    trine_linear *fc;
    trine_elementwise *elementwise;
    trine__buffer_set buffers;
    trine__batchnorm_made made; /* by the node that runs next, if `later` says so */
    size_t bytes;
    int batch; /* of the last forward pass; 0: none */
};

/* Positions in a network, between which a session can run a part: the images, after the stem (and its pooling),
 * after each block, the pooled features, the end (fc's output). */
enum { TRINE__AT_IMAGES = 0, TRINE__AT_STEM = 1 };
int trine__position_after_block(int block);
int trine__position_features(const trine_resnet *net);
int trine__position_end(const trine_resnet *net);
int trine__channels_at(const trine_resnet *net, int position);
/* The last position before which nothing trains and every BatchNorm uses its running statistics: what an image
 * gives there depends on nothing else, and stays the same however long the rest is trained. */
int trine__frozen_position(const trine_resnet *net);
/* Of the parameter or running statistics before `position` that changed last; 0 before anything. */
uint64_t trine__version_before(const trine_resnet *net, int position);

/* Inference from the images to `to`; the result is trine__session_output(). */
trine_status trine__session_create_trunk(const trine_resnet *net, trine_stream *stream,
                                         const trine_shape *shape, int to, trine_session **out);
/* Training mode from `from` to the end. @param shape largest batch and the sizes of what a trunk's output has;
 * trine_session_forward() takes it in the trunk's layout. Nothing before `from` gets a gradient.
 * @param backward a trine_backward */
trine_status trine__session_create_tail(trine_resnet *net, trine_stream *stream, const trine_shape *shape,
                                        trine_embedding embedding, int backward, int from,
                                        trine_session **out);
/* A view of the value at `to`, alive until the next forward pass. */
trine_tensor trine__session_output(const trine_session *session);

/* The layer that a node belongs to, for the profile. */
const char *trine__node_scope(const trine_session *session, const trine__node *node);

/* Operators, values, nodes, arena. Leaves a half-made session for trine__plan_free() on failure. */
trine_status trine__plan_make(trine_session *session);
void trine__plan_free(trine_session *session);

/* trine_session_forward() as far as the last layer that updates its running statistics: for those statistics
 * only, there is nothing to be had from the session afterwards. */
trine_status trine__session_update(trine_session *session, const trine_tensor *x);

/* What trine_resnet_step() does not have. Zeroed: nothing. */
typedef struct trine__step_options {
    const float *
        rates; /* [parameter_count] >= 0, a learning rate for each parameter (`lr` then only has to be valid); or NULL */
    float clip_norm; /* > 0: gradients are clipped to this norm of all that were reached and train */
    int batches; /* > 1: the gradients are sums over so many backward passes, and the step takes their mean */
} trine__step_options;
trine_status trine__resnet_step_with(trine_resnet *net, trine_stream *stream, trine_optimizer *optimizer,
                                     trine_gradients *gradients, float lr,
                                     const trine__step_options *options);

struct trine_gradients {
    const trine_resnet *net;
    trine_buffer *flat;
    trine__buffer_set views;
    trine_buffer **view; /* [count] of each parameter */
    bool *reached;       /* [count] */
    int count;
    bool scaled; /* what is reached is `scale` times the gradient */
    trine__loss_scale *scale;
    trine__gradient_norm *norm; /* from the first step that clips on */
};

#endif
