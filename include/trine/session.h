/* SPDX-License-Identifier: MIT */
/** A session: the plan of one network for one input shape, mode and stream. Several can share a network. */
#ifndef TRINE_SESSION_H
#define TRINE_SESSION_H

#include "trine/optimizer.h"
#include "trine/resnet.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum trine_embedding {
    TRINE_EMBED_POOL = 0, /**< globally pooled features */
    TRINE_EMBED_FC = 1    /**< the output of fc */
} trine_embedding;

/** What a training session keeps of a forward pass. */
typedef enum trine_backward {
    TRINE_BACKWARD_NONE = 0, /**< nothing: forward passes only */
    TRINE_BACKWARD_KEEP =
        1, /**< what gradients need, but for outputs of BatchNorm that are quickly made again */
    TRINE_BACKWARD_CHECKPOINT =
        2 /**< the blocks' inputs: each block's convolutions run again before its backward pass, with the
                                       statistics of the first time, which moves nothing. Same bits, less memory, about one
                                       forward pass more time */
} trine_backward;

/** Used by one thread at a time; network and stream outlive it. Sessions on streams of their own may run at the same time over one
 *  network as long as none of them moves it: training-mode passes that update statistics, optimizer steps, writes and changes of
 *  policy need the network for themselves (one stream, or a trine_stream_sync() and one thread at a time between). */
typedef struct trine_session trine_session;

/** Inference: every BatchNorm with its running statistics, folded; nothing of the network is written. A layer without running
 *  statistics takes the batch's, so that an image's results depend on the rest of its batch. Logits and pooled features both come
 *  out, in TRINE_F32 whatever the network's precision. @param shape largest batch, channels of the network, rows and columns of the images
 *  @return TRINE_ERR_SHAPE: other channels than the network's, n < 1, rows or columns outside 1 to 32768; TRINE_ERR_NOMEM */
TRINE_API trine_status trine_session_create_inference(const trine_resnet *net, trine_stream *stream,
                                                      const trine_shape *shape, trine_session **out);
/** Training mode: each BatchNorm as its policy says. The policies and trainable parameters are those of the moment of creation; a
 *  later change makes the session plan anew at its next forward pass.
 *  @param embedding where the loss is attached   @param backward a trine_backward
 *  @return as for inference; TRINE_ERR_ARG */
TRINE_API trine_status trine_session_create_training(trine_resnet *net, trine_stream *stream,
                                                     const trine_shape *shape, trine_embedding embedding,
                                                     int backward, trine_session **out);
TRINE_API void trine_session_destroy(trine_session **session);

/** Device bytes of the session's activations and temporary memory, weights that are packed or transformed for one use included. Those
 *  that stay so, of layers that do not train, come on top. */
TRINE_API size_t trine_session_bytes(const trine_session *session);

/** One convolution of a session's plan. */
typedef struct trine_session_conv {
    const char *name; /**< canonical, e.g. "layer1.0.conv1": the scope of its launches in a profile */
    int in_channels, out_channels, kernel, stride, groups;
    int h, w, p, q; /**< rows and columns of input and output */
    double macs;    /**< multiply-adds of one image, by the definition (not what an algorithm saves) */
    const char *algorithm[3]; /**< by trine_direction; NULL: the session does not go this way */
} trine_session_conv;
/** Convolution i in the network's order. @return 1; 0: there is none, or the session leaves it out */
TRINE_API int trine_session_convolution(const trine_session *session, int i, trine_session_conv *out);

/** Which measured choices (trine/tuning.h) the session runs by, of those that would be others without measurements: "N choices, HASH",
 *  the same for the same set of them; "" where there are none.
 *  @return TRINE_ERR_NOMEM */
enum { TRINE_SESSION_TUNING = 48 };
TRINE_API trine_status trine_session_tuning(const trine_session *session, char text[TRINE_SESSION_TUNING]);

