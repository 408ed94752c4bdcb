/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

enum { MAPPED_BYTES = 1 << 16 }; /* files from here on are mapped, smaller ones read */

/* Read the `bytes` of an open file; the caller frees *out. */
static trine_status read_whole(int fd, const char *path, size_t bytes, const unsigned char **out)
{
    void *memory;
    TRINE_TRY(trine__calloc(bytes + 1, 1, &memory));
    unsigned char *data = memory;
    for (size_t done = 0; done < bytes;) {
        const ssize_t part = read(fd, data + done, bytes - done);
        if (part > 0) done += (size_t)part;
        if (part > 0 || (part < 0 && errno == EINTR)) continue;
        const char *why = part < 0 ? strerror(errno) : "it has become shorter";
        free(data);
        return trine__fail(TRINE_ERR_OPEN, "%s: cannot be read: %s", path, why);
    }
    *out = data;
    return TRINE_OK;
}

trine_status trine__map_open(const char *path, trine__map *out)
{
    trine_status status = TRINE_OK;
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe without a writer would wait */
    TRINE_CHECK(fd >= 0, TRINE_ERR_OPEN, "%s: cannot be opened: %s", path, strerror(errno));
    struct stat st;
    TRINE_CHECK_GOTO(fstat(fd, &st) == 0, TRINE_ERR_OPEN, "%s: cannot be examined: %s", path,
                     strerror(errno));
    TRINE_CHECK_GOTO(!S_ISDIR(st.st_mode), TRINE_ERR_OPEN, "%s: is a folder, expected a file", path);
    TRINE_CHECK_GOTO(S_ISREG(st.st_mode), TRINE_ERR_OPEN, "%s: is not a regular file", path);
    trine__map map = {NULL, (size_t)st.st_size};
    if (map.bytes < MAPPED_BYTES) {
        TRINE_TRY_GOTO(read_whole(fd, path, map.bytes, &map.data));
    } else {
        void *p = mmap(NULL, map.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        TRINE_CHECK_GOTO(p != MAP_FAILED, TRINE_ERR_OPEN, "%s: cannot be mapped: %s", path, strerror(errno));
        map.data = p;
    }
    *out = map;
cleanup:
    close(fd);
    return status;
}

void trine__map_close(trine__map *map)
{
    if (map->data && map->bytes < MAPPED_BYTES) free((void *)map->data);
    if (map->data && map->bytes >= MAPPED_BYTES) munmap((void *)map->data, map->bytes);
    *map = (trine__map){0};
}

/* Is it "<base>.tmp-<number>-<number>"? */
static bool is_temporary(const char *name, const char *base)
{
    static const char infix[] = ".tmp-";
    const size_t length = strlen(base);
    if (strncmp(name, base, length) != 0 || strncmp(name + length, infix, sizeof infix - 1) != 0)
        return false;
    name += length + sizeof infix - 1;
    const size_t pid = strspn(name, "0123456789");
    if (pid == 0 || name[pid] != '-') return false;
    name += pid + 1;
    return name[0] != '\0' && name[strspn(name, "0123456789")] == '\0';
}

/* Remove the temporary files of killed writers of `path`. They are told from those in use by a lock, which the
 * system takes from the dead. What cannot be removed stays: it is in nobody's way. */
static void remove_leftovers(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    trine__text text = {0};
    char *folder;
    trine__text_add(&text, "%.*s%s", (int)(base - path), path, slash ? "" : ".");
    if (trine__text_take(&text, &folder) != TRINE_OK) return;
    DIR *dir = opendir(folder);
    free(folder);
    if (!dir) return;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!is_temporary(entry->d_name, base)) continue;
        const int fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(dirfd(dir), entry->d_name, 0);
        close(fd);
    }
    closedir(dir);
}

/* Lock a new temporary file; false if remove_leftovers() of another process came in between. */
static bool lock_temporary(int fd)
{
    struct stat st;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return false;
    return fstat(fd, &st) != 0 || st.st_nlink > 0;
}

