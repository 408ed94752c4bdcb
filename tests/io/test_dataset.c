/* SPDX-License-Identifier: MIT */
/* Data sets: order, numbering and names of folders, selection of classes, IDX plain and compressed, refusals. */
#include "trine/image.h"

#include <math.h>

#include <zlib.h>

#include "io/image_files.h"
#include "support/check_main.h"

static char root[PATH_BYTES];

static void setup(void)
{
    make_root(root);
}

static void teardown(void)
{
    remove_root(root);
}

static void assert_names(const trine_dataset *ds, const char *const *want, size_t count)
{
    ck_assert_uint_eq(trine_dataset_count(ds), count);
    for (size_t i = 0; i < count; i++) {
        char path[PATH_BYTES];
        in_root(path, root, want[i]);
        ck_assert_str_eq(trine_dataset_name(ds, i), path);
    }
}

static void make_tree(void)
{
    make_folder(root, "b");
    make_folder(root, "B");
    make_folder(root, "a10");
    make_folder(root, "a9");
    make_folder(root, ".hidden");
    write_ppm(root, "b/z.PPM", 2, 2, 1);
    write_ppm(root, "b/a.ppm", 2, 2, 2);
    write_ppm(root, "b/._a.ppm", 2, 2, 2);
    write_ppm(root, "b/notes.txt", 2, 2, 2);
    make_folder(root, "b/folder.jpg");
    write_ppm(root, "B/1.JpEg", 2, 2, 3);
    write_ppm(root, "a9/x.png", 2, 2, 4);
    write_ppm(root, "top.ppm", 2, 2, 5);
}

START_TEST(folders)
{
    static const char *const want[] = {"B/1.JpEg", "a9/x.png", "b/a.ppm", "b/z.PPM"};
    static const char *const names[] = {"B", "a10", "a9", "b"}; /* byte order */
    static const int labels[] = {0, 2, 3, 3};
    trine_dataset *ds;
    make_tree();
    ASSERT_OK(trine_dataset_open(root, NULL, &ds));
    assert_names(ds, want, 4);
    ck_assert_int_eq(trine_dataset_class_count(ds), 4);
    ck_assert_int_eq(trine_dataset_is_idx(ds), 0);
    for (int i = 0; i < 4; i++) {
        ck_assert_str_eq(trine_dataset_class_name(ds, i), names[i]);
        ck_assert_int_eq(trine_dataset_label(ds, (size_t)i), labels[i]);
    }
    trine_image image;
    ASSERT_OK(trine_dataset_image(ds, 3, &image));
    ck_assert_int_eq(image.rgb[2], 1);
    trine_image_free(&image);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_dataset_image(ds, 4, &image));
    trine_dataset_destroy(&ds);
    ck_assert_ptr_null(ds);
    trine_dataset_destroy(&ds);
}
END_TEST

START_TEST(selection)
{
    static const char *const want[] = {"B/1.JpEg", "b/a.ppm", "b/z.PPM"};
    trine_dataset *ds;
    make_tree();
    ASSERT_OK(trine_dataset_open(root, "3,0-1", &ds));
    assert_names(ds, want, 3);
    ck_assert_int_eq(trine_dataset_label(ds, 1), 3); /* numbers stay */
    ck_assert_int_eq(trine_dataset_class_count(ds), 4);
    trine_dataset_destroy(&ds);
    ASSERT_OK(trine_dataset_open(root, "[Bx],3", &ds)); /* names are globs */
    assert_names(ds, want, 3);
    trine_dataset_destroy(&ds);
    static const char *const malformed[] = {"",    ",",  "1,",  "-3",   "3-",  "3-1",
                                            "1 2", " 1", "1;2", "1--2", "0x1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++)
        ASSERT_FAILS(TRINE_ERR_ARG, trine_dataset_open(root, malformed[i], &ds));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_dataset_open(root, "[b", &ds));
    ASSERT_FAILS(TRINE_ERR_DATA, trine_dataset_open(root, "c", &ds));
    ASSERT_FAILS(TRINE_ERR_DATA, trine_dataset_open(root, "B,c*", &ds));
    ASSERT_FAILS(TRINE_ERR_DATA, trine_dataset_open(root, "4", &ds));
    ASSERT_FAILS(TRINE_ERR_DATA, trine_dataset_open(root, "0-4", &ds));
    ASSERT_FAILS(TRINE_ERR_DATA, trine_dataset_open(root, "1", &ds)); /* a10 is empty */
    ck_assert_ptr_null(ds);
}
END_TEST

