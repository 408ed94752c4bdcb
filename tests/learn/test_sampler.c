/* SPDX-License-Identifier: MIT */
/* Samplers: what a batch holds, that it depends on seed and number alone, that epochs take every image. */
#include "learn/sampler.h"

#include "base/memory.h"
#include "support/check_main.h"

enum { IMAGES = 97 };

/* Classes 3, 10, 11 and 40 of 50, 30, 15 and 2 images, mixed up. */
static void make_labels(int labels[IMAGES])
{
    for (int i = 0; i < IMAGES; i++) {
        const int j = i * 41 % IMAGES;
        labels[i] = j < 50 ? 3 : j < 80 ? 10 : j < 95 ? 11 : 40;
    }
}

static trine__sampler *classes(int p, int k, uint64_t seed, int labels[IMAGES])
{
    trine__sampler *s = NULL;
    make_labels(labels);
    ASSERT_OK(trine__sampler_create_classes(labels, IMAGES, p, k, seed, &s));
    return s;
}

START_TEST(batches_of_classes)
{
    int labels[IMAGES], batch[12];
    trine__sampler *s = classes(3, 4, 7, labels);
    ck_assert_int_eq(trine__sampler_capacity(s), 12);
    ck_assert_uint_eq(trine__sampler_epoch(s), 9);
    int drawn[64] = {0}, images[IMAGES] = {0};
    for (size_t n = 0; n < 400; n++) {
        ck_assert_int_eq(trine__sampler_batch(s, n, batch), 12);
        for (int i = 0; i < 12; i++) {
            ck_assert_int_ge(batch[i], 0);
            ck_assert_int_lt(batch[i], IMAGES);
            ck_assert_int_eq(labels[batch[i]], labels[batch[i / 4 * 4]]);
            for (int j = 0; j < i; j++) {
                if (j / 4 != i / 4)
                    ck_assert_int_ne(labels[batch[i]], labels[batch[j]]);
                else if (labels[batch[i]] != 40)
                    ck_assert_int_ne(batch[i], batch[j]);
                else
                    ck_assert(i / 2 != j / 2 || batch[i] != batch[j]); /* both before either again */
            }
            images[batch[i]]++;
            drawn[labels[batch[i]]] += i % 4 == 0;
        }
    }
    for (int i = 0; i < IMAGES; i++) ck_assert_int_gt(images[i], 0);
    const int numbers[] = {3, 10, 11, 40};
    for (int c = 0; c < 4; c++) ck_assert_int_lt(abs(drawn[numbers[c]] - 300), 45); /* 5 deviations of 8.7 */
    trine__sampler_destroy(&s);
    ck_assert_ptr_null(s);
}
END_TEST

START_TEST(batches_depend_on_seed_and_number)
{
    int labels[IMAGES], a[8], b[8];
    trine__sampler *s = classes(2, 4, 1, labels), *t = classes(2, 4, 1, labels),
                   *other = classes(2, 4, 2, labels);
    int seeds_equal = 0, numbers_equal = 0;
    for (size_t n = 20; n-- > 0;) { /* backwards, and t forwards */
        trine__sampler_batch(s, n, a);
        for (size_t m = 0; m <= n; m++) trine__sampler_batch(t, m, b);
        ck_assert_mem_eq(a, b, sizeof a);
        trine__sampler_batch(other, n, b);
        seeds_equal += memcmp(a, b, sizeof a) == 0;
        trine__sampler_batch(t, n + 1, b);
        numbers_equal += memcmp(a, b, sizeof a) == 0;
    }
    ck_assert_int_eq(seeds_equal, 0);
    ck_assert_int_eq(numbers_equal, 0);
    trine__sampler_destroy(&s);
    trine__sampler_destroy(&t);
    trine__sampler_destroy(&other);
}
END_TEST

/* Every image once an epoch; returns the images left out. */
static int run_epoch(trine__sampler *s, size_t epoch, size_t count, int batch, int *order)
{
    int *indices = calloc((size_t)batch, sizeof *indices), *seen = calloc(count, sizeof *seen);
    size_t taken = 0;
    for (size_t b = 0; b < trine__sampler_epoch(s); b++) {
        const int n = trine__sampler_batch(s, epoch * trine__sampler_epoch(s) + b, indices);
        ck_assert_int_ge(n, 2);
        ck_assert_int_le(n, trine__sampler_capacity(s));
        for (int i = 0; i < n; i++) {
            ck_assert_int_eq(seen[indices[i]], 0);
            seen[indices[i]] = 1;
            order[taken++] = indices[i];
        }
    }
    free(indices);
    free(seen);
    return (int)(count - taken);
}

