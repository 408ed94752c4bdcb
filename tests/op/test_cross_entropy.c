/* SPDX-License-Identifier: MIT */
/* Mean softmax cross-entropy against double, with its gradient; large logits, ties, bad labels, growing
 * batches. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ref/ref_loss.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/loss.h"

static const struct shape_case {
    int n, k;
    double size; /* of the logits */
} cases[] = {{1, 1, 1},   {1, 10, 3},  {5, 2, 1},    {64, 7, 4},    {65, 63, 1},
             {3, 64, 10}, {2, 65, 30}, {8, 1000, 5}, {300, 129, 80}};
enum { CASES = sizeof cases / sizeof cases[0] };

static trine_cross_entropy *op;

/* stats [2] of slot 2 and the gradient (may be NULL: loss only) */
static void run(const double *z, const int32_t *labels, int n, int k, double stats[2], double **dz)
{
    const trine_shape s = {n, k, 1, 1};
    test_report("cross_entropy", NULL, dz ? "gradient" : "loss");
    test_tensor tz = test_tensor_from(s, 1, z), tdz = test_tensor_create(s, 1);
    test_buffer lab = test_buffer_create((size_t)n), ring = test_buffer_create(8);
    test_buffer_write(&lab, labels, (size_t)n * sizeof *labels);
    ASSERT_OK(trine_cross_entropy_run(op, dev.stream, &tz.t, lab.buffer, dz ? &tdz.t : NULL, ring.buffer, 2));
    double *all = test_buffer_read(&ring);
    for (int i = 0; i < 8; i++)
        if (i / 2 != 2) ck_assert_msg(isnan(all[i]), "a neighbouring slot was written");
    stats[0] = all[4];
    stats[1] = all[5];
    free(all);
    if (dz) *dz = test_tensor_read(&tdz);
    test_tensor_release(&tz);
    test_tensor_release(&tdz);
    test_buffer_release(&lab);
    test_buffer_release(&ring);
}

static int32_t *make_labels(int n, int k)
{
    int32_t *labels = calloc((size_t)n, sizeof *labels);
    for (int i = 0; i < n; i++) labels[i] = (i * 7 + 3) % k;
    return labels;
}

START_TEST(test_against_reference)
{
    const struct shape_case *c = &cases[_i];
    const trine_shape s = {c->n, c->k, 1, 1};
    double *z = test_random(test_dense(s), 31, -c->size, c->size), *want = test_zeros(test_dense(s)), *dz;
    int32_t *labels = make_labels(c->n, c->k);
    for (int i = 0; i < c->n; i += 3) z[i * c->k + labels[i]] = c->size + 1; /* some hits */
    double stats[2], want_stats[2], alone[2];
    ref_cross_entropy(z, labels, c->n, c->k, want_stats, want);
    run(z, labels, c->n, c->k, stats, &dz);
    run(z, labels, c->n, c->k, alone, NULL);
    /* a logit's rounding (relative 2^-24 of up to 2 * size + 1) and a sum of k exponentials */
    const double relative = test_bound(2, c->k + 2 * (2 * c->size + 1) + 16, 1, 1);
    ck_assert_double_eq_tol(stats[0], want_stats[0], relative * (1 + 2 * c->size));
    ck_assert_double_eq_tol(stats[1], want_stats[1], 1e-6);
    ck_assert_double_eq(alone[0], stats[0]);
    ck_assert_double_eq(alone[1], stats[1]);
    test_compare("dlogits", dz, want, s, relative / c->n);
    free(z);
    free(dz);
    free(want);
    free(labels);
}
END_TEST

START_TEST(test_differences)
{
    enum { N = 4, K = 6 };
    double *z = test_random(N * K, 33, -3, 3), *dz, stats[2], loss[2][2];
    int32_t *labels = make_labels(N, K);
    run(z, labels, N, K, stats, &dz);
    const double h = 1e-6;
    for (int i = 0; i < N * K; i++) {
        const double keep = z[i];
        for (int side = 0; side < 2; side++) {
            z[i] = keep + (side ? h : -h);
            ref_cross_entropy(z, labels, N, K, loss[side], NULL);
        }
        z[i] = keep;
        ck_assert_double_eq_tol(dz[i], (loss[1][0] - loss[0][0]) / (2 * h), 1e-6);
    }
    free(z);
    free(dz);
    free(labels);
}
END_TEST

