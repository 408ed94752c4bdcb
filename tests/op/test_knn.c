/* SPDX-License-Identifier: MIT */
/* Nearest neighbours: distances within the bound that trine_knn_error() gives, and lists across tiles that are those of a sort. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ref/ref_knn.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/knn.h"

/* Around the tiles: 6, 8 and 14 queries, panels of 8 to 128 vectors, chunks of 64 dimensions. */
static const struct knn_case {
    int queries, base, dim;
} cases[] = {{1, 1, 1},   {2, 7, 3},      {6, 8, 16},   {7, 31, 63},    {13, 32, 64},  {14, 33, 65},
             {15, 64, 5}, {16, 127, 128}, {17, 128, 7}, {29, 129, 130}, {3, 200, 512}, {5, 40, 2048}};
enum { CASES = sizeof cases / sizeof cases[0] };
static const char *const names[] = {"euclidean", "squared", "cosine", "dot"};

static double length(const double *x, int dim)
{
    double square = 0;
    for (int d = 0; d < dim; d++) square += x[d] * x[d];
    return sqrt(square);
}

/* The tile that the device makes, checked against the reference; free() it. */
static double *check_tile(trine_knn *op, const struct knn_case *c, int distance, const double *q,
                          const double *b, const test_buffer *tq, const test_buffer *tb, test_buffer *tile)
{
    const int stride = trine_knn_stride(op, c->base);
    test_buffer work = test_workspace_create(trine_knn_workspace_bytes(op, c->queries, c->base));
    test_report("knn", NULL, names[distance]);
    ASSERT_OK(trine_knn_distances(op, dev.stream, tq->buffer, c->queries, tb->buffer, c->base, work.buffer,
                                  tile->buffer));
    double *got = test_buffer_read(tile);
    double worst = 0;
    for (int i = 0; i < c->queries; i++)
        for (int j = 0; j < c->base; j++) {
            const double *x = q + (size_t)i * (size_t)c->dim, *y = b + (size_t)j * (size_t)c->dim;
            const double want = ref_knn_distance(x, y, c->dim, distance),
                         is = got[(size_t)i * (size_t)stride + (size_t)j];
            double relative, absolute;
            trine_knn_error(op, length(x, c->dim), length(y, c->dim), &relative, &absolute);
            const double bound = relative * want + absolute, error = fabs(is - want);
            ck_assert_msg(error <= bound, "%s [%d][%d]: %.9g, want %.9g within %.3g", names[distance], i, j,
                          is, want, bound);
            if (error / bound > worst) worst = error / bound;
        }
    ck_assert_double_lt(worst, 0.6); /* a bound that is never near would be no bound of this sum */
    test_buffer_release(&work);
    return got;
}

START_TEST(test_distances)
{
    const struct knn_case *c = &cases[_i];
    if (test_small() && c->queries * c->base * c->dim > 8000) return;
    double *q, *b;
    test_buffer tq = test_buffer_random((size_t)c->queries * (size_t)c->dim, 1, -1, 2, &q),
                tb = test_buffer_random((size_t)c->base * (size_t)c->dim, 2, -1, 2, &b);
    for (int distance = TRINE_EUCLIDEAN; distance <= TRINE_DOT; distance++) {
        trine_knn *op;
        ASSERT_OK(trine_knn_create(dev.context, c->dim, (trine_distance)distance, &op));
        test_buffer tile = test_buffer_create((size_t)c->queries * (size_t)trine_knn_stride(op, c->base));
        double *got = check_tile(op, c, distance, q, b, &tq, &tb, &tile);
        if (!test_small()) {
            double *again = check_tile(op, c, distance, q, b, &tq, &tb, &tile);
            test_compare_exact("again", again, got,
                               test_vector((size_t)c->queries * (size_t)trine_knn_stride(op, c->base)));
            free(again);
        }
        free(got);
        test_buffer_release(&tile);
        trine_knn_destroy(&op);
    }
    free(q);
    free(b);
    test_buffer_release(&tq);
    test_buffer_release(&tb);
}
END_TEST

/* What is near is told apart though the vectors are long, equal vectors are at 0, and neither short nor long ones vanish or overflow. */
START_TEST(test_extremes)
{
    enum { DIM = 70, N = 6 }; /* more than a chunk */
    double x[N * DIM];
    for (int d = 0; d < DIM; d++) {
        const double wave = sin(d + 1.0);
        x[d] = 1000 + (d % 2);
        x[DIM + d] = x[d];
        x[2 * DIM + d] = x[d] + (d == 3 ? 1.0 / 1024 : 0);
        x[3 * DIM + d] = (float)(wave * 1e-15);
        x[4 * DIM + d] = (float)(wave * 1e18);
        x[5 * DIM + d] = d == 0 ? 3e-9 : 0; /* the cosine's clamp */
    }
    test_buffer tx = test_buffer_from(x, N * DIM, N * DIM);
    for (int i = 0; i < N * DIM; i++) x[i] = (double)(float)x[i];
    const struct knn_case c = {N, N, DIM};
    for (int distance = TRINE_SQUARED; distance <= TRINE_COSINE; distance++) {
        trine_knn *op;
        ASSERT_OK(trine_knn_create(dev.context, DIM, (trine_distance)distance, &op));
        const int stride = trine_knn_stride(op, N);
        test_buffer tile = test_buffer_create((size_t)(N * stride));
        double *got = check_tile(op, &c, distance, x, x, &tx, &tx, &tile);
        if (distance == TRINE_SQUARED) {
            ck_assert_double_eq(got[1], 0);
            ck_assert_double_eq(got[2], 1.0 / 1024 / 1024);
        }
        free(got);
        test_buffer_release(&tile);
        trine_knn_destroy(&op);
    }
    test_buffer_release(&tx);
}
END_TEST

