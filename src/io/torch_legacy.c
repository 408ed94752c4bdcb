/* SPDX-License-Identifier: MIT */
/* PyTorch's format before 1.6 (torch.save with _use_new_zipfile_serialization=False): five pickles (magic
 * number, protocol version, system, the object, the storages' keys), then each storage as an 8-byte element
 * count and its elements. torch/serialization.py, _legacy_save. */
#include <stdlib.h>
#include <string.h>

#include "io/pickle.h"

enum { PROTOCOL_VERSION = 1001 };

/* What fetch needs: where the file ends. */
typedef struct legacy_file {
    const trine__map *map;
    const char *short_key; /* the storage that the file ends in; NULL: none */
    size_t short_at, short_bytes;
} legacy_file;

/* The pickle at *at, which moves behind it. */
static trine_status load_next(const trine__map *map, size_t *at, trine__pickle *p, trine__pickle_value **out)
{
    size_t used;
    TRINE_TRY(trine__pickle_load(p, map->data + *at, map->bytes - *at, out, &used));
    *at += used;
    return TRINE_OK;
}

/* Magic number, protocol version, system. */
static trine_status skip_preamble(const trine__map *map, size_t *at)
{
    trine_status status = TRINE_OK;
    trine__pickle p = {0};
    trine__pickle_value *v;
    TRINE_TRY_GOTO(load_next(map, at, &p, &v)); /* the reader's choice has compared the number */
    trine__pickle_free(&p);
    TRINE_TRY_GOTO(load_next(map, at, &p, &v));
    TRINE_CHECK_GOTO(v->kind == TRINE__PICKLE_INT && v->u.integer == PROTOCOL_VERSION, TRINE_ERR_FORMAT,
                     "the checkpoint's protocol version is not %d", PROTOCOL_VERSION);
    trine__pickle_free(&p);
    TRINE_TRY_GOTO(load_next(map, at, &p, &v));
    const trine__pickle_value *little =
        v->kind == TRINE__PICKLE_DICT ? trine__pickle_get(v, "little_endian") : NULL;
    TRINE_CHECK_GOTO(little && little->kind == TRINE__PICKLE_BOOL, TRINE_ERR_FORMAT,
                     "corrupt: the checkpoint does not describe the system that wrote it");
    TRINE_CHECK_GOTO(little->u.integer, TRINE_ERR_FORMAT,
                     "the checkpoint is big-endian, which is not understood");
cleanup:
    trine__pickle_free(&p);
    return status;
}

/* A search key and a storage, for bsearch over first storages. */
static int by_key(const void *a, const void *b)
{
    return strcmp((*(trine__torch_storage *const *)a)->key, (*(trine__torch_storage *const *)b)->key);
}

static int key_against(const void *key, const void *item)
{
    const trine__pickle_value *k = key;
    const char *name = (*(trine__torch_storage *const *)item)->key;
    const size_t bytes = strlen(name), common = k->count < bytes ? k->count : bytes;
    const int order = memcmp(k->u.text, name, common);
    return order ? order : (k->count > bytes) - (k->count < bytes);
}

/* Give every storage its place in the file, in the keys' order from byte `at` on. A file that ends too early
 * is noted, not refused: the sentence should name a tensor. */
static trine_status place_storages(legacy_file *file, size_t at, const trine__pickle_value *keys,
                                   trine__torch_storage *const *sorted, size_t count)
{
    const trine__map *map = file->map;
    for (size_t i = 0; i < keys->count; i++) {
        const trine__pickle_value *key = keys->u.items[i];
        TRINE_CHECK(key->kind == TRINE__PICKLE_STRING, TRINE_ERR_FORMAT,
                    "corrupt: a storage's key is not a string");
        trine__torch_storage *const *hit =
            count ? bsearch(key, sorted, count, sizeof *sorted, key_against) : NULL;
        TRINE_CHECK(hit, TRINE_ERR_FORMAT, "corrupt: storage '%.*s' belongs to no tensor",
                    key->count < 40 ? (int)key->count : 40, key->u.text);
        trine__torch_storage *s = *hit;
        TRINE_CHECK(!s->data, TRINE_ERR_FORMAT, "corrupt: storage '%.40s' is there twice", s->key);
        const size_t bytes = s->count * trine_dtype_bytes(s->dtype);
        if (map->bytes - at < 8 || map->bytes - at - 8 < bytes) {
            file->short_key = s->key;
            file->short_at = at + 8;
            file->short_bytes = bytes;
            return TRINE_OK;
        }
        const uint64_t elements = trine__load_u64(map->data + at);
        TRINE_CHECK(elements == s->count, TRINE_ERR_FORMAT,
                    "corrupt: storage '%.40s' has %llu elements, expected %zu", s->key,
                    (unsigned long long)elements, s->count);
        s->data = map->data + at + 8;
        at += 8 + bytes;
    }
    return TRINE_OK;
}

/* Every storage that the file holds has its data by now. */
static trine_status fetch_legacy(void *user, trine__torch_storage *storage, const char *tensor_name)
{
    const legacy_file *file = user;
    const size_t bytes = storage->count * trine_dtype_bytes(storage->dtype);
    if (file->short_key == storage->key)
        return trine__fail(TRINE_ERR_FORMAT,
                           "truncated: tensor '%s' needs %zu bytes up to byte %zu, file has %zu", tensor_name,
                           bytes, file->short_at + bytes, file->map->bytes);
    if (file->short_key)
        return trine__fail(TRINE_ERR_FORMAT,
                           "truncated: tensor '%s' needs %zu bytes behind the end, file has %zu", tensor_name,
                           bytes, file->map->bytes);
    return trine__fail(TRINE_ERR_FORMAT, "corrupt: tensor '%s' needs storage '%.40s', which the file lacks",
                       tensor_name, storage->key);
}

trine_status trine__torch_legacy_read(const trine__map *map, trine_weights *weights)
{
    trine_status status = TRINE_OK;
    trine__pickle object = {0}, list = {0};
    trine__pickle_value *root, *keys;
    void *memory = NULL;
    legacy_file file = {.map = map};
    size_t at = 0, count = 0;
    TRINE_TRY_GOTO(skip_preamble(map, &at));
    TRINE_TRY_GOTO(load_next(map, &at, &object, &root));
    TRINE_TRY_GOTO(trine__torch_link_storages(&object));
    TRINE_TRY_GOTO(load_next(map, &at, &list, &keys));
    TRINE_CHECK_GOTO(keys->kind == TRINE__PICKLE_LIST, TRINE_ERR_FORMAT,
                     "corrupt: the list of storages is not a list");

    for (trine__torch_storage *s = object.storages; s; s = s->next) count += s->first == s;
    TRINE_TRY_GOTO(trine__calloc(count, sizeof(trine__torch_storage *), &memory));
    trine__torch_storage **sorted = memory;
    count = 0;
    for (trine__torch_storage *s = object.storages; s; s = s->next)
        if (s->first == s) sorted[count++] = s;
    if (count) qsort(sorted, count, sizeof *sorted, by_key);
    TRINE_TRY_GOTO(place_storages(&file, at, keys, sorted, count));
    TRINE_TRY_GOTO(trine__torch_extract(root, map->bytes, fetch_legacy, &file, weights));
    TRINE_CHECK_GOTO(!file.short_key, TRINE_ERR_FORMAT,
                     "truncated: storage '%.40s' needs %zu bytes up to byte %zu, file has %zu",
                     file.short_key, file.short_bytes, file.short_at + file.short_bytes, map->bytes);
cleanup:
    free(memory);
    trine__pickle_free(&object);
    trine__pickle_free(&list);
    return status;
}
