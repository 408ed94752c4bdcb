/* SPDX-License-Identifier: MIT */
/* NumPy's .npy: magic, version, a Python dictionary as text, the elements.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "io/weights_private.h"

enum { ALIGNMENT = 64, MAX_HEADER_BYTES = 1 << 20 };
static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

static const char *const descriptors[] = {
    [TRINE_F32] = "<f4", [TRINE_F64] = "<f8", [TRINE_F16] = "<f2", [TRINE_I64] = "<i8",  [TRINE_I32] = "<i4",
    [TRINE_I16] = "<i2", [TRINE_I8] = "|i1",  [TRINE_U8] = "|u1",  [TRINE_BOOL] = "|b1",
};

/* --- the header's text --- */

typedef struct cursor {
    const char *at, *end;
} cursor;

static void skip_blanks(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r')) c->at++;
}

/* Blanks, then this character. */
static bool accept(cursor *c, char want)
{
    skip_blanks(c);
    if (c->at == c->end || *c->at != want) return false;
    c->at++;
    return true;
}

static bool accept_word(cursor *c, const char *word)
{
    const size_t bytes = strlen(word);
    skip_blanks(c);
    if ((size_t)(c->end - c->at) < bytes || memcmp(c->at, word, bytes) != 0) return false;
    c->at += bytes;
    return true;
}

