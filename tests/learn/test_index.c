/* SPDX-License-Identifier: MIT */
/* Exact search and pairs against sorting in double, also where single precision tells nothing apart; indexes as files. */
#include "trine/index.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "io/temp_files.h"
#include "ref/ref_knn.h"
#include "support/check_main.h"
#include "support/device.h"

enum { MOST = 3000, MOST_DIM = 70 };

static float base[MOST * MOST_DIM];
static double wide[MOST * MOST_DIM];

/* kind 0: apart; 1: on a coarse grid, many equal; 2: nearly equal, apart in the last bits of single precision; 3: all equal */
static void make(int count, int dim, int kind)
{
    trine__random r = trine__random_stream((uint64_t)(count * dim), 3, (uint64_t)kind);
    for (int i = 0; i < count * dim; i++) {
        double v = trine__random_normal(&r);
        if (kind == 1) v = floor(v * 2) / 2;
        if (kind == 2) v = 100 + v * 2e-5;
        if (kind == 3) v = 0.25;
        base[i] = (float)v;
        wide[i] = (double)base[i];
    }
}

static double shown(int distance, double d)
{
    return distance == TRINE_EUCLIDEAN ? sqrt(d) : d;
}

static void check_search(int count, int dim, int kind, int distance, int queries, int k, int self)
{
    make(count, dim, kind);
    int32_t *at = calloc((size_t)(queries * k), sizeof *at);
    double *found = calloc((size_t)(queries * k), sizeof *found), *row = test_zeros((size_t)count);
    int *order = calloc((size_t)count, sizeof *order);
    ASSERT_OK(trine_search(dev.stream, base, (size_t)count, dim, (trine_distance)distance,
                           base + (self < 0 ? 0 : self) * dim, (size_t)queries, k, self, at, found));
    for (int q = 0; q < queries; q++) {
        const int own = self < 0 ? q : self + q;
        for (int j = 0; j < count; j++)
            row[j] = ref_knn_distance(wide + own * dim, wide + j * dim, dim, distance);
        const int others = ref_knn_order(row, count, self < 0 ? -1 : own, order);
        for (int r = 0; r < k; r++) {
            const int want = r < others ? order[r] : -1, got = at[q * k + r];
            ck_assert_msg(got == want, "%d x %d kind %d distance %d query %d rank %d: %d, want %d", count,
                          dim, kind, distance, q, r, got, want);
            if (want >= 0)
                ck_assert_double_eq_tol(found[q * k + r], shown(distance, row[want]), 1e-12);
            else
                ck_assert_double_infinite(found[q * k + r]);
        }
    }
    free(at);
    free(found);
    free(row);
    free(order);
}

START_TEST(search)
{
    for (int kind = 0; kind < 4; kind++)
        for (int distance = TRINE_EUCLIDEAN; distance <= TRINE_DOT; distance++) {
            if (kind == 1 && distance == TRINE_COSINE)
                continue; /* ties of different vectors, which rounding decides */
            check_search(1, 1, kind, distance, 1, 3, -1);
            check_search(30, 5, kind, distance, 30, 40, 0);
            check_search(200, 70, kind, distance, 20, 7, 11);
        }
    check_search(MOST, 8, 0, TRINE_EUCLIDEAN, 50, 25, 0);
    check_search(MOST, 3, 1, TRINE_SQUARED, 20, 5, -1);
}
END_TEST

START_TEST(pairs)
{
    enum { COUNT = 1100, DIM = 3 };
    for (int distance = TRINE_EUCLIDEAN; distance <= TRINE_DOT; distance++)
        for (int kind = 0; kind < 2; kind++) {
            const double threshold = distance == TRINE_DOT ? -9 : distance == TRINE_COSINE ? 1e-3 : .5;
            trine_pair *list = NULL;
            size_t count = 0, at = 0;
            make(COUNT, DIM, kind);
            if (kind == 1 && distance == TRINE_COSINE) continue;
            ASSERT_OK(trine_pairs_within(dev.stream, base, COUNT, DIM, (trine_distance)distance, threshold,
                                         &list, &count));
            for (int i = 0; i < COUNT; i++)
                for (int j = i + 1; j < COUNT; j++) {
                    const double d =
                        shown(distance, ref_knn_distance(wide + i * DIM, wide + j * DIM, DIM, distance));
                    if (!(d <= threshold)) continue;
                    ck_assert_msg(at < count && list[at].first == i && list[at].second == j,
                                  "pair %zu: %d, %d", at, i, j);
                    ck_assert_double_eq_tol(list[at].distance, d, 1e-12);
                    at++;
                }
            ck_assert_uint_eq(at, count);
            ck_assert_uint_gt(count, 0);
            free(list);
        }
}
END_TEST

