/* SPDX-License-Identifier: MIT */
/* Retrieval figures against a brute force that sorts every query's whole list, in double. */
#include "trine/retrieval.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/random.h"
#include "support/check_main.h"
#include "trine/trainer.h"

struct ranked {
    double distance;
    int index;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static double distance_of(const float *a, const float *b, int dim, trine_distance distance)
{
    double s = 0, ab = 0, aa = 0, bb = 0;
    for (int d = 0; d < dim; d++) {
        s += ((double)a[d] - b[d]) * ((double)a[d] - b[d]);
        ab += (double)a[d] * b[d];
        aa += (double)a[d] * a[d];
        bb += (double)b[d] * b[d];
    }
    if (distance == TRINE_SQUARED) return s;
    if (distance == TRINE_EUCLIDEAN) return sqrt(s);
    return 1 - ab / (fmax(sqrt(aa), 1e-8) * fmax(sqrt(bb), 1e-8));
}

static trine_retrieval brute_force(const float *data, const int *labels, int count, int dim,
                                   trine_distance distance)
{
    trine_retrieval r = {.count = (size_t)count};
    struct ranked *list = calloc((size_t)count, sizeof *list);
    for (int i = 0; i < count; i++) {
        int others = 0, positives = 0, found = 0, at_1 = 0, at_5 = 0;
        double ap = 0;
        for (int j = 0; j < count; j++) {
            if (j == i) continue;
            positives += labels[j] == labels[i];
            list[others++] = (struct ranked){distance_of(data + i * dim, data + j * dim, dim, distance), j};
        }
        if (positives == 0) continue;
        qsort(list, (size_t)others, sizeof *list, compare_ranked);
        for (int k = 0; k < others; k++) {
            const int right = labels[list[k].index] == labels[i];
            at_1 |= right && k == 0;
            at_5 |= right && k < 5;
            if (k >= positives || !right) continue;
            found++;
            ap += (double)found / (k + 1);
        }
        r.queries++;
        r.recall_at_1 += at_1;
        r.recall_at_5 += at_5;
        r.r_precision += (double)found / positives;
        r.map_at_r += ap / positives;
    }
    free(list);
    r.recall_at_1 /= (double)r.queries;
    r.recall_at_5 /= (double)r.queries;
    r.r_precision /= (double)r.queries;
    r.map_at_r /= (double)r.queries;
    return r;
}

static void assert_same(const char *what, const trine_retrieval *got, const trine_retrieval *want)
{
    const double a[] = {got->recall_at_1, got->recall_at_5, got->r_precision, got->map_at_r};
    const double b[] = {want->recall_at_1, want->recall_at_5, want->r_precision, want->map_at_r};
    ck_assert_uint_eq(got->count, want->count);
    ck_assert_uint_eq(got->queries, want->queries);
    for (int i = 0; i < 4; i++)
        ck_assert_msg(fabs(a[i] - b[i]) <= 1e-12, "%s: figure %d is %.17g, want %.17g", what, i, a[i], b[i]);
}

/* Class centres with noise; `grid` > 0 rounds to multiples of 1 / grid: many exact ties. */
static void make(float *data, int *labels, int count, int dim, int classes, double noise, int grid,
                 uint64_t seed)
{
    trine__random r = trine__random_stream(seed, 1, 2);
    float *centres = calloc((size_t)(classes * dim), sizeof *centres);
    for (int i = 0; i < classes * dim; i++) centres[i] = (float)trine__random_normal(&r);
    for (int i = 0; i < count; i++) {
        labels[i] = (int)trine__random_below(&r, (uint64_t)classes) * 7 - 3;
        for (int d = 0; d < dim; d++) {
            double v = centres[(labels[i] + 3) / 7 * dim + d] + noise * trine__random_normal(&r);
            if (grid) v = floor(v * grid) / grid;
            data[i * dim + d] = (float)v;
        }
    }
    free(centres);
}

START_TEST(against_brute_force)
{
    const struct {
        int count, dim, classes, grid;
        double noise;
    } cases[] = {{2, 1, 1, 0, 1},   {3, 2, 2, 0, 1},     {7, 3, 2, 1, 1},      {8, 5, 2, 0, 1},
                 {9, 8, 3, 0, 2},   {16, 4, 4, 0, 1},    {17, 16, 3, 0, 1},    {33, 1, 4, 1, 1},
                 {200, 2, 5, 1, 1}, {300, 64, 10, 0, 3}, {301, 33, 100, 0, 1}, {257, 3, 250, 1, 1}};
    static float data[20000];
    static int labels[400];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const int n = cases[c].count, dim = cases[c].dim;
        make(data, labels, n, dim, cases[c].classes, cases[c].noise, cases[c].grid, c);
        labels[1] = labels[0]; /* at least one query */
        for (int distance = 0; distance <= TRINE_COSINE; distance++) {
            const trine_retrieval want = brute_force(data, labels, n, dim, (trine_distance)distance);
            for (int threads = 0; threads <= 3; threads += 3) {
                trine_retrieval got;
                char what[80];
                snprintf(what, sizeof what, "case %zu distance %d threads %d", c, distance, threads);
                ASSERT_OK(trine_retrieval_measure(data, labels, (size_t)n, dim, (trine_distance)distance,
                                                  threads, &got));
                assert_same(what, &got, &want);
            }
        }
    }
}
END_TEST

