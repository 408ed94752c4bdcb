/* SPDX-License-Identifier: MIT */
/* Temporary files of tests of readers and writers, and damage done to files. */
#ifndef TRINE_TESTS_IO_TEMP_FILES_H
#define TRINE_TESTS_IO_TEMP_FILES_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/check_main.h"

/* A name in a fresh folder of this process under $TMPDIR or /tmp; a few names at a time. remove_temp() tidies
 * up. */
static char temp_folder[256];

static inline const char *temp_path(const char *name)
{
    static char paths[8][512];
    static int next;
    if (!temp_folder[0]) {
        const char *root = getenv("TMPDIR");
        snprintf(temp_folder, sizeof temp_folder, "%s/trine-test-XXXXXX", root && root[0] ? root : "/tmp");
        ck_assert_ptr_nonnull(mkdtemp(temp_folder));
    }
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", temp_folder, name);
    return path;
}

/* Remove the folder and the named files in it (NULL-ended). */
static inline void remove_temp(const char *const *names)
{
    for (; *names; names++) unlink(temp_path(*names));
    ck_assert_msg(rmdir(temp_folder) == 0, "%s is not empty: a temporary file was left", temp_folder);
    temp_folder[0] = '\0';
}

static inline void put_file(const char *path, const void *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, count, file), count);
    ck_assert_int_eq(fclose(file), 0);
}

/* The whole file; free(). */
static inline unsigned char *get_file(const char *path, size_t *count)
{
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s cannot be opened", path);
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    *count = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*count + 1);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_uint_eq(fread(bytes, 1, *count, file), *count);
    fclose(file);
    return bytes;
}

/* The kept sentence begins with the path. */
static inline void assert_sentence_of(const char *path)
{
    const size_t length = strlen(path);
    ck_assert_msg(strncmp(trine_last_error(), path, length) == 0 &&
                      strncmp(trine_last_error() + length, ": ", 2) == 0,
                  "'%s' does not begin with '%s: '", trine_last_error(), path);
}

static inline void assert_says(const char *part)
{
    ck_assert_msg(strstr(trine_last_error(), part) != NULL, "'%s' does not say '%s'", trine_last_error(),
                  part);
}

#endif
