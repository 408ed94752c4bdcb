/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ref/ref_linear.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/linear.h"

static const char *const algorithms[] = {"linear_plain", "linear_clblast"};

typedef struct linear_case {
    int small; /* 1: also with $TRINE_TEST_SMALL */
    int n, c, k, cb;
} linear_case;

static const linear_case cases[] = {
    {1, 1, 1, 1, 1},     {1, 2, 3, 5, 1},     {1, 5, 17, 3, 16},   {1, 3, 8, 7, 8},
    {1, 4, 16, 2, 16},   {0, 1, 512, 10, 16}, {0, 9, 31, 33, 4},   {0, 8, 512, 100, 16},
    {0, 17, 64, 65, 16}, {0, 7, 127, 1, 2},   {0, 3, 1, 130, 16},  {0, 8, 2048, 37, 16},
    {0, 2, 63, 64, 1},   {0, 8, 15, 4, 1},    {0, 33, 100, 12, 8}, {0, 8, 512, 1000, 16},
    {0, 1, 64, 10, 16},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* One operator with its operands. */
typedef struct fixture {
    trine_linear *op;
    char name[96];
    double *x, *w, *b, *dy;
    test_tensor tx, tdy;
    test_buffer bw, bb, workspace;
} fixture;

static fixture setup(const linear_case *c, const char *algorithm)
{
    fixture f = {0};
    snprintf(f.name, sizeof f.name, "%s n %d c %d k %d cb %d", algorithm, c->n, c->c, c->k, c->cb);
    ASSERT_OK(trine_linear_create(dev.context, c->c, c->k, c->n, algorithm, &f.op));
    ck_assert_str_eq(trine_linear_algorithm(f.op, TRINE_FORWARD), algorithm);
    f.tx = test_tensor_random((trine_shape){c->n, c->c, 1, 1}, c->cb, 1, -1, 1, &f.x);
    f.tdy = test_tensor_random((trine_shape){c->n, c->k, 1, 1}, 1, 2, -1, 1, &f.dy);
    f.bw = test_buffer_random((size_t)c->k * (size_t)c->c, 3, -1, 1, &f.w);
    f.bb = test_buffer_random((size_t)c->k, 4, -1, 1, &f.b);
    f.workspace = test_workspace_create(trine_linear_workspace_bytes(f.op, dev.stream, c->n));
    return f;
}

static void teardown(fixture *f)
{
    free(f->x);
    free(f->w);
    free(f->b);
    free(f->dy);
    test_tensor_release(&f->tx);
    test_tensor_release(&f->tdy);
    test_buffer_release(&f->bw);
    test_buffer_release(&f->bb);
    test_buffer_release(&f->workspace);
    trine_linear_destroy(&f->op);
}

/* The case and the algorithm of a loop test's index; NULL: not in this run. */
static const linear_case *pick(int i, const char *pass, const char **algorithm)
{
    const linear_case *c = &cases[i / 2];
    *algorithm = algorithms[i % 2];
    if (test_small() && !c->small) return NULL;
    if (test_small() && i % 2 == 1) {
        test_report_skip("linear", *algorithm, pass,
                         "CLBlast's kernels take minutes on slow implementations");
        return NULL;
    }
    test_report("linear", *algorithm, pass);
    return c;
}

START_TEST(test_forward)
{
    const char *algorithm;
    const linear_case *c = pick(_i, "forward", &algorithm);
    if (!c) return;
    fixture f = setup(c, algorithm);
    const trine_shape out = {c->n, c->k, 1, 1};
    double *want = test_zeros(test_dense(out));
    for (int with_bias = 0; with_bias < 2; with_bias++) {
        test_tensor ty = test_tensor_create(out, 1);
        ref_linear_forward(c->n, c->c, c->k, f.x, f.w, with_bias ? f.b : NULL, want);
        ASSERT_OK(trine_linear_forward(f.op, dev.stream, &f.tx.t, f.bw.buffer, with_bias ? f.bb.buffer : NULL,
                                       &ty.t, f.workspace.buffer));
        double *y = test_tensor_read(&ty);
        test_compare(f.name, y, want, out, test_bound(4, c->c + 1, 1, 1));
        free(y);
        test_tensor_release(&ty);
    }
    free(want);
    teardown(&f);
}
END_TEST

START_TEST(test_backward_data)
{
    const char *algorithm;
    const linear_case *c = pick(_i, "backward_data", &algorithm);
    if (!c) return;
    fixture f = setup(c, algorithm);
    const trine_shape in = {c->n, c->c, 1, 1};
    test_tensor tdx = test_tensor_create(in, c->cb);
    double *want = test_zeros(test_dense(in));
    ref_linear_backward_data(c->n, c->c, c->k, f.dy, f.w, want);
    ASSERT_OK(
        trine_linear_backward_data(f.op, dev.stream, &f.tdy.t, f.bw.buffer, &tdx.t, f.workspace.buffer));
    double *dx = test_tensor_read(&tdx);
    test_compare(f.name, dx, want, in, test_bound(4, c->k + 1, 1, 1));
    free(dx);
    free(want);
    test_tensor_release(&tdx);
    teardown(&f);
}
END_TEST

START_TEST(test_backward_weights)
{
    const char *algorithm;
    const linear_case *c = pick(_i, "backward_weights", &algorithm);
    if (!c) return;
    fixture f = setup(c, algorithm);
    const size_t weights = (size_t)c->k * (size_t)c->c, biases = (size_t)c->k;
    const trine_shape shape = {1, 1, c->k, c->c};
    double *want_w = test_zeros(weights), *want_b = test_zeros(biases), *start_w = NULL, *start_b = NULL;
    ref_linear_backward_weights(c->n, c->c, c->k, f.x, f.dy, want_w, want_b);
    const double bound = test_bound(4, c->n + 2, 1, 1);
    for (int beta = 0; beta < 2; beta++) {
        test_buffer dw = beta ? test_buffer_random(weights, 5, -1, 1, &start_w) : test_buffer_create(weights);
        test_buffer db = beta ? test_buffer_random(biases, 6, -1, 1, &start_b) : test_buffer_create(biases);
        for (size_t i = 0; beta && i < weights; i++) want_w[i] += start_w[i];
        for (size_t i = 0; beta && i < biases; i++) want_b[i] += start_b[i];
        ASSERT_OK(trine_linear_backward_weights(f.op, dev.stream, &f.tx.t, &f.tdy.t, beta, dw.buffer,
                                                db.buffer, f.workspace.buffer));
        double *got_w = test_buffer_read(&dw), *got_b = test_buffer_read(&db);
        test_compare(f.name, got_w, want_w, shape, bound);
        test_compare(f.name, got_b, want_b, test_vector(biases), bound);
        free(got_w);
        free(got_b);
        test_buffer_release(&dw);
        test_buffer_release(&db);
    }
    /* without a bias */
    test_buffer dw = test_buffer_create(weights);
    ASSERT_OK(trine_linear_backward_weights(f.op, dev.stream, &f.tx.t, &f.tdy.t, 0, dw.buffer, NULL,
                                            f.workspace.buffer));
    test_device_sync();
    test_buffer_release(&dw);
    double *arrays[] = {want_w, want_b, start_w, start_b};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    teardown(&f);
}
END_TEST

/* A NaN reaches exactly the outputs that it belongs to. */
START_TEST(test_nan)
{
    const linear_case c = {1, 5, 17, 9, 16};
    fixture f = setup(&c, "linear_plain");
    f.x[2 * c.c + 16] = NAN;
    test_tensor tx = test_tensor_from((trine_shape){c.n, c.c, 1, 1}, c.cb, f.x);
    test_tensor ty = test_tensor_create((trine_shape){c.n, c.k, 1, 1}, 1);
    ASSERT_OK(trine_linear_forward(f.op, dev.stream, &tx.t, f.bw.buffer, f.bb.buffer, &ty.t, NULL));
    double *y = test_tensor_read(&ty);
    for (int n = 0; n < c.n; n++)
        for (int k = 0; k < c.k; k++) ck_assert_int_eq(!!isnan(y[n * c.k + k]), n == 2);
    free(y);
    test_tensor_release(&tx);
    test_tensor_release(&ty);
    teardown(&f);
}
END_TEST

START_TEST(test_refused)
{
    trine_linear *none = NULL;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_linear_create(dev.context, 0, 1, 0, NULL, &none));
    ASSERT_FAILS(TRINE_ERR_UNSUPPORTED, trine_linear_create(dev.context, 1, 1, 0, "linear_magic", &none));
    ck_assert_ptr_null(none);
    const linear_case c = {1, 3, 8, 7, 8};
    fixture f = setup(&c, "linear_plain");
    test_tensor ty = test_tensor_create((trine_shape){c.n, c.k, 1, 1}, 1);
    trine_tensor wrong = ty.t;
    wrong.shape.c = 6;
    ASSERT_FAILS(TRINE_ERR_SHAPE,
                 trine_linear_forward(f.op, dev.stream, &f.tx.t, f.bw.buffer, NULL, &wrong, NULL));
    wrong = f.tx.t;
    wrong.shape.h = 2;
    ASSERT_FAILS(TRINE_ERR_SHAPE,
                 trine_linear_forward(f.op, dev.stream, &wrong, f.bw.buffer, NULL, &ty.t, NULL));
    ASSERT_FAILS(TRINE_ERR_SHAPE,
                 trine_linear_forward(f.op, dev.stream, &f.tx.t, f.bb.buffer, NULL, &ty.t, NULL));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_linear_backward_weights(f.op, dev.stream, &f.tx.t, &f.tdy.t, 2,
                                                              f.bw.buffer, NULL, NULL));
    trine_linear_destroy(&f.op);
    ASSERT_OK(trine_linear_create(dev.context, c.c, c.k, 0, NULL, &f.op));
    test_tensor_release(&ty);
    teardown(&f);
}
END_TEST

/* What is enough for a batch is enough for fewer images. */
START_TEST(test_workspace)
{
    trine_linear *op = NULL;
    ASSERT_OK(trine_linear_create(dev.context, 128, 64, 0, algorithms[_i], &op));
    for (int n = 1; n <= 256; n = n < 8 ? n + 1 : n * 2) {
        const size_t most = trine_linear_workspace_bytes(op, dev.stream, n);
        for (int fewer = n > 20 ? n - 20 : 1; fewer < n; fewer++)
            ck_assert_uint_le(trine_linear_workspace_bytes(op, dev.stream, fewer), most);
    }
    trine_linear_destroy(&op);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("linear");
    TCase *tcase = tcase_create("linear");
    tcase_add_loop_test(tcase, test_forward, 0, 2 * CASES);
    tcase_add_loop_test(tcase, test_backward_data, 0, 2 * CASES);
    tcase_add_loop_test(tcase, test_backward_weights, 0, 2 * CASES);
    tcase_add_test(tcase, test_nan);
    tcase_add_test(tcase, test_refused);
    tcase_add_loop_test(tcase, test_workspace, 0, 2);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
