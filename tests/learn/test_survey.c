/* SPDX-License-Identifier: MIT */
/* The look at a data set: sizes, classes, unreadable and grey images, what is there twice and what only looks flat. */
#include "trine/survey.h"

#include <math.h>

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

/* A smooth picture of its own for each seed, at any size: waves whose phases and lengths follow from the seed. */
static void write_picture(const char *name, int width, int height, int seed, int brighter)
{
    static unsigned char data[32 + 3 * 64 * 64];
    size_t n = (size_t)snprintf((char *)data, 32, "P6 %d %d 255\n", width, height);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const double u = 64 * (x + 0.5) / width, v = 64 * (y + 0.5) / height;
            const double row = sin(0.05 * (1 + seed % 4) * v + seed),
                         column = sin(0.04 * (1 + seed % 3) * u + 2 * seed);
            const int level = 110 + (int)(45 * row) + (int)(45 * column) + brighter;
            for (int c = 0; c < 3; c++) data[n++] = (unsigned char)(level + 5 * c);
        }
    write_bytes(root, name, data, n);
}

static trine_dataset *open_root(const char *name)
{
    char path[PATH_BYTES];
    trine_dataset *data;
    in_root(path, root, name);
    ASSERT_OK(trine_dataset_open(path, NULL, &data));
    return data;
}

static void make_set(void)
{
    make_folder(root, "set");
    make_folder(root, "set/a");
    make_folder(root, "set/b");
    make_folder(root, "set/c");
    write_picture("set/a/0.ppm", 64, 48, 1, 0);
    write_picture("set/a/1.ppm", 64, 48, 2, 0);
    write_picture("set/a/2.ppm", 32, 24, 1, 20); /* 0, smaller and brighter */
    write_picture("set/b/0.ppm", 64, 64, 3, 0);
    write_bytes(root, "set/b/1.ppm", "P6 4 4 255\nshort", 16);
    write_bytes(root, "set/b/2.ppm", "P5 2 1 255\n\1\2", 13); /* grey, and flat */
    write_bytes(root, "set/b/3.ppm", "P5 2 1 255\n\1\3", 13);
    write_picture("set/c/0.ppm", 40, 60, 4, 0);
}

START_TEST(summary)
{
    trine_survey *survey;
    make_set();
    trine_dataset *data = open_root("set");
    for (int threads = 1; threads <= 8; threads += 7) {
        ASSERT_OK(trine_survey_create(data, 0, threads, &survey));
        const trine_survey_summary m = trine_survey_get_summary(survey);
        ck_assert_uint_eq(m.images, 8);
        ck_assert_uint_eq(m.looked_at, 8);
        ck_assert_uint_eq(m.unreadable, 1);
        ck_assert_uint_eq(trine_survey_unreadable(survey, 0), 4);
        ck_assert_uint_eq(m.grey, 2);
        ck_assert(m.min_width == 2 && m.max_width == 64 && m.min_height == 1 && m.max_height == 64 &&
                  m.mixed_sizes);
        ck_assert(m.classes == 3 && m.single_classes == 1 && m.smallest == 2 && m.largest == 1);
        ck_assert(m.smallest_images == 1 && m.largest_images == 4);
        trine_survey_pair pair = {0};
        ck_assert_uint_eq(trine_survey_duplicates(survey, survey, &pair, 1), 1); /* the flat ones are none */
        ck_assert(pair.a == 0 && pair.b == 2);
        trine_survey_destroy(&survey);
        ck_assert_ptr_null(survey);
    }
    trine_dataset_destroy(&data);
}
END_TEST

START_TEST(two_sets)
{
    trine_survey *a, *b;
    trine_survey_pair pairs[4];
    make_set();
    make_folder(root, "other");
    for (int i = 0; i < 12; i++) {
        char name[32];
        snprintf(name, sizeof name, "other/%02d.ppm", i);
        write_picture(name, 40, 40, i + 2, 0); /* 2, 3 and 4 are in the set */
    }
    trine_dataset *set = open_root("set"), *other = open_root("other");
    ASSERT_OK(trine_survey_create(set, 0, 0, &a));
    ASSERT_OK(trine_survey_create(other, 0, 0, &b));
    ck_assert_uint_eq(trine_survey_duplicates(a, b, pairs, 4), 3);
    ck_assert(pairs[0].a == 1 && pairs[0].b == 0 && pairs[1].a == 3 && pairs[1].b == 1);
    ck_assert(pairs[2].a == 7 && pairs[2].b == 2);
    ck_assert_uint_eq(trine_survey_duplicates(a, b, NULL, 0), 3);
    ck_assert_uint_eq(trine_survey_duplicates(b, b, NULL, 0), 0);
    trine_survey_destroy(&b);
    ASSERT_OK(trine_survey_create(other, 4, 0, &b)); /* 0, 3, 6, 9 */
    ck_assert_uint_eq(trine_survey_get_summary(b).looked_at, 4);
    ck_assert_uint_eq(trine_survey_duplicates(a, b, pairs, 4), 1);
    ck_assert(pairs[0].a == 1 && pairs[0].b == 0);
    trine_survey_destroy(&a);
    trine_survey_destroy(&b);
    trine_dataset_destroy(&set);
    trine_dataset_destroy(&other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("survey");
    TCase *tc = tcase_create("survey");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, summary);
    tcase_add_test(tc, two_sets);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
