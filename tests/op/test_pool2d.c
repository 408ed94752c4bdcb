/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ref/ref_pool2d.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/pool2d.h"

enum { MAX = TRINE_POOL_MAX, AVERAGE = TRINE_POOL_AVERAGE, ADAPTIVE = TRINE_POOL_ADAPTIVE_AVERAGE };

typedef struct pool_case {
    int small; /* 1: also with $TRINE_TEST_SMALL */
    int kind, cb, n, c, h, w;
    int kernel[2], stride[2], pad[2], dilation[2];
    int ceil_mode, include_pad;
    int output[2];
} pool_case;

static const pool_case cases[] = {
    /* maximum: the stem's, odd and uneven parameters, one pixel */
    {1, MAX, 1, 1, 1, 1, 1, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 0, 0, {0, 0}},
    {1, MAX, 1, 2, 3, 7, 5, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 0, 0, {0, 0}},
    {1, MAX, 4, 1, 6, 9, 10, {3, 2}, {2, 3}, {1, 1}, {1, 1}, 0, 0, {0, 0}},
    {1, MAX, 16, 1, 5, 6, 7, {2, 3}, {1, 2}, {1, 0}, {2, 1}, 0, 0, {0, 0}},
    {1, MAX, 8, 2, 8, 5, 5, {2, 2}, {2, 2}, {0, 0}, {1, 1}, 1, 0, {0, 0}},
    {0, MAX, 16, 2, 64, 28, 28, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 0, 0, {0, 0}},
    {0, MAX, 8, 3, 13, 23, 31, {5, 3}, {2, 1}, {2, 1}, {1, 1}, 0, 0, {0, 0}},
    {0, MAX, 1, 2, 3, 29, 37, {3, 3}, {3, 2}, {1, 1}, {2, 3}, 1, 0, {0, 0}},
    {0, MAX, 2, 2, 5, 19, 17, {4, 4}, {3, 3}, {2, 2}, {1, 1}, 1, 0, {0, 0}},
    {0, MAX, 4, 1, 7, 1, 40, {1, 7}, {1, 4}, {0, 3}, {1, 1}, 1, 0, {0, 0}},
    {0, MAX, 16, 1, 16, 33, 35, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 0, 0, {0, 0}},
    {0, MAX, 1, 1, 2, 41, 43, {3, 3}, {5, 7}, {0, 0}, {1, 1}, 0, 0, {0, 0}}, /* pixels in no window */
    /* average */
    {1, AVERAGE, 1, 1, 1, 1, 1, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 0, 0, {0, 0}},
    {1, AVERAGE, 4, 2, 5, 7, 6, {2, 2}, {2, 2}, {0, 0}, {1, 1}, 0, 0, {0, 0}},
    {1, AVERAGE, 8, 1, 3, 7, 7, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 0, 1, {0, 0}},
    {1, AVERAGE, 1, 1, 3, 8, 9, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, 0, {0, 0}},
    {0, AVERAGE, 16, 2, 17, 14, 15, {3, 5}, {2, 3}, {1, 2}, {1, 1}, 1, 1, {0, 0}},
    {0, AVERAGE, 1, 2, 3, 30, 31, {17, 13}, {3, 5}, {8, 6}, {1, 1}, 0, 1, {0, 0}},
    {0, AVERAGE, 2, 1, 3, 23, 29, {2, 3}, {5, 4}, {1, 1}, {1, 1}, 1, 0, {0, 0}},
    /* adaptive average: global, uneven windows, more outputs than inputs */
    {1, ADAPTIVE, 1, 2, 3, 7, 7, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, {1, 1}},
    {1, ADAPTIVE, 16, 1, 20, 7, 7, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, {1, 1}},
    {1, ADAPTIVE, 4, 1, 6, 7, 5, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, {3, 2}},
    {1, ADAPTIVE, 8, 1, 8, 3, 2, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, {7, 5}},
    {0, ADAPTIVE, 16, 2, 512, 7, 7, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, {1, 1}},
    {0, ADAPTIVE, 1, 3, 5, 112, 113, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, {1, 1}},
    {0, ADAPTIVE, 8, 1, 9, 37, 41, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, {6, 7}},
    {0, ADAPTIVE, 2, 1, 3, 1, 53, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, {1, 17}},
};

