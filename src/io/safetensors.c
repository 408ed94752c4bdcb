/* SPDX-License-Identifier: MIT */
/* safetensors: 8 bytes of header length, a JSON header, the tensors' bytes without holes.
 * https://github.com/huggingface/safetensors (README, "Format"). */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/text.h"
#include "base/dtype.h"
#include "io/weights_private.h"

/* The reference implementation's limit. */
enum { MAX_HEADER_BYTES = 100000000 };

/* A tensor's place in the data section. */
typedef struct extent {
    const char *name;
    size_t begin, end;
    const cJSON *entry;
} extent;

/* A whole number in [0, 2^53]. */
static bool whole_number(const cJSON *item, int64_t *out)
{
    if (!cJSON_IsNumber(item)) return false;
    const double v = item->valuedouble;
    if (!(v >= 0 && v <= 9007199254740992.0) || v != (double)(int64_t)v) return false;
    *out = (int64_t)v;
    return true;
}

static trine_status read_metadata(const cJSON *object, trine_weights *weights)
{
    TRINE_CHECK(cJSON_IsObject(object), TRINE_ERR_FORMAT, "corrupt: __metadata__ is not a mapping");
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        TRINE_CHECK(cJSON_IsString(item), TRINE_ERR_FORMAT,
                    "corrupt: metadata " TRINE__SHOW_NAME " is not a string", item->string);
        TRINE_CHECK(!trine_weights_metadata(weights, item->string), TRINE_ERR_FORMAT,
                    "corrupt: metadata " TRINE__SHOW_NAME " is there twice", item->string);
        TRINE_TRY(trine_weights_set_metadata(weights, item->string, item->valuestring));
    }
    return TRINE_OK;
}

/* data_offsets, and nothing but the three keys. */
static trine_status read_extent(const cJSON *entry, extent *out)
{
    const char *name = entry->string;
    TRINE_CHECK(cJSON_IsObject(entry), TRINE_ERR_FORMAT,
                "corrupt: tensor " TRINE__SHOW_NAME " is not a mapping", name);
    const cJSON *offsets = NULL, *item;
    int known = 0;
    cJSON_ArrayForEach(item, entry)
    {
        if (strcmp(item->string, "data_offsets") == 0) offsets = item;
        known += offsets == item || strcmp(item->string, "dtype") == 0 || strcmp(item->string, "shape") == 0;
    }
    TRINE_CHECK(known == 3 && cJSON_GetArraySize(entry) == 3 && cJSON_HasObjectItem(entry, "dtype") &&
                    cJSON_HasObjectItem(entry, "shape") && offsets,
                TRINE_ERR_FORMAT,
                "corrupt: tensor " TRINE__SHOW_NAME " does not have just dtype, shape and data_offsets",
                name);
    int64_t begin, end;
    TRINE_CHECK(cJSON_IsArray(offsets) && cJSON_GetArraySize(offsets) == 2 &&
                    whole_number(cJSON_GetArrayItem(offsets, 0), &begin) &&
                    whole_number(cJSON_GetArrayItem(offsets, 1), &end) && begin <= end,
                TRINE_ERR_FORMAT,
                "corrupt: tensor " TRINE__SHOW_NAME ": data_offsets are not two increasing numbers", name);
    *out = (extent){name, (size_t)begin, (size_t)end, entry};
    return TRINE_OK;
}

