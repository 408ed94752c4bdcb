/* SPDX-License-Identifier: MIT */
/* PyTorch's zip checkpoints (torch.save since 1.6): <name>/data.pkl, one entry <name>/data/<key> a storage,
 * <name>/version. Read through libzip, which checks the entries' checksums. Written by hand, because torch
 * wants stored entries whose data begin at multiples of 64 bytes. caffe2/serialize/inline_container.cc;
 * PKWARE's APPNOTE.TXT 4.3. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zip.h>
#include <zlib.h>

#include "base/text.h"
#include "io/pickle.h"

enum { MAX_NAME_BYTES = 512, MAX_PICKLE_BYTES = 64 << 20, MAX_DEFLATE_RATIO = 1032, ALIGNMENT = 64 };

/* --- reading --- */

/* Entries read so far, freed at the end: storages may be shared by tensors. */
typedef struct zip_file_state {
    zip_t *archive;
    size_t file_bytes;
    char folder[MAX_NAME_BYTES]; /* "<name>/" */
    void **buffers;
    size_t buffer_count, buffer_capacity;
} zip_file_state;

/* A whole entry, *found false if there is none of that name. More than max_bytes: TRINE_ERR_FORMAT. The state
 * owns *out. */
static trine_status read_entry(zip_file_state *z, const char *name, size_t max_bytes, bool *found,
                               unsigned char **out, size_t *bytes)
{
    char path[2 * MAX_NAME_BYTES + TRINE__NAME_BYTES];
    zip_stat_t st;
    snprintf(path, sizeof path, "%s%s", z->folder, name);
    *found = zip_stat(z->archive, path, ZIP_FL_ENC_RAW, &st) == 0;
    if (!*found) return TRINE_OK;
    TRINE_CHECK((st.valid & ZIP_STAT_SIZE) && st.size <= max_bytes, TRINE_ERR_FORMAT,
                "corrupt: entry '%.100s' has %llu bytes, expected at most %zu", path,
                (unsigned long long)st.size, max_bytes);
    TRINE_CHECK(st.size / (st.comp_method == ZIP_CM_STORE ? 1 : MAX_DEFLATE_RATIO) <= z->file_bytes,
                TRINE_ERR_FORMAT, "truncated: entry '%.100s' needs %llu bytes, file has %zu", path,
                (unsigned long long)st.size, z->file_bytes);
    void *list = z->buffers, *memory;
    TRINE_TRY(trine__reserve(&list, &z->buffer_capacity, z->buffer_count + 1, sizeof *z->buffers));
    z->buffers = list;
    TRINE_TRY(
        trine__calloc((size_t)st.size + 1, 1, &memory)); /* one more: reading up to the end checks the sum */
    z->buffers[z->buffer_count++] = memory;
    zip_file_t *file = zip_fopen_index(z->archive, st.index, 0);
    TRINE_CHECK(file, TRINE_ERR_FORMAT, "corrupt: entry '%.100s' cannot be read (%s)", path,
                zip_strerror(z->archive));
    size_t at = 0;
    zip_int64_t got = 1;
    while (got > 0 && at <= st.size) {
        got = zip_fread(file, (unsigned char *)memory + at, (size_t)st.size + 1 - at);
        if (got > 0) at += (size_t)got;
    }
    char reason[160];
    snprintf(reason, sizeof reason, "%s", got < 0 ? zip_file_strerror(file) : "another length than promised");
    zip_fclose(file);
    TRINE_CHECK(got == 0 && at == st.size, TRINE_ERR_FORMAT, "corrupt: entry '%.100s' cannot be read (%s)",
                path, reason);
    *out = memory;
    *bytes = at;
    return TRINE_OK;
}