static trine_pool2d_desc desc_of(const pool_case *c)
{
    return (trine_pool2d_desc){.kind = (trine_pool_kind)c->kind,
                               .kernel_h = c->kernel[0],
                               .kernel_w = c->kernel[1],
                               .stride_h = c->stride[0],
                               .stride_w = c->stride[1],
                               .pad_h = c->pad[0],
                               .pad_w = c->pad[1],
                               .dilation_h = c->dilation[0],
                               .dilation_w = c->dilation[1],
                               .ceil_mode = c->ceil_mode,
                               .count_include_pad = c->include_pad,
                               .output_h = c->output[0],
                               .output_w = c->output[1]};
}

static ref_pool2d reference_of(const pool_case *c)
{
    ref_pool2d r = {.kind = REF_POOL_MAX,
                    .n = c->n,
                    .c = c->c,
                    .h = c->h,
                    .w = c->w,
                    .kernel_h = c->kernel[0],
                    .kernel_w = c->kernel[1],
                    .stride_h = c->stride[0],
                    .stride_w = c->stride[1],
                    .pad_h = c->pad[0],
                    .pad_w = c->pad[1],
                    .dilation_h = c->dilation[0],
                    .dilation_w = c->dilation[1],
                    .ceil_mode = c->ceil_mode,
                    .count_include_pad = c->include_pad,
                    .output_h = c->output[0],
                    .output_w = c->output[1]};
    if (c->kind == AVERAGE) r.kind = REF_POOL_AVERAGE;
    if (c->kind == ADAPTIVE) r.kind = REF_POOL_ADAPTIVE;
    return r;
}

static const char *kind_text(int kind)
{
    return kind == MAX ? "max" : kind == AVERAGE ? "average" : "adaptive_average";
}

static double *integers(const double *values, size_t count, int steps)
{
    double *out = test_zeros(count);
    for (size_t i = 0; i < count; i++) out[i] = floor(values[i] * steps);
    return out;
}

/* The device's index tensor against the reference's, element by element. */
static void compare_index(const char *name, const test_tensor *index, const int32_t *want)
{
    const trine_shape s = index->t.shape;
    uint32_t *words = test_tensor_read_words(index);
    double *got = test_zeros(test_dense(s)), *expected = test_zeros(test_dense(s));
    for (size_t i = 0; i < test_dense(s); i++) {
        got[i] = (int32_t)words[i];
        expected[i] = want[i];
    }
    test_compare_exact(name, got, expected, s);
    free(words);
    free(got);
    free(expected);
}