/** Enqueue a forward pass. @param x [n,C,H,W] NCHW (cb 1), 1 <= n <= the planned batch; must stay as it is until backward has run
 *  @return TRINE_ERR_SHAPE: another image size, or (naming the layer and the remedies) one value per channel for a layer that
 *          normalises with batch statistics */
TRINE_API trine_status trine_session_forward(trine_session *session, const trine_tensor *x);
/** Results of the last forward pass: views that live until the next one. The pooled features are [n,features,1,1] in the trunk's
 *  layout; fc's output is [n,outputs,1,1] cb 1 (buffer NULL in training with TRINE_EMBED_POOL, which does not compute it). */
TRINE_API trine_tensor trine_session_features(const trine_session *session);
TRINE_API trine_tensor trine_session_logits(const trine_session *session);
/** The one that the session was created for (features in inference). */
TRINE_API trine_tensor trine_session_embedding(const trine_session *session);

/** Gradients of one network's parameters: one flat buffer that several sessions add to, on one stream or one after the other with
 *  trine_stream_sync() between. Used by one thread at a time; the network outlives it. */
typedef struct trine_gradients trine_gradients;
TRINE_API trine_status trine_gradients_create(const trine_resnet *net, trine_stream *stream,
                                              trine_gradients **out);
/** Forget all: the next backward pass overwrites. Costs nothing on the device. */
TRINE_API void trine_gradients_clear(trine_gradients *gradients);
/** 1 if parameter i has been reached by a backward pass since the last clear. */
TRINE_API int trine_gradients_reached(const trine_gradients *gradients, int i);
/** Gradient of parameter i, dense as the parameter; not meaningful unless it was reached. Waits. */
TRINE_API trine_status trine_gradients_read(const trine_gradients *gradients, trine_stream *stream, int i,
                                            float *out);
/** Of the dynamic loss scaling in half precision: what gradients are multiplied by on their way through the network, a power of two, and
 *  how many steps were left out so far because a gradient overflowed, each of which halved it. Waits. */
TRINE_API trine_status trine_gradients_scale(const trine_gradients *gradients, trine_stream *stream,
                                             float *scale, uint64_t *skipped);
TRINE_API void trine_gradients_destroy(trine_gradients **gradients);

/** Enqueue the backward pass of the last forward pass, down to the first trainable layer.
 *  @param d_embedding like trine_session_embedding()   @param gradients added to; after a failure, clear them before the next pass
 *  @return TRINE_ERR_STATE: no forward pass, or a session without backward; TRINE_ERR_ARG: nothing trainable is reached */
TRINE_API trine_status trine_session_backward(trine_session *session, const trine_tensor *d_embedding,
                                              trine_gradients *gradients);
/** 1 if the loss at this embedding reaches at least one trainable parameter. */
TRINE_API int trine_session_trains(const trine_session *session);

/** One optimizer step over the parameters that are trainable and were reached. Others, weight decay included, stay as they are. In half
 *  precision a step whose gradients are not finite is left out, and the loss scale halved (trine_gradients_scale()). */
TRINE_API trine_status trine_resnet_step(trine_resnet *net, trine_stream *stream, trine_optimizer *optimizer,
                                         const trine_gradients *gradients, float lr);
/** Floats of the flat parameter buffer, for trine_optimizer_create(). Convolutions' weights lie in it in the blocks that the device's
 *  kernels read (trine_conv2d_choose_weight_blocks()); what is read and written below is dense. */
TRINE_API size_t trine_resnet_flat_count(const trine_resnet *net);
/** Dense values of parameter i. Waits. */
TRINE_API trine_status trine_resnet_parameter_read(const trine_resnet *net, trine_stream *stream, int i,
                                                   float *out);
TRINE_API trine_status trine_resnet_parameter_write(trine_resnet *net, trine_stream *stream, int i,
                                                    const float *values);

#ifdef __cplusplus
}
#endif
#endif
