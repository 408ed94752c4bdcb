/* SPDX-License-Identifier: MIT */
/* The list of named tensors, its metadata, and the choice of a file format by content (reading) or by name
 * (writing). */
#include "io/weights_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/dtype.h"
#include "base/hash.h"

trine_status trine__tensor_bytes(trine_dtype dtype, int rank, const int64_t *dims, size_t *out)
{
    TRINE_CHECK(trine_dtype_bytes(dtype) > 0, TRINE_ERR_ARG, "element type %d is unknown", (int)dtype);
    TRINE_CHECK(rank >= 0 && rank <= TRINE_MAX_RANK, TRINE_ERR_ARG,
                "rank %d is out of range, expected 0 to %d", rank, TRINE_MAX_RANK);
    size_t bytes = trine_dtype_bytes(dtype);
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        TRINE_CHECK(dims[i] >= 0, TRINE_ERR_ARG, "dimension %d is %lld, expected 0 or more", i,
                    (long long)dims[i]);
        if (dims[i] == 0) {
            empty = true;
            continue;
        }
        TRINE_CHECK((uint64_t)dims[i] <= PTRDIFF_MAX && trine__mul_size(bytes, (size_t)dims[i], &bytes) &&
                        bytes <= PTRDIFF_MAX,
                    TRINE_ERR_ARG, "its dimensions exceed the address space");
    }
    *out = empty ? 0 : bytes;
    return TRINE_OK;
}

/* Well-formed UTF-8 (RFC 3629, no overlong forms, no surrogates). */
static bool utf8_valid(const char *text, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + bytes;
    while (p < end) {
        const unsigned c = *p++;
        if (c < 0x80) continue;
        if (c < 0xc2 || c > 0xf4) return false;
        const int more = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        if (end - p < more) return false;
        const unsigned low = c == 0xe0   ? 0xa0
                             : c == 0xf0 ? 0x90
                                         : 0x80,
                       high = c == 0xed   ? 0x9f
                              : c == 0xf4 ? 0x8f
                                          : 0xbf;
        if (p[0] < low || p[0] > high) return false;
        for (int i = 1; i < more; i++)
            if (p[i] < 0x80 || p[i] > 0xbf) return false;
        p += more;
    }
    return true;
}

static trine_status check_name(const char *name, size_t bytes)
{
    TRINE_CHECK(bytes > 0, TRINE_ERR_ARG, "a tensor's name is empty");
    TRINE_CHECK(bytes <= TRINE__NAME_BYTES, TRINE_ERR_ARG,
                "a tensor's name has %zu bytes, expected at most %d", bytes, TRINE__NAME_BYTES);
    bool printable = utf8_valid(name, bytes);
    for (size_t i = 0; i < bytes; i++)
        printable = printable && (unsigned char)name[i] >= 0x20 && name[i] != 0x7f;
    TRINE_CHECK(printable, TRINE_ERR_ARG, "a tensor's name is not printable UTF-8");
    TRINE_CHECK(bytes != 12 || memcmp(name, "__metadata__", 12) != 0, TRINE_ERR_ARG,
                "a tensor cannot be named '__metadata__': safetensors reserves it");
    return TRINE_OK;
}

/* The slot that holds the name, or the empty one where it belongs. */
static size_t *slot_of(const trine_weights *w, const char *name, size_t bytes)
{
    size_t at = (size_t)trine__hash(name, bytes, 0) & (w->slot_count - 1);
    while (w->slots[at]) {
        const char *other = w->tensors[w->slots[at] - 1].name;
        if (strlen(other) == bytes && memcmp(other, name, bytes) == 0) break;
        at = (at + 1) & (w->slot_count - 1);
    }
    return &w->slots[at];
}

static trine_status rebuild_slots(trine_weights *w, size_t slot_count)
{
    void *slots;
    TRINE_TRY(trine__calloc(slot_count, sizeof *w->slots, &slots));
    free(w->slots);
    w->slots = slots;
    w->slot_count = slot_count;
    for (size_t i = 0; i < w->count; i++) *slot_of(w, w->tensors[i].name, strlen(w->tensors[i].name)) = i + 1;
    return TRINE_OK;
}

