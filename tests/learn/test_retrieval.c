/* SPDX-License-Identifier: MIT */
/* Retrieval figures against a brute force that sorts every query's whole list, in double; clusters and their mutual information. */
#include "trine/retrieval.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/random.h"
#include "support/check_main.h"
#include "support/device.h"
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
    if (distance == TRINE_DOT) return -ab;
    return 1 - ab / (fmax(sqrt(aa), 1e-8) * fmax(sqrt(bb), 1e-8));
}

static trine_retrieval brute_force(const float *data, const int *labels, int count, int dim,
                                   trine_distance distance)
{
    trine_retrieval r = {.count = (size_t)count};
    struct ranked *list = calloc((size_t)count, sizeof *list);
    for (int i = 0; i < count; i++) {
        int others = 0, positives = 0, found = 0, at_1 = 0, at_5 = 0;
        double ap = 0, all = 0;
        int seen = 0;
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
            if (right) all += (double)++seen / (k + 1);
            r.recall[0] += right && seen == 1 && k < 2;
            r.recall[1] += right && seen == 1 && k < 10;
            if (k >= positives || !right) continue;
            found++;
            ap += (double)found / (k + 1);
        }
        r.queries++;
        r.recall_at_1 += at_1;
        r.recall_at_5 += at_5;
        r.r_precision += (double)found / positives;
        r.map_at_r += ap / positives;
        r.map += all / positives;
    }
    free(list);
    r.recall_at_1 /= (double)r.queries;
    r.recall_at_5 /= (double)r.queries;
    r.r_precision /= (double)r.queries;
    r.map_at_r /= (double)r.queries;
    r.map /= (double)r.queries;
    for (int k = 0; k < 2; k++) r.recall[k] /= (double)r.queries;
    return r;
}

static const int ks[] = {2, 10};

static trine_status measure(const float *data, const int *labels, size_t count, int dim,
                            trine_distance distance, int threads, trine_retrieval *out)
{
    const trine_retrieval_options o = {.distance = distance, .threads = threads, .ks = ks, .k_count = 2};
    return trine_retrieval_measure(dev.stream, data, labels, count, dim, &o, out);
}

