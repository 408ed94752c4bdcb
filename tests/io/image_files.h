/* SPDX-License-Identifier: MIT */
/* Small files for the tests of images, data sets and the loader, in a temporary folder. */
#ifndef TRINE_TESTS_IO_IMAGE_FILES_H
#define TRINE_TESTS_IO_IMAGE_FILES_H

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 512 };

/* Names of a folder of their own; the test's process dies with it left behind on failure only. */
static inline void make_root(char root[PATH_BYTES])
{
    const char *base = getenv("TMPDIR");
    snprintf(root, PATH_BYTES, "%s/trine-test-XXXXXX", base && base[0] ? base : "/tmp");
    ck_assert_msg(mkdtemp(root) != NULL, "no temporary folder");
}

/* rm -r of what make_root() made. */
static inline void remove_root(const char *root)
{
    char command[PATH_BYTES + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    ck_assert_int_eq(system(command), 0);
}

static inline void in_root(char path[PATH_BYTES], const char *root, const char *name)
{
    ck_assert_int_lt(snprintf(path, PATH_BYTES, "%s/%s", root, name), PATH_BYTES);
}

static inline void make_folder(const char *root, const char *name)
{
    char path[PATH_BYTES];
    in_root(path, root, name);
    ck_assert_int_eq(mkdir(path, 0777), 0);
}

static inline void write_bytes(const char *root, const char *name, const void *bytes, size_t count)
{
    char path[PATH_BYTES];
    in_root(path, root, name);
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f != NULL, "%s", path);
    ck_assert_uint_eq(fwrite(bytes, 1, count, f), count);
    ck_assert_int_eq(fclose(f), 0);
}

/* A PPM whose pixel (x, y) is (seed + 16 x, seed + 16 y, seed), each modulo 256: no two columns or rows are
 * alike. */
static inline void write_ppm(const char *root, const char *name, int width, int height, int seed)
{
    unsigned char data[32 + 3 * 64 * 64];
    ck_assert_int_le(width * height, 64 * 64);
    size_t n = (size_t)snprintf((char *)data, 32, "P6 %d %d 255\n", width, height);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            data[n++] = (unsigned char)(seed + 16 * x);
            data[n++] = (unsigned char)(seed + 16 * y);
            data[n++] = (unsigned char)seed;
        }
    }
    write_bytes(root, name, data, n);
}

#endif