/* `mapped` NULL: memory of its own, zeroed. */
static trine_status append(trine_weights *weights, const char *name, size_t name_bytes, trine_dtype dtype,
                           int rank, const int64_t *dims, const void *mapped, void **out)
{
    trine_status status = TRINE_OK;
    trine_weights_tensor tensor = {.dtype = dtype, .rank = rank};
    void *copy = NULL, *data = NULL, *tensors = weights->tensors;
    TRINE_TRY(check_name(name, name_bytes));
    status = trine__tensor_bytes(dtype, rank, dims, &tensor.bytes);
    if (status != TRINE_OK)
        return trine__fail_context(status, "tensor '%.*s'", name_bytes < 200 ? (int)name_bytes : 200, name);
    if (weights->slot_count < 2 * (weights->count + 1))
        TRINE_TRY(rebuild_slots(weights, weights->slot_count ? 2 * weights->slot_count : 64));
    size_t *slot = slot_of(weights, name, name_bytes);
    TRINE_CHECK(*slot == 0, TRINE_ERR_ARG, "two tensors are named " TRINE__SHOW_NAME,
                weights->tensors[*slot - 1].name);
    TRINE_TRY(trine__reserve(&tensors, &weights->capacity, weights->count + 1, sizeof tensor));
    weights->tensors = tensors;

    TRINE_TRY_GOTO(trine__calloc(name_bytes + 1, 1, &copy));
    if (!mapped) TRINE_TRY_GOTO(trine__calloc(tensor.bytes, 1, &data));
    memcpy(copy, name, name_bytes);
    if (rank) memcpy(tensor.dims, dims, (size_t)rank * sizeof *dims);
    tensor.name = copy;
    tensor.data = mapped ? mapped : data;
    weights->tensors[weights->count++] = tensor;
    *slot = weights->count;
    *out = data;
    return TRINE_OK;
cleanup:
    free(copy);
    free(data);
    return status;
}

trine_status trine__weights_append(trine_weights *weights, const char *name, size_t name_bytes,
                                   trine_dtype dtype, int rank, const int64_t *dims, void **out)
{
    return append(weights, name, name_bytes, dtype, rank, dims, NULL, out);
}

trine_status trine__weights_append_mapped(trine_weights *weights, const char *name, size_t name_bytes,
                                          trine_dtype dtype, int rank, const int64_t *dims, const void *data)
{
    void *none;
    TRINE_TRY(append(weights, name, name_bytes, dtype, rank, dims, data, &none));
    weights->mapped = true;
    return TRINE_OK;
}

static bool lies_in_map(const trine_weights *w, const void *data)
{
    const uintptr_t at = (uintptr_t)data, begin = (uintptr_t)w->map.data;
    return at >= begin && at < begin + w->map.bytes;
}

trine_status trine_weights_create(trine_weights **out)
{
    void *w;
    TRINE_TRY(trine__calloc(1, sizeof(trine_weights), &w));
    *out = w;
    (*out)->kind = "memory";
    return TRINE_OK;
}

void trine_weights_destroy(trine_weights **weights)
{
    if (!weights || !*weights) return;
    trine_weights *w = *weights;
    for (size_t i = 0; i < w->count; i++) {
        free((void *)w->tensors[i].name);
        if (!lies_in_map(w, w->tensors[i].data)) free((void *)w->tensors[i].data);
    }
    for (size_t i = 0; i < w->metadata_count; i++) {
        free(w->metadata[i].key);
        free(w->metadata[i].value);
    }
    free(w->tensors);
    free(w->slots);
    free(w->metadata);
    trine__map_close(&w->map);
    free(w);
    *weights = NULL;
}

const char *trine_weights_kind(const trine_weights *weights)
{
    return weights->kind;
}

size_t trine_weights_count(const trine_weights *weights)
{
    return weights->count;
}

const trine_weights_tensor *trine_weights_at(const trine_weights *weights, size_t i)
{
    return i < weights->count ? &weights->tensors[i] : NULL;
}

const trine_weights_tensor *trine_weights_find(const trine_weights *weights, const char *name)
{
    if (weights->count == 0) return NULL;
    const size_t *slot = slot_of(weights, name, strlen(name));
    return *slot ? &weights->tensors[*slot - 1] : NULL;
}