/* Append the tensor and copy its bytes out of the data section, which holds e. */
static trine_status read_tensor(const extent *e, const unsigned char *data, trine_weights *weights)
{
    const cJSON *dtype_item = cJSON_GetObjectItemCaseSensitive(e->entry, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(e->entry, "shape"), *item;
    trine_dtype dtype = TRINE_F32;
    int64_t dims[TRINE_MAX_RANK] = {0};
    int rank = 0;
    TRINE_CHECK(cJSON_IsString(dtype_item), TRINE_ERR_FORMAT,
                "corrupt: tensor " TRINE__SHOW_NAME ": dtype is not a string", e->name);
    TRINE_CHECK(trine__dtype_from_name(dtype_item->valuestring, &dtype), TRINE_ERR_FORMAT,
                "tensor " TRINE__SHOW_NAME ": element type '%.40s' is not understood", e->name,
                dtype_item->valuestring);
    TRINE_CHECK(cJSON_IsArray(shape), TRINE_ERR_FORMAT,
                "corrupt: tensor " TRINE__SHOW_NAME ": shape is not a list", e->name);
    cJSON_ArrayForEach(item, shape)
    {
        TRINE_CHECK(rank < TRINE_MAX_RANK, TRINE_ERR_FORMAT,
                    "tensor " TRINE__SHOW_NAME " has more than %d dimensions", e->name, TRINE_MAX_RANK);
        TRINE_CHECK(whole_number(item, &dims[rank++]), TRINE_ERR_FORMAT,
                    "corrupt: tensor " TRINE__SHOW_NAME ": shape is not a list of whole numbers", e->name);
    }
    size_t bytes;
    const trine_status status = trine__tensor_bytes(dtype, rank, dims, &bytes);
    if (status != TRINE_OK) return trine__fail_context(status, "corrupt: tensor " TRINE__SHOW_NAME, e->name);
    TRINE_CHECK(bytes == e->end - e->begin, TRINE_ERR_FORMAT,
                "corrupt: tensor " TRINE__SHOW_NAME ": shape and dtype need %zu bytes, data_offsets give %zu",
                e->name, bytes, e->end - e->begin);
    const unsigned char *values = data + e->begin;
    if (bytes && (uintptr_t)values % 8 == 0)
        return trine__weights_append_mapped(weights, e->name, strlen(e->name), dtype, rank, dims, values);
    void *copy;
    TRINE_TRY(trine__weights_append(weights, e->name, strlen(e->name), dtype, rank, dims, &copy));
    if (bytes) memcpy(copy, values, bytes);
    return TRINE_OK;
}

static int by_begin(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The tensors cover the data section exactly. Sorts the extents. */
static trine_status check_cover(extent *extents, size_t count, size_t data_bytes, size_t file_bytes)
{
    size_t at = 0;
    if (count) qsort(extents, count, sizeof *extents, by_begin);
    for (size_t i = 0; i < count; i++) {
        const extent *e = &extents[i];
        TRINE_CHECK(e->begin == at, TRINE_ERR_FORMAT,
                    "corrupt: tensor " TRINE__SHOW_NAME " begins at %zu, expected %zu (%s)", e->name,
                    e->begin, at, e->begin < at ? "tensors overlap" : "a hole");
        TRINE_CHECK(e->end <= data_bytes, TRINE_ERR_FORMAT,
                    "truncated: tensor " TRINE__SHOW_NAME " needs %zu bytes up to byte %zu, file has %zu",
                    e->name, e->end - e->begin, file_bytes - data_bytes + e->end, file_bytes);
        at = e->end;
    }
    TRINE_CHECK(at == data_bytes, TRINE_ERR_FORMAT, "corrupt: %zu bytes after the last tensor",
                data_bytes - at);
    return TRINE_OK;
}

/* The places of all tensors are checked before the first byte is copied, so that memory stays within the
 * file's size. */
static trine_status read_header(const cJSON *root, const unsigned char *data, size_t data_bytes,
                                size_t file_bytes, trine_weights *weights)
{
    trine_status status = TRINE_OK;
    bool have_metadata = false;
    size_t count = 0;
    void *list = NULL;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, root) count++;
    TRINE_TRY(trine__calloc(count, sizeof(extent), &list));
    extent *extents = list;
    count = 0;
    cJSON_ArrayForEach(entry, root)
    {
        if (strcmp(entry->string, "__metadata__") == 0) {
            TRINE_CHECK_GOTO(!have_metadata, TRINE_ERR_FORMAT, "corrupt: __metadata__ is there twice");
            have_metadata = true;
            TRINE_TRY_GOTO(read_metadata(entry, weights));
        } else {
            TRINE_TRY_GOTO(read_extent(entry, &extents[count++]));
        }
    }
    TRINE_TRY_GOTO(check_cover(extents, count, data_bytes, file_bytes));
    cJSON_ArrayForEach(entry, root)
    {
        extent e;
        if (strcmp(entry->string, "__metadata__") == 0) continue;
        TRINE_TRY_GOTO(read_extent(entry, &e));
        TRINE_TRY_GOTO(read_tensor(&e, data, weights));
    }
cleanup:
    free(list);
    return status;
}

/* cJSON would end a string at an escaped NUL. */
static bool has_escaped_nul(const char *text, size_t bytes)
{
    for (size_t i = 0; i + 6 <= bytes; i++) {
        if (text[i] != '\\') continue;
        if (memcmp(text + i, "\\u0000", 6) == 0) return true;
        i++; /* the escaped character, itself perhaps a backslash */
    }
    return false;
}

trine_status trine__safetensors_read(const trine__map *map, trine_weights *weights)
{
    const uint64_t length = trine__load_u64(map->data);
    const char *header = (const char *)map->data + 8, *end = NULL;
    TRINE_CHECK(length <= MAX_HEADER_BYTES, TRINE_ERR_FORMAT,
                "corrupt: the header has %llu bytes, expected at most %d", (unsigned long long)length,
                MAX_HEADER_BYTES);
    TRINE_CHECK(length <= map->bytes - 8, TRINE_ERR_FORMAT,
                "truncated: the header needs %llu bytes, file has %zu", (unsigned long long)length + 8,
                map->bytes);
    TRINE_CHECK(!has_escaped_nul(header, (size_t)length), TRINE_ERR_FORMAT,
                "corrupt: the header has a NUL in a string");
    cJSON *root = cJSON_ParseWithLengthOpts(header, (size_t)length, &end, 0);
    trine_status status = TRINE_OK;
    TRINE_CHECK_GOTO(root && cJSON_IsObject(root), TRINE_ERR_FORMAT, "corrupt: the header is not JSON%s",
                     root ? " of a mapping" : "");
    for (; end < header + length; end++)
        TRINE_CHECK_GOTO(*end == ' ', TRINE_ERR_FORMAT, "corrupt: the header has text after its end");
    TRINE_TRY_GOTO(
        read_header(root, map->data + 8 + length, map->bytes - 8 - (size_t)length, map->bytes, weights));
cleanup:
    cJSON_Delete(root);
    return status;
}

static void add_json_string(trine__text *t, const char *text)
{
    trine__text_add_bytes(t, "\"", 1);
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\')
            trine__text_add(t, "\\%c", *p);
        else if ((unsigned char)*p < 0x20)
            trine__text_add(t, "\\u%04x", (unsigned)*p);
        else
            trine__text_add_bytes(t, p, 1);
    }
    trine__text_add_bytes(t, "\"", 1);
}