static trine_status fetch_zip(void *user, trine__torch_storage *storage, const char *tensor_name)
{
    zip_file_state *z = user;
    const size_t need = storage->count * trine_dtype_bytes(storage->dtype);
    char name[TRINE__NAME_BYTES + 8];
    bool found;
    unsigned char *data = NULL;
    size_t bytes = 0;
    snprintf(name, sizeof name, "data/%s", storage->key);
    const trine_status status = read_entry(z, name, need, &found, &data, &bytes);
    if (status != TRINE_OK) return trine__fail_context(status, "tensor '%s'", tensor_name);
    TRINE_CHECK(found, TRINE_ERR_FORMAT,
                "corrupt: tensor '%s' needs entry 'data/%.40s', which the archive lacks", tensor_name,
                storage->key);
    TRINE_CHECK(bytes == need, TRINE_ERR_FORMAT,
                "truncated: tensor '%s' needs %zu bytes, entry 'data/%.40s' has %zu", tensor_name, need,
                storage->key, bytes);
    storage->data = data;
    return TRINE_OK;
}

/* The folder that data.pkl lies in. */
static trine_status find_folder(zip_file_state *z)
{
    static const char want[] = "/data.pkl";
    const zip_int64_t count = zip_get_num_entries(z->archive, 0);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(z->archive, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        const char *slash = name ? strchr(name, '/') : NULL;
        if (!slash || strcmp(slash, want) != 0 || (size_t)(slash - name) + 2 > sizeof z->folder) continue;
        memcpy(z->folder, name, (size_t)(slash - name) + 1);
        return TRINE_OK;
    }
    return trine__fail(TRINE_ERR_FORMAT, "a zip archive without data.pkl is not a PyTorch checkpoint");
}

static trine_status open_archive(const trine__map *map, zip_t **out)
{
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source = zip_source_buffer_create(map->data, map->bytes, 0, &error);
    *out = source ? zip_open_from_source(source, ZIP_RDONLY, &error) : NULL;
    trine_status status = TRINE_OK;
    if (!*out) {
        status = zip_error_code_zip(&error) == ZIP_ER_MEMORY ? TRINE_ERR_NOMEM : TRINE_ERR_FORMAT;
        trine__fail(status, "truncated or corrupt: no zip directory at the end, file has %zu bytes (%s)",
                    map->bytes, zip_error_strerror(&error));
        zip_source_free(source);
    }
    zip_error_fini(&error);
    return status;
}

trine_status trine__torch_zip_read(const trine__map *map, trine_weights *weights)
{
    trine_status status = TRINE_OK;
    zip_file_state z = {.file_bytes = map->bytes};
    trine__pickle p = {0};
    trine__pickle_value *root;
    unsigned char *bytes;
    size_t count, used;
    bool found;
    TRINE_TRY(open_archive(map, &z.archive));
    TRINE_TRY_GOTO(find_folder(&z));
    TRINE_TRY_GOTO(read_entry(&z, "byteorder", 16, &found, &bytes, &count));
    TRINE_CHECK_GOTO(!found || (count == 6 && memcmp(bytes, "little", 6) == 0), TRINE_ERR_FORMAT,
                     "the checkpoint is not little-endian, which is not understood");
    TRINE_TRY_GOTO(read_entry(&z, "data.pkl", MAX_PICKLE_BYTES, &found, &bytes, &count));
    TRINE_CHECK_GOTO(found, TRINE_ERR_FORMAT, "corrupt: data.pkl cannot be found");
    TRINE_TRY_GOTO(trine__pickle_load(&p, bytes, count, &root, &used));
    TRINE_TRY_GOTO(trine__torch_link_storages(&p));
    TRINE_TRY_GOTO(trine__torch_extract(root, map->bytes, fetch_zip, &z, weights));
cleanup:
    trine__pickle_free(&p);
    for (size_t i = 0; i < z.buffer_count; i++) free(z.buffers[i]);
    free(z.buffers);
    zip_discard(z.archive);
    return status;
}

/* --- writing --- */

typedef struct zip_out {
    trine__writer *w;
    uint64_t at;
    trine__text directory;
    size_t entries;
} zip_out;

static void put(trine__text *t, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        trine__text_add_bytes(t, &(unsigned char){(unsigned char)(value >> 8 * i)}, 1);
}