trine_status trine__writer_open(const char *path, trine__writer *w)
{
    trine_status status = TRINE_OK;
    trine__writer open_writer = {0};
    trine__text name = {0};
    struct stat st;
    TRINE_CHECK(stat(path, &st) != 0 || !S_ISDIR(st.st_mode), TRINE_ERR_WRITE,
                "%s: is a folder, expected a file name", path);
    TRINE_TRY(trine__strdup(path, &open_writer.path));
    remove_leftovers(path);
    int fd = -1;
    for (unsigned i = 0; fd < 0;
         i++) { /* not mkstemp(): the file gets the permissions that fopen() would give */
        free(open_writer.temporary);
        open_writer.temporary = NULL;
        trine__text_add(&name, "%s.tmp-%ld-%u", path, (long)getpid(), i);
        TRINE_TRY_GOTO(trine__text_take(&name, &open_writer.temporary));
        fd = open(open_writer.temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 && !lock_temporary(fd)) {
            unlink(open_writer.temporary);
            close(fd);
            fd = -1;
            continue;
        }
        if (fd >= 0 || errno == EEXIST) continue;
        status = trine__fail(TRINE_ERR_WRITE, "%s: cannot be created: %s", path, strerror(errno));
        open_writer.temporary[0] = '\0';
        goto cleanup;
    }
    open_writer.file = fdopen(fd, "wb");
    if (!open_writer.file) {
        status = trine__fail(TRINE_ERR_NOMEM, "%s: out of memory", path);
        close(fd);
        goto cleanup;
    }
    *w = open_writer;
    return TRINE_OK;
cleanup:
    trine__writer_abort(&open_writer);
    return status;
}

trine_status trine__writer_write(trine__writer *w, const void *bytes, size_t count)
{
    if (count == 0) return TRINE_OK;
    TRINE_CHECK(fwrite(bytes, 1, count, w->file) == count, TRINE_ERR_WRITE, "%s: cannot be written: %s",
                w->path, strerror(errno));
    return TRINE_OK;
}

trine_status trine__writer_commit(trine__writer *w)
{
    trine_status status = TRINE_OK;
    TRINE_CHECK_GOTO(fflush(w->file) == 0 && fsync(fileno(w->file)) == 0, TRINE_ERR_WRITE,
                     "%s: cannot be written: %s", w->path, strerror(errno));
    const int closed = fclose(w->file);
    w->file = NULL;
    TRINE_CHECK_GOTO(closed == 0, TRINE_ERR_WRITE, "%s: cannot be written: %s", w->path, strerror(errno));
    TRINE_CHECK_GOTO(rename(w->temporary, w->path) == 0, TRINE_ERR_WRITE, "%s: cannot be written: %s",
                     w->path, strerror(errno));
    w->temporary[0] = '\0';
cleanup:
    trine__writer_abort(w);
    return status;
}

void trine__writer_abort(trine__writer *w)
{
    if (w->file) fclose(w->file);
    if (w->temporary && w->temporary[0]) unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    *w = (trine__writer){0};
}

trine_status trine__make_folders(const char *path)
{
    char *copy;
    TRINE_TRY(trine__strdup(path, &copy));
    trine_status status = TRINE_OK;
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != '\0') continue;
        const char end = *p;
        *p = '\0';
        struct stat st;
        TRINE_CHECK_GOTO(mkdir(copy, 0777) == 0 ||
                             (errno == EEXIST && stat(copy, &st) == 0 && S_ISDIR(st.st_mode)),
                         TRINE_ERR_WRITE, "%s: folder cannot be created: %s", copy, strerror(errno));
        *p = end;
        if (end == '\0') break;
    }
cleanup:
    free(copy);
    return status;
}

trine_status trine__cache_folder(char **out)
{
    trine__text t = {0};
    const char *own = getenv("TRINE_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (own && own[0])
        trine__text_add(&t, "%s", own);
    else if (xdg && xdg[0])
        trine__text_add(&t, "%s/trine", xdg);
    else if (home && home[0])
        trine__text_add(&t, "%s/.cache/trine", home);
    else /* a folder that others can write to would let them plant programs */
        return trine__fail(TRINE_ERR_OPEN,
                           "no cache folder: none of TRINE_CACHE_DIR, XDG_CACHE_HOME and HOME is set");
    return trine__text_take(&t, out);
}
