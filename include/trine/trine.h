/* SPDX-License-Identifier: MIT */
/** trine: fine-tunes and runs ResNets on any OpenCL device.
 *
 * Everything follows one pattern: objects are made by trine_<noun>_create() through an out-pointer that is untouched on failure,
 * and go with trine_<noun>_destroy(), which accepts NULL and clears the caller's pointer. Every call that can fail returns a
 * trine_status; trine_last_error() has the sentence. The library never prints, exits or aborts.
 *
 * @code  embed two photographs and compare them
 *   trine_context *ctx;  trine_stream *stream;  trine_weights *file;  trine_resnet *net;
 *   trine_context_create("auto", NULL, NULL, &ctx);             // 1. a device
 *   trine_stream_create(ctx, 0, &stream);                       //    and a queue on it
 *   trine_weights_read("resnet50.pth", &file);                  // 2. weights, as PyTorch saved them
 *   trine_resnet_from_weights(ctx, file, NULL, &net);           //    the variant is found from them
 *   trine_preprocess prep;
 *   trine_preprocess_named("imagenet", &prep);                  // 3. images, as torchvision prepares them
 *   trine_image photo;
 *   trine_image_read("a.jpg", &photo);
 *   trine_preprocess_apply(&prep, &photo, x);                   //    x: [3][224][224] floats
 *   trine_embed_options how = {.preprocess = prep, .normalize = 1};
 *   trine_vectors v;
 *   trine_embed_array(net, stream, x, &shape, &how, &v);        // 4. vectors; net is const here: nothing can move
 * @endcode
 * examples/compare.c is that program in full, with its error handling; examples/finetune.c fine-tunes, measures and saves.
 *
 * Read on in this order:
 *   status.h     statuses and the last error's sentence
 *   context.h    devices, contexts, streams, device memory
 *   weights.h    weights and arrays on the host: safetensors, PyTorch checkpoints, .npy
 *   image.h      images, preprocessing, data sets
 *   augment.h    random changes of training images
 *   resnet.h     networks: variants, freezing, BatchNorm policies, state hash and state assertion
 *   session.h    plans: forward, backward, optimizer step
 *   survey.h     a look at a data set: sizes, classes, what cannot be read, what is there twice
 *   retrieval.h  data sets to vectors, and how well they retrieve
 *   index.h      exact search, and indexes of images
 *   onnx.h       networks for other engines
 *   trainer.h    fine-tuning and training
 *   collapse.h   whether a metric loss collapses
 *   drift.h      what training-mode passes do to BatchNorm statistics
 *   recalibrate.h  exact BatchNorm statistics over a data set
 *   cache.h      the cache of compiled programs and of measurements
 *   tuning.h     what implementations take on a device
 * and, for those who build networks of their own:
 *   tensor.h conv2d.h batchnorm.h pool2d.h elementwise.h linear.h loss.h knn.h optimizer.h */
#ifndef TRINE_H
#define TRINE_H

#include "trine/status.h"
#include "trine/context.h"
#include "trine/cache.h"
#include "trine/tensor.h"
#include "trine/tuning.h"
#include "trine/weights.h"
#include "trine/image.h"
#include "trine/augment.h"
#include "trine/survey.h"
#include "trine/conv2d.h"
#include "trine/batchnorm.h"
#include "trine/pool2d.h"
#include "trine/elementwise.h"
#include "trine/linear.h"
#include "trine/loss.h"
#include "trine/knn.h"
#include "trine/optimizer.h"
#include "trine/measure.h"
#include "trine/resnet.h"
#include "trine/session.h"
#include "trine/retrieval.h"
#include "trine/index.h"
#include "trine/onnx.h"
#include "trine/trainer.h"
#include "trine/collapse.h"
#include "trine/drift.h"
#include "trine/recalibrate.h"

#define TRINE_VERSION_MAJOR 0
#define TRINE_VERSION_MINOR 1
#define TRINE_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif
/** "MAJOR.MINOR.PATCH" of the library that is linked. */
TRINE_API const char *trine_version(void);
#ifdef __cplusplus
}
#endif
#endif