/* Lists over tiles of different lengths, from distances made here: ties, NaN, infinity, each query's own. */
static void check_lists(int queries, int base, int k, int tile_length, int exclude, const double *rows)
{
    trine_knn *op;
    ASSERT_OK(trine_knn_create(dev.context, 4, TRINE_SQUARED, &op));
    test_buffer best = test_buffer_create((size_t)(queries * k)),
                at = test_buffer_create((size_t)(queries * k));
    const int self = exclude ? 1 : -1; /* query i is vector i + 1 */
    for (int first = 0; first < base; first += tile_length) {
        const int count = base - first < tile_length ? base - first : tile_length,
                  stride = trine_knn_stride(op, count);
        double *part = test_constant((size_t)(queries * stride), -1); /* behind the end: nearest of all */
        for (int i = 0; i < queries; i++)
            for (int j = 0; j < count; j++) part[i * stride + j] = rows[i * base + first + j];
        test_buffer tile = test_buffer_from(part, (size_t)(queries * stride), (size_t)(queries * stride));
        test_report("knn", NULL, "select");
        ASSERT_OK(trine_knn_select(op, dev.stream, tile.buffer, queries, count, first, self, first == 0, k,
                                   best.buffer, at.buffer));
        test_buffer_release(&tile);
        free(part);
    }
    double *distances = test_buffer_read(&best), *row = test_zeros((size_t)base);
    uint32_t *indices = test_buffer_read_words(&at);
    int *order = calloc((size_t)base, sizeof *order);
    for (int i = 0; i < queries; i++) {
        for (int j = 0; j < base; j++) row[j] = isnan(rows[i * base + j]) ? INFINITY : rows[i * base + j];
        const int others = ref_knn_order(row, base, exclude ? i + 1 : -1, order);
        for (int r = 0; r < k; r++) {
            const int there = r < others && isfinite(row[order[r]]);
            ck_assert_msg((int)indices[i * k + r] == (there ? order[r] : -1),
                          "%d of %d, tiles of %d, query %d rank %d: %d", k, base, tile_length, i, r,
                          (int)indices[i * k + r]);
            ck_assert_double_eq(distances[i * k + r], there ? row[order[r]] : INFINITY);
        }
    }
    free(order);
    free(indices);
    free(distances);
    free(row);
    test_buffer_release(&best);
    test_buffer_release(&at);
    trine_knn_destroy(&op);
}

START_TEST(test_lists)
{
    static const int shapes[][4] = {/* queries, base, k, tile */
                                    {1, 1, 1, 1},     {3, 5, 9, 2},      {2, 150, 1, 150},  {65, 20, 7, 9},
                                    {64, 100, 7, 33}, {65, 150, 20, 64}, {70, 130, 130, 65}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int kind = test_small() ? 2 : 0; kind < 3;
             kind++) { /* apart, few values, few values with NaN and infinity */
            const int queries = shapes[s][0], base = shapes[s][1];
            if (test_small() && queries * base > 1500) continue;
            double *rows = test_random((size_t)(queries * base), 7 + s, 0, 1);
            for (int i = 0; kind > 0 && i < queries * base; i++) rows[i] = floor(rows[i] * 8);
            for (int i = 0; kind > 1 && i < queries * base; i++)
                rows[i] = rows[i] == 1 ? NAN : rows[i] == 2 ? INFINITY : rows[i];
            for (int exclude = 0; exclude <= 1; exclude++)
                check_lists(queries, base, shapes[s][2], shapes[s][3], exclude, rows);
            free(rows);
        }
}
END_TEST

START_TEST(test_arguments)
{
    trine_knn *op = NULL;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_knn_create(dev.context, 0, TRINE_SQUARED, &op));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_knn_create(dev.context, 1, (trine_distance)4, &op));
    ck_assert_ptr_null(op);
    ASSERT_OK(trine_knn_create(dev.context, 8, TRINE_SQUARED, &op));
    test_buffer few = test_buffer_create(8), enough = test_buffer_create(8192);
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_knn_distances(op, dev.stream, few.buffer, 2, enough.buffer, 2,
                                                      enough.buffer, enough.buffer));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_knn_distances(op, dev.stream, few.buffer, 1, few.buffer, 2,
                                                      enough.buffer, enough.buffer));
    ASSERT_FAILS(TRINE_ERR_WORKSPACE, trine_knn_distances(op, dev.stream, few.buffer, 1, few.buffer, 1,
                                                          few.buffer, enough.buffer));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_knn_distances(op, dev.stream, enough.buffer, 2, few.buffer, 1,
                                                      enough.buffer, few.buffer));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_knn_distances(op, dev.stream, few.buffer, 1 << 30, few.buffer,
                                                      1 << 30, enough.buffer, few.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_knn_select(op, dev.stream, enough.buffer, 1, 1, 0, -1, 1, 0, few.buffer, few.buffer));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_knn_select(op, dev.stream, enough.buffer, 1, 1, 0, -1, 1, 9,
                                                   few.buffer, enough.buffer));
    ck_assert_uint_eq(trine_knn_workspace_bytes(op, 1 << 30, 1 << 30), 0);
    test_buffer_release(&few);
    test_buffer_release(&enough);
    trine_knn_destroy(&op);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("knn");
    TCase *tc = tcase_create("knn");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_distances, 0, CASES);
    tcase_add_test(tc, test_extremes);
    tcase_add_test(tc, test_lists);
    tcase_add_test(tc, test_arguments);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
