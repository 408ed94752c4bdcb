/* SPDX-License-Identifier: MIT */
/* A pickle machine that can build tensors and plain containers and nothing else (pickle.c), and what
 * PyTorch's globals and persistent ids mean to it (torch_state.c). Nothing in a pickle is ever called: the
 * few known names are recognised. The machine does not recurse, and its memory is bounded by a multiple of
 * the pickle's length. */
#ifndef TRINE_IO_PICKLE_H
#define TRINE_IO_PICKLE_H

#include "io/weights_private.h"

typedef enum trine__pickle_kind {
    TRINE__PICKLE_NONE,
    TRINE__PICKLE_BOOL,
    TRINE__PICKLE_INT,
    TRINE__PICKLE_STRING,
    TRINE__PICKLE_OPAQUE, /* floats, bytes, long integers, element types: tolerated, never looked into */
    TRINE__PICKLE_TUPLE,
    TRINE__PICKLE_LIST,
    TRINE__PICKLE_DICT,
    TRINE__PICKLE_GLOBAL,
    TRINE__PICKLE_STORAGE,
    TRINE__PICKLE_TENSOR
} trine__pickle_kind;

typedef enum trine__torch_global_kind {
    TRINE__TORCH_ORDERED_DICT,
    TRINE__TORCH_REBUILD_TENSOR,
    TRINE__TORCH_REBUILD_TENSOR_V2,
    TRINE__TORCH_REBUILD_PARAMETER,
    TRINE__TORCH_SIZE,
    TRINE__TORCH_STORAGE
} trine__torch_global_kind;

/* A recognised global; dtype belongs to TRINE__TORCH_STORAGE. */
typedef struct trine__torch_global {
    trine__torch_global_kind kind;
    trine_dtype dtype;
} trine__torch_global;

/* A storage as a persistent id declares it. The reader of the file fills in `data` of first ones. */
typedef struct trine__torch_storage {
    const char *key; /* NUL-terminated */
    trine_dtype dtype;
    size_t count;                  /* elements in the file */
    size_t view_begin, view_count; /* the part that tensors see: all, but for views of the older format */
    struct trine__torch_storage *first; /* the storage declared first under this key; itself for that one */
    const unsigned char *data;          /* [count] elements, or NULL */
    struct trine__torch_storage *next;
} trine__torch_storage;

/* A tensor as a view of its storage, checked to lie inside. Strides and offset in elements. */
typedef struct trine__torch_tensor {
    trine__torch_storage *storage;
    int rank;
    int64_t dims[TRINE_MAX_RANK];
    size_t strides[TRINE_MAX_RANK];
    size_t offset;
} trine__torch_tensor;

typedef struct trine__pickle_value {
    trine__pickle_kind kind;
    bool searched;          /* the search for the state dictionary has been here */
    size_t count, capacity; /* items, or bytes of a string; a dictionary holds key, value, key, value, ... */
    union {
        int64_t integer;  /* INT, BOOL */
        const char *text; /* STRING: inside the pickle, not NUL-terminated */
        struct trine__pickle_value **items;
        trine__torch_global global;
        trine__torch_storage *storage;
        trine__torch_tensor *tensor;
    } u;
} trine__pickle_value;

struct trine__pickle_block;

/* A machine; begin with zeroes. Values live until trine__pickle_free(), and strings as long as the pickle's
 * bytes. */
typedef struct trine__pickle {
    const unsigned char *data;
    size_t bytes, at;
    trine__pickle_value **stack;
    size_t depth, stack_capacity;
    size_t *marks;
    size_t mark_count, mark_capacity;
    trine__pickle_value **memo;
    size_t memo_count, memo_capacity;
    size_t values; /* made so far */
    struct trine__pickle_block *blocks;
    trine__torch_storage *storages; /* every declared one, last first */
    bool stopped;
} trine__pickle;

/* Run the pickle at the beginning of data [bytes] up to its STOP; *used bytes were read.
 * TRINE_ERR_FORMAT: truncated, corrupt, or it asks for an opcode or a global that tensors do not need. */
trine_status trine__pickle_load(trine__pickle *p, const unsigned char *data, size_t bytes,
                                trine__pickle_value **out, size_t *used);
void trine__pickle_free(trine__pickle *p);

/* Zeroed memory that lives as long as the machine. */
trine_status trine__pickle_alloc(trine__pickle *p, size_t bytes, void **out);
trine_status trine__pickle_new(trine__pickle *p, trine__pickle_kind kind, trine__pickle_value **out);
/* Append to a tuple, list or dictionary. */
trine_status trine__pickle_append(trine__pickle *p, trine__pickle_value *to,
                                  trine__pickle_value *const *items, size_t count);
/* The value of a dictionary's string key, or NULL. */
trine__pickle_value *trine__pickle_get(const trine__pickle_value *dict, const char *key);

/* What "module.name" is; TRINE_ERR_FORMAT names a global that is not understood. */
trine_status trine__torch_global_value(trine__pickle *p, const char *module, size_t module_bytes,
                                       const char *name, size_t name_bytes, trine__pickle_value **out);
/* callable(*args), for the known ones. */
trine_status trine__torch_call(trine__pickle *p, const trine__pickle_value *callable,
                               const trine__pickle_value *args, trine__pickle_value **out);
/* The storage that a persistent id declares. */
trine_status trine__torch_persistent(trine__pickle *p, const trine__pickle_value *id,
                                     trine__pickle_value **out);

/* Set `first` of every storage. TRINE_ERR_FORMAT: two declarations of one key differ. */
trine_status trine__torch_link_storages(trine__pickle *p);
/* Fill in storage->data (a first one, of any key) before `tensor_name` is copied out of it. */
typedef trine_status (*trine__torch_fetch)(void *user, trine__torch_storage *storage,
                                           const char *tensor_name);
/* Find the state dictionary in root, make its tensors dense and append them. Dense bytes are limited by the
 * file's size. */
trine_status trine__torch_extract(trine__pickle_value *root, size_t file_bytes, trine__torch_fetch fetch,
                                  void *user, trine_weights *weights);

#endif
