/* SPDX-License-Identifier: MIT */
/* Data sets from lists (CSV) and from NumPy's arrays: columns, quotes, numbering, paths, selection, refusals with their line. */
#include "io/image_files.h"
#include "support/check_main.h"
#include "trine/image.h"
#include "trine/weights.h"

static char root[PATH_BYTES];

static void setup(void)
{
    make_root(root);
}

static void teardown(void)
{
    remove_root(root);
}

static trine_status open_list(const char *text, const char *classes, trine_dataset **ds)
{
    char path[PATH_BYTES];
    write_bytes(root, "list.csv", text, strlen(text));
    in_root(path, root, "list.csv");
    return trine_dataset_open(path, classes, ds);
}

static void assert_item(const trine_dataset *ds, size_t i, const char *name, int label)
{
    char path[PATH_BYTES];
    in_root(path, root, name);
    ck_assert_str_eq(trine_dataset_name(ds, i), name[0] == '/' ? name : path);
    ck_assert_int_eq(trine_dataset_label(ds, i), label);
}

/* Labels that are words are ranked in byte order; the list's order is kept. */
START_TEST(words)
{
    trine_dataset *ds;
    ASSERT_OK(open_list("a.ppm,dog\nsub/b.ppm,Cat\r\n\n\"c, d.ppm\",\"the \"\"old\"\"\ncat\"\n/e.ppm,dog",
                        NULL, &ds));
    ck_assert_uint_eq(trine_dataset_count(ds), 4);
    ck_assert_int_eq(trine_dataset_class_count(ds), 3);
    assert_item(ds, 0, "a.ppm", 1);
    assert_item(ds, 1, "sub/b.ppm", 0);
    assert_item(ds, 2, "c, d.ppm", 2);
    assert_item(ds, 3, "/e.ppm", 1);
    ck_assert_str_eq(trine_dataset_class_name(ds, 2), "the \"old\"\ncat");
    ck_assert_int_eq(trine_dataset_is_idx(ds), 0);
    trine_dataset_destroy(&ds);
    ASSERT_OK(open_list("a.ppm,dog\nb.ppm,Cat\n", "dog", &ds));
    ck_assert_uint_eq(trine_dataset_count(ds), 1);
    assert_item(ds, 0, "a.ppm", 1);
    trine_dataset_destroy(&ds);
}
END_TEST

START_TEST(numbers_and_columns)
{
    trine_dataset *ds;
    trine_image image;
    write_ppm(root, "a.ppm", 3, 2, 7);
    ASSERT_OK(open_list("\xEF\xBB\xBFid,label,note,path\n1,5,x,a.ppm\n2,0,y,b.ppm\n", NULL, &ds));
    ck_assert_int_eq(trine_dataset_class_count(ds), 6);
    ck_assert_str_eq(trine_dataset_class_name(ds, 5), "5");
    assert_item(ds, 0, "a.ppm", 5);
    assert_item(ds, 1, "b.ppm", 0);
    ASSERT_OK(trine_dataset_image(ds, 0, &image));
    ck_assert_int_eq(image.width, 3);
    trine_image_free(&image);
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_dataset_image(ds, 1, &image)); /* missing: told when it is read */
    trine_dataset_destroy(&ds);
    ASSERT_OK(open_list("a.ppm,5\nb.ppm,2000000\n", NULL, &ds)); /* too large for a number: words */
    ck_assert_int_eq(trine_dataset_class_count(ds), 2);
    trine_dataset_destroy(&ds);
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        const char *text, *says;
        trine_status status;
    } cases[] = {{"", "lists no images", TRINE_ERR_DATA},
                 {"path,label\n", "lists no images", TRINE_ERR_DATA},
                 {"a.ppm,1\nb.ppm\n", "list.csv:2: has 1 column, expected path,label", TRINE_ERR_FORMAT},
                 {"a.ppm,1\n\nb.ppm,\n", "list.csv:3: the label is empty", TRINE_ERR_FORMAT},
                 {"a.ppm,1\n,2\n", "list.csv:2: the path is empty", TRINE_ERR_FORMAT},
                 {"a.ppm,1\n\"b.ppm,2\n", "list.csv:2: a quote is not closed", TRINE_ERR_FORMAT},
                 {"\"a\"b,1\n", "list.csv:1: text follows a closing quote", TRINE_ERR_FORMAT}};
    trine_dataset *ds = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ASSERT_FAILS(cases[i].status, open_list(cases[i].text, NULL, &ds));
        ck_assert_msg(strstr(trine_last_error(), cases[i].says), "'%s' says: %s", cases[i].text,
                      trine_last_error());
    }
    ASSERT_FAILS(TRINE_ERR_DATA, open_list("a.ppm,cat\n", "dog", &ds));
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_dataset_open("csv:/nowhere/list", NULL, &ds));
    char path[PATH_BYTES];
    write_bytes(root, "zero.csv", "a\0b,1\n", 6);
    in_root(path, root, "zero.csv");
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_dataset_open(path, NULL, &ds));
    ck_assert_ptr_null(ds);
}
END_TEST