START_TEST(test_ties_and_extremes)
{
    /* equal logits: the lowest index is the largest; far apart; huge */
    const double z[] = {1, 1, 1, 0, 200, -200, 3e38, 3e38, 0};
    const int32_t labels[] = {0, 2, 1};
    double stats[2], want[2], *dz;
    run(z, labels, 3, 3, stats, &dz);
    ref_cross_entropy(z, labels, 3, 3, want, NULL);
    ck_assert_double_eq_tol(stats[0], want[0], 1e-4);
    ck_assert_double_eq_tol(stats[1], 1 / 3.0, 1e-6);
    ck_assert_double_eq_tol(dz[4], 1 / 3.0, 1e-7);
    ck_assert_double_eq_tol(dz[5], -1 / 3.0, 1e-7);
    ck_assert_double_eq_tol(dz[7], -0.5 / 3, 1e-7);
    free(dz);
}
END_TEST

START_TEST(test_nan)
{
    const double z[] = {0, 1, 2, 3}, bad[] = {0, 1, NAN, 3};
    const int32_t outside[] = {0, 2}, below[] = {-1, 0}, fine[] = {0, 1};
    double stats[2], *dz;
    run(z, outside, 2, 2, stats, &dz);
    ck_assert_double_nan(stats[0]);
    ck_assert_double_nan(dz[2]);
    ck_assert_double_nan(dz[3]);
    ck_assert(!isnan(dz[0]));
    free(dz);
    run(z, below, 2, 2, stats, NULL);
    ck_assert_double_nan(stats[0]);
    run(bad, fine, 2, 2, stats, &dz);
    ck_assert_double_nan(stats[0]);
    ck_assert_double_nan(dz[2]);
    ck_assert_double_nan(dz[3]);
    free(dz);
}
END_TEST

START_TEST(test_arguments)
{
    test_tensor z = test_tensor_create((trine_shape){4, 6, 1, 1}, 1),
                blocked = test_tensor_create((trine_shape){4, 6, 1, 1}, 8);
    test_tensor other = test_tensor_create((trine_shape){4, 7, 1, 1}, 1);
    test_buffer labels = test_buffer_create(4), few = test_buffer_create(3), stats = test_buffer_create(4);
    trine_stream *const st = dev.stream;
    trine_buffer *const lab = labels.buffer, *const ring = stats.buffer;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_cross_entropy_run(op, st, &blocked.t, lab, NULL, ring, 0));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_cross_entropy_run(op, st, &z.t, lab, &other.t, ring, 0));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_cross_entropy_run(op, st, &z.t, few.buffer, NULL, ring, 0));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_cross_entropy_run(op, st, &z.t, lab, NULL, ring, 2));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_cross_entropy_run(op, st, &z.t, lab, NULL, NULL, 0));
    test_tensor_release(&z);
    test_tensor_release(&blocked);
    test_tensor_release(&other);
    test_buffer_release(&labels);
    test_buffer_release(&few);
    test_buffer_release(&stats);
}
END_TEST

int main(void)
{
    test_device_open();
    if (trine_cross_entropy_create(dev.context, &op) != TRINE_OK) {
        printf("cross entropy: %s\n%s\n", trine_last_error(), trine_last_build_log());
        return EXIT_FAILURE;
    }
    Suite *suite = suite_create("cross_entropy");
    TCase *tc = tcase_create("cross_entropy");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_against_reference, 0, CASES);
    tcase_add_test(tc, test_differences);
    tcase_add_test(tc, test_ties_and_extremes);
    tcase_add_test(tc, test_nan);
    tcase_add_test(tc, test_arguments);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    trine_cross_entropy_destroy(&op);
    test_device_close();
    return result;
}
