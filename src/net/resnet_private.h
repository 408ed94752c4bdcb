/* SPDX-License-Identifier: MIT */
/* The network's insides, for sessions and drift. */
#ifndef TRINE_NET_RESNET_PRIVATE_H
#define TRINE_NET_RESNET_PRIVATE_H

#include "net/resnet_spec.h"
#include "op/conv2d_weights.h"
#include "rt/buffer.h"
#include "rt/stream.h"
#include "trine/resnet.h"

/* One parameter tensor: a view of the flat buffer. Convolutions' lie in the blocks that the device's kernels read, in the flat
 * buffer and in all that goes along with it (gradients, an optimizer's moments); what leaves the device is dense. */
typedef struct trine__parameter {
    char name[TRINE__NAME_BYTES + 16]; /* canonical */
    int rank, dims[4];
    size_t count, offset; /* floats; count is the dense tensor's */
    trine__weight_layout layout;
    size_t stored; /* floats in the flat buffer */
    trine_buffer *view;
    bool trainable;
    uint64_t version; /* changes whenever the values may have changed */
} trine__parameter;

/* What the BatchNorm layers of a network are made with: PyTorch's affine and track_running_stats. */
typedef struct trine__bn_parts {
    bool affine, tracked;
} trine__bn_parts;

/* One BatchNorm layer; unit i's layer is bns[i]. */
typedef struct trine__bn_layer {
    trine_buffer *mean, *var;       /* views of the statistics buffer */
    size_t mean_offset, var_offset; /* floats */
    float eps, momentum;
    trine_bn_policy policy;
    bool tracked; /* has running statistics; else mean and var lie unused at 0 and 1 */
    int64_t batches;
    uint64_t version; /* of the running statistics */
} trine__bn_layer;

struct trine_resnet {
    trine_context *context;
    trine__spec spec;
    char fc_name[TRINE__NAME_BYTES]; /* as the source spells fc */
    char *freeze;                    /* globs as given, or NULL */
    /* Flat buffers in backward order: fc, last block, ..., stem. Each tensor starts at the device's
     * alignment. */
    trine_buffer *parameters, *statistics;
    size_t flat_count, statistics_count; /* floats */
    int parameter_count;
    trine__parameter *params;
    bool affine;          /* BatchNorm layers have gamma and beta */
    trine__bn_layer *bns; /* [spec.unit_count] */
    trine__buffer_set views;
    uint64_t plan_version;   /* changes with policies and trainability: sessions plan anew */
    uint64_t values_version; /* of the parameter that changed last */
    uint64_t next_version;
    trine_dtype precision; /* storage of activations in sessions */
    int allow_tf32;        /* their convolutions may round to it */
    bool assert_state;     /* calls are guarded: see state_guard.h */
};

/* Indices into params of unit i's tensors and of fc's; gamma and beta are -1 in a network without them. */
int trine__conv_parameter(const trine_resnet *net, int unit);
int trine__gamma_parameter(const trine_resnet *net, int unit);
int trine__beta_parameter(const trine_resnet *net, int unit);
enum { TRINE__FC_WEIGHT = 0, TRINE__FC_BIAS = 1 };

/* Of a parameter that may not be there (-1): NULL, which operators take as 1 or 0; does not train; version 0. */
const trine_buffer *trine__parameter_view(const trine_resnet *net, int index);
bool trine__parameter_trains(const trine_resnet *net, int index);
uint64_t trine__parameter_version(const trine_resnet *net, int index);

/* A parameter's values, dense, from and to a view of the flat buffer or of one like it. Waits. */
trine_status trine__parameter_read(const trine__parameter *p, trine_stream *stream, const trine_buffer *view,
                                   float *dense);
trine_status trine__parameter_write(const trine__parameter *p, trine_stream *stream, trine_buffer *view,
                                    const float *dense);

/* A unit's convolution: layouts of its images and of the weights, nothing fused. */
trine_conv2d_desc trine__conv_desc(const trine_resnet *net, int unit);

/* What a training-mode pass does with layer i, "auto" resolved. */
typedef struct trine__bn_mode {
    bool batch, update, cumulative, frozen, tracked;
} trine__bn_mode;
trine__bn_mode trine__bn_resolve(const trine_resnet *net, int unit);
/* "GLOB=X,..." over parameter names: in order, the last match wins. numbers[i] is set where a glob matches parameter i and stays as it
 * is elsewhere; NULL is the empty list. TRINE_ERR_ARG, in a sentence that begins with `what`: a bad glob, one that matches nothing, or an
 * X that is no number >= 0; `numbers` is undefined. */
trine_status trine__parameter_numbers(const trine_resnet *net, const char *what, const char *list,
                                      double *numbers);
const char *trine__bn_policy_name(trine_bn_policy policy);
const char *trine__bn_mode_name(trine__bn_mode mode);
/* Gives a layer running statistics, or takes them away; sessions plan anew where that is news. */
void trine__bn_set_tracked(trine_resnet *net, int unit, bool tracked);

/* Hashes of the state, one by one: see trine_resnet_state_hash(). Waits. @param parameters
 * [parameter_count] or NULL   @param layers [spec.unit_count] or NULL */
trine_status trine__state_hashes(const trine_resnet *net, trine_stream *stream, uint64_t *parameters,
                                 uint64_t *layers);

/* Buffers, views and names for a spec; values are undefined. */
trine_status trine__resnet_allocate(trine_context *context, const trine__variant *variant, int in_channels,
                                    int outputs, int small_stem, trine__bn_parts parts, trine_resnet **out);

#endif
