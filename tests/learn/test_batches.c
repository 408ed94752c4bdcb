/* SPDX-License-Identifier: MIT */
/* Batches of arrays and data sets: their sizes, their order, their content on the device, and bad images. */
#include "learn/batches.h"

#include <string.h>

#include "learn/learn_data.h"

enum { PIXELS = 3 * 4 * 5 };

static trine__batches *of_array(const float *x, int images, int batch, bool even)
{
    const trine__batches_options o = {.array = x, .shape = {images, 3, 4, 5}, .batch = batch, .even = even};
    trine__batches *b = NULL;
    ASSERT_OK(trine__batches_create(dev.stream, &o, &b));
    return b;
}

START_TEST(sizes_and_content)
{
    static const struct {
        int images, batch, count, sizes[8];
        bool even;
    } cases[] = {
        {1, 1, 1, {1}, true},         {1, 64, 1, {1}, false},           {10, 4, 3, {3, 3, 4}, true},
        {10, 4, 3, {4, 4, 2}, false}, {100, 64, 2, {50, 50}, true},     {65, 64, 2, {32, 33}, true},
        {64, 64, 1, {64}, true},      {9, 2, 5, {1, 2, 2, 2, 2}, true}, {9, 2, 5, {2, 2, 2, 2, 1}, false},
    };
    float *x = malloc(100 * PIXELS * sizeof *x), got[100 * PIXELS];
    for (int i = 0; i < 100 * PIXELS; i++) x[i] = (float)i;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        trine__batches *b = of_array(x, cases[k].images, cases[k].batch, cases[k].even);
        ck_assert_uint_eq(b->count, (size_t)cases[k].count);
        ck_assert_uint_eq(b->all, (size_t)cases[k].images);
        for (int run = 0; run < 2; run++) {
            int seen = 0;
            trine_tensor t;
            ASSERT_OK(trine__batches_rewind(b, true));
            for (int i = 0; i < cases[k].count; i++) {
                ASSERT_OK(trine__batches_next(b, &t));
                ck_assert_msg(b->rows == cases[k].sizes[i] && t.shape.n == b->rows, "case %zu, batch %d: %d",
                              k, i, b->rows);
                ASSERT_OK(trine_tensor_download(dev.stream, &t, got));
                ck_assert_mem_eq(got, x + seen * PIXELS, (size_t)(b->rows * PIXELS) * sizeof *got);
                for (int r = 0; r < b->rows; r++) ck_assert_int_eq(b->indices[r], seen++);
                ASSERT_OK(trine__batches_used(b));
            }
            ASSERT_OK(trine__batches_next(b, &t));
            ck_assert_int_eq(b->rows, 0);
            ck_assert_int_eq(seen, cases[k].images);
        }
        trine__batches_destroy(&b);
    }
    free(x);
}
END_TEST

static void count_log(void *user, const char *sentence)
{
    ck_assert_msg(strstr(sentence, "skipped") != NULL, "%s", sentence);
    ++*(int *)user;
}

static void check_progress(void *user, size_t done, size_t all)
{
    ck_assert_uint_eq(all, CLASSES * PER_CLASS);
    ck_assert_uint_gt(done, *(size_t *)user);
    *(size_t *)user = done;
}

/* A batch that is bad from end to end, and one that is half bad; named in the runs that tell. */
START_TEST(bad_images)
{
    char root[PATH_BYTES];
    int told = 0;
    size_t done;
    make_root(root);
    make_folders(root);
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "a/%02d.ppm", i);
        write_bytes(root, name, "no image", 8);
    }
    trine_dataset *data = NULL;
    trine__batches *b = NULL;
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    const trine__batches_options o = {.data = data,
                                      .batch = 4,
                                      .even = true,
                                      .progress = check_progress,
                                      .progress_user = &done,
                                      .preprocess = {0, 0, 0, {0, 0, 0}, {1, 1, 1}},
                                      .threads = 2,
                                      .skip_bad = true,
                                      .log = count_log,
                                      .log_user = &told};
    ASSERT_OK(trine__batches_create(dev.stream, &o, &b));
    for (int run = 0; run < 3; run++) {
        int seen = 0;
        trine_tensor t;
        done = 0;
        ASSERT_OK(trine__batches_rewind(b, run == 1));
        for (;;) {
            ASSERT_OK(trine__batches_next(b, &t));
            if (b->rows == 0) break;
            ck_assert_int_eq(b->rows, seen == 0 ? 3 : 4);
            for (int r = 0; r < b->rows; r++, seen++) {
                ck_assert_int_eq(b->indices[r], seen + 5);
                ck_assert_int_eq(b->labels[r], (seen + 5) / PER_CLASS);
            }
            ASSERT_OK(trine__batches_used(b));
            if (run == 0) break; /* the first batch alone */
        }
        ck_assert_uint_eq(b->bad, 5);
        ck_assert_int_eq(told, run == 0 ? 0 : 5);
        ck_assert_uint_eq(done, run == 0 ? 8 : CLASSES * PER_CLASS);
    }
    trine__batches_destroy(&b);
    trine_dataset_destroy(&data);
    remove_root(root);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("batches");
    TCase *tc = tcase_create("batches");
    tcase_add_test(tc, sizes_and_content);
    tcase_add_test(tc, bad_images);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