/* By hand: on a line at 0, 1, 2 and 9, classes A A B A and a lone C at 30. */
START_TEST(by_hand)
{
    const float data[] = {0, 1, 2, 9, 30};
    const int labels[] = {5, 5, 6, 5, 7};
    trine_retrieval r;
    ASSERT_OK(trine_retrieval_measure(data, labels, 5, 1, TRINE_EUCLIDEAN, 1, &r));
    /* 0: A B A -> 1/2, 1/2.  1: 0 and 2 tie, 0 first: A B -> 1/2, 1/2.  9: B A A -> 1/2, (1/2)/2 */
    ck_assert_uint_eq(r.count, 5);
    ck_assert_uint_eq(r.queries, 3);
    ck_assert_double_eq_tol(r.recall_at_1, 2. / 3, 1e-15);
    ck_assert_double_eq_tol(r.recall_at_5, 1, 1e-15);
    ck_assert_double_eq_tol(r.r_precision, .5, 1e-15);
    ck_assert_double_eq_tol(r.map_at_r, (.5 + .5 + .25) / 3, 1e-15);
}
END_TEST

/* All vectors equal: ranks are the indices. */
START_TEST(all_equal)
{
    const float data[12] = {0};
    const int labels[] = {1, 2, 1, 2, 2, 1};
    for (int distance = 0; distance <= TRINE_COSINE; distance++) {
        const trine_retrieval want = brute_force(data, labels, 6, 2, (trine_distance)distance);
        trine_retrieval got;
        ASSERT_OK(trine_retrieval_measure(data, labels, 6, 2, (trine_distance)distance, 2, &got));
        assert_same("all equal", &got, &want);
    }
}
END_TEST

/* A vector with NaN is farthest from all. */
START_TEST(nan_is_last)
{
    const float data[] = {0, NAN, 3, 100};
    const int labels[] = {1, 2, 1, 3};
    trine_retrieval r;
    ASSERT_OK(trine_retrieval_measure(data, labels, 4, 1, TRINE_EUCLIDEAN, 1, &r));
    ck_assert_uint_eq(r.queries, 2);
    ck_assert_double_eq(r.recall_at_1, 1);
    ck_assert_double_eq(r.map_at_r, 1);
}
END_TEST

START_TEST(refusals)
{
    const float data[4] = {0};
    const int labels[] = {1, 2, 3, 4};
    trine_retrieval r = {.count = 99};
    ASSERT_FAILS(TRINE_ERR_DATA, trine_retrieval_measure(data, labels, 4, 1, TRINE_EUCLIDEAN, 0, &r));
    ASSERT_FAILS(TRINE_ERR_DATA, trine_retrieval_measure(data, labels, 1, 1, TRINE_EUCLIDEAN, 0, &r));
    ASSERT_FAILS(TRINE_ERR_DATA, trine_retrieval_measure(data, labels, 0, 1, TRINE_EUCLIDEAN, 0, &r));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_retrieval_measure(data, labels, 4, 0, TRINE_EUCLIDEAN, 0, &r));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_retrieval_measure(data, labels, 4, 1, (trine_distance)9, 0, &r));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_retrieval_measure(data, labels, 4, 1, TRINE_EUCLIDEAN, -1, &r));
    ck_assert_uint_eq(r.count, 99);
}
END_TEST

START_TEST(accuracy)
{
    const float logits[] = {1, 2, 0, /**/ 3, 3, 1, /**/ 0, 0, 5, /**/ NAN, 1, 0};
    const int labels[] = {1, 0, 1, 0};
    double a = -1;
    ASSERT_OK(trine_classify_accuracy(logits, labels, 4, 3, &a));
    ck_assert_double_eq(a, .5);
    const int beyond[] = {1, 3};
    ASSERT_FAILS(TRINE_ERR_DATA, trine_classify_accuracy(logits, beyond, 2, 3, &a));
    ASSERT_FAILS(TRINE_ERR_DATA, trine_classify_accuracy(logits, labels, 0, 3, &a));
    ck_assert_double_eq(a, .5);
}
END_TEST

/* Not a benchmark: catches a quadratic selection or sums that were not vectorised. The bound leaves room
 * for sanitizers and busy machines. $TRINE_TEST_LONG: 10000 x 512 as well. */
START_TEST(large)
{
    const int sizes[][2] = {{5000, 64}, {10000, 512}};
    for (int s = 0; s < (getenv("TRINE_TEST_LONG") ? 2 : 1); s++) {
        const int count = sizes[s][0], dim = sizes[s][1];
        float *data = calloc((size_t)count * (size_t)dim, sizeof *data);
        int *labels = calloc((size_t)count, sizeof *labels);
        make(data, labels, count, dim, 10, 3, 0, 5);
        struct timespec a, b;
        trine_retrieval r;
        clock_gettime(CLOCK_MONOTONIC, &a);
        ASSERT_OK(trine_retrieval_measure(data, labels, (size_t)count, dim, TRINE_EUCLIDEAN, 0, &r));
        clock_gettime(CLOCK_MONOTONIC, &b);
        const double seconds = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
        printf("retrieval of %d x %d: %.2f s\n", count, dim, seconds);
        ck_assert_uint_eq(r.queries, (size_t)count);
        ck_assert_double_lt(seconds, s ? 200 : 60);
        free(data);
        free(labels);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("retrieval");
    TCase *tc = tcase_create("retrieval");
    tcase_add_test(tc, against_brute_force);
    tcase_add_test(tc, by_hand);
    tcase_add_test(tc, all_equal);
    tcase_add_test(tc, nan_is_last);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, accuracy);
    tcase_add_test(tc, large);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
