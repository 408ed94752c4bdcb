/* SPDX-License-Identifier: MIT */
/* Vectors as files: .npy, and the .fvecs of the TEXMEX corpora (Jegou et al. 2011), which FAISS and others read: every vector is its
 * length as a 32-bit integer, then that many floats, little-endian. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "trine/retrieval.h"
#include "trine/weights.h"

static bool is_fvecs(const char *path)
{
    const size_t length = strlen(path);
    return length > 6 && strcasecmp(path + length - 6, ".fvecs") == 0;
}

static trine_status decode_fvecs(const trine__map *map, trine_vectors *v)
{
    int32_t dim = 0;
    TRINE_CHECK(map->bytes >= sizeof dim, TRINE_ERR_FORMAT,
                "truncated: a vector's length needs 4 bytes, file has %zu", map->bytes);
    memcpy(&dim, map->data, sizeof dim);
    TRINE_CHECK(dim >= 1, TRINE_ERR_FORMAT, "corrupt: vectors of %d values", (int)dim);
    const size_t values = (size_t)dim * sizeof(float), row = sizeof dim + values;
    TRINE_CHECK(
        map->bytes % row == 0, TRINE_ERR_FORMAT,
        "corrupt or truncated: %zu bytes are no whole number of vectors of %d values (%zu bytes each)",
        map->bytes, (int)dim, row);
    void *p;
    v->count = map->bytes / row;
    v->dim = dim;
    TRINE_TRY(trine__calloc(v->count, values, &p));
    v->data = p;
    for (size_t i = 0; i < v->count; i++) {
        int32_t length;
        memcpy(&length, map->data + i * row, sizeof length);
        TRINE_CHECK(length == dim, TRINE_ERR_FORMAT, "corrupt: vector %zu has %d values, the first one %d", i,
                    (int)length, (int)dim);
        memcpy(v->data + i * (size_t)dim, map->data + i * row + sizeof length, values);
    }
    return TRINE_OK;
}

static trine_status read_fvecs(const char *path, trine_vectors *v)
{
    trine__map map;
    TRINE_TRY(trine__map_open(path, &map));
    const trine_status status = decode_fvecs(&map, v);
    trine__map_close(&map);
    return status == TRINE_OK ? TRINE_OK : trine__fail_context(status, "%s", path);
}

static trine_status read_npy(const char *path, trine_vectors *v)
{
    trine_array array;
    TRINE_TRY(trine_npy_read(path, &array));
    if (array.dtype != TRINE_F32 || array.rank != 2 || array.dims[0] < 1 || array.dims[1] < 1 ||
        array.dims[1] > INT_MAX) {
        const trine_status status =
            trine__fail(TRINE_ERR_FORMAT, "%s: vectors are float32 [count][values], this is %s of rank %d%s",
                        path, trine_dtype_name(array.dtype), array.rank,
                        array.rank == 2 && array.dtype == TRINE_F32 ? ", empty" : "");
        trine_array_free(&array);
        return status;
    }
    v->data = array.data;
    v->count = (size_t)array.dims[0];
    v->dim = (int)array.dims[1];
    return TRINE_OK;
}

trine_status trine_vectors_read(const char *path, trine_vectors *out)
{
    TRINE_CHECK(path && out, TRINE_ERR_ARG, "vectors: path or result is missing");
    trine_vectors v = {0};
    trine_status status = is_fvecs(path) ? read_fvecs(path, &v) : read_npy(path, &v);
    for (size_t i = 0; status == TRINE_OK && i < v.count * (size_t)v.dim; i++)
        if (!isfinite(v.data[i]))
            status = trine__fail(TRINE_ERR_DATA, "%s: value %zu of vector %zu is %s, expected finite numbers",
                                 path, i % (size_t)v.dim, i / (size_t)v.dim,
                                 isnan(v.data[i]) ? "NaN" : "infinite");
    if (status == TRINE_OK)
        *out = v;
    else
        trine_vectors_free(&v);
    return status;
}

static trine_status write_fvecs(const char *path, const float *data, size_t count, int dim)
{
    const int32_t length = dim;
    trine__writer w = {0};
    trine_status status;
    TRINE_TRY(trine__writer_open(path, &w));
    for (size_t i = 0; i < count; i++) {
        TRINE_TRY_GOTO(trine__writer_write(&w, &length, sizeof length));
        TRINE_TRY_GOTO(trine__writer_write(&w, data + i * (size_t)dim, (size_t)dim * sizeof *data));
    }
    TRINE_TRY_GOTO(trine__writer_commit(&w));
cleanup:
    trine__writer_abort(&w);
    return status;
}

trine_status trine_vectors_write(const char *path, const float *data, size_t count, int dim)
{
    TRINE_CHECK(path && data, TRINE_ERR_ARG, "vectors: path or vectors are missing");
    TRINE_CHECK(dim >= 1 && count <= INT64_MAX, TRINE_ERR_ARG, "vectors: %zu vectors of %d values", count,
                dim);
    if (is_fvecs(path)) return write_fvecs(path, data, count, dim);
    const int64_t dims[2] = {(int64_t)count, dim};
    return trine_npy_write(path, TRINE_F32, 2, dims, data);
}