static void assert_same(const char *what, const trine_retrieval *got, const trine_retrieval *want)
{
    const double a[] = {got->recall_at_1, got->recall_at_5, got->r_precision, got->map_at_r,
                        got->map,         got->recall[0],   got->recall[1]};
    const double b[] = {want->recall_at_1, want->recall_at_5, want->r_precision, want->map_at_r,
                        want->map,         want->recall[0],   want->recall[1]};
    ck_assert_uint_eq(got->count, want->count);
    ck_assert_uint_eq(got->queries, want->queries);
    for (int i = 0; i < 7; i++)
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
        for (int distance = 0; distance <= TRINE_DOT; distance++) {
            const trine_retrieval want = brute_force(data, labels, n, dim, (trine_distance)distance);
            for (int threads = 0; threads <= 3; threads += 3) {
                trine_retrieval got;
                char what[80];
                snprintf(what, sizeof what, "case %zu distance %d threads %d", c, distance, threads);
                ASSERT_OK(measure(data, labels, (size_t)n, dim, (trine_distance)distance, threads, &got));
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
    ASSERT_OK(measure(data, labels, 5, 1, TRINE_EUCLIDEAN, 1, &r));
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
    for (int distance = 0; distance <= TRINE_DOT; distance++) {
        const trine_retrieval want = brute_force(data, labels, 6, 2, (trine_distance)distance);
        trine_retrieval got;
        ASSERT_OK(measure(data, labels, 6, 2, (trine_distance)distance, 2, &got));
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
    ASSERT_OK(measure(data, labels, 4, 1, TRINE_EUCLIDEAN, 1, &r));
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
    ASSERT_FAILS(TRINE_ERR_DATA, measure(data, labels, 4, 1, TRINE_EUCLIDEAN, 0, &r));
    ASSERT_FAILS(TRINE_ERR_DATA, measure(data, labels, 1, 1, TRINE_EUCLIDEAN, 0, &r));
    ASSERT_FAILS(TRINE_ERR_DATA, measure(data, labels, 0, 1, TRINE_EUCLIDEAN, 0, &r));
    ASSERT_FAILS(TRINE_ERR_ARG, measure(data, labels, 4, 0, TRINE_EUCLIDEAN, 0, &r));
    ASSERT_FAILS(TRINE_ERR_ARG, measure(data, labels, 4, 1, (trine_distance)9, 0, &r));
    ASSERT_FAILS(TRINE_ERR_ARG, measure(data, labels, 4, 1, TRINE_EUCLIDEAN, -1, &r));
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

/* Not a benchmark: catches a quadratic selection or sums that were not vectorised. The bound, of processor time,
 * leaves room for sanitizers. $TRINE_TEST_LONG: 10000 x 512 as well. */
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
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        ASSERT_OK(measure(data, labels, (size_t)count, dim, TRINE_EUCLIDEAN, 0, &r));
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        const double seconds = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
        printf("retrieval of %d x %d: %.2f s of processors\n", count, dim, seconds);
        ck_assert_uint_eq(r.queries, (size_t)count);
        ck_assert_double_lt(seconds, s ? 60 : 20);
        free(data);
        free(labels);
    }
}
END_TEST

/* Clusters apart from each other are found whatever the first centres; a second call gives the same. */
START_TEST(clusters)
{
    enum { COUNT = 400, DIM = 9, CLASSES = 8 };
    static float data[COUNT * DIM];
    static int labels[COUNT], found[COUNT], again[COUNT];
    double information = 0;
    make(data, labels, COUNT, DIM, CLASSES, .02, 0, 3);
    const trine_cluster_options o = {.clusters = CLASSES, .seed = 11};
    ASSERT_OK(trine_cluster(dev.stream, data, COUNT, DIM, &o, found));
    ASSERT_OK(trine_cluster(dev.stream, data, COUNT, DIM, &o, again));
    ck_assert_mem_eq(found, again, sizeof found);
    ASSERT_OK(trine_mutual_information(labels, found, COUNT, &information));
    ck_assert_double_gt(information, .97);
    /* every vector is nearest to the mean of its own cluster */
    double means[CLASSES][DIM] = {{0}};
    int members[CLASSES] = {0};
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_ge(found[i], 0);
        ck_assert_int_lt(found[i], CLASSES);
        members[found[i]]++;
        for (int d = 0; d < DIM; d++) means[found[i]][d] += (double)data[i * DIM + d];
    }
    for (int k = 0; k < CLASSES; k++)
        for (int d = 0; d < DIM; d++) means[k][d] /= members[k];
    for (int i = 0; i < COUNT; i++) {
        double own = 0;
        for (int k = -1; k < CLASSES; k++) {
            double square = 0;
            for (int d = 0; d < DIM; d++) {
                const double x = (double)data[i * DIM + d] - means[k < 0 ? found[i] : k][d];
                square += x * x;
            }
            if (k < 0) own = square;
            ck_assert_double_ge(square, own * (1 - 1e-5));
        }
    }
}
END_TEST

/* As many clusters as vectors, equal vectors, one cluster, more than k-means++ serves. */
START_TEST(odd_clusters)
{
    enum { COUNT = 1500 };
    static float data[COUNT];
    static int found[COUNT], seen[COUNT];
    for (int i = 0; i < COUNT; i++) data[i] = (float)(i / 2);
    for (int k = 1; k <= COUNT; k += 1499) {
        const trine_cluster_options o = {.clusters = k, .seed = 1};
        ASSERT_OK(trine_cluster(dev.stream, data, COUNT, 1, &o, found));
        for (int i = 0; i < COUNT; i++) seen[i] = 0;
        for (int i = 0; i < COUNT; i++) seen[found[i]] = 1;
        for (int j = 0; j < k; j++) ck_assert_msg(seen[j], "cluster %d of %d is empty", j, k);
    }
    const trine_cluster_options none = {.clusters = 0}, many = {.clusters = 5};
    ASSERT_FAILS(TRINE_ERR_ARG, trine_cluster(dev.stream, data, 4, 1, &none, found));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_cluster(dev.stream, data, 4, 1, &many, found));
    data[3] = NAN;
    ASSERT_FAILS(TRINE_ERR_DATA, trine_cluster(dev.stream, data, 8, 1, &many, found));
}
END_TEST