/* A quoted string without escapes, at most capacity - 1 characters. */
static bool accept_string(cursor *c, char *out, size_t capacity)
{
    skip_blanks(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"')) return false;
    const char quote = *c->at++;
    size_t n = 0;
    while (c->at < c->end && *c->at != quote) {
        if (*c->at == '\\' || !isprint((unsigned char)*c->at) || n + 1 >= capacity) return false;
        out[n++] = *c->at++;
    }
    out[n] = '\0';
    return accept(c, quote);
}

/* A number below 10^18, perhaps with Python 2's L. */
static bool accept_number(cursor *c, int64_t *out)
{
    int64_t n = 0;
    int digits = 0;
    skip_blanks(c);
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9' && digits < 18; digits++)
        n = 10 * n + (*c->at++ - '0');
    if (c->at < c->end && *c->at == 'L') c->at++;
    *out = n;
    return digits > 0;
}

/* (2, 3), (2,), (): TRINE_ERR_FORMAT for more than TRINE_MAX_RANK numbers. */
static trine_status read_shape(cursor *c, trine_array *a)
{
    TRINE_CHECK(accept(c, '('), TRINE_ERR_FORMAT, "corrupt: the shape is not a tuple");
    a->rank = 0;
    while (!accept(c, ')')) {
        TRINE_CHECK(a->rank < TRINE_MAX_RANK, TRINE_ERR_FORMAT, "the array has more than %d dimensions",
                    TRINE_MAX_RANK);
        TRINE_CHECK(accept_number(c, &a->dims[a->rank++]), TRINE_ERR_FORMAT,
                    "corrupt: the shape is not a tuple of numbers");
        if (accept(c, ',')) continue;
        TRINE_CHECK(a->rank > 1 && accept(c, ')'), TRINE_ERR_FORMAT,
                    "corrupt: the shape is not a tuple of numbers");
        break;
    }
    return TRINE_OK;
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }: the three keys once each, in any order. */
static trine_status read_header(cursor c, trine_array *a)
{
    unsigned seen = 0;
    char key[24], descriptor[24];
    TRINE_CHECK(accept(&c, '{'), TRINE_ERR_FORMAT, "corrupt: the header is not a dictionary");
    while (!accept(&c, '}')) {
        unsigned bit = 0;
        TRINE_CHECK(accept_string(&c, key, sizeof key) && accept(&c, ':'), TRINE_ERR_FORMAT,
                    "corrupt: the header has no key where one belongs");
        if (strcmp(key, "descr") == 0) {
            bit = 1;
            TRINE_CHECK(accept_string(&c, descriptor, sizeof descriptor), TRINE_ERR_FORMAT,
                        "the array's element type is not a simple one");
            size_t i = 0;
            while (i < TRINE_COUNTOF(descriptors) &&
                   (!descriptors[i] || strcmp(descriptor, descriptors[i]) != 0))
                i++;
            TRINE_CHECK(i < TRINE_COUNTOF(descriptors), TRINE_ERR_FORMAT,
                        "element type '%s' is not understood", descriptor);
            a->dtype = (trine_dtype)i;
        } else if (strcmp(key, "fortran_order") == 0) {
            bit = 2;
            TRINE_CHECK(!accept_word(&c, "True"), TRINE_ERR_FORMAT,
                        "the array is in Fortran order, expected C order");
            TRINE_CHECK(accept_word(&c, "False"), TRINE_ERR_FORMAT,
                        "corrupt: fortran_order is neither True nor False");
        } else if (strcmp(key, "shape") == 0) {
            bit = 4;
            TRINE_TRY(read_shape(&c, a));
        }
        TRINE_CHECK(bit && !(seen & bit), TRINE_ERR_FORMAT, "corrupt: the header has '%s' %s", key,
                    bit ? "twice" : "in it");
        seen |= bit;
        if (accept(&c, ',')) continue;
        TRINE_CHECK(accept(&c, '}'), TRINE_ERR_FORMAT, "corrupt: the header's dictionary does not end");
        break;
    }
    skip_blanks(&c);
    TRINE_CHECK(c.at == c.end, TRINE_ERR_FORMAT, "corrupt: the header has text after its dictionary");
    TRINE_CHECK(seen == 7, TRINE_ERR_FORMAT, "corrupt: the header lacks descr, fortran_order or shape");
    return TRINE_OK;
}

/* --- files --- */

static trine_status decode(const trine__map *map, trine_array *a)
{
    const unsigned char *p = map->data;
    TRINE_CHECK(map->bytes >= sizeof magic && memcmp(p, magic, sizeof magic) == 0, TRINE_ERR_FORMAT,
                "not a .npy file");
    TRINE_CHECK(map->bytes >= 12, TRINE_ERR_FORMAT, "truncated: the header needs 12 bytes, file has %zu",
                map->bytes);
    TRINE_CHECK(p[6] >= 1 && p[6] <= 3 && p[7] == 0, TRINE_ERR_FORMAT,
                "version %d.%d of .npy is not understood", p[6], p[7]);
    const size_t begin = p[6] == 1 ? 10 : 12;
    size_t length = p[8] | (size_t)p[9] << 8;
    if (p[6] > 1) length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    TRINE_CHECK(length <= MAX_HEADER_BYTES, TRINE_ERR_FORMAT,
                "corrupt: the header has %zu bytes, expected at most %d", length, MAX_HEADER_BYTES);
    TRINE_CHECK(length <= map->bytes - begin, TRINE_ERR_FORMAT,
                "truncated: the header needs %zu bytes, file has %zu", begin + length, map->bytes);
    TRINE_TRY(read_header((cursor){(const char *)p + begin, (const char *)p + begin + length}, a));
    TRINE_TRY(trine__tensor_bytes(a->dtype, a->rank, a->dims, &a->bytes));
    const size_t have = map->bytes - begin - length;
    TRINE_CHECK(have >= a->bytes, TRINE_ERR_FORMAT, "truncated: the array needs %zu bytes, file has %zu",
                a->bytes, have);
    TRINE_CHECK(have == a->bytes, TRINE_ERR_FORMAT, "corrupt: %zu bytes after the array", have - a->bytes);
    TRINE_TRY(trine__calloc(a->bytes, 1, &a->data));
    if (a->bytes) memcpy(a->data, p + begin + length, a->bytes);
    return TRINE_OK;
}

trine_status trine_npy_read(const char *path, trine_array *out)
{
    trine__map map;
    trine_array a = {0};
    TRINE_TRY(trine__map_open(path, &map));
    trine_status status = decode(&map, &a);
    trine__map_close(&map);
    if (status == TRINE_ERR_ARG) status = TRINE_ERR_FORMAT;
    if (status != TRINE_OK) return trine__fail_context(status, "%s", path);
    *out = a;
    return TRINE_OK;
}

trine_status trine_npy_write(const char *path, trine_dtype dtype, int rank, const int64_t *dims,
                             const void *data)
{
    size_t bytes;
    trine_status status = trine__tensor_bytes(dtype, rank, dims, &bytes);
    if (status != TRINE_OK) return trine__fail_context(status, "%s", path);
    TRINE_CHECK((size_t)dtype < TRINE_COUNTOF(descriptors) && descriptors[dtype], TRINE_ERR_ARG,
                "%s: .npy has no element type %s", path, trine_dtype_name(dtype));
    trine__text t = {0};
    trine__writer w = {0};
    char *header = NULL;
    trine__text_add(&t, "{'descr': '%s', 'fortran_order': False, 'shape': (", descriptors[dtype]);
    for (int i = 0; i < rank; i++)
        trine__text_add(&t, "%lld%s", (long long)dims[i], rank == 1 ? "," : i + 1 < rank ? ", " : "");
    trine__text_add(&t, "), }");
    while ((sizeof magic + 4 + t.length + 1) % ALIGNMENT != 0 && !t.failed) trine__text_add(&t, " ");
    trine__text_add(&t, "\n");
    const size_t length = t.length;
    TRINE_TRY(trine__text_take(&t, &header));
    const unsigned char version[4] = {1, 0, (unsigned char)length, (unsigned char)(length >> 8)};
    TRINE_TRY_GOTO(trine__writer_open(path, &w));
    TRINE_TRY_GOTO(trine__writer_write(&w, magic, sizeof magic));
    TRINE_TRY_GOTO(trine__writer_write(&w, version, sizeof version));
    TRINE_TRY_GOTO(trine__writer_write(&w, header, length));
    TRINE_TRY_GOTO(trine__writer_write(&w, data, bytes));
    TRINE_TRY_GOTO(trine__writer_commit(&w));
cleanup:
    trine__writer_abort(&w);
    free(header);
    return status;
}

void trine_array_free(trine_array *array)
{
    if (!array) return;
    free(array->data);
    *array = (trine_array){0};
}
