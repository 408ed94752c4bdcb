/* SPDX-License-Identifier: MIT */
/* Files: mapped reading, atomic writing (temporary file, fsync, rename), folders. */
#ifndef TRINE_BASE_FILE_H
#define TRINE_BASE_FILE_H

#include <stdio.h>

#include "base/memory.h"

/* A whole file, read-only: from 64 KiB on it is mapped, a smaller one read into memory, since taking a mapping
 * away interrupts every processor that runs the process, and small images come by the hundred. */
typedef struct trine__map {
    const unsigned char *data; /* [bytes]; not NULL even for an empty file */
    size_t bytes;
} trine__map;

/* TRINE_ERR_OPEN: missing, a folder, unreadable (the sentence has the path and the system's reason). */
trine_status trine__map_open(const char *path, trine__map *out);
void trine__map_close(trine__map *map);

/* A file that appears under `path` only when committed; until then the bytes go to a temporary file in the
 * same folder, which the next writer of `path` removes if this one is killed. */
typedef struct trine__writer {
    FILE *file;
    char *path, *temporary;
} trine__writer;

trine_status trine__writer_open(const char *path, trine__writer *w);
trine_status trine__writer_write(trine__writer *w, const void *bytes, size_t count);
/* Flush, fsync, rename. On failure (disk full) the temporary file is removed and `path` is as it was. Closes
 * w. */
trine_status trine__writer_commit(trine__writer *w);
/* Remove the temporary file; accepts a writer already committed or never opened (zeroed). */
void trine__writer_abort(trine__writer *w);

/* mkdir -p. */
trine_status trine__make_folders(const char *path);

/* $TRINE_CACHE_DIR, else $XDG_CACHE_HOME/trine, else $HOME/.cache/trine. Caller frees.
 * TRINE_ERR_OPEN: none of the three is set. */
trine_status trine__cache_folder(char **out);

#endif