START_TEST(limits)
{
    static const char *const first[] = {"B/1.JpEg", "a9/x.png", "b/a.ppm"}, *const full[] = {"b/a.ppm",
                                                                                             "b/z.PPM"};
    trine_dataset *ds;
    make_tree();
    ASSERT_OK(trine_dataset_open_with(root, &(trine_dataset_options){.max_per_class = 1}, &ds));
    assert_names(ds, first, 3);
    trine_dataset_destroy(&ds);
    ASSERT_OK(trine_dataset_open_with(root, &(trine_dataset_options){.min_per_class = 2}, &ds));
    assert_names(ds, full, 2);
    ck_assert_int_eq(trine_dataset_label(ds, 1), 3); /* numbers stay */
    trine_dataset_destroy(&ds);
    ASSERT_FAILS(TRINE_ERR_DATA,
                 trine_dataset_open_with(root, &(trine_dataset_options){.min_per_class = 3}, &ds));
}
END_TEST

START_TEST(links_and_single_folder)
{
    static const char *const linked[] = {"set/one/a.ppm", "set/one/dangling.png", "set/two/a.ppm",
                                         "set/two/dangling.png"};
    char path[PATH_BYTES];
    trine_dataset *ds;
    make_folder(root, "real");
    make_folder(root, "set");
    write_ppm(root, "real/a.ppm", 2, 2, 1);
    in_root(path, root, "real/dangling.png");
    ck_assert_int_eq(symlink("nowhere", path), 0);
    in_root(path, root, "set/one");
    ck_assert_int_eq(symlink("../real", path), 0);
    in_root(path, root, "set/two");
    ck_assert_int_eq(symlink("../real", path), 0);
    in_root(path, root, "set");
    ASSERT_OK(trine_dataset_open(path, NULL, &ds));
    assert_names(ds, linked, 4);
    trine_image image;
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_dataset_image(ds, 1, &image));
    trine_dataset_destroy(&ds);
    in_root(path, root, "real/");
    ASSERT_OK(trine_dataset_open(path, NULL, &ds));
    ck_assert_uint_eq(trine_dataset_count(ds), 2);
    ck_assert_int_eq(trine_dataset_class_count(ds), 1);
    ck_assert_str_eq(trine_dataset_class_name(ds, 0), "real");
    in_root(path, root, "real/a.ppm");
    ck_assert_str_eq(trine_dataset_name(ds, 0), path);
    trine_dataset_destroy(&ds);
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_dataset_open(path, NULL, &ds)); /* a file */
    ASSERT_OK(trine_dataset_single(path, &ds));
    ck_assert_uint_eq(trine_dataset_count(ds), 1);
    ck_assert_int_eq(trine_dataset_label(ds, 0), 0);
    ck_assert_int_eq(trine_dataset_class_count(ds), 1);
    ck_assert_str_eq(trine_dataset_name(ds, 0), path);
    trine_dataset_destroy(&ds);
    in_root(path, root, "missing");
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_dataset_open(path, NULL, &ds));
    make_folder(root, "empty");
    in_root(path, root, "empty");
    ASSERT_FAILS(TRINE_ERR_DATA, trine_dataset_open(path, NULL, &ds));
}
END_TEST

