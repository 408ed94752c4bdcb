/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ref/ref_elementwise.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/elementwise.h"

static trine_elementwise *op;

typedef struct tensor_case {
    int small; /* 1: also with $TRINE_TEST_SMALL */
    int cb;
    trine_shape shape;
} tensor_case;

static const tensor_case cases[] = {
    {1, 1, {1, 1, 1, 1}},      {1, 1, {2, 3, 5, 7}},   {1, 16, {1, 5, 3, 2}},    {1, 8, {2, 9, 1, 3}},
    {1, 4, {1, 8, 4, 4}},      {0, 2, {3, 7, 11, 13}}, {0, 16, {2, 64, 28, 28}}, {0, 8, {1, 65, 56, 55}},
    {0, 1, {1, 1, 1, 15}},     {0, 1, {1, 1, 1, 17}},  {0, 1, {1, 1, 41, 401}},  {0, 4, {5, 1, 31, 1}},
    {0, 16, {1, 16, 112, 97}}, {0, 1, {7, 10, 1, 63}}, {0, 1, {1, 129, 1, 65}},
};
enum { CASES = sizeof cases / sizeof cases[0] };

START_TEST(test_relu)
{
    const tensor_case *c = &cases[_i];
    if (test_small() && !c->small) return;
    test_report("relu", NULL, "forward");
    const size_t count = test_dense(c->shape);
    double *x = test_random(count, 1, -1, 1), *dy = NULL, *want = test_zeros(count),
           *want_dx = test_zeros(count);
    x[count / 2] = NAN;
    x[count / 3] = -INFINITY;
    x[0] = count > 3 ? 0 : x[0];
    ref_relu_forward(count, x, want);
    test_tensor tx = test_tensor_from(c->shape, c->cb, x), ty = test_tensor_create(c->shape, c->cb);
    ASSERT_OK(trine_relu_forward(op, dev.stream, &tx.t, &ty.t));
    double *y = test_tensor_read(&ty);
    test_compare_exact("relu forward", y, want, c->shape);
    ASSERT_OK(trine_relu_forward(op, dev.stream, &tx.t, &tx.t));
    double *in_place = test_tensor_read(&tx);
    test_compare_exact("relu in place", in_place, want, c->shape);

    test_tensor tdy = test_tensor_random(c->shape, c->cb, 2, -1, 1, &dy),
                tdx = test_tensor_create(c->shape, c->cb);
    ref_relu_backward(count, want, dy, want_dx);
    test_report("relu", NULL, "backward");
    ASSERT_OK(trine_relu_backward(op, dev.stream, &ty.t, &tdy.t, &tdx.t));
    double *dx = test_tensor_read(&tdx);
    test_compare_exact("relu backward", dx, want_dx, c->shape);
    ASSERT_OK(trine_relu_backward(op, dev.stream, &ty.t, &tdy.t, &tdy.t));
    double *dx_in_place = test_tensor_read(&tdy);
    test_compare_exact("relu backward in place", dx_in_place, want_dx, c->shape);
    double *arrays[] = {x, dy, want, want_dx, y, in_place, dx, dx_in_place};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_tensor *tensors[] = {&tx, &ty, &tdy, &tdx};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) test_tensor_release(tensors[i]);
}
END_TEST

START_TEST(test_add)
{
    const tensor_case *c = &cases[_i];
    if (test_small() && !c->small) return;
    test_report("add", NULL, "forward");
    const size_t count = test_dense(c->shape);
    double *a = NULL, *b = NULL, *want = test_zeros(count);
    test_tensor ta = test_tensor_random(c->shape, c->cb, 1, -1, 1, &a),
                tb = test_tensor_random(c->shape, c->cb, 2, -1, 1, &b);
    test_tensor ty = test_tensor_create(c->shape, c->cb);
    ref_add(count, a, b, want);
    ASSERT_OK(trine_add(op, dev.stream, &ta.t, &tb.t, &ty.t));
    double *y = test_tensor_read(&ty);
    test_compare("add", y, want, c->shape, test_bound(1, 1, 2, 1));
    ASSERT_OK(trine_add(op, dev.stream, &ta.t, &tb.t, &ta.t));
    double *in_place = test_tensor_read(&ta);
    test_compare_exact("add in place", in_place, y, c->shape);
    ref_add(count, b, b, want);
    ASSERT_OK(trine_add(op, dev.stream, &tb.t, &tb.t, &tb.t));
    double *twice = test_tensor_read(&tb);
    test_compare_exact("add to itself", twice, want, c->shape);
    double *arrays[] = {a, b, want, y, in_place, twice};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_tensor_release(&ta);
    test_tensor_release(&tb);
    test_tensor_release(&ty);
}
END_TEST

