/* SPDX-License-Identifier: MIT */
/* Every implementation of conv2d on activations in half precision, against single precision on the same values. */
#include <stdio.h>
#include <string.h>

#include "half.h"
#include "op/conv2d_private.h"
#include "support/report.h"

/* n, c, h, w, k, kernel, stride, groups, block */
static const int convs[][9] = {{1, 8, 4, 5, 8, 3, 1, 1, 8},     {2, 16, 9, 11, 32, 3, 1, 1, 8},
                               {1, 32, 10, 9, 24, 3, 2, 1, 16}, {2, 24, 7, 5, 40, 1, 1, 1, 8},
                               {1, 32, 8, 9, 32, 3, 1, 8, 16},  {1, 3, 17, 15, 16, 7, 2, 1, 1}};
enum { CONVS = sizeof convs / sizeof convs[0], WAYS = 3 };

typedef struct conv_run {
    trine_conv2d *op;
    test_buffer workspace;
} conv_run;

static conv_run conv_start(const int *c, trine_direction direction, const char *algorithm, trine_dtype in,
                           trine_dtype out, const test_buffer *w)
{
    trine_conv2d_desc d = trine_conv2d_desc_default(c[1], c[4], c[5]);
    d.stride_h = d.stride_w = c[6];
    d.pad_h = d.pad_w = c[5] / 2;
    d.groups = c[7];
    d.in_cb = c[8];
    d.out_cb = c[8] == 1 ? 16 : c[8];
    d.relu = 1;
    d.algorithm = algorithm;
    d.in_dtype = in;
    d.out_dtype = out;
    conv_run r = {0};
    ASSERT_OK(trine_conv2d_create(dev.context, &d, c[2], c[3], 1u << direction, &r.op));
    ASSERT_OK(trine_conv2d_prepare(r.op, dev.stream, w->buffer));
    r.workspace = test_workspace_create(trine_conv2d_workspace_bytes(r.op, direction, c[0]));
    return r;
}

static void conv_end(conv_run *r)
{
    trine_conv2d_destroy(&r->op);
    test_buffer_release(&r->workspace);
}