/* Forward and backward of one case on the given input. */
static void run_case(const pool_case *c, const double *x)
{
    char name[160];
    snprintf(name, sizeof name, "kind %d [%d,%d,%d,%d] cb %d kernel %dx%d stride %d,%d pad %d,%d ceil %d",
             c->kind, c->n, c->c, c->h, c->w, c->cb, c->kernel[0], c->kernel[1], c->stride[0], c->stride[1],
             c->pad[0], c->pad[1], c->ceil_mode);
    const trine_pool2d_desc desc = desc_of(c);
    const ref_pool2d ref = reference_of(c);
    const bool max = c->kind == MAX;
    trine_pool2d *op = NULL;
    ASSERT_OK(trine_pool2d_create(dev.context, &desc, c->cb, c->h, c->w, &op));
    trine_shape out, in = {c->n, c->c, c->h, c->w};
    trine_pool2d_output_shape(op, c->n, c->c, &out);
    ck_assert_msg(out.n == c->n && out.c == c->c && out.h == ref_pool2d_p(&ref) &&
                      out.w == ref_pool2d_q(&ref),
                  "%s: output is [%d,%d,%d,%d], want %d x %d", name, out.n, out.c, out.h, out.w,
                  ref_pool2d_p(&ref), ref_pool2d_q(&ref));
    double *want_y = test_zeros(test_dense(out)), *want_dx = test_zeros(test_dense(in)), *dy = NULL;
    int32_t *want_index = calloc(test_dense(out), sizeof *want_index);
    ref_pool2d_forward(&ref, x, want_y, max ? want_index : NULL);

    test_tensor tx = test_tensor_from(in, c->cb, x), ty = test_tensor_create(out, c->cb),
                index = test_tensor_create(out, c->cb);
    test_tensor tdy = test_tensor_random(out, c->cb, 2, -1, 1, &dy), tdx = test_tensor_create(in, c->cb);
    test_report("pool2d", kind_text(c->kind), "forward");
    ASSERT_OK(trine_pool2d_forward(op, dev.stream, &tx.t, &ty.t, max ? index.t.buffer : NULL));
    double *y = test_tensor_read(&ty);
    /* the window's row sums and their sum; a division */
    const double most = test_max_abs(x, test_dense(in)),
                 window = c->kind == ADAPTIVE ? c->h + c->w + 8 : c->kernel[0] + c->kernel[1];
    if (max)
        test_compare_exact(name, y, want_y, out);
    else
        test_compare(name, y, want_y, out, test_bound(2, window, most, 1));
    if (max) compare_index(name, &index, want_index);

    test_report("pool2d", kind_text(c->kind), "backward");
    ref_pool2d_backward(&ref, dy, want_index, want_dx);
    ASSERT_OK(trine_pool2d_backward(op, dev.stream, &tdy.t, max ? index.t.buffer : NULL, &tdx.t));
    double *dx = test_tensor_read(&tdx);
    const double overlap = max ? c->kernel[0] * c->kernel[1] : window;
    test_compare(name, dx, want_dx, in, test_bound(2, overlap, 1, 1));
    free(y);
    free(dx);
    free(dy);
    free(want_y);
    free(want_dx);
    free(want_index);
    test_tensor *all[] = {&tx, &ty, &index, &tdy, &tdx};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) test_tensor_release(all[i]);
    trine_pool2d_destroy(&op);
}

START_TEST(test_shapes)
{
    const pool_case *c = &cases[_i];
    if (test_small() && !c->small) return;
    const size_t count = (size_t)c->n * (size_t)c->c * (size_t)c->h * (size_t)c->w;
    double *x = test_random(count, 1, -2, 1);
    run_case(c, x);
    free(x);
}
END_TEST

/* Many equal values: the first in row order wins. */
START_TEST(test_ties)
{
    const pool_case *c = &cases[_i];
    if (c->kind != MAX || (test_small() && !c->small)) return;
    const size_t count = (size_t)c->n * (size_t)c->c * (size_t)c->h * (size_t)c->w;
    double *x = test_random(count, 3, -1, 1), *few = integers(x, count, 2);
    run_case(c, few);
    free(x);
    free(few);
}
END_TEST

START_TEST(test_extremes)
{
    const pool_case c = {1, MAX, 4, 1, 2, 6, 6, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 0, 0, {0, 0}};
    double *x = test_constant(72, -INFINITY);
    run_case(&c, x); /* a window of nothing but -infinity has a winner inside the image */
    x[7] = NAN;
    x[40] = 3;
    x[41] = NAN; /* at most one a window: which of several wins is not promised */
    x[50] = INFINITY;
    run_case(&c, x);
    free(x);
    const pool_case average = {1, ADAPTIVE, 4, 1, 2, 3, 3, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, {1, 1}};
    const trine_pool2d_desc desc = desc_of(&average);
    trine_pool2d *op = NULL;
    ASSERT_OK(trine_pool2d_create(dev.context, &desc, 4, 3, 3, &op));
    double *values = test_constant(18, 5);
    values[4] = NAN;
    test_tensor tx = test_tensor_from((trine_shape){1, 2, 3, 3}, 4, values),
                ty = test_tensor_create((trine_shape){1, 2, 1, 1}, 4);
    ASSERT_OK(trine_pool2d_forward(op, dev.stream, &tx.t, &ty.t, NULL));
    double *y = test_tensor_read(&ty);
    ck_assert(isnan(y[0]));
    ck_assert(y[1] == 5);
    free(values);
    free(y);
    test_tensor_release(&tx);
    test_tensor_release(&ty);
    trine_pool2d_destroy(&op);
}
END_TEST

