/* SPDX-License-Identifier: MIT */
/* L2 normalisation of rows, forward and backward, also in place and where the norm is clamped. */
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
    int n, d, cb;
} cases[] = {{1, 1, 1},  {1, 5, 8},   {3, 16, 16}, {7, 17, 16},  {5, 63, 1},
             {4, 64, 8}, {2, 65, 16}, {9, 130, 4}, {2, 2048, 1}, {300, 33, 8}};
enum { CASES = sizeof cases / sizeof cases[0] };

static trine_l2norm *op;

START_TEST(test_rows)
{
    const struct shape_case *c = &cases[_i];
    const trine_shape s = {c->n, c->d, 1, 1};
    double *x, *dy;
    test_tensor tx = test_tensor_random(s, c->cb, 11, -2, 2, &x),
                tdy = test_tensor_random(s, c->cb, 12, -1, 1, &dy);
    test_tensor ty = test_tensor_create(s, c->cb), tdx = test_tensor_create(s, c->cb);
    test_buffer norms = test_buffer_create((size_t)c->n);
    double *y = test_zeros(test_dense(s)), *dx = test_zeros(test_dense(s)), *want = test_zeros((size_t)c->n);
    ref_l2norm_forward(x, c->n, c->d, y, want);
    ref_l2norm_backward(x, dy, c->n, c->d, dx);
    test_report("l2norm", NULL, "forward");
    ASSERT_OK(trine_l2norm_forward(op, dev.stream, &tx.t, &ty.t, norms.buffer));
    ASSERT_OK(trine_l2norm_backward(op, dev.stream, &ty.t, norms.buffer, &tdy.t, &tdx.t));
    /* sums of d products of magnitude up to 4, and 1 for y * dy divided by the smallest norm */
    double smallest = INFINITY;
    for (int i = 0; i < c->n; i++) smallest = fmin(smallest, want[i]);
    double *got_norms = test_buffer_read(&norms), *got_y = test_tensor_read(&ty),
           *got_dx = test_tensor_read(&tdx);
    test_compare("norms", got_norms, want, test_vector((size_t)c->n), test_bound(2, c->d + 8, 2, 2));
    test_compare("y", got_y, y, s, test_bound(2, c->d + 8, 1, 1));
    test_report("l2norm", NULL, "backward");
    test_compare("dx", got_dx, dx, s, test_bound(4, c->d + 8, 1, 1 / smallest));
    /* in place */
    ASSERT_OK(trine_l2norm_forward(op, dev.stream, &tx.t, &tx.t, norms.buffer));
    ASSERT_OK(trine_l2norm_backward(op, dev.stream, &tx.t, norms.buffer, &tdy.t, &tdy.t));
    double *again_y = test_tensor_read(&tx), *again_dx = test_tensor_read(&tdy);
    test_compare_exact("y in place", again_y, got_y, s);
    test_compare_exact("dx in place", again_dx, got_dx, s);
    double *const arrays[] = {x, dy, y, dx, want, got_norms, got_y, got_dx, again_y, again_dx};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_tensor *const tensors[] = {&tx, &ty, &tdx, &tdy};
    for (size_t i = 0; i < 4; i++) test_tensor_release(tensors[i]);
    test_buffer_release(&norms);
}
END_TEST

/* dx against central differences of sum(dy * y). */
START_TEST(test_differences)
{
    enum { N = 3, D = 7 };
    const trine_shape s = {N, D, 1, 1};
    double *x, *dy, y[N * D], norms[N];
    test_tensor tx = test_tensor_random(s, 1, 21, -2, 2, &x), tdy = test_tensor_random(s, 1, 22, -1, 1, &dy);
    test_tensor ty = test_tensor_create(s, 1);
    test_buffer tnorms = test_buffer_create(N);
    ASSERT_OK(trine_l2norm_forward(op, dev.stream, &tx.t, &ty.t, tnorms.buffer));
    ASSERT_OK(trine_l2norm_backward(op, dev.stream, &ty.t, tnorms.buffer, &tdy.t, &tdy.t));
    double *dx = test_tensor_read(&tdy);
    const double h = 1e-6;
    for (int k = 0; k < N * D; k++) {
        double value[2] = {0, 0};
        const double keep = x[k];
        for (int side = 0; side < 2; side++) {
            x[k] = keep + (side ? h : -h);
            ref_l2norm_forward(x, N, D, y, norms);
            for (int i = 0; i < N * D; i++) value[side] += dy[i] * y[i];
        }
        x[k] = keep;
        ck_assert_double_eq_tol(dx[k], (value[1] - value[0]) / (2 * h), 1e-5);
    }
    free(x);
    free(dy);
    free(dx);
    test_tensor_release(&tx);
    test_tensor_release(&ty);
    test_tensor_release(&tdy);
    test_buffer_release(&tnorms);
}
END_TEST