/* One implementation, one direction; x is halves or, as images are, floats. */
static void check_conv(const int *c, trine_direction direction, const char *algorithm, bool mixed, both *x,
                       both *y, both *residual, const test_buffer *w)
{
    char name[128];
    test_tensor *hx = mixed ? &x->f : &x->h;
    const bool mma = strcmp(algorithm, "conv2d_mma") == 0; /* adds in another order */
    const int steps = mma;
    if (mma && mixed) return;
    if (test_small() && strcmp(algorithm, "conv2d_winograd4_gemm") == 0)
        return; /* slow; F(2x2) has its kernels */
    conv_run f = conv_start(c, direction, mma ? "conv2d_gemm" : algorithm, TRINE_F32, TRINE_F32, w),
             h = conv_start(c, direction, algorithm, hx->t.dtype, TRINE_F16, w);
    snprintf(name, sizeof name, "%s %s %d>%d %dx%d stride %d groups %d%s", algorithm,
             trine__direction_name(direction), c[1], c[4], c[5], c[5], c[6], c[7],
             mixed ? " from floats" : "");
    test_report("conv2d", algorithm, "half");
    if (direction == TRINE_FORWARD) {
        both out = both_new(y->f.t.shape, y->f.t.cb);
        const trine_conv2d_epilogue ef = {.residual = &residual->f.t}, eh = {.residual = &residual->h.t};
        ASSERT_OK(trine_conv2d_forward(f.op, dev.stream, &x->f.t, &ef, &out.f.t, f.workspace.buffer));
        ASSERT_OK(trine_conv2d_forward(h.op, dev.stream, &hx->t, &eh, &out.h.t, h.workspace.buffer));
        same(name, &out.f, &out.h, steps);
        ASSERT_FAILS(TRINE_ERR_ARG,
                     trine_conv2d_forward(h.op, dev.stream, &hx->t, NULL, &out.f.t, h.workspace.buffer));
        both_release(&out);
    } else if (direction == TRINE_BACKWARD_DATA) {
        both dx = both_random(x->f.t.shape, x->f.t.cb, 9); /* beta is 1 */
        test_tensor *hdx = mixed ? &dx.f : &dx.h, copy = test_tensor_create(x->f.t.shape, x->f.t.cb);
        trine_elementwise *op = NULL;
        ASSERT_OK(trine_elementwise_create(dev.context, &op));
        ASSERT_OK(trine_reorder(op, dev.stream, &dx.f.t, &copy.t));
        ASSERT_OK(trine_conv2d_backward_data(f.op, dev.stream, &y->f.t, 1, &copy.t, f.workspace.buffer));
        ASSERT_OK(trine_conv2d_backward_data(h.op, dev.stream, &y->h.t, 1, &hdx->t, h.workspace.buffer));
        if (mixed)
            exact(name, &copy, &dx.f);
        else
            same(name, &copy, &dx.h, steps);
        trine_elementwise_destroy(&op);
        test_tensor_release(&copy);
        both_release(&dx);
    } else {
        const size_t count = trine_buffer_bytes(w->buffer) / sizeof(float);
        test_buffer dw[] = {test_buffer_create(count), test_buffer_create(count)};
        ASSERT_OK(trine_conv2d_backward_weights(f.op, dev.stream, &x->f.t, &y->f.t, 0, dw[0].buffer,
                                                f.workspace.buffer));
        ASSERT_OK(trine_conv2d_backward_weights(h.op, dev.stream, &hx->t, &y->h.t, 0, dw[1].buffer,
                                                h.workspace.buffer));
        if (mma)
            near_floats(name, &dw[0], &dw[1]);
        else
            same_floats(name, &dw[0], &dw[1]);
        test_buffer_release(&dw[0]);
        test_buffer_release(&dw[1]);
    }
    conv_end(&f);
    conv_end(&h);
}

START_TEST(test_conv2d)
{
    if (test_small() && _i >= WAYS) return;
    const int *c = convs[_i / WAYS];
    const trine_direction direction = (trine_direction)(_i % WAYS);
    const trine_shape in = {c[0], c[1], c[2], c[3]},
                      out = {c[0], c[4], (c[2] + 2 * (c[5] / 2) - c[5]) / c[6] + 1,
                             (c[3] + 2 * (c[5] / 2) - c[5]) / c[6] + 1};
    const int out_cb = c[8] == 1 ? 16 : c[8];
    double *unused;
    const size_t weights = (size_t)(c[4] * (c[1] / c[7]) * c[5] * c[5]);
    unused = test_random(weights, 4, -0.2, 0.2);
    for (size_t i = 0; i < weights; i++) unused[i] = as_half(unused[i]); /* matrix units round them */
    test_buffer w = test_buffer_from(unused, weights, weights);
    both x = both_random(in, c[8], 1), y = both_random(out, out_cb, 2),
         residual = both_random(out, out_cb, 3);
    conv_run any = conv_start(c, direction, NULL, TRINE_F16, TRINE_F16, &w);
    const char *names[16];
    const size_t count = trine_conv2d_algorithms(any.op, direction, names, 16);
    ck_assert_uint_ge(count, 1);
    for (size_t i = 0; i < count; i++)
        for (int mixed = 0; mixed < (strchr(names[i], ':') ? 1 : 2);
             mixed++) /* variants store as what they vary */
            check_conv(c, direction, names[i], mixed, &x, &y, &residual, &w);
    conv_end(&any);
    both_release(&x);
    both_release(&y);
    both_release(&residual);
    test_buffer_release(&w);
    free(unused);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("conv2d in half precision");
    TCase *tc = tcase_create("conv2d in half precision");
    tcase_add_loop_test(tc, test_conv2d, 0, CONVS * WAYS);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
