/* SPDX-License-Identifier: MIT */
/* Writing of --json and other small result files. */
#include "cli_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes of the UTF-8 character at `s`; 0 if there is none (RFC 3629: no overlong forms, no surrogates). */
static size_t utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80) return 1;
    const size_t length = s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return length;
}

cJSON *cli_json_text(const char *text)
{
    char *clean = malloc(3 * strlen(text) + 1), *out = clean;
    if (clean == NULL) return NULL;
    for (const unsigned char *s = (const unsigned char *)text; *s != '\0';) {
        const size_t length = utf8_length(s);
        memcpy(out, length > 0 ? (const char *)s : "\xef\xbf\xbd", length > 0 ? length : 3);
        out += length > 0 ? length : 3;
        s += length > 0 ? length : 1;
    }
    *out = '\0';
    cJSON *item = cJSON_CreateString(clean);
    free(clean);
    return item;
}

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