/* A row of zeros, one shorter than 1e-12, and NaN. */
START_TEST(test_clamped)
{
    const trine_shape s = {3, 2, 1, 1};
    const double x[] = {0, 0, 3e-14, 4e-14, NAN, 1}, dy[] = {1, -2, 1, -2, 1, 1};
    test_tensor tx = test_tensor_from(s, 1, x), tdy = test_tensor_from(s, 1, dy);
    test_buffer norms = test_buffer_create(3);
    ASSERT_OK(trine_l2norm_forward(op, dev.stream, &tx.t, &tx.t, norms.buffer));
    ASSERT_OK(trine_l2norm_backward(op, dev.stream, &tx.t, norms.buffer, &tdy.t, &tdy.t));
    double *y = test_tensor_read(&tx), *dx = test_tensor_read(&tdy), *length = test_buffer_read(&norms);
    ck_assert_double_eq(y[0], 0);
    ck_assert_double_eq(y[1], 0);
    ck_assert_double_eq_tol(y[2], 0.03, 1e-7);
    ck_assert_double_eq_tol(y[3], 0.04, 1e-7);
    ck_assert_double_nan(y[4]);
    ck_assert_double_nan(y[5]);
    ck_assert_double_eq(length[0], 0);
    ck_assert_double_eq_tol(length[1], 5e-14, 1e-19);
    for (int i = 0; i < 4; i++) ck_assert_double_eq_tol(dx[i], dy[i] / 1e-12, 1e6);
    free(y);
    free(dx);
    free(length);
    test_tensor_release(&tx);
    test_tensor_release(&tdy);
    test_buffer_release(&norms);
}
END_TEST

START_TEST(test_arguments)
{
    test_tensor x = test_tensor_create((trine_shape){4, 6, 1, 1}, 1),
                y = test_tensor_create((trine_shape){4, 6, 1, 1}, 8);
    test_tensor image = test_tensor_create((trine_shape){4, 3, 1, 2}, 1);
    test_buffer norms = test_buffer_create(3);
    trine_tensor odd = x.t;
    odd.cb = 3;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_l2norm_forward(op, dev.stream, &image.t, &image.t, norms.buffer));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_l2norm_forward(op, dev.stream, &x.t, &y.t, norms.buffer));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_l2norm_forward(op, dev.stream, &x.t, &x.t, norms.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_l2norm_forward(op, dev.stream, &x.t, &x.t, NULL));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_l2norm_forward(op, dev.stream, &odd, &odd, norms.buffer));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_l2norm_backward(op, dev.stream, &x.t, norms.buffer, &x.t, &x.t));
    test_tensor_release(&x);
    test_tensor_release(&y);
    test_tensor_release(&image);
    test_buffer_release(&norms);
}
END_TEST

int main(void)
{
    test_device_open();
    if (trine_l2norm_create(dev.context, &op) != TRINE_OK) {
        printf("l2norm: %s\n%s\n", trine_last_error(), trine_last_build_log());
        return EXIT_FAILURE;
    }
    Suite *suite = suite_create("l2norm");
    TCase *tc = tcase_create("l2norm");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_rows, 0, CASES);
    tcase_add_test(tc, test_differences);
    tcase_add_test(tc, test_clamped);
    tcase_add_test(tc, test_arguments);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    trine_l2norm_destroy(&op);
    test_device_close();
    return result;
}
