/* SPDX-License-Identifier: MIT */
/** Networks for other engines: ONNX files. */
#ifndef TRINE_ONNX_H
#define TRINE_ONNX_H

#include "trine/resnet.h"
#include "trine/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What to write. Zeros: pooled features of any number of images, BatchNorm as layers of their own. */
typedef struct trine_onnx_options {
    trine_embedding embedding; /**< pooled features or fc's output */
    int normalize;             /**< 1: L2-normalised, as trine_vectors_normalize() does it */
    int folded;                /**< 1: BatchNorm folded into the convolutions (in double precision) */
    int batch;                 /**< images at a time; 0: any number */
    const char
        *preprocess; /**< of the images, as trine_preprocess_to_json() gives it, for the metadata; or NULL */
} trine_onnx_options;

/** Write a network in evaluation mode as an ONNX model (operator set 13, IR version 7), atomically. One input, "images" float32
 *  [batch][channels][height][width], prepared already; height and width are free. One output, "embedding" [batch][values]. Metadata:
 *  "arch", "embedding", "normalize", "preprocess". Equal networks give equal bytes. The format: onnx.proto of the ONNX project. Waits.
 *  @return TRINE_ERR_STATE: a BatchNorm layer has no running statistics (its output would depend on the batch); TRINE_ERR_WRITE */
TRINE_API trine_status trine_onnx_write(const trine_resnet *net, trine_stream *stream,
                                        const trine_onnx_options *options, const char *path);

#ifdef __cplusplus
}
#endif
#endif
