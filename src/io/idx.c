/* SPDX-License-Identifier: MIT */
/* IDX files through zlib's gzFile, which reads plain files too. The items are read piece by piece into a
 * growing buffer: a header that lies about sizes costs no memory. */
#include "io/idx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <zlib.h>

enum { PIECE_BYTES = 1 << 20 };

static trine_status damaged(gzFile file, const char *path, const char *what)
{
    int code = Z_OK;
    const char *reason = gzerror(file, &code);
    if (code == Z_ERRNO) return trine__fail(TRINE_ERR_OPEN, "%s: cannot be read: %s", path, strerror(errno));
    if (code == Z_MEM_ERROR) return trine__fail(TRINE_ERR_NOMEM, "%s: out of memory", path);
    if (code == Z_OK || code == Z_BUF_ERROR)
        return trine__fail(TRINE_ERR_FORMAT, "%s: is truncated: the IDX file ends in its %s", path, what);
    return trine__fail(TRINE_ERR_FORMAT, "%s: gzip data are damaged: %s", path, reason);
}

static uint32_t big_endian(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static trine_status read_header(gzFile file, const char *path, int dims, trine__idx *idx, size_t *bytes)
{
    unsigned char head[4], size[4];
    if (gzread(file, head, sizeof head) != sizeof head) return damaged(file, path, "header");
    TRINE_CHECK(head[0] == 0 && head[1] == 0 && head[2] == 8 && head[3] == dims, TRINE_ERR_FORMAT,
                "%s: begins with %02x%02x%02x%02x, expected 0000080%d (IDX, unsigned bytes, %d dimension%s)",
                path, head[0], head[1], head[2], head[3], dims, dims, dims == 1 ? "" : "s");
    idx->dims = dims;
    *bytes = 1;
    for (int i = 0; i < dims; i++) {
        if (gzread(file, size, sizeof size) != sizeof size) return damaged(file, path, "header");
        idx->size[i] = big_endian(size);
        TRINE_CHECK(idx->size[i] <= INT32_MAX && trine__mul_size(*bytes, idx->size[i], bytes),
                    TRINE_ERR_FORMAT, "%s: the IDX header's sizes are out of range", path);
    }
    return TRINE_OK;
}

static trine_status read_items(gzFile file, const char *path, size_t bytes, trine__idx *idx)
{
    void *items = NULL;
    size_t capacity = 0, done = 0;
    trine_status status = trine__reserve(&items, &capacity, 1, 1);
    while (status == TRINE_OK && done < bytes) {
        const size_t want = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        status = trine__reserve(&items, &capacity, done + want, 1);
        if (status != TRINE_OK) break;
        const int got = gzread(file, (unsigned char *)items + done, (unsigned)want);
        if (got <= 0) status = damaged(file, path, "items");
        if (got > 0) done += (size_t)got;
    }
    if (status ==
        TRINE_OK) { /* also makes zlib check the gzip trailer; a cut one is 0 bytes and Z_BUF_ERROR */
        unsigned char more;
        int code = Z_OK;
        const int got = gzread(file, &more, 1);
        gzerror(file, &code);
        if (got > 0)
            status = trine__fail(TRINE_ERR_FORMAT, "%s: holds more bytes than its IDX header says", path);
        else if (got < 0 || code != Z_OK)
            status = damaged(file, path, "items");
    }
    if (status == TRINE_OK)
        idx->items = items;
    else
        free(items);
    return status;
}

trine_status trine__idx_read(const char *path, int dims, trine__idx *out)
{
    struct stat st;
    TRINE_CHECK(stat(path, &st) == 0, TRINE_ERR_OPEN, "%s: cannot be opened: %s", path, strerror(errno));
    TRINE_CHECK(!S_ISDIR(st.st_mode), TRINE_ERR_OPEN, "%s: is a folder, expected an IDX file", path);
    gzFile file = gzopen(path, "rb");
    TRINE_CHECK(file, TRINE_ERR_OPEN, "%s: cannot be opened: %s", path, strerror(errno));
    gzbuffer(file, 1 << 16);
    trine__idx idx = {0};
    size_t bytes;
    trine_status status = read_header(file, path, dims, &idx, &bytes);
    if (status == TRINE_OK) status = read_items(file, path, bytes, &idx);
    gzclose(file);
    if (status == TRINE_OK) *out = idx;
    return status;
}