static trine_status open_arrays(trine_dtype dtype, int rank, const int64_t *dims, const void *pixels,
                                trine_dtype label_dtype, int64_t count, const void *labels,
                                trine_dataset **ds)
{
    char images[PATH_BYTES], numbers[PATH_BYTES], source[2 * PATH_BYTES + 8];
    in_root(images, root, "x.npy");
    in_root(numbers, root, "y.npy");
    ASSERT_OK(trine_npy_write(images, dtype, rank, dims, pixels));
    ASSERT_OK(trine_npy_write(numbers, label_dtype, 1, &count, labels));
    snprintf(source, sizeof source, "npy:%s,%s", images, numbers);
    return trine_dataset_open(source, NULL, ds);
}

START_TEST(arrays)
{
    unsigned char pixels[2 * 2 * 3 * 3];
    const int64_t rgb[] = {2, 2, 3, 3}, grey[] = {2, 2, 3}, wide[] = {3, 1};
    const int32_t labels[] = {0, 2}, negative[] = {0, -1};
    trine_dataset *ds = NULL;
    trine_image image;
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (unsigned char)(i * 5);
    ASSERT_OK(open_arrays(TRINE_U8, 4, rgb, pixels, TRINE_I64, 2, wide, &ds));
    ck_assert_int_eq(trine_dataset_class_count(ds), 4);
    ck_assert_int_eq(trine_dataset_label(ds, 0), 3);
    ASSERT_OK(trine_dataset_image(ds, 1, &image));
    ck_assert_int_eq(image.width, 3);
    ck_assert_int_eq(image.height, 2);
    ck_assert_mem_eq(image.rgb, pixels + 18, 18);
    trine_image_free(&image);
    trine_dataset_destroy(&ds);
    ASSERT_OK(open_arrays(TRINE_U8, 3, grey, pixels, TRINE_I32, 2, labels, &ds));
    ASSERT_OK(trine_dataset_image(ds, 1, &image));
    ck_assert_int_eq(image.rgb[0], pixels[6]);
    ck_assert_int_eq(image.rgb[2], pixels[6]);
    trine_image_free(&image);
    trine_dataset_destroy(&ds);
    const float floats[18] = {0};
    ASSERT_FAILS(TRINE_ERR_DATA, open_arrays(TRINE_F32, 3, grey, floats, TRINE_I32, 2, labels, &ds));
    const int64_t two_channels[] = {2, 3, 3, 2};
    ASSERT_FAILS(TRINE_ERR_DATA, open_arrays(TRINE_U8, 4, two_channels, pixels, TRINE_I32, 2, labels, &ds));
    ASSERT_FAILS(TRINE_ERR_DATA, open_arrays(TRINE_U8, 3, grey, pixels, TRINE_I32, 1, labels, &ds));
    ASSERT_FAILS(TRINE_ERR_DATA, open_arrays(TRINE_U8, 3, grey, pixels, TRINE_I32, 2, negative, &ds));
    ASSERT_FAILS(TRINE_ERR_DATA, open_arrays(TRINE_U8, 3, grey, pixels, TRINE_F32, 2, floats, &ds));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_dataset_open("npy:x.npy", NULL, &ds));
    ck_assert_ptr_null(ds);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dataset_lists");
    TCase *tc = tcase_create("dataset_lists");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, words);
    tcase_add_test(tc, numbers_and_columns);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, arrays);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