static trine_index *small_index(void)
{
    const float vectors[] = {1, 2, 3, 4, 5, 6};
    const char *const paths[] = {"a/1.png", "b/\xc3\xa9 2.png"}, *const classes[] = {"a", NULL},
                      *const more[] = {"c"};
    trine_index *index = NULL;
    ASSERT_OK(trine_index_create(2, &index));
    ASSERT_OK(trine_index_add(index, vectors, 2, paths, classes));
    ASSERT_OK(trine_index_add(index, vectors + 4, 1, more, NULL));
    ASSERT_OK(trine_index_set_metadata(index, "arch", "resnet18"));
    return index;
}

START_TEST(files)
{
    trine_index *index = small_index(), *back = NULL;
    const char *path = temp_path("x.index");
    ASSERT_OK(trine_index_write(index, path));
    ASSERT_OK(trine_index_read(path, &back));
    ck_assert_uint_eq(trine_index_count(back), 3);
    ck_assert_int_eq(trine_index_dim(back), 2);
    ck_assert_mem_eq(trine_index_vectors(back), trine_index_vectors(index), 6 * sizeof(float));
    ck_assert_str_eq(trine_index_path(back, 1), "b/\xc3\xa9 2.png");
    ck_assert_str_eq(trine_index_class(back, 0), "a");
    ck_assert_str_eq(trine_index_class(back, 2), "");
    ck_assert_ptr_null(trine_index_path(back, 3));
    ck_assert_str_eq(trine_index_metadata(back, "arch"), "resnet18");
    trine_index_destroy(&back);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_index_write(index, "x.npy"));
    trine_index_destroy(&index);
    remove_temp((const char *const[]){"x.index", NULL});
}
END_TEST

/* Every byte of the file matters: whatever one is changed to, it is refused, or reads as the same (blanks of the header). */
START_TEST(damage)
{
    trine_index *index = small_index(), *back = NULL;
    const char *path = temp_path("x.index");
    size_t size;
    ASSERT_OK(trine_index_write(index, path));
    unsigned char *bytes = get_file(path, &size);
    for (size_t at = 0; at <= size; at++) {
        if (at < size) bytes[at] ^= 1;
        put_file(path, bytes, at < size ? size : size - 1);
        if (at < size) bytes[at] ^= 1;
        const trine_status status = trine_index_read(path, &back);
        if (status == TRINE_OK) {
            ck_assert_mem_eq(trine_index_vectors(back), trine_index_vectors(index), 6 * sizeof(float));
            ck_assert_msg(bytes[at] == ' ', "byte %zu", at);
            trine_index_destroy(&back);
        } else {
            ck_assert_int_eq(status, TRINE_ERR_FORMAT);
        }
        ck_assert_ptr_null(back);
    }
    free(bytes);
    trine_index_destroy(&index);
    remove_temp((const char *const[]){"x.index", NULL});
}
END_TEST

START_TEST(refusals)
{
    trine_index *index = NULL;
    int32_t at[4];
    double distances[4];
    ASSERT_FAILS(TRINE_ERR_ARG, trine_index_create(0, &index));
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_index_read("/nowhere/x.index", &index));
    ck_assert_ptr_null(index);
    ASSERT_FAILS(TRINE_ERR_DATA,
                 trine_search(dev.stream, base, 0, 1, TRINE_SQUARED, base, 1, 1, -1, at, distances));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_search(dev.stream, base, 4, 1, TRINE_SQUARED, base, 1, 0, -1, at, distances));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_search(dev.stream, base, 4, 1, TRINE_SQUARED, base, 2, 1, 3, at, distances));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_search(dev.stream, base, 4, 1, (trine_distance)7, base, 1, 1, -1, at, distances));
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("index");
    TCase *tc = tcase_create("index");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, search);
    tcase_add_test(tc, pairs);
    tcase_add_test(tc, files);
    tcase_add_test(tc, damage);
    tcase_add_test(tc, refusals);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
