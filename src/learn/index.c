/* SPDX-License-Identifier: MIT */
/* Indexes of vectors, as safetensors files. */
#include "trine/index.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "base/memory.h"
#include "trine/weights.h"

static const char version_key[] = "trine.index", version[] = "1", hash_key[] = "hash";

/* Texts one behind the other, a NUL behind each. */
struct texts {
    char *bytes;
    size_t length, capacity;
    size_t *begins; /* [count] */
    size_t count, begins_capacity;
};

struct trine_index {
    int dim;
    size_t count, values_capacity;
    float *vectors;
    struct texts paths, classes;
    trine_weights *metadata; /* a list without tensors */
};

static trine_status texts_add(struct texts *t, const char *text)
{
    const size_t bytes = strlen(text) + 1;
    void *p = t->bytes;
    TRINE_TRY(trine__reserve(&p, &t->capacity, t->length + bytes, 1));
    t->bytes = p;
    p = t->begins;
    TRINE_TRY(trine__reserve(&p, &t->begins_capacity, t->count + 1, sizeof *t->begins));
    t->begins = p;
    memcpy(t->bytes + t->length, text, bytes);
    t->begins[t->count++] = t->length;
    t->length += bytes;
    return TRINE_OK;
}

trine_status trine_index_create(int dim, trine_index **out)
{
    TRINE_CHECK(out, TRINE_ERR_ARG, "index: result is missing");
    TRINE_CHECK(dim >= 1, TRINE_ERR_ARG, "index: vectors of %d values, expected at least 1", dim);
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_index), &memory));
    trine_index *index = memory;
    index->dim = dim;
    const trine_status status = trine_weights_create(&index->metadata);
    if (status != TRINE_OK)
        trine_index_destroy(&index);
    else
        *out = index;
    return status;
}

trine_status trine_index_add(trine_index *index, const float *vectors, size_t count, const char *const *paths,
                             const char *const *classes)
{
    TRINE_CHECK(index && (count == 0 || (vectors && paths)), TRINE_ERR_ARG,
                "index: index, vectors or paths are missing");
    const size_t dim = (size_t)index->dim;
    size_t all, values;
    TRINE_CHECK(
        trine__add_size(index->count, count, &all) && all < INT_MAX && trine__mul_size(all, dim, &values),
        TRINE_ERR_ARG, "index: %zu vectors and %zu more, expected fewer than 2^31", index->count, count);
    void *p = index->vectors;
    TRINE_TRY(trine__reserve(&p, &index->values_capacity, values, sizeof *index->vectors));
    index->vectors = p;
    for (size_t i = 0; i < count; i++) {
        TRINE_TRY(texts_add(&index->paths, paths[i]));
        TRINE_TRY(texts_add(&index->classes, classes && classes[i] ? classes[i] : ""));
    }
    if (count > 0) memcpy(index->vectors + index->count * dim, vectors, count * dim * sizeof *vectors);
    index->count = all;
    return TRINE_OK;
}

/* Hash of all that a file holds but the hash itself, as text. */
static void hash_of(const trine_weights *file, char out[17])
{
    uint64_t hash = 0;
    for (size_t i = 0; i < trine_weights_count(file); i++) {
        const trine_weights_tensor *t = trine_weights_at(file, i);
        hash = trine__hash(t->data, t->bytes, hash);
    }
    for (size_t i = 0; i < trine_weights_metadata_count(file); i++) {
        const char *key = trine_weights_metadata_key(file, i), *value = trine_weights_metadata(file, key);
        if (strcmp(key, hash_key) == 0) continue;
        hash = trine__hash(value, strlen(value) + 1, trine__hash(key, strlen(key) + 1, hash));
    }
    snprintf(out, 17, "%016" PRIx64, hash);
}

static bool fits_name(const char *path)
{
    static const char *const endings[] = {".index", ".safetensors"};
    for (size_t i = 0; i < TRINE_COUNTOF(endings); i++) {
        const size_t length = strlen(path), tail = strlen(endings[i]);
        if (length > tail && strcasecmp(path + length - tail, endings[i]) == 0) return true;
    }
    return false;
}

trine_status trine_index_write(const trine_index *index, const char *path)
{
    TRINE_CHECK(index && path, TRINE_ERR_ARG, "index: index or path is missing");
    TRINE_CHECK(fits_name(path), TRINE_ERR_ARG, "%s: an index is named .index or .safetensors", path);
    const int64_t dims[2] = {(int64_t)index->count, index->dim}, path_bytes = (int64_t)index->paths.length,
                  class_bytes = (int64_t)index->classes.length;
    char hash[17];
    trine_weights *file = NULL;
    trine_status status;
    TRINE_TRY(trine_weights_create(&file));
    TRINE_TRY_GOTO(trine_weights_add(file, "vectors", TRINE_F32, 2, dims, index->vectors));
    TRINE_TRY_GOTO(trine_weights_add(file, "paths", TRINE_U8, 1, &path_bytes, index->paths.bytes));
    TRINE_TRY_GOTO(trine_weights_add(file, "classes", TRINE_U8, 1, &class_bytes, index->classes.bytes));
    for (size_t i = 0; i < trine_weights_metadata_count(index->metadata); i++) {
        const char *key = trine_weights_metadata_key(index->metadata, i);
        TRINE_TRY_GOTO(trine_weights_set_metadata(file, key, trine_weights_metadata(index->metadata, key)));
    }
    TRINE_TRY_GOTO(trine_weights_set_metadata(file, version_key, version));
    hash_of(file, hash);
    TRINE_TRY_GOTO(trine_weights_set_metadata(file, hash_key, hash));
    status = trine_weights_write(file, path);
cleanup:
    trine_weights_destroy(&file);
    return status;
}