/* Version needed, flags, method "stored", time and date (0:00, 1 January 1980: equal lists give equal bytes),
 * checksum, sizes, name's length: the part that a local header and the directory share. */
static void put_entry(trine__text *t, uint32_t sum, size_t bytes, size_t name_bytes)
{
    put(t, 10, 2);
    put(t, 0, 2);
    put(t, 0, 2);
    put(t, 0, 2);
    put(t, 1 << 5 | 1, 2);
    put(t, sum, 4);
    put(t, bytes, 4);
    put(t, bytes, 4);
    put(t, name_bytes, 2);
}

static uint32_t checksum(const unsigned char *data, size_t bytes)
{
    uLong sum = crc32(0, NULL, 0);
    while (bytes > 0) {
        const uInt piece = bytes < 1u << 30 ? (uInt)bytes : 1u << 30;
        sum = crc32(sum, data, piece);
        data += piece;
        bytes -= piece;
    }
    return (uint32_t)sum;
}

static trine_status write_text(zip_out *z, trine__text *t)
{
    char *header;
    const size_t length = t->length;
    TRINE_TRY(trine__text_take(t, &header));
    const trine_status status = trine__writer_write(z->w, header, length);
    free(header);
    z->at += length;
    return status;
}

/* One stored entry, its data at a multiple of 64 bytes: an extra field of torch's kind ("FB", then Z's) fills
 * the gap. */
static trine_status write_entry(zip_out *z, const char *name, const void *data, size_t bytes)
{
    const size_t name_bytes = strlen(name);
    const uint64_t begin = z->at, after = begin + 30 + name_bytes;
    size_t gap = (size_t)((ALIGNMENT - after % ALIGNMENT) % ALIGNMENT);
    if (gap > 0 && gap < 4) gap += ALIGNMENT;
    TRINE_CHECK(after + gap <= UINT32_MAX && bytes <= UINT32_MAX - (after + gap) && z->entries < UINT16_MAX,
                TRINE_ERR_WRITE,
                "%s: a checkpoint of more than 4 GiB or 65535 entries cannot be written in this format",
                z->w->path);
    const uint32_t sum = checksum(data, bytes);
    trine__text local = {0};
    put(&local, 0x04034b50, 4);
    put_entry(&local, sum, bytes, name_bytes);
    put(&local, gap, 2);
    trine__text_add_bytes(&local, name, name_bytes);
    if (gap) {
        trine__text_add(&local, "FB");
        put(&local, gap - 4, 2);
        for (size_t i = 4; i < gap; i++) trine__text_add_bytes(&local, "Z", 1);
    }
    TRINE_TRY(write_text(z, &local));
    TRINE_TRY(trine__writer_write(z->w, data, bytes));
    z->at += bytes;

    put(&z->directory, 0x02014b50, 4);
    put(&z->directory, 10, 2); /* made by: DOS */
    put_entry(&z->directory, sum, bytes, name_bytes);
    put(&z->directory, 0, 2); /* extra field */
    put(&z->directory, 0, 2); /* comment */
    put(&z->directory, 0, 2); /* disk */
    put(&z->directory, 0, 2); /* attributes */
    put(&z->directory, 0, 4);
    put(&z->directory, begin, 4);
    trine__text_add_bytes(&z->directory, name, name_bytes);
    z->entries++;
    return TRINE_OK;
}

static trine_status write_directory(zip_out *z)
{
    const uint64_t begin = z->at;
    const size_t bytes = z->directory.length;
    TRINE_TRY(write_text(z, &z->directory));
    TRINE_CHECK(z->at <= UINT32_MAX, TRINE_ERR_WRITE,
                "%s: a checkpoint of more than 4 GiB cannot be written in this format", z->w->path);
    trine__text end = {0};
    put(&end, 0x06054b50, 4);
    put(&end, 0, 4); /* disks */
    put(&end, z->entries, 2);
    put(&end, z->entries, 2);
    put(&end, bytes, 4);
    put(&end, begin, 4);
    put(&end, 0, 2); /* comment */
    return write_text(z, &end);
}

