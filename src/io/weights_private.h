/* SPDX-License-Identifier: MIT */
/* What the readers and writers of weights files share. Sentences of these functions do not begin with the
 * path: trine_weights_read() and trine_weights_write() put it in front. */
#ifndef TRINE_IO_WEIGHTS_PRIVATE_H
#define TRINE_IO_WEIGHTS_PRIVATE_H

#include "base/file.h"
#include "trine/weights.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights are kept as the files hold them, little-endian; this host is not"
#endif

/* Longest tensor name in bytes, and longest part of one that a sentence shows. */
enum { TRINE__NAME_BYTES = 4096 };
#define TRINE__SHOW_NAME "'%.200s'"

typedef struct trine__metadata {
    char *key, *value;
} trine__metadata;

struct trine_weights {
    const char *kind; /* a literal */
    trine_weights_tensor *tensors;
    size_t count, capacity;
    size_t *slots; /* [slot_count] open addressing by name: tensor number + 1, 0 is empty */
    size_t slot_count;
    trine__metadata *metadata; /* sorted by key */
    size_t metadata_count, metadata_capacity;
    trine__map map; /* of the file, where tensors lie in it */
    bool mapped;    /* some do */
};

/* Bytes of a dense tensor. TRINE_ERR_ARG: rank or a dimension out of range, or the sizes (zeros taken as one,
 * so that strides fit too) exceed the address space. */
trine_status trine__tensor_bytes(trine_dtype dtype, int rank, const int64_t *dims, size_t *out);

/* Append a zeroed tensor for the caller to fill; *out belongs to the list. TRINE_ERR_ARG: the name
 * (name_bytes bytes, need not end in NUL) is taken, empty, too long, reserved or not printable UTF-8; dtype,
 * rank or dims out of range. */
trine_status trine__weights_append(trine_weights *weights, const char *name, size_t name_bytes,
                                   trine_dtype dtype, int rank, const int64_t *dims, void **out);

/* The same, with the values where they lie in weights->map, aligned to 8. */
trine_status trine__weights_append_mapped(trine_weights *weights, const char *name, size_t name_bytes,
                                          trine_dtype dtype, int rank, const int64_t *dims, const void *data);

trine_status trine__safetensors_read(const trine__map *map, trine_weights *weights);
trine_status trine__safetensors_write(const trine_weights *weights, trine__writer *w);
trine_status trine__torch_zip_read(const trine__map *map, trine_weights *weights);
trine_status trine__torch_zip_write(const trine_weights *weights, trine__writer *w);
trine_status trine__torch_legacy_read(const trine__map *map, trine_weights *weights);

static inline uint64_t trine__load_u64(const unsigned char *p)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | p[i];
    return value;
}

#endif
