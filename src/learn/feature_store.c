/* SPDX-License-Identifier: MIT */
#include "learn/feature_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/memory.h"

size_t trine__feature_memory(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages / 4 * (size_t)page : 0;
}

/* A file that has `bytes` on the disk, at most half of what is free there, and no name. */
static trine_status open_file(size_t bytes, int *out)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    if (!folder || !folder[0]) folder = "/tmp";
    const int length = snprintf(path, sizeof path, "%s/trine-features-XXXXXX", folder);
    TRINE_CHECK(length > 0 && (size_t)length < sizeof path, TRINE_ERR_ARG, "TMPDIR is too long a path");
    const int file = mkstemp(path);
    TRINE_CHECK(file >= 0, TRINE_ERR_WRITE, "%s: no temporary file for features: %s", folder,
                strerror(errno));
    unlink(path);
    struct statvfs disk;
    const bool known = fstatvfs(file, &disk) == 0;
    const double room = known ? (double)disk.f_bavail * (double)disk.f_frsize : 0;
    const int error = (double)bytes > room / 2 ? ENOSPC : posix_fallocate(file, 0, (off_t)bytes);
    if (error == 0) {
        *out = file;
        return TRINE_OK;
    }
    close(file);
    return trine__fail(TRINE_ERR_WRITE, "%s: no room for %.0f MiB of features: %s", folder,
                       (double)bytes / (1 << 20), strerror(error));
}

static trine_status map_file(size_t bytes, void **out)
{
    int file;
    TRINE_TRY(open_file(bytes, &file));
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    const int error = errno;
    close(file); /* the mapping keeps it */
    TRINE_CHECK(memory != MAP_FAILED, TRINE_ERR_NOMEM, "no room for %.0f MiB of features: %s",
                (double)bytes / (1 << 20), strerror(error));
    *out = memory;
    return TRINE_OK;
}

trine_status trine__feature_store_open(trine__feature_store *store, size_t rows, size_t row_floats,
                                       bool on_disk)
{
    size_t bytes;
    TRINE_CHECK(trine__mul_size(rows, row_floats, &bytes) && trine__mul_size(bytes, sizeof(float), &bytes),
                TRINE_ERR_NOMEM, "%zu x %zu features exceed the address space", rows, row_floats);
    void *memory;
    if (on_disk)
        TRINE_TRY(map_file(bytes, &memory));
    else
        TRINE_TRY(trine__calloc(bytes, 1, &memory));
    *store = (trine__feature_store){memory, bytes, row_floats, on_disk};
    return TRINE_OK;
}

float *trine__feature_store_row(const trine__feature_store *store, size_t row)
{
    return (float *)store->memory + row * store->row_floats;
}

void trine__feature_store_close(trine__feature_store *store)
{
    if (store->memory && store->on_disk)
        munmap(store->memory, store->bytes);
    else
        free(store->memory);
    *store = (trine__feature_store){0};
}