static void add_header(trine__text *t, const trine_weights *weights)
{
    const char *comma = "";
    trine__text_add(t, "{");
    if (weights->metadata_count) {
        trine__text_add(t, "\"__metadata__\":{");
        for (size_t i = 0; i < weights->metadata_count; i++) {
            trine__text_add(t, "%s", i ? "," : "");
            add_json_string(t, weights->metadata[i].key);
            trine__text_add(t, ":");
            add_json_string(t, weights->metadata[i].value);
        }
        trine__text_add(t, "}");
        comma = ",";
    }
    size_t at = 0;
    for (size_t i = 0; i < weights->count; i++, comma = ",") {
        const trine_weights_tensor *tensor = &weights->tensors[i];
        trine__text_add(t, "%s", comma);
        add_json_string(t, tensor->name);
        trine__text_add(t, ":{\"dtype\":\"%s\",\"shape\":[", trine_dtype_name(tensor->dtype));
        for (int d = 0; d < tensor->rank; d++)
            trine__text_add(t, "%s%lld", d ? "," : "", (long long)tensor->dims[d]);
        trine__text_add(t, "],\"data_offsets\":[%zu,%zu]}", at, at + tensor->bytes);
        at += tensor->bytes;
    }
    trine__text_add(t, "}");
    while (t->length % 8 != 0 && !t->failed) trine__text_add(t, " ");
}

trine_status trine__safetensors_write(const trine_weights *weights, trine__writer *w)
{
    trine_status status = TRINE_OK;
    trine__text t = {0};
    char *header = NULL;
    add_header(&t, weights);
    const size_t length = t.length;
    TRINE_TRY(trine__text_take(&t, &header));
    TRINE_CHECK_GOTO(length <= MAX_HEADER_BYTES, TRINE_ERR_WRITE,
                     "%s: the header would have %zu bytes, the format ends at %d", w->path, length,
                     MAX_HEADER_BYTES);
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)((uint64_t)length >> 8 * i);
    TRINE_TRY_GOTO(trine__writer_write(w, prefix, sizeof prefix));
    TRINE_TRY_GOTO(trine__writer_write(w, header, length));
    for (size_t i = 0; i < weights->count; i++)
        TRINE_TRY_GOTO(trine__writer_write(w, weights->tensors[i].data, weights->tensors[i].bytes));
cleanup:
    free(header);
    return status;
}