/* A literal's bytes, NULs among them. */
#define PUT(t, literal) trine__text_add_bytes((t), (literal), sizeof(literal) - 1)

static void put_string(trine__text *t, const char *text)
{
    PUT(t, "X");
    put(t, strlen(text), 4);
    trine__text_add_bytes(t, text, strlen(text));
}

/* BININT where it fits, LONG1 of 8 bytes elsewhere. */
static void put_int(trine__text *t, uint64_t value)
{
    if (value <= INT32_MAX) {
        PUT(t, "J");
        put(t, value, 4);
    } else {
        PUT(t, "\x8a\x08");
        put(t, value, 8);
    }
}

/* torch._utils._rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict()). Memo: 0 OrderedDict, 1 the
 * function. */
static void put_tensor(trine__text *t, const trine_weights_tensor *tensor, size_t number)
{
    static const char *const storages[] = {
        [TRINE_F32] = "FloatStorage",     [TRINE_F64] = "DoubleStorage", [TRINE_F16] = "HalfStorage",
        [TRINE_BF16] = "BFloat16Storage", [TRINE_I64] = "LongStorage",   [TRINE_I32] = "IntStorage",
        [TRINE_I16] = "ShortStorage",     [TRINE_I8] = "CharStorage",    [TRINE_U8] = "ByteStorage",
        [TRINE_BOOL] = "BoolStorage",
    };
    char key[24];
    snprintf(key, sizeof key, "%zu", number);
    if (number == 0)
        PUT(t, "ctorch._utils\n_rebuild_tensor_v2\nq\1((");
    else
        PUT(t, "h\1((");
    put_string(t, "storage");
    trine__text_add(t, "ctorch\n%s\n", storages[tensor->dtype]);
    put_string(t, key);
    put_string(t, "cpu");
    put_int(t, tensor->bytes / trine_dtype_bytes(tensor->dtype));
    PUT(t, "tQ");
    put_int(t, 0);
    PUT(t, "(");
    for (int i = 0; i < tensor->rank; i++) put_int(t, (uint64_t)tensor->dims[i]);
    PUT(t, "t(");
    for (int i = 0; i < tensor->rank; i++) {
        uint64_t stride = 1;
        for (int k = i + 1; k < tensor->rank; k++) stride *= tensor->dims[k] ? (uint64_t)tensor->dims[k] : 1;
        put_int(t, stride);
    }
    PUT(t, "t\x89"
           "h\0)RtR"); /* False, OrderedDict() */
}

/* OrderedDict() and its items, protocol 2. */
static void put_pickle(trine__text *t, const trine_weights *weights)
{
    PUT(t, "\x80\x02"
           "ccollections\nOrderedDict\nq\0)R(");
    for (size_t i = 0; i < weights->count; i++) {
        put_string(t, weights->tensors[i].name);
        put_tensor(t, &weights->tensors[i], i);
    }
    PUT(t, "u.");
}

trine_status trine__torch_zip_write(const trine_weights *weights, trine__writer *w)
{
    trine_status status = TRINE_OK;
    zip_out z = {.w = w};
    trine__text t = {0};
    char *pickle = NULL, name[48];
    put_pickle(&t, weights);
    const size_t length = t.length;
    TRINE_TRY_GOTO(trine__text_take(&t, &pickle));
    TRINE_TRY_GOTO(write_entry(&z, "archive/data.pkl", pickle, length));
    TRINE_TRY_GOTO(write_entry(&z, "archive/byteorder", "little", 6));
    for (size_t i = 0; i < weights->count; i++) {
        snprintf(name, sizeof name, "archive/data/%zu", i);
        TRINE_TRY_GOTO(write_entry(&z, name, weights->tensors[i].data, weights->tensors[i].bytes));
    }
    TRINE_TRY_GOTO(write_entry(&z, "archive/version", "3\n", 2));
    TRINE_TRY_GOTO(write_directory(&z));
cleanup:
    free(pickle);
    trine__text_free(&z.directory);
    return status;
}