/* Every pair of layouts. */
START_TEST(test_reorder)
{
    static const int blocks[] = {1, 2, 4, 8, 16};
    static const trine_shape shapes[] = {{1, 1, 1, 1}, {2, 3, 5, 7}, {1, 17, 3, 1}, {3, 33, 9, 11}};
    const int from = blocks[_i / 5], to = blocks[_i % 5];
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (test_small() && (i > 1 || (from != 1 && to != 16))) continue;
        test_report("reorder", NULL, "forward");
        double *x = NULL;
        test_tensor tx = test_tensor_random(shapes[i], from, 1, -1, 1, &x),
                    ty = test_tensor_create(shapes[i], to);
        ASSERT_OK(trine_reorder(op, dev.stream, &tx.t, &ty.t));
        double *y = test_tensor_read(&ty);
        test_compare_exact("reorder", y, x, shapes[i]);
        free(x);
        free(y);
        test_tensor_release(&tx);
        test_tensor_release(&ty);
    }
}
END_TEST

typedef struct subsample_case {
    int small, cb, n, c, h, w, k, stride, first;
} subsample_case;

static const subsample_case subsamples[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 0},  {1, 1, 2, 3, 5, 7, 8, 2, 2},      {1, 8, 1, 4, 6, 6, 8, 2, 2},
    {1, 4, 1, 4, 4, 5, 12, 2, 4}, {0, 16, 2, 16, 32, 32, 32, 2, 8}, {0, 16, 2, 32, 16, 16, 64, 2, 16},
    {0, 8, 1, 5, 9, 7, 31, 3, 9}, {0, 2, 3, 6, 10, 11, 6, 1, 0},    {0, 16, 1, 3, 8, 8, 40, 4, 37},
    {1, 4, 2, 8, 4, 5, 16, 2, 6}, {1, 1, 2, 3, 4, 4, 7, 2, 2},
};

START_TEST(test_subsample)
{
    const subsample_case *c = &subsamples[_i];
    if (test_small() && !c->small) return;
    const ref_subsample ref = {c->n, c->c, c->h, c->w, c->k, c->stride, c->first};
    const trine_shape in = {c->n, c->c, c->h, c->w};
    const trine_shape out = {c->n, c->k, (c->h + c->stride - 1) / c->stride,
                             (c->w + c->stride - 1) / c->stride};
    double *x = NULL, *dy = NULL, *want = test_zeros(test_dense(out)), *want_dx = test_zeros(test_dense(in));
    test_tensor tx = test_tensor_random(in, c->cb, 1, -1, 1, &x), ty = test_tensor_create(out, c->cb);
    test_tensor tdy = test_tensor_random(out, c->cb, 2, -1, 1, &dy), tdx = test_tensor_create(in, c->cb);
    ref_subsample_forward(&ref, x, want);
    test_report("subsample", NULL, "forward");
    ASSERT_OK(trine_subsample_forward(op, dev.stream, &tx.t, c->stride, c->first, &ty.t));
    double *y = test_tensor_read(&ty);
    test_compare_exact("subsample forward", y, want, out);
    test_report("subsample", NULL, "backward");
    ref_subsample_backward(&ref, dy, want_dx);
    ASSERT_OK(trine_subsample_backward(op, dev.stream, &tdy.t, c->stride, c->first, 0, &tdx.t));
    double *dx = test_tensor_read(&tdx);
    test_compare_exact("subsample backward", dx, want_dx, in);
    ref_add(test_dense(in), x, want_dx, want_dx);
    ASSERT_OK(trine_subsample_backward(op, dev.stream, &tdy.t, c->stride, c->first, 1, &tx.t));
    double *sum = test_tensor_read(&tx);
    test_compare("subsample backward, accumulated", sum, want_dx, in, test_bound(1, 1, 2, 1));
    double *arrays[] = {x, dy, want, want_dx, y, dx, sum};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_tensor *tensors[] = {&tx, &ty, &tdy, &tdx};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) test_tensor_release(tensors[i]);
}
END_TEST