/* A tensor of texts: `count` of them. */
static trine_status read_texts(const trine_weights_tensor *t, const char *name, size_t count,
                               struct texts *out)
{
    TRINE_CHECK(t && t->dtype == TRINE_U8 && t->rank == 1, TRINE_ERR_FORMAT,
                "corrupt index: tensor '%s' is missing or not a list of bytes", name);
    const char *bytes = t->data;
    TRINE_CHECK(t->bytes == 0 || bytes[t->bytes - 1] == '\0', TRINE_ERR_FORMAT,
                "corrupt index: the last text of '%s' does not end", name);
    for (size_t at = 0; at < t->bytes; at += strlen(bytes + at) + 1) TRINE_TRY(texts_add(out, bytes + at));
    TRINE_CHECK(out->count == count, TRINE_ERR_FORMAT, "corrupt index: %zu %s for %zu vectors", out->count,
                name, count);
    return TRINE_OK;
}

static trine_status decode(const trine_weights *file, trine_index **out)
{
    const char *said = trine_weights_metadata(file, version_key);
    TRINE_CHECK(said, TRINE_ERR_FORMAT, "not an index (trine index build makes one)");
    TRINE_CHECK(strcmp(said, version) == 0, TRINE_ERR_FORMAT,
                "version '%.20s' of the format is not understood", said);
    const trine_weights_tensor *v = trine_weights_find(file, "vectors"),
                               *paths = trine_weights_find(file, "paths"),
                               *classes = trine_weights_find(file, "classes");
    TRINE_CHECK(v && v->dtype == TRINE_F32 && v->rank == 2 && v->dims[1] >= 1 && v->dims[1] <= INT_MAX &&
                    v->dims[0] < INT_MAX,
                TRINE_ERR_FORMAT,
                "corrupt index: tensor 'vectors' is missing or not float32 [count][values]");
    TRINE_TRY(trine_index_create((int)v->dims[1], out));
    trine_index *index = *out;
    const size_t count = (size_t)v->dims[0];
    TRINE_TRY(read_texts(paths, "paths", count, &index->paths));
    TRINE_TRY(read_texts(classes, "classes", count, &index->classes));
    char hash[17];
    const char *kept = trine_weights_metadata(file, hash_key);
    hash_of(file, hash);
    TRINE_CHECK(kept && strcmp(hash, kept) == 0, TRINE_ERR_FORMAT,
                "damaged index: its contents do not have the hash that it was written with");
    void *p = NULL;
    TRINE_TRY(trine__reserve(&p, &index->values_capacity, v->bytes / sizeof(float), sizeof(float)));
    index->vectors = p;
    if (v->bytes > 0) memcpy(index->vectors, v->data, v->bytes);
    index->count = count;
    for (size_t i = 0; i < trine_weights_metadata_count(file); i++) {
        const char *key = trine_weights_metadata_key(file, i);
        TRINE_TRY(trine_index_set_metadata(index, key, trine_weights_metadata(file, key)));
    }
    return TRINE_OK;
}

trine_status trine_index_read(const char *path, trine_index **out)
{
    TRINE_CHECK(path && out, TRINE_ERR_ARG, "index: path or result is missing");
    trine_weights *file = NULL;
    trine_index *index = NULL;
    TRINE_TRY(trine_weights_read(path, &file));
    const trine_status status = decode(file, &index);
    trine_weights_destroy(&file);
    if (status == TRINE_OK) {
        *out = index;
        return TRINE_OK;
    }
    trine_index_destroy(&index);
    return trine__fail_context(status, "%s", path);
}

size_t trine_index_count(const trine_index *index)
{
    return index->count;
}

int trine_index_dim(const trine_index *index)
{
    return index->dim;
}

const float *trine_index_vectors(const trine_index *index)
{
    return index->vectors;
}

const char *trine_index_path(const trine_index *index, size_t i)
{
    return i < index->count ? index->paths.bytes + index->paths.begins[i] : NULL;
}

const char *trine_index_class(const trine_index *index, size_t i)
{
    return i < index->count ? index->classes.bytes + index->classes.begins[i] : NULL;
}

const char *trine_index_metadata(const trine_index *index, const char *key)
{
    return trine_weights_metadata(index->metadata, key);
}

trine_status trine_index_set_metadata(trine_index *index, const char *key, const char *value)
{
    TRINE_CHECK(index && key, TRINE_ERR_ARG, "index: index or key is missing");
    return trine_weights_set_metadata(index->metadata, key, value);
}

void trine_index_destroy(trine_index **index)
{
    if (!index || !*index) return;
    trine_index *i = *index;
    struct texts *const lists[] = {&i->paths, &i->classes};
    for (size_t k = 0; k < TRINE_COUNTOF(lists); k++) {
        free(lists[k]->bytes);
        free(lists[k]->begins);
    }
    free(i->vectors);
    trine_weights_destroy(&i->metadata);
    free(i);
    *index = NULL;
}