/* 5 images of 3 x 2 (width x height): pixel p of image i is 10 i + p. Labels 2 0 1 2 4. */
static void make_idx(unsigned char images[16 + 30], unsigned char labels[8 + 5])
{
    static const unsigned char head[16] = {0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 3};
    memcpy(images, head, 16);
    for (int i = 0; i < 30; i++) images[16 + i] = (unsigned char)(10 * (i / 6) + i % 6);
    memcpy(labels, "\0\0\x8\1\0\0\0\5\2\0\1\2\4", 13);
}

static void write_gzip(const char *name, const void *bytes, unsigned count)
{
    char path[PATH_BYTES];
    in_root(path, root, name);
    gzFile f = gzopen(path, "wb");
    ck_assert_int_eq(gzwrite(f, bytes, count), (int)count);
    ck_assert_int_eq(gzclose(f), Z_OK);
}

static trine_status open_idx(const char *images, const char *labels, const char *classes, trine_dataset **ds)
{
    char source[3 * PATH_BYTES];
    snprintf(source, sizeof source, "idx:%s/%s,%s/%s", root, images, root, labels);
    return trine_dataset_open(source, classes, ds);
}

START_TEST(idx)
{
    unsigned char images[46], labels[13];
    make_idx(images, labels);
    write_bytes(root, "i", images, sizeof images);
    write_bytes(root, "l", labels, sizeof labels);
    write_gzip("i.gz", images, sizeof images);
    write_gzip("l.gz", labels, sizeof labels);
    for (int gz = 0; gz < 4; gz++) {
        trine_dataset *ds;
        ASSERT_OK(open_idx(gz & 1 ? "i.gz" : "i", gz & 2 ? "l.gz" : "l", NULL, &ds));
        ck_assert_uint_eq(trine_dataset_count(ds), 5);
        ck_assert_int_eq(trine_dataset_class_count(ds), 5);
        ck_assert_int_eq(trine_dataset_is_idx(ds), 1);
        ck_assert_str_eq(trine_dataset_class_name(ds, 4), "4");
        trine_dataset_destroy(&ds);
        ASSERT_OK(open_idx(gz & 1 ? "i.gz" : "i", gz & 2 ? "l.gz" : "l", "2,4", &ds));
        ck_assert_uint_eq(trine_dataset_count(ds), 3);
        ck_assert_int_eq(trine_dataset_label(ds, 2), 4);
        ck_assert_int_eq(trine_dataset_class_count(ds), 5);
        ck_assert_ptr_nonnull(strstr(trine_dataset_name(ds, 1), gz & 1 ? "/i.gz#3" : "/i#3"));
        trine_image image;
        ASSERT_OK(trine_dataset_image(ds, 1, &image));
        ck_assert_int_eq(image.width, 3);
        ck_assert_int_eq(image.height, 2);
        for (int i = 0; i < 18; i++) ck_assert_int_eq(image.rgb[i], 30 + i / 3);
        trine_image_free(&image);
        trine_dataset_destroy(&ds);
        ASSERT_FAILS(TRINE_ERR_DATA, open_idx("i", "l", "3", &ds)); /* in range, but without images */
        ASSERT_FAILS(TRINE_ERR_DATA, open_idx("i", "l", "5", &ds));
    }
}
END_TEST

