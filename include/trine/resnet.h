/* SPDX-License-Identifier: MIT */
/** A ResNet: its variant, its parameters and running statistics on a device, and its policies. Nothing else: a
 *  `const trine_resnet *` cannot change. */
#ifndef TRINE_RESNET_H
#define TRINE_RESNET_H

#include "trine/tensor.h"
#include "trine/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct trine_resnet trine_resnet;

/** What to build. Zero or NULL means the variant's own. */
typedef struct trine_resnet_options {
    const char *
        arch; /**< "resnet18", ..., "resnet20_cifar", ...; NULL with weights: found from their names and shapes */
    int in_channels;   /**< channels of the images; 0: 3, or what the weights have */
    int classes;       /**< outputs of fc; 0: 1000 (10 for *_cifar), or what the weights have */
    int embedding_dim; /**< > 0: fc is a fresh Linear(features, embedding_dim), whatever the weights have */
    int small_stem; /**< 1: 3x3 stem of stride 1 without pooling, for small images (weights decide for themselves) */
    uint64_t seed; /**< of random initial values */
    int bn_without_affine; /**< 1: no gamma and beta in BatchNorm layers: affine=False (weights decide for themselves) */
    int bn_without_statistics; /**< 1: no running statistics in BatchNorm layers: PyTorch's track_running_stats=False at
                                    construction (weights decide for themselves) */
} trine_resnet_options;

/** Number of known variants, and the name of variant i (NULL outside). */
TRINE_API int trine_resnet_variant_count(void);
TRINE_API const char *trine_resnet_variant_name(int i);

/** Random initial values: convolutions He-normal over the output side (He et al. 2015), gamma 1, beta 0, running mean 0 and
 *  variance 1, fc uniform in +-1/sqrt(features), as torchvision does. @return TRINE_ERR_ARG: unknown variant (all are named),
 *  negative sizes */
TRINE_API trine_status trine_resnet_create(trine_context *context, const trine_resnet_options *options,
                                           trine_resnet **out);
/** From weights. `linear` is understood as fc. Counters that are missing are 0. Policies and freezing in the metadata are applied.
 *  Weights in which no BatchNorm layer has running statistics (or gamma and beta) give a network without them; where only some
 *  layers lack them they are missing. (GroupNorm's tensors look like those of a BatchNorm without running statistics.)
 *  @return TRINE_ERR_WEIGHTS: missing, unexpected or mis-shaped tensors, or NaN (named), or no variant has these tensors;
 *          TRINE_ERR_FORMAT: metadata that say nothing usable; TRINE_ERR_ARG: unknown variant, negative sizes */
TRINE_API trine_status trine_resnet_from_weights(trine_context *context, const trine_weights *weights,
                                                 const trine_resnet_options *options, trine_resnet **out);
/** Parameters, running statistics and counters as a list with metadata ("trine.format", "arch", "names", "bn", "freeze"); what the
 *  network is without is left out.
 *  @param torchvision_names 1: canonical names; 0: the names that the weights came with. Waits for the stream.
 *  @return TRINE_ERR_STATE: some BatchNorm layers have running statistics and some do not (two are named) */
TRINE_API trine_status trine_resnet_to_weights(const trine_resnet *net, trine_stream *stream,
                                               int torchvision_names, trine_weights **out);
/** An exact copy of the running statistics' and counters' state, and of which layers have any, to put back later. Waits. */
typedef struct trine_bn_snapshot trine_bn_snapshot;
TRINE_API trine_status trine_resnet_bn_snapshot(const trine_resnet *net, trine_stream *stream,
                                                trine_bn_snapshot **out);
TRINE_API trine_status trine_resnet_bn_restore(trine_resnet *net, trine_stream *stream,
                                               const trine_bn_snapshot *snapshot);
TRINE_API void trine_bn_snapshot_destroy(trine_bn_snapshot **snapshot);
TRINE_API void trine_resnet_destroy(trine_resnet **net);

TRINE_API const char *trine_resnet_arch(const trine_resnet *net);
/** Channels of the pooled features. */
TRINE_API int trine_resnet_features(const trine_resnet *net);
/** Outputs of fc. */
TRINE_API int trine_resnet_outputs(const trine_resnet *net);
/** Channels of an input image. */
TRINE_API int trine_resnet_in_channels(const trine_resnet *net);
/** Multiply-adds of one forward pass over one image of h x w, convolutions and fc. */
TRINE_API double trine_resnet_macs(const trine_resnet *net, int h, int w);

/** One parameter tensor. */
typedef struct trine_parameter_info {
    const char *name; /**< canonical, e.g. "layer1.0.conv1.weight" */
    int rank;
    int dims[4];
    int trainable;
} trine_parameter_info;
TRINE_API int trine_resnet_parameter_count(const trine_resnet *net);
/** Parameter i, 0 <= i < count, fc first and conv1 last (backward order). */
TRINE_API trine_status trine_resnet_parameter(const trine_resnet *net, int i, trine_parameter_info *out);
/** Which parameters train: "GLOB,!GLOB,...", in order, last match wins, `!` unfreezes; NULL or "": all train.
 *  @return TRINE_ERR_ARG: bad glob, or one that matches no parameter */
TRINE_API trine_status trine_resnet_freeze(trine_resnet *net, const char *globs);
/** How the network's sessions store activations and their gradients: TRINE_F32 (at first), or TRINE_F16, which halves that memory and its
 *  traffic. All sums, the weights, BatchNorm's statistics, embeddings and losses stay in single precision; backward passes scale the loss
 *  (trine_gradients_scale()). Sessions plan anew at their next forward pass.  @return TRINE_ERR_ARG: another type */
