/* SPDX-License-Identifier: MIT */
/* Writing of --json and other small result files. */
#include "cli_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_all(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t done = write(fd, data, bytes);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return -1;
        data += done;
        bytes -= (size_t)done;
    }
    return 0;
}

/* A pipe, a terminal or /dev/stdout cannot be replaced by a rename. */
static int write_in_place(const char *path, const void *text, size_t bytes)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) return -1;
    const int bad = fwrite(text, 1, bytes, file) != bytes;
    return fclose(file) != 0 || bad ? -1 : 0;
}

int cli_write_file(const char *path, const void *text, size_t bytes)
{
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        if (S_ISDIR(info.st_mode)) {
            errno = EISDIR;
            return -1;
        }
        return write_in_place(path, text, bytes);
    }
    char *temporary = malloc(strlen(path) + 16);
    if (temporary == NULL) return -1;
    sprintf(temporary, "%s.XXXXXX", path);
    const int fd = mkstemp(temporary);
    int result = -1;
    if (fd >= 0) {
        const mode_t mask = umask(0);
        umask(mask);
        result = fchmod(fd, 0666 & ~mask);
        if (result == 0) result = write_all(fd, text, bytes);
        if (result == 0) result = fsync(fd);
        if (close(fd) != 0) result = -1;
        if (result == 0) result = rename(temporary, path);
        if (result != 0) {
            const int saved = errno;
            unlink(temporary);
            errno = saved;
        }
    }
    free(temporary);
    return result;
}

int cli_json_write(const cJSON *object, const char *path)
{
    char *text = cJSON_Print(object);
    if (text == NULL) {
        errno = ENOMEM;
        return -1;
    }
    const size_t length = strlen(text);
    text[length] = '\n'; /* in place of the terminator: only `length + 1` bytes are written */
    int result;
    if (strcmp(path, "-") == 0)
        result = fwrite(text, 1, length + 1, stdout) == length + 1 && fflush(stdout) == 0 ? 0 : -1;
    else
        result = cli_write_file(path, text, length + 1);
    cJSON_free(text);
    return result;
}