START_TEST(epochs_take_every_image)
{
    const struct {
        size_t count;
        int batch, batches, capacity, left_out;
    } cases[] = {{10, 4, 3, 4, 0}, {9, 4, 2, 4, 1}, {8, 4, 2, 4, 0},
                 {3, 8, 1, 3, 0},  {2, 2, 1, 2, 0}, {3, 2, 1, 2, 1}};
    for (size_t c = 0; c < TRINE_COUNTOF(cases); c++) {
        trine__sampler *s = NULL;
        ASSERT_OK(trine__sampler_create_epochs(cases[c].count, cases[c].batch, 3, &s));
        ck_assert_uint_eq(trine__sampler_epoch(s), (size_t)cases[c].batches);
        ck_assert_int_eq(trine__sampler_capacity(s), cases[c].capacity);
        int order[16];
        for (size_t epoch = 0; epoch < 5; epoch++)
            ck_assert_int_eq(run_epoch(s, epoch, cases[c].count, cases[c].batch, order), cases[c].left_out);
        trine__sampler_destroy(&s);
    }
}
END_TEST

START_TEST(epochs_differ_and_repeat)
{
    trine__sampler *s = NULL, *t = NULL;
    ASSERT_OK(trine__sampler_create_epochs(50, 8, 3, &s));
    ASSERT_OK(trine__sampler_create_epochs(50, 8, 3, &t));
    int a[50], b[50], again[50];
    run_epoch(s, 0, 50, 8, a);
    run_epoch(s, 1, 50, 8, b);
    ck_assert_mem_ne(a, b, sizeof a);
    run_epoch(t, 1, 50, 8, again);
    ck_assert_mem_eq(b, again, sizeof b);
    run_epoch(s, 0, 50, 8, again);
    ck_assert_mem_eq(a, again, sizeof a);
    trine__sampler_destroy(&s);
    trine__sampler_destroy(&t);
}
END_TEST

/* Classes of 50, 30, 15 and 2 images; then the last of one: a batch is level all the same, and its image comes K times. */
START_TEST(small_classes)
{
    const struct {
        int k, one, fewer, single;
    } rows[] = {{2, 0, 0, 0}, {3, 0, 1, 0}, {16, 0, 2, 0}, {3, 1, 1, 1}, {1, 1, 0, 0}};
    for (size_t i = 0; i < TRINE_COUNTOF(rows); i++) {
        int labels[IMAGES], batch[64], fewer, single;
        trine__sampler *s = NULL;
        make_labels(labels);
        for (int j = 0, seen = 0; j < IMAGES && rows[i].one; j++)
            if (labels[j] == 40 && seen++ == 0) labels[j] = 11;
        ASSERT_OK(trine__sampler_create_classes(labels, IMAGES, 4, rows[i].k, 7, &s));
        trine__sampler_small_classes(s, &fewer, &single);
        ck_assert_int_eq(fewer, rows[i].fewer);
        ck_assert_int_eq(single, rows[i].single);
        ck_assert_int_eq(trine__sampler_batch(s, 0, batch), 4 * rows[i].k);
        for (int label = 0; label < 41; label++) {
            int drawn = 0;
            for (int j = 0; j < 4 * rows[i].k; j++) drawn += labels[batch[j]] == label;
            ck_assert(drawn == 0 || drawn == rows[i].k);
        }
        trine__sampler_destroy(&s);
    }
    trine__sampler *s = NULL;
    int fewer = 9, single = 9;
    ASSERT_OK(trine__sampler_create_epochs(10, 4, 0, &s));
    trine__sampler_small_classes(s, &fewer, &single);
    ck_assert_int_eq(fewer + single, 0);
    trine__sampler_destroy(&s);
}
END_TEST

START_TEST(refusals)
{
    int labels[IMAGES];
    make_labels(labels);
    trine__sampler *s = NULL;
    ASSERT_FAILS(TRINE_ERR_DATA, trine__sampler_create_classes(labels, IMAGES, 5, 2, 0, &s));
    ck_assert_str_eq(trine_last_error(), "batches of 5 classes, but the data have 4");
    ASSERT_FAILS(TRINE_ERR_DATA, trine__sampler_create_classes(labels, 0, 1, 2, 0, &s));
    ASSERT_FAILS(TRINE_ERR_ARG, trine__sampler_create_classes(labels, IMAGES, 0, 2, 0, &s));
    ASSERT_FAILS(TRINE_ERR_ARG, trine__sampler_create_classes(labels, IMAGES, 2, 0, 0, &s));
    ASSERT_FAILS(TRINE_ERR_ARG, trine__sampler_create_classes(labels, IMAGES, 1 << 20, 1 << 20, 0, &s));
    ASSERT_FAILS(TRINE_ERR_DATA, trine__sampler_create_epochs(1, 4, 0, &s));
    ASSERT_FAILS(TRINE_ERR_ARG, trine__sampler_create_epochs(10, 1, 0, &s));
    ck_assert_ptr_null(s);
    trine__sampler_destroy(&s);
    trine__sampler_destroy(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sampler");
    TCase *tc = tcase_create("sampler");
    tcase_add_test(tc, batches_of_classes);
    tcase_add_test(tc, batches_depend_on_seed_and_number);
    tcase_add_test(tc, epochs_take_every_image);
    tcase_add_test(tc, epochs_differ_and_repeat);
    tcase_add_test(tc, small_classes);
    tcase_add_test(tc, refusals);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
