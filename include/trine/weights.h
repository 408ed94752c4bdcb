/* SPDX-License-Identifier: MIT */
/** Weights on the host: a list of named tensors with metadata, read from and written to files. */
#ifndef TRINE_WEIGHTS_H
#define TRINE_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "trine/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TRINE_MAX_RANK = 8 };

/** One tensor, dense, row-major, little-endian. Pointers belong to the trine_weights and live as long as it does. */
typedef struct trine_weights_tensor {
    const char *name;             /**< as the file spells it, without a common "module." prefix */
    trine_dtype dtype;            /**< element type */
    int rank;                     /**< 0 (a single value) to TRINE_MAX_RANK */
    int64_t dims[TRINE_MAX_RANK]; /**< outermost first, each >= 0 */
    const void *data;             /**< bytes bytes, aligned to 8 */
    size_t bytes;                 /**< product of dims times the element's size */
} trine_weights_tensor;

/** An ordered list of uniquely named tensors plus string metadata. */
typedef struct trine_weights trine_weights;

/** An empty list. */
TRINE_API trine_status trine_weights_create(trine_weights **out);

/** Read a file. The kind is told by its content, not its name: safetensors, PyTorch's zip checkpoints (torch.save since 1.6)
 *  and PyTorch's older format. In checkpoints the state dictionary is found in the top-level mapping itself or, one level or
 *  more down, under a key such as "state_dict", "model", "model_state_dict", "net" or "weights"; a prefix that all names
 *  share ("module.", "_orig_mod.", "model.", "backbone.", "encoder.") is dropped. No code in a checkpoint is ever run: only
 *  the pickle opcodes and the few globals that tensors need are understood, anything else is refused. The values of safetensors
 *  stay in the file until they are used: while the list lives, replace the file if need be, but do not write into it.
 *  @return TRINE_OK; TRINE_ERR_OPEN (missing, unreadable); TRINE_ERR_FORMAT (corrupt, truncated, another kind; the sentence
 *          names the file and the reason); TRINE_ERR_NOMEM. *out is untouched on failure. */
TRINE_API trine_status trine_weights_read(const char *path, trine_weights **out);

/** Write a file atomically (the old one stays until the new one is complete). The kind follows the name: ".safetensors" (also
 *  ".state", for the state of a run, and ".index"), or ".pth", ".pt", ".th", ".bin" for PyTorch's zip format as plain torch.load() reads it (an OrderedDict of tensors; metadata is
 *  not written there). Equal lists give equal bytes. @return TRINE_ERR_ARG for another extension; TRINE_ERR_WRITE. */
TRINE_API trine_status trine_weights_write(const trine_weights *weights, const char *path);

/** "safetensors", "torch zip", "torch legacy", or "memory". */
TRINE_API const char *trine_weights_kind(const trine_weights *weights);

TRINE_API size_t trine_weights_count(const trine_weights *weights);
/** Tensor i (0 <= i < count) in file order; NULL outside. */
TRINE_API const trine_weights_tensor *trine_weights_at(const trine_weights *weights, size_t i);
/** The tensor of that name, or NULL. */
TRINE_API const trine_weights_tensor *trine_weights_find(const trine_weights *weights, const char *name);
/** Append a tensor (data copied). @return TRINE_ERR_ARG: name taken, rank or dims out of range. */
TRINE_API trine_status trine_weights_add(trine_weights *weights, const char *name, trine_dtype dtype,
                                         int rank, const int64_t *dims, const void *data);

/** Metadata by key, or NULL. */
TRINE_API const char *trine_weights_metadata(const trine_weights *weights, const char *key);
/** Set or replace (both copied); value NULL removes. */
TRINE_API trine_status trine_weights_set_metadata(trine_weights *weights, const char *key, const char *value);
TRINE_API size_t trine_weights_metadata_count(const trine_weights *weights);
/** Key and value number i in the order of keys; NULL outside. */
TRINE_API const char *trine_weights_metadata_key(const trine_weights *weights, size_t i);

/** Element i of a tensor as double, whatever its float or integer type. */
TRINE_API double trine_weights_value(const trine_weights_tensor *tensor, size_t i);

/** Destroy and set *weights to NULL; accepts NULL. */
TRINE_API void trine_weights_destroy(trine_weights **weights);

/** A dense array of a .npy file (NumPy's format 1.0 to 3.0, C order, little-endian). */
typedef struct trine_array {
    trine_dtype dtype;            /**< TRINE_F32, F64, F16, I64, I32, I16, I8, U8 or BOOL */
    int rank;                     /**< 0 to TRINE_MAX_RANK */
    int64_t dims[TRINE_MAX_RANK]; /**< outermost first */
    void *data;                   /**< owned; trine_array_free() */
    size_t bytes;
} trine_array;

/** @return TRINE_ERR_OPEN; TRINE_ERR_FORMAT (not .npy, Fortran order, other element type, truncated). */
TRINE_API trine_status trine_npy_read(const char *path, trine_array *out);
/** Write atomically. @return TRINE_ERR_WRITE. */
TRINE_API trine_status trine_npy_write(const char *path, trine_dtype dtype, int rank, const int64_t *dims,
                                       const void *data);
/** Free the data and clear the struct; accepts NULL and a cleared struct. */
TRINE_API void trine_array_free(trine_array *array);

#ifdef __cplusplus
}
#endif
#endif