START_TEST(test_without_index)
{
    const pool_case *c = &cases[1];
    const trine_pool2d_desc desc = desc_of(c);
    trine_pool2d *op = NULL;
    ASSERT_OK(trine_pool2d_create(dev.context, &desc, c->cb, c->h, c->w, &op));
    const trine_shape in = {c->n, c->c, c->h, c->w};
    trine_shape out;
    trine_pool2d_output_shape(op, c->n, c->c, &out);
    double *x = NULL;
    test_tensor tx = test_tensor_random(in, c->cb, 1, -2, 1, &x), ty = test_tensor_create(out, c->cb);
    ASSERT_OK(trine_pool2d_forward(op, dev.stream, &tx.t, &ty.t, NULL));
    double *y = test_tensor_read(&ty), *want = test_zeros(test_dense(out));
    const ref_pool2d ref = reference_of(c);
    ref_pool2d_forward(&ref, x, want, NULL);
    test_compare_exact("no index", y, want, out);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_pool2d_backward(op, dev.stream, &ty.t, NULL, &tx.t));
    trine_tensor wrong = ty.t;
    wrong.shape.h++;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_pool2d_forward(op, dev.stream, &tx.t, &wrong, NULL));
    wrong = tx.t;
    wrong.cb = 2;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_pool2d_forward(op, dev.stream, &wrong, &ty.t, NULL));
    free(x);
    free(y);
    free(want);
    test_tensor_release(&tx);
    test_tensor_release(&ty);
    trine_pool2d_destroy(&op);
}
END_TEST

START_TEST(test_refused)
{
    const pool_case good = {1, MAX, 1, 1, 1, 8, 8, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 0, 0, {0, 0}};
    trine_pool2d *op = NULL;
    trine_pool2d_desc d = desc_of(&good);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_pool2d_create(dev.context, &d, 3, 8, 8, &op));
    d.pad_h = 2; /* more than half the kernel */
    ASSERT_FAILS(TRINE_ERR_ARG, trine_pool2d_create(dev.context, &d, 1, 8, 8, &op));
    d = desc_of(&good);
    d.stride_w = 0;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_pool2d_create(dev.context, &d, 1, 8, 8, &op));
    d = desc_of(&good);
    d.kernel_h = 11;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_pool2d_create(dev.context, &d, 1, 8, 8, &op));
    d = desc_of(&good);
    d.kind = TRINE_POOL_AVERAGE;
    d.dilation_h = 2;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_pool2d_create(dev.context, &d, 1, 8, 8, &op));
    d.kind = TRINE_POOL_ADAPTIVE_AVERAGE;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_pool2d_create(dev.context, &d, 1, 8, 8, &op));
    d = desc_of(&good);
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_pool2d_create(dev.context, &d, 1, 0, 8, &op));
    ck_assert_ptr_null(op);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("pool2d");
    TCase *tcase = tcase_create("pool2d");
    const int count = (int)(sizeof cases / sizeof cases[0]);
    tcase_add_loop_test(tcase, test_shapes, 0, count);
    tcase_add_loop_test(tcase, test_ties, 0, count);
    tcase_add_test(tcase, test_extremes);
    tcase_add_test(tcase, test_without_index);
    tcase_add_test(tcase, test_refused);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