/* By hand: a = 0011, b = 0001: I = H(a) + H(b) - H(a, b) with H(a) = log 2, H(b) = 2 log 2 - 3/4 log 3, H(a, b) = 3/2 log 2. */
START_TEST(mutual_information)
{
    const int a[] = {0, 0, 1, 1}, b[] = {7, 7, 7, -2}, one[] = {3, 3, 3, 3}, renamed[] = {9, 9, 4, 4};
    const double ha = log(2), hb = 2 * log(2) - .75 * log(3), both = 1.5 * log(2);
    double got;
    ASSERT_OK(trine_mutual_information(a, b, 4, &got));
    ck_assert_double_eq_tol(got, (ha + hb - both) / ((ha + hb) / 2), 1e-14);
    ASSERT_OK(trine_mutual_information(a, renamed, 4, &got));
    ck_assert_double_eq_tol(got, 1, 1e-14);
    ASSERT_OK(trine_mutual_information(a, one, 4, &got));
    ck_assert_double_eq_tol(got, 0, 1e-14);
    ASSERT_OK(trine_mutual_information(one, one, 4, &got));
    ck_assert_double_eq(got, 1);
}
END_TEST

/* Classes: those of the whole, weighted by their queries; one without a positive is there, too. */
START_TEST(per_class)
{
    enum { COUNT = 60, DIM = 3 };
    float data[COUNT * DIM];
    int labels[COUNT];
    make(data, labels, COUNT, DIM, 5, 1, 0, 9);
    labels[7] = 1000;
    const trine_retrieval_options o = {.per_class = 1};
    trine_retrieval r;
    ASSERT_OK(trine_retrieval_measure(dev.stream, data, labels, COUNT, DIM, &o, &r));
    double sums[4] = {0};
    size_t count = 0, queries = 0;
    for (size_t k = 0; k < r.class_count; k++) {
        const trine_retrieval_class *c = &r.classes[k];
        if (k > 0) ck_assert_int_gt(c->label, r.classes[k - 1].label);
        count += c->count;
        queries += c->queries;
        const double means[] = {c->recall_at_1, c->r_precision, c->map_at_r, c->map};
        for (int i = 0; i < 4; i++) sums[i] += means[i] * (double)c->queries;
    }
    ck_assert_uint_eq(count, COUNT);
    ck_assert_uint_eq(queries, r.queries);
    ck_assert_uint_eq(queries, COUNT - 1);
    ck_assert_int_eq(r.classes[r.class_count - 1].label, 1000);
    ck_assert_uint_eq(r.classes[r.class_count - 1].queries, 0);
    const double all[] = {r.recall_at_1, r.r_precision, r.map_at_r, r.map};
    for (int i = 0; i < 4; i++) ck_assert_double_eq_tol(sums[i] / (double)queries, all[i], 1e-12);
    trine_retrieval_free(&r);
    ck_assert_ptr_null(r.classes);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("retrieval");
    TCase *tc = tcase_create("retrieval");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, against_brute_force);
    tcase_add_test(tc, by_hand);
    tcase_add_test(tc, all_equal);
    tcase_add_test(tc, nan_is_last);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, accuracy);
    tcase_add_test(tc, large);
    tcase_add_test(tc, clusters);
    tcase_add_test(tc, odd_clusters);
    tcase_add_test(tc, mutual_information);
    tcase_add_test(tc, per_class);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