START_TEST(test_channel_sum)
{
    const tensor_case *c = &cases[_i];
    if (test_small() && !c->small) return;
    test_report("channel_sum", NULL, "forward");
    const trine_shape s = c->shape;
    const size_t channels = (size_t)s.c, pixels = (size_t)s.h * (size_t)s.w;
    double *x = NULL, *start = NULL, *want = test_zeros(channels);
    test_tensor tx = test_tensor_random(s, c->cb, 1, -1, 1, &x);
    test_buffer fresh = test_buffer_create(channels), sum = test_buffer_random(channels, 2, -1, 1, &start);
    ref_channel_sum(s.n, s.c, pixels, x, want);
    const double bound = test_bound(1, (double)pixels * s.n + 1, 1, 1);
    ASSERT_OK(trine_channel_sum(op, dev.stream, &tx.t, 0, fresh.buffer));
    double *got = test_buffer_read(&fresh);
    test_compare("channel_sum", got, want, test_vector(channels), bound);
    ASSERT_OK(trine_channel_sum(op, dev.stream, &tx.t, 1, sum.buffer));
    double *accumulated = test_buffer_read(&sum);
    ref_add(channels, start, want, want);
    test_compare("channel_sum, accumulated", accumulated, want, test_vector(channels), bound);
    double *arrays[] = {x, start, want, got, accumulated};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_tensor_release(&tx);
    test_buffer_release(&fresh);
    test_buffer_release(&sum);
}
END_TEST

START_TEST(test_refused)
{
    test_tensor a = test_tensor_create((trine_shape){1, 4, 3, 3}, 4),
                b = test_tensor_create((trine_shape){1, 4, 3, 2}, 4);
    test_tensor c = test_tensor_create((trine_shape){1, 4, 3, 3}, 1);
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_relu_forward(op, dev.stream, &a.t, &b.t));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_relu_forward(op, dev.stream, &a.t, &c.t));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_relu_backward(op, dev.stream, &a.t, &b.t, &a.t));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_add(op, dev.stream, &a.t, &a.t, &b.t));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_reorder(op, dev.stream, &a.t, &b.t));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_reorder(op, dev.stream, &a.t, &a.t));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_subsample_forward(op, dev.stream, &a.t, 2, 0, &b.t));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_subsample_forward(op, dev.stream, &a.t, 0, 0, &b.t));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_subsample_backward(op, dev.stream, &a.t, 1, 0, 2, &a.t));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_channel_sum(op, dev.stream, &a.t, 2, b.t.buffer));
    test_buffer small = test_buffer_create(3);
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_channel_sum(op, dev.stream, &a.t, 0, small.buffer));
    trine_tensor large = a.t;
    large.shape.n = 2; /* more than its buffer holds */
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_relu_forward(op, dev.stream, &large, &large));
    test_tensor_release(&a);
    test_tensor_release(&b);
    test_tensor_release(&c);
    test_buffer_release(&small);
}
END_TEST

int main(void)
{
    test_device_open();
    if (trine_elementwise_create(dev.context, &op) != TRINE_OK) return EXIT_FAILURE;
    Suite *suite = suite_create("elementwise");
    TCase *tcase = tcase_create("elementwise");
    tcase_add_loop_test(tcase, test_relu, 0, CASES);
    tcase_add_loop_test(tcase, test_add, 0, CASES);
    tcase_add_loop_test(tcase, test_reorder, 0, 25);
    tcase_add_loop_test(tcase, test_subsample, 0, (int)(sizeof subsamples / sizeof subsamples[0]));
    tcase_add_loop_test(tcase, test_channel_sum, 0, CASES);
    tcase_add_test(tcase, test_refused);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    trine_elementwise_destroy(&op);
    test_device_close();
    return result;
}