trine_status trine_weights_add(trine_weights *weights, const char *name, trine_dtype dtype, int rank,
                               const int64_t *dims, const void *data)
{
    void *copy;
    TRINE_TRY(trine__weights_append(weights, name, strlen(name), dtype, rank, dims, &copy));
    const size_t bytes = weights->tensors[weights->count - 1].bytes;
    if (bytes) memcpy(copy, data, bytes);
    return TRINE_OK;
}

/* Where the key is (*found) or belongs. */
static size_t metadata_position(const trine_weights *w, const char *key, bool *found)
{
    size_t low = 0, high = w->metadata_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(w->metadata[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < w->metadata_count && strcmp(w->metadata[low].key, key) == 0;
    return low;
}

const char *trine_weights_metadata(const trine_weights *weights, const char *key)
{
    bool found;
    const size_t at = metadata_position(weights, key, &found);
    return found ? weights->metadata[at].value : NULL;
}

trine_status trine_weights_set_metadata(trine_weights *weights, const char *key, const char *value)
{
    TRINE_CHECK(utf8_valid(key, strlen(key)) && (!value || utf8_valid(value, strlen(value))), TRINE_ERR_ARG,
                "metadata " TRINE__SHOW_NAME " is not UTF-8", key);
    trine_status status = TRINE_OK;
    bool found;
    const size_t at = metadata_position(weights, key, &found);
    if (!value) {
        if (!found) return TRINE_OK;
        free(weights->metadata[at].key);
        free(weights->metadata[at].value);
        weights->metadata_count--;
        memmove(&weights->metadata[at], &weights->metadata[at + 1],
                (weights->metadata_count - at) * sizeof *weights->metadata);
        return TRINE_OK;
    }
    trine__metadata item = {0};
    void *list = weights->metadata;
    TRINE_TRY(trine__reserve(&list, &weights->metadata_capacity, weights->metadata_count + 1, sizeof item));
    weights->metadata = list;
    TRINE_TRY_GOTO(trine__strdup(value, &item.value));
    if (found) {
        free(weights->metadata[at].value);
        weights->metadata[at].value = item.value;
        return TRINE_OK;
    }
    TRINE_TRY_GOTO(trine__strdup(key, &item.key));
    memmove(&weights->metadata[at + 1], &weights->metadata[at], (weights->metadata_count - at) * sizeof item);
    weights->metadata[at] = item;
    weights->metadata_count++;
    return TRINE_OK;
cleanup:
    free(item.value);
    return status;
}

size_t trine_weights_metadata_count(const trine_weights *weights)
{
    return weights->metadata_count;
}

const char *trine_weights_metadata_key(const trine_weights *weights, size_t i)
{
    return i < weights->metadata_count ? weights->metadata[i].key : NULL;
}

double trine_weights_value(const trine_weights_tensor *tensor, size_t i)
{
    const size_t bytes = trine_dtype_bytes(tensor->dtype);
    if (bytes == 0 || i >= tensor->bytes / bytes) return NAN;
    union {
        float f32;
        double f64;
        uint16_t u16;
        uint32_t u32;
        int64_t i64;
        int32_t i32;
        int16_t i16;
        int8_t i8;
        uint8_t u8;
    } v;
    memcpy(&v, (const unsigned char *)tensor->data + i * bytes, bytes);
    switch (tensor->dtype) {
    case TRINE_F32:
        return v.f32;
    case TRINE_F64:
        return v.f64;
    case TRINE_F16:
        return trine__half_to_float(v.u16);
    case TRINE_BF16:
        v.u32 = (uint32_t)v.u16 << 16;
        return v.f32;
    case TRINE_I64:
        return (double)v.i64;
    case TRINE_I32:
        return v.i32;
    case TRINE_I16:
        return v.i16;
    case TRINE_I8:
        return v.i8;
    case TRINE_U8:
        return v.u8;
    case TRINE_BOOL:
        return v.u8 != 0;
    }
    return NAN;
}

/* Drop the wrappers' prefixes that every name carries, as often as one is found. */
static trine_status drop_prefixes(trine_weights *w)
{
    static const char *const prefixes[] = {"module.", "_orig_mod.", "model.", "backbone.", "encoder."};
    bool any = false;
    for (size_t k = 0; w->count > 0 && k < TRINE_COUNTOF(prefixes); k++) {
        const size_t bytes = strlen(prefixes[k]);
        bool all = true;
        for (size_t i = 0; all && i < w->count; i++)
            all = strncmp(w->tensors[i].name, prefixes[k], bytes) == 0 && w->tensors[i].name[bytes] != '\0';
        if (!all) continue;
        for (size_t i = 0; i < w->count; i++) {
            char *name = (char *)w->tensors[i].name;
            memmove(name, name + bytes, strlen(name + bytes) + 1);
        }
        any = true;
        k = (size_t)-1; /* begin again: the prefixes come in any order */
    }
    return any ? rebuild_slots(w, w->slot_count) : TRINE_OK;
}

/* Which reader a file's first bytes ask for; NULL: none. */
static trine_status (*reader_of(const trine__map *map, const char **kind))(const trine__map *,
                                                                           trine_weights *)
{
    static const unsigned char legacy_magic[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9,
                                                   0x20, 0x6a, 0xa8, 0x50, 0x19};
    const unsigned char *p = map->data;
    const size_t bytes = map->bytes;
    if (bytes >= 4 && memcmp(p, "PK", 2) == 0 &&
        (memcmp(p + 2, "\3\4", 2) == 0 || memcmp(p + 2, "\5\6", 2) == 0)) {
        *kind = "torch zip";
        return trine__torch_zip_read;
    }
    if (bytes >= 9 && p[7] == 0 &&
        p[8] == '{') { /* the header's length is never 2^56; text has no NUL there */
        *kind = "safetensors";
        return trine__safetensors_read;
    }
    /* A pickle whose value is the magic number: PROTO n, perhaps FRAME (9 bytes), LONG1 10, the number. */
    for (size_t at = 4; at <= 13 && bytes >= 2 && p[0] == 0x80 && at + sizeof legacy_magic <= bytes;
         at += 9) {
        if (memcmp(p + at, legacy_magic, sizeof legacy_magic) != 0) continue;
        *kind = "torch legacy";
        return trine__torch_legacy_read;
    }
    return NULL;
}

trine_status trine_weights_read(const char *path, trine_weights **out)
{
    trine_status status = TRINE_OK;
    trine_weights *w = NULL;
    TRINE_TRY(trine_weights_create(&w));
    status = trine__map_open(path, &w->map);
    if (status != TRINE_OK) {
        trine_weights_destroy(&w);
        return status;
    }
    trine_status (*read)(const trine__map *, trine_weights *) = reader_of(&w->map, &w->kind);
    if (!read) {
        status = trine__fail(TRINE_ERR_FORMAT,
                             "not a weights file (expected safetensors or a PyTorch checkpoint)");
        goto cleanup;
    }
    TRINE_TRY_GOTO(read(&w->map, w));
    TRINE_TRY_GOTO(drop_prefixes(w));
    if (!w->mapped) trine__map_close(&w->map);
    *out = w;
    w = NULL;
cleanup:
    trine_weights_destroy(&w);
    if (status == TRINE_ERR_ARG)
        status = TRINE_ERR_FORMAT; /* what the list refuses is, in a file, corruption */
    return status == TRINE_OK ? TRINE_OK : trine__fail_context(status, "%s", path);
}

trine_status trine_weights_write(const trine_weights *weights, const char *path)
{
    static const struct {
        const char *extension;
        trine_status (*write)(const trine_weights *, trine__writer *);
    } formats[] = {
        {".safetensors", trine__safetensors_write},
        {".state", trine__safetensors_write}, /* of a run, beside its checkpoint */
        {".index", trine__safetensors_write}, /* vectors: learn/index.c */
        {".pth", trine__torch_zip_write},
        {".pt", trine__torch_zip_write},
        {".th", trine__torch_zip_write},
        {".bin", trine__torch_zip_write},
    };
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    for (size_t i = 0; dot && i < TRINE_COUNTOF(formats); i++) {
        if (strcasecmp(dot, formats[i].extension) != 0) continue;
        trine__writer w = {0};
        TRINE_TRY(trine__writer_open(path, &w));
        const trine_status status = formats[i].write(weights, &w);
        if (status == TRINE_OK) return trine__writer_commit(&w);
        trine__writer_abort(&w);
        return status;
    }
    return trine__fail(TRINE_ERR_ARG,
                       "%s: unknown kind of weights file, expected .safetensors, .state, .pth, .pt, .th or "
                       ".bin",
                       path);
}