START_TEST(idx_refused)
{
    unsigned char images[47] = {0}, labels[13];
    trine_dataset *ds = NULL;
    make_idx(images, labels);
    write_bytes(root, "i", images, 46);
    write_bytes(root, "l", labels, sizeof labels);
    write_bytes(root, "long", images, 47);
    write_bytes(root, "l4", labels, 12);
    write_gzip("i.gz", images, 46);
    for (size_t cut = 0; cut < 46; cut += 5) {
        write_bytes(root, "short", images, cut);
        ASSERT_FAILS(TRINE_ERR_FORMAT, open_idx("short", "l", NULL, &ds));
        ck_assert_ptr_nonnull(strstr(trine_last_error(), "truncated"));
    }
    ASSERT_FAILS(TRINE_ERR_FORMAT, open_idx("long", "l", NULL, &ds));
    ASSERT_FAILS(TRINE_ERR_FORMAT, open_idx("i", "l4", NULL, &ds));
    ASSERT_FAILS(TRINE_ERR_FORMAT, open_idx("l", "i", NULL, &ds));
    ASSERT_FAILS(TRINE_ERR_OPEN, open_idx("missing", "l", NULL, &ds));
    ASSERT_FAILS(TRINE_ERR_OPEN, open_idx(".", "l", NULL, &ds));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_dataset_open("idx:onlyimages", NULL, &ds));
    labels[7] = 4;
    write_bytes(root, "four", labels, 12);
    ASSERT_FAILS(TRINE_ERR_DATA, open_idx("i", "four", NULL, &ds));
    memset(images + 4, 0x7f, 12); /* sizes that no machine holds */
    write_bytes(root, "huge", images, 46);
    ASSERT_FAILS(TRINE_ERR_FORMAT, open_idx("huge", "l", NULL, &ds));
    /* a gzip file cut short, and one with a wrong checksum */
    char path[PATH_BYTES];
    unsigned char gz[256];
    in_root(path, root, "i.gz");
    FILE *f = fopen(path, "rb");
    const size_t bytes = fread(gz, 1, sizeof gz, f);
    fclose(f);
    for (size_t cut = 1; cut < bytes; cut++) {
        write_bytes(root, "cut.gz", gz, cut);
        ASSERT_FAILS(TRINE_ERR_FORMAT, open_idx("cut.gz", "l", NULL, &ds));
    }
    gz[bytes - 8] ^= 1;
    write_bytes(root, "bad.gz", gz, bytes);
    ASSERT_FAILS(TRINE_ERR_FORMAT, open_idx("bad.gz", "l", NULL, &ds));
    ck_assert_ptr_null(ds);
}
END_TEST

START_TEST(statistics)
{
    unsigned char images[46], labels[13];
    trine_dataset *ds;
    float mean[3], std[3];
    make_idx(images, labels);
    write_bytes(root, "i", images, sizeof images);
    write_bytes(root, "l", labels, sizeof labels);
    ASSERT_OK(open_idx("i", "l", NULL, &ds));
    ASSERT_OK(trine_dataset_statistics(ds, mean, std));
    double sum = 0, squares = 0;
    for (int i = 16; i < 46; i++) sum += images[i] / 255.0;
    for (int i = 16; i < 46; i++) squares += pow(images[i] / 255.0 - sum / 30, 2);
    for (int c = 0; c < 3; c++) {
        ck_assert(fabs(mean[c] - sum / 30) < 1e-7);
        ck_assert(fabs(std[c] - sqrt(squares / 30)) < 1e-7);
    }
    trine_dataset_destroy(&ds);
    make_folder(root, "c");
    write_ppm(root, "c/a.ppm", 1, 1, 0);
    write_ppm(root, "c/b.ppm", 3, 1, 100);
    char path[PATH_BYTES];
    in_root(path, root, "c");
    ASSERT_OK(trine_dataset_open(path, NULL, &ds));
    ASSERT_OK(trine_dataset_statistics(
        ds, mean, std)); /* over pixels, not images: red 0 100 116 132, blue 0 100 100 100 */
    ck_assert(mean[0] == (float)(348 / 4.0 / 255) && mean[2] == (float)(75 / 255.0));
    ck_assert(std[2] == (float)(sqrt((75 * 75 + 3 * 25 * 25) / 4.0) / 255));
    trine_dataset_destroy(&ds);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dataset");
    TCase *tc = tcase_create("dataset");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, folders);
    tcase_add_test(tc, selection);
    tcase_add_test(tc, limits);
    tcase_add_test(tc, links_and_single_folder);
    tcase_add_test(tc, idx);
    tcase_add_test(tc, idx_refused);
    tcase_add_test(tc, statistics);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