TRINE_API trine_status trine_resnet_set_precision(trine_resnet *net, trine_dtype precision);
TRINE_API trine_dtype trine_resnet_precision(const trine_resnet *net);
/** 1: convolutions of activations in TRINE_F32 may round the factors of their products to TF32 (trine_conv2d_desc.allow_tf32); 0, at
 *  first: they do not. Sessions plan anew at their next forward pass.  @return TRINE_ERR_ARG: neither 0 nor 1 */
TRINE_API trine_status trine_resnet_allow_tf32(trine_resnet *net, int allowed);
TRINE_API int trine_resnet_allows_tf32(const trine_resnet *net);

typedef enum trine_bn_policy {
    TRINE_BN_AUTO = 0,  /**< eval where the layer is frozen, train elsewhere */
    TRINE_BN_TRAIN,     /**< batch statistics, running ones updated: .train() */
    TRINE_BN_EVAL,      /**< running statistics, not updated: .eval() */
    TRINE_BN_NO_UPDATE, /**< batch statistics, running ones and the counter left alone */
    TRINE_BN_CUMULATIVE /**< batch statistics, running ones updated by 1/count: momentum=None */
} trine_bn_policy;

/** One BatchNorm layer and what a training-mode forward pass does with it. A layer without running statistics normalises with the
 *  batch's under every policy, also in evaluation, and updates nothing, as PyTorch's track_running_stats=False does. */
typedef struct trine_bn_info {
    const char *name; /**< canonical, e.g. "layer1.0.bn2", "layer2.0.downsample.1" */
    int channels;
    float eps, momentum;
    trine_bn_policy policy; /**< as set */
    int batch_statistics;   /**< 1: normalises with the batch's, 0: with the running statistics */
    int updates;            /**< 1: moves the running statistics */
    int frozen; /**< 1: none of its parameters trains; without gamma and beta: the convolution before it does not */
    int64_t batches; /**< num_batches_tracked */
    int tracked;     /**< 1: it has running statistics */
} trine_bn_info;
TRINE_API int trine_resnet_bn_count(const trine_resnet *net);
/** Layer i in forward order. */
TRINE_API trine_status trine_resnet_bn(const trine_resnet *net, int i, trine_bn_info *out);
/** "[GLOB=]POLICY[:momentum=X][:eps=Y],...": in order, last match wins. POLICY: train (also torch), eval, no-update, cumulative,
 *  auto. 0 <= momentum <= 1 is the share of the new (PyTorch's 0.1; Keras's 0.99 is 0.01 here), eps > 0 is added to the variance;
 *  each stays as it is where it is not given. Sticky: nothing but another call changes it.
 *  @return TRINE_ERR_ARG with what is wrong */
TRINE_API trine_status trine_resnet_set_bn(trine_resnet *net, const char *spec);
/** Running statistics of layer i; 0 and 1 where it has none. @param mean,var [channels] written. Waits. */
TRINE_API trine_status trine_resnet_bn_read(const trine_resnet *net, trine_stream *stream, int i, float *mean,
                                            float *var);
/** Overwrite them (recalibration, repair); a layer without any has some from then on. @param mean,var [channels]; var >= 0.
 *  Waits. */
TRINE_API trine_status trine_resnet_bn_write(trine_resnet *net, trine_stream *stream, int i,
                                             const float *mean, const float *var, int64_t batches);

/** Hash of parameters, running statistics and counters: equal if and only if (but for collisions) nothing moved. The values depend
 *  on nothing but the numbers, in the order of the variant: a network and the file that it came from agree. Waits.
 *  @param parameters,statistics hash of each part, may be NULL; @param layers [trine_resnet_bn_count()] hash of each BatchNorm
 *  layer's running statistics and counter, may be NULL */
TRINE_API trine_status trine_resnet_state_hash(const trine_resnet *net, trine_stream *stream,
                                               uint64_t *parameters, uint64_t *statistics, uint64_t *layers);
/** The same for each parameter tensor. Waits.
 *  @param out [trine_resnet_parameter_count()], in the order of trine_resnet_parameter() */
TRINE_API trine_status trine_resnet_parameter_hashes(const trine_resnet *net, trine_stream *stream,
                                                     uint64_t *out);

/** State assertion, for finding out who moved what: while it is on, every call that enqueues work for this network (session
 *  creation, forward, backward, step, writes, restore, to_weights, embed, drift, remedies, recalibration, each step of a trainer)
 *  hashes the whole state before and after. A call that changed anything but what it is there to change fails with
 *  TRINE_ERR_CHECK and a sentence such as "trine_session_forward: layer1.0.bn2's running statistics changed, and its policy
 *  (eval) does not update them (state assertion)"; what moved has moved. May change: a forward pass in training mode the running
 *  statistics and counters of layers that update them; an optimizer step the parameters that train and were reached; a write its
 *  own tensor; restore and recalibration statistics; inference, backward and whatever puts everything back nothing. Policies,
 *  momentum, eps and freezing change by their own two calls alone. Each such call waits and reads the state back twice: a mode
 *  for debugging and tests. Off it costs one test of a flag.
 *  @param on 0 or 1; a new network has what TRINE_ASSERT_STATE in the environment says: 1 is on, 0, nothing or unset off,
 *  anything else makes its creation fail with TRINE_ERR_ARG */
TRINE_API void trine_resnet_assert_state(trine_resnet *net, int on);

#ifdef __cplusplus
}
#endif
#endif
