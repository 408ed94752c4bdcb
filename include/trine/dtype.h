/* SPDX-License-Identifier: MIT */
/** Element types of tensors in files, and of activations on a device. */
#ifndef TRINE_DTYPE_H
#define TRINE_DTYPE_H

#include <stddef.h>

#include "trine/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Element types that weights files may hold. Activations are TRINE_F32, or TRINE_F16: stored in half precision, computed in single. */
typedef enum trine_dtype {
    TRINE_F32 = 0,
    TRINE_F64,
    TRINE_F16,
    TRINE_BF16,
    TRINE_I64,
    TRINE_I32,
    TRINE_I16,
    TRINE_I8,
    TRINE_U8,
    TRINE_BOOL
} trine_dtype;

/** Bytes of one element; 0 for an unknown value. */
TRINE_API size_t trine_dtype_bytes(trine_dtype dtype);
/** "F32", "I64", ... as safetensors spells them; "?" for an unknown value. */
TRINE_API const char *trine_dtype_name(trine_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif
