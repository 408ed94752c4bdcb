/* SPDX-License-Identifier: MIT */
/* Activations in half precision. Arithmetic is in float, so that an operator's results are those of single precision on the same values,
 * rounded to halves as they are written: that is what is compared, bit for bit unless said. What single precision gives is checked against
 * the reference elsewhere. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "trine/batchnorm.h"
#include "support/report.h"
#include "trine/elementwise.h"
#include "trine/pool2d.h"

START_TEST(test_rounding)
{
    static const struct {
        float value;
        uint16_t half;
    } rows[] = {
        {0.0f, 0},
        {-0.0f, 0x8000},
        {1.0f, 0x3c00},
        {-2.0f, 0xc000},
        {65504.0f, 0x7bff},
        {65519.0f, 0x7bff},
        {65520.0f, 0x7c00},
        {-1e9f, 0xfc00},
        {INFINITY, 0x7c00},
        {0x1p-14f, 0x0400},
        {0x1p-24f, 0x0001},
        {0x1p-25f, 0x0000},
        {0x1.8p-25f, 0x0001},
        {0x1.8p-24f, 0x0002},
        {2049.0f, 0x6800},
        {2051.0f, 0x6802},
        {0x1.ff8p-15f, 0x03ff},
        {0x1.ffcp-15f, 0x0400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        ck_assert_msg(trine__half_from_float(rows[i].value) == rows[i].half, "%a is 0x%04x, not 0x%04x",
                      (double)rows[i].value, trine__half_from_float(rows[i].value), rows[i].half);
    ck_assert(isnan(trine__half_to_float(trine__half_from_float(NAN))));
    for (unsigned half = 0; half < 1u << 16; half++) { /* every half survives */
        const float value = trine__half_to_float((uint16_t)half);
        if (!isnan(value)) ck_assert_uint_eq(trine__half_from_float(value), half);
    }
}
END_TEST

/* The host's rounding and the device's agree on what does not fit a half, and the layout's padding is zero. */
START_TEST(test_storage)
{
    const trine_shape shape = {2, 5, 3, 7};
    const size_t count = test_dense(shape);
    trine_elementwise *op = NULL;
    double *values = test_random(count, 5, -1, 1);
    for (size_t i = 0; i < count; i++) values[i] = (float)ldexp(values[i], (int)(i % 48) - 28);
    values[3] = INFINITY;
    values[4] = NAN;
    ASSERT_OK(trine_elementwise_create(dev.context, &op));
    for (int cb = 1; cb <= 16; cb *= 4) {
        test_tensor f = test_tensor_from(shape, 1, values), h = test_tensor_create_half(shape, cb),
                    want = test_tensor_half_from(shape, cb, values);
        ASSERT_OK(trine_reorder(op, dev.stream, &f.t, &h.t));
        double *a = test_tensor_read(&h), *b = test_tensor_read(&want);
        test_compare_exact("rounded on the device", a, b, shape);
        trine_tensor up = {0};
        float *host = calloc(count, sizeof *host);
        ck_assert_ptr_nonnull(host);
        for (size_t i = 0; i < count; i++) host[i] = (float)values[i];
        ASSERT_OK(trine_tensor_create_as(dev.context, &shape, cb, TRINE_F16, &up));
        ck_assert_uint_eq(trine_tensor_bytes(&up), 2 * trine_tensor_elements(&shape, cb));
        ASSERT_OK(trine_tensor_upload(dev.stream, host, &up));
        ASSERT_OK(trine_tensor_download(dev.stream, &up, host));
        for (size_t i = 0; i < count; i++) a[i] = host[i];
        test_compare_exact("there and back", a, b, shape);
        trine_buffer_release(&up.buffer);
        test_tensor_release(&f);
        test_tensor_release(&h);
        test_tensor_release(&want);
        free(host);
        free(a);
        free(b);
    }
    trine_tensor none;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_tensor_create_as(dev.context, &shape, 1, TRINE_I64, &none));
    trine_elementwise_destroy(&op);
    free(values);
}
END_TEST

static const trine_shape shapes[] = {{2, 5, 3, 7}, {1, 16, 8, 9}, {2, 33, 13, 11}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };
static const int blocks[] = {1, 4, 8, 16};
enum { BLOCKS = sizeof blocks / sizeof blocks[0] };

/* With $TRINE_TEST_SMALL: one shape whose channels fill no block, in two layouts. */
static bool left_out(int i)
{
    return test_small() && (i / BLOCKS % SHAPES != 0 || i % BLOCKS % 2 != 0);
}

START_TEST(test_elementwise)
{
    if (left_out(_i)) return;
    const trine_shape s = shapes[_i / BLOCKS], half = {s.n, s.c + 2, (s.h + 1) / 2, (s.w + 1) / 2};
    const int cb = blocks[_i % BLOCKS];
    trine_elementwise *op = NULL;
    both x = both_random(s, cb, 1), dy = both_random(s, cb, 2), y = both_new(s, cb),
         small = both_new(half, cb), turned = both_new(s, cb == 1 ? 16 : 1);
    test_buffer sums[] = {test_buffer_create((size_t)s.c), test_buffer_create((size_t)s.c)};
    test_report("elementwise", "half", "forward");
    ASSERT_OK(trine_elementwise_create(dev.context, &op));
    ASSERT_OK(trine_relu_forward(op, dev.stream, &x.f.t, &y.f.t));
    ASSERT_OK(trine_relu_forward(op, dev.stream, &x.h.t, &y.h.t));
    same("relu", &y.f, &y.h, 0);
    ASSERT_OK(trine_relu_backward(op, dev.stream, &x.f.t, &dy.f.t, &y.f.t));
    ASSERT_OK(trine_relu_backward(op, dev.stream, &x.h.t, &dy.h.t, &y.h.t));
    same("relu backward", &y.f, &y.h, 0);
    ASSERT_OK(trine_add(op, dev.stream, &x.f.t, &dy.f.t, &y.f.t));
    ASSERT_OK(trine_add(op, dev.stream, &x.h.t, &dy.h.t, &y.h.t));
    same("add", &y.f, &y.h, 0);
    ASSERT_OK(trine_subsample_forward(op, dev.stream, &x.f.t, 2, 1, &small.f.t));
    ASSERT_OK(trine_subsample_forward(op, dev.stream, &x.h.t, 2, 1, &small.h.t));
    same("subsample", &small.f, &small.h, 0);
    ASSERT_OK(trine_subsample_backward(op, dev.stream, &small.f.t, 2, 1, 1, &dy.f.t));
    ASSERT_OK(trine_subsample_backward(op, dev.stream, &small.h.t, 2, 1, 1, &dy.h.t));
    same("subsample backward", &dy.f, &dy.h, 0);
    ASSERT_OK(trine_reorder(op, dev.stream, &x.h.t, &turned.h.t));
    same("reorder", &x.f, &turned.h, 0);
    ASSERT_OK(trine_reorder(op, dev.stream, &turned.h.t, &y.f.t));
    same("reorder to floats", &y.f, &x.h, 0);
    ASSERT_OK(trine_reorder(op, dev.stream, &x.f.t, &y.h.t));
    same("reorder to halves", &x.f, &y.h, 0);
    ASSERT_OK(trine_channel_sum(op, dev.stream, &x.f.t, 0, sums[0].buffer));
    ASSERT_OK(trine_channel_sum(op, dev.stream, &x.h.t, 0, sums[1].buffer));
    near_floats("channel sum", &sums[0], &sums[1]); /* compilers may add lanes in another order */
    ASSERT_FAILS(TRINE_ERR_ARG, trine_add(op, dev.stream, &x.h.t, &dy.f.t, &y.h.t));
    ck_assert_str_eq(trine_last_error(), "add: operands are stored as F16 and F32: want one storage");
    both *const all[] = {&x, &dy, &y, &small, &turned};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) both_release(all[i]);
    test_buffer_release(&sums[0]);
    test_buffer_release(&sums[1]);
    trine_elementwise_destroy(&op);
}
END_TEST

/* Everything of a training pass in one storage; `out` are the tensors and vectors that it writes. */
typedef struct bn_pass {
    test_tensor *x, *residual, *dy, *y, *dx;
    test_buffer partials, mean, rstd, dgamma, dbeta;
} bn_pass;

static void run_bn(trine_batchnorm *bn, bn_pass *p, const test_buffer *gamma, const test_buffer *beta,
                   bool residual)
{
    const trine_shape *s = &p->x->t.shape;
    const size_t padded = trine_batchnorm_channel_bytes(bn) / sizeof(float);
    p->partials = test_workspace_create(trine_batchnorm_partial_bytes(bn, s));
    p->mean = test_buffer_create(padded);
    p->rstd = test_buffer_create(padded);
    p->dgamma = test_buffer_create((size_t)s->c);
    p->dbeta = test_buffer_create((size_t)s->c);
    trine_batchnorm_saved saved = {p->mean.buffer, p->rstd.buffer};
    ASSERT_OK(trine_batchnorm_partials(bn, dev.stream, &p->x->t, p->partials.buffer));
    ASSERT_OK(trine_batchnorm_statistics(bn, dev.stream, s, p->partials.buffer, &saved, NULL, NULL, 0));
    ASSERT_OK(trine_batchnorm_apply(bn, dev.stream, &p->x->t, &saved, gamma->buffer, beta->buffer,
                                    residual ? &p->residual->t : NULL, 1, &p->y->t));
    const trine_batchnorm_gradients g = {.x = &p->x->t,
                                         .y = residual ? &p->y->t : NULL,
                                         .relu = !residual,
                                         .dy = &p->dy->t,
                                         .dx = &p->dx->t,
                                         .saved = &saved,
                                         .gamma = gamma->buffer,
                                         .beta = beta->buffer,
                                         .dgamma = p->dgamma.buffer,
                                         .dbeta = p->dbeta.buffer,
                                         .partials = p->partials.buffer,
                                         .batch = 1};
    ASSERT_OK(trine_batchnorm_backward(bn, dev.stream, &g));
}

START_TEST(test_batchnorm)
{
    if (left_out(_i)) return;
    const trine_shape s = shapes[_i / BLOCKS % SHAPES];
    const int cb = blocks[_i % BLOCKS];
    const bool residual = _i >= SHAPES * BLOCKS;
    trine_batchnorm *bn = NULL;
    double *unused[2];
    test_buffer gamma = test_buffer_random((size_t)s.c, 6, 0.5, 1.5, &unused[0]),
                beta = test_buffer_random((size_t)s.c, 7, -1, 1, &unused[1]);
    both x = both_random(s, cb, 1), r = both_random(s, cb, 2), dy = both_random(s, cb, 3),
         y = both_new(s, cb), dx = both_new(s, cb);
    test_report("batchnorm", "half", residual ? "residual" : "relu");
    ASSERT_OK(trine_batchnorm_create(dev.context, s.c, cb, 1e-5f, &bn));
    bn_pass f = {&x.f, &r.f, &dy.f, &y.f, &dx.f, {0}, {0}, {0}, {0}, {0}},
            h = {&x.h, &r.h, &dy.h, &y.h, &dx.h, {0}, {0}, {0}, {0}, {0}};
    run_bn(bn, &f, &gamma, &beta, residual);
    run_bn(bn, &h, &gamma, &beta, residual);
    same_floats("mean", &f.mean, &h.mean);
    same_floats("rstd", &f.rstd, &h.rstd);
    same("y", &y.f, &y.h, 0);
    same("masked gradient", &dy.f, &dy.h, 0);
    same_floats("dgamma", &f.dgamma, &h.dgamma);
    same_floats("dbeta", &f.dbeta, &h.dbeta);
    same("dx", &dx.f, &dx.h, 1);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_batchnorm_apply(bn, dev.stream, &x.h.t,
                                                      &(trine_batchnorm_saved){f.mean.buffer, f.rstd.buffer},
                                                      NULL, NULL, NULL, 0, &y.f.t));
    both *const all[] = {&x, &r, &dy, &y, &dx};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) both_release(all[i]);
    bn_pass *const passes[] = {&f, &h};
    for (size_t i = 0; i < 2; i++) {
        test_buffer *const buffers[] = {&passes[i]->partials, &passes[i]->mean, &passes[i]->rstd,
                                        &passes[i]->dgamma, &passes[i]->dbeta};
        for (size_t k = 0; k < sizeof buffers / sizeof buffers[0]; k++) test_buffer_release(buffers[k]);
        free(unused[i]);
    }
    test_buffer_release(&gamma);
    test_buffer_release(&beta);
    trine_batchnorm_destroy(&bn);
}
END_TEST

START_TEST(test_pool)
{
    const trine_shape s = test_small() ? (trine_shape){1, 5, 7, 6} : (trine_shape){2, 19, 11, 13};
    const int cb = blocks[_i % BLOCKS];
    const trine_pool_kind kind = _i < BLOCKS ? TRINE_POOL_MAX : TRINE_POOL_ADAPTIVE_AVERAGE;
    const trine_pool2d_desc desc = {.kind = kind,
                                    .kernel_h = 3,
                                    .kernel_w = 3,
                                    .stride_h = 2,
                                    .stride_w = 2,
                                    .pad_h = 1,
                                    .pad_w = 1,
                                    .dilation_h = 1,
                                    .dilation_w = 1,
                                    .output_h = 2,
                                    .output_w = 1};
    trine_pool2d *op = NULL;
    trine_shape out;
    ASSERT_OK(trine_pool2d_create(dev.context, &desc, cb, s.h, s.w, &op));
    trine_pool2d_output_shape(op, s.n, s.c, &out);
    both x = both_random(s, cb, 1), y = both_new(out, cb), dy = both_random(out, cb, 2), dx = both_new(s, cb);
    test_tensor mixed = test_tensor_create(out, cb);
    test_buffer index = test_buffer_create(trine_tensor_elements(&out, cb));
    trine_buffer *at = kind == TRINE_POOL_MAX ? index.buffer : NULL;
    test_report("pool2d", "half", kind == TRINE_POOL_MAX ? "maximum" : "average");
    ASSERT_OK(trine_pool2d_forward(op, dev.stream, &x.f.t, &y.f.t, at));
    ASSERT_OK(trine_pool2d_forward(op, dev.stream, &x.h.t, &y.h.t, at));
    same("y", &y.f, &y.h, 0);
    ASSERT_OK(trine_pool2d_backward(op, dev.stream, &dy.f.t, at, &dx.f.t));
    ASSERT_OK(trine_pool2d_backward(op, dev.stream, &dy.h.t, at, &dx.h.t));
    same("dx", &dx.f, &dx.h, 0);
    if (kind == TRINE_POOL_MAX) {
        ASSERT_FAILS(TRINE_ERR_ARG, trine_pool2d_forward(op, dev.stream, &x.h.t, &mixed.t, at));
    } else { /* as at the end of a network: halves in, floats out, and back */
        ASSERT_OK(trine_pool2d_forward(op, dev.stream, &x.h.t, &mixed.t, NULL));
        exact("floats from halves", &y.f, &mixed);
        ASSERT_OK(trine_pool2d_backward(op, dev.stream, &dy.f.t, NULL, &dx.h.t));
        same("halves from floats", &dx.f, &dx.h, 0);
    }
    both *const all[] = {&x, &y, &dy, &dx};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) both_release(all[i]);
    test_tensor_release(&mixed);
    test_buffer_release(&index);
    trine_pool2d_destroy(&op);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("half precision");
    TCase *tc = tcase_create("half precision");
    tcase_add_test(tc, test_rounding);
    tcase_add_test(tc, test_storage);
    tcase_add_loop_test(tc, test_elementwise, 0, SHAPES * BLOCKS);
    tcase_add_loop_test(tc, test_batchnorm, 0, 2 * SHAPES * BLOCKS);
    tcase_add_loop_test(tc, test_pool, 0, 2 * BLOCKS);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
