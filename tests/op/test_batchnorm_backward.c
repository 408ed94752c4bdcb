/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "batchnorm_fixture.h"

/* One backward pass. with_y: the ReLU's mask; place: dx in its own tensor or over dy. */
static void check_backward(fixture *f, int batch, int affine, int with_y, int in_place)
{
    test_report("batchnorm", NULL, "backward");
    char name[128];
    snprintf(name, sizeof name, "backward [%d,%d,%d,%d] cb %d batch %d affine %d relu %d in place %d",
             f->shape.n, f->shape.c, f->shape.h, f->shape.w, f->cb, batch, affine, with_y, in_place);
    double *y = NULL, *dy = NULL, *g = test_zeros(f->count), *want_dx = test_zeros(f->count);
    double *want_dgamma = test_zeros(f->channels), *want_dbeta = test_zeros(f->channels), *start = NULL;
    test_tensor ty = test_tensor_random(f->shape, f->cb, 8, -1, 1, &y),
                tdy = test_tensor_random(f->shape, f->cb, 9, -1, 1, &dy);
    test_tensor tdx = test_tensor_create(f->shape, f->cb);
    for (size_t i = 0; i < f->count; i++) g[i] = !with_y || y[i] > 0 ? dy[i] : 0;
    ref_batchnorm_backward(&f->ref, f->x, f->mean, f->variance, affine ? f->gamma : NULL, g, batch, want_dx,
                           want_dgamma, want_dbeta);
    /* accumulating while in place, to cover both */
    test_buffer dgamma =
        in_place ? test_buffer_random(f->channels, 10, -1, 1, &start) : test_buffer_create(f->channels);
    test_buffer dbeta =
        in_place ? test_buffer_from(start, f->channels, f->channels) : test_buffer_create(f->channels);
    for (size_t c = 0; in_place && c < f->channels; c++) {
        want_dgamma[c] += start[c];
        want_dbeta[c] += start[c];
    }
    const trine_batchnorm_gradients call = {.x = &f->tx.t,
                                            .y = with_y ? &ty.t : NULL,
                                            .dy = &tdy.t,
                                            .dx = in_place ? &tdy.t : &tdx.t,
                                            .saved = &f->saved,
                                            .gamma = affine ? f->bgamma.buffer : NULL,
                                            .dgamma = dgamma.buffer,
                                            .dbeta = dbeta.buffer,
                                            .partials = f->partials.buffer,
                                            .batch = batch,
                                            .accumulate_affine = in_place};
    ASSERT_OK(trine_batchnorm_backward(f->bn, dev.stream, &call));
    double *dx = test_tensor_read(in_place ? &tdy : &tdx), *got_dgamma = test_buffer_read(&dgamma),
           *got_dbeta = test_buffer_read(&dbeta);
    /* xhat is at most the larger of 3*rstd and sqrt(m); the sums have m terms */
    const double rstd = largest_rstd(f), m = (double)f->count / f->shape.c,
                 xhat = fmin(3 * rstd, sqrt(m)) + 1;
    const trine_shape channels = test_vector(f->channels);
    test_compare(name, got_dgamma, want_dgamma, channels,
                 test_bound(2, m + 8, 1, xhat) + test_bound(4, m, 1, 2 * rstd));
    test_compare(name, got_dbeta, want_dbeta, channels, test_bound(2, m + 8, 1, 1));
    test_compare(name, dx, want_dx, f->shape,
                 test_bound(16, 1, 1.5 * rstd, 2 + 2 * xhat * xhat) + test_bound(16, 1, rstd * rstd, 2));
    if (with_y && !in_place) { /* dy has become the gradient that goes on along the residual */
        double *masked = test_tensor_read(&tdy);
        test_compare_exact(name, masked, g, f->shape);
        free(masked);
    }
    double *arrays[] = {y, dy, g, want_dx, want_dgamma, want_dbeta, start, dx, got_dgamma, got_dbeta};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_tensor *tensors[] = {&ty, &tdy, &tdx};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) test_tensor_release(tensors[i]);
    test_buffer_release(&dgamma);
    test_buffer_release(&dbeta);
}

START_TEST(test_backward)
{
    const bn_case *c = &cases[_i];
    if (test_small() && !c->small) return;
    fixture f = setup_case(c);
    batch_statistics(&f, NULL, NULL, 0);
    for (int combination = 0; combination < 16; combination++)
        check_backward(&f, combination & 1, combination >> 1 & 1, combination >> 2 & 1, combination >> 3);
    teardown(&f);
}
END_TEST

/* One backward pass whose mask comes from y, or from x where y is NULL. dx over dy if in place. */
static void masked_pass(fixture *f, const trine_tensor *y, int parameters, int batch, int sums, int in_place,
                        const double *dy, double *out[4])
{
    test_report("batchnorm", NULL, "backward");
    test_tensor tdy = test_tensor_from(f->shape, f->cb, dy), tdx = test_tensor_create(f->shape, f->cb);
    test_buffer dgamma = test_buffer_create(f->channels), dbeta = test_buffer_create(f->channels);
    const trine_batchnorm_gradients call = {.x = &f->tx.t,
                                            .y = y,
                                            .dy = &tdy.t,
                                            .dx = in_place ? &tdy.t : &tdx.t,
                                            .saved = &f->saved,
                                            .gamma = parameters ? f->bgamma.buffer : NULL,
                                            .beta = parameters ? f->bbeta.buffer : NULL,
                                            .dgamma = sums ? dgamma.buffer : NULL,
                                            .dbeta = sums ? dbeta.buffer : NULL,
                                            .partials = f->partials.buffer,
                                            .relu = y == NULL,
                                            .batch = batch};
    ASSERT_OK(trine_batchnorm_backward(f->bn, dev.stream, &call));
    out[0] = test_tensor_read(in_place ? &tdy : &tdx);
    out[1] = test_tensor_read(&tdy);
    out[2] = sums ? test_buffer_read(&dgamma) : test_zeros(f->channels);
    out[3] = sums ? test_buffer_read(&dbeta) : test_zeros(f->channels);
    test_tensor_release(&tdy);
    test_tensor_release(&tdx);
    test_buffer_release(&dgamma);
    test_buffer_release(&dbeta);
}

/* The mask from x is that of the y that the forward pass gave: every gradient has the same bits. */
START_TEST(test_mask_from_x)
{
    const bn_case *c = &cases[_i];
    if (test_small() && !c->small) return;
    fixture f = setup_case(c);
    double *dy = test_random(f.count, 9, -1, 1);
    test_tensor ty = test_tensor_create(f.shape, f.cb);
    batch_statistics(&f, NULL, NULL, 0);
    for (int combination = 0; combination < 16; combination++) {
        const int parameters = combination & 1, batch = combination >> 1 & 1, sums = combination >> 2 & 1,
                  in_place = combination >> 3;
        double *from_y[4], *from_x[4];
        ASSERT_OK(trine_batchnorm_apply(f.bn, dev.stream, &f.tx.t, &f.saved,
                                        parameters ? f.bgamma.buffer : NULL,
                                        parameters ? f.bbeta.buffer : NULL, NULL, 1, &ty.t));
        masked_pass(&f, &ty.t, parameters, batch, sums, in_place, dy, from_y);
        masked_pass(&f, NULL, parameters, batch, sums, in_place, dy, from_x);
        test_compare_exact("dx", from_x[0], from_y[0], f.shape);
        test_compare_exact("dgamma", from_x[2], from_y[2], test_vector(f.channels));
        test_compare_exact("dbeta", from_x[3], from_y[3], test_vector(f.channels));
        if (!in_place) test_compare_exact("dy stays", from_x[1], dy, f.shape);
        for (int i = 0; i < 4; i++) {
            free(from_y[i]);
            free(from_x[i]);
        }
    }
    free(dy);
    test_tensor_release(&ty);
    teardown(&f);
}
END_TEST

/* What may be left out with running statistics: x, partials, affine gradients; or dx. */
START_TEST(test_backward_parts)
{
    test_report("batchnorm", NULL, "backward");
    fixture f = setup_case(&cases[1]);
    batch_statistics(&f, NULL, NULL, 0);
    double *y = NULL, *dy = NULL, *g = test_zeros(f.count), *want = test_zeros(f.count);
    double *want_dgamma = test_zeros(f.channels), *want_dbeta = test_zeros(f.channels);
    test_tensor ty = test_tensor_random(f.shape, f.cb, 8, -1, 1, &y),
                tdy = test_tensor_random(f.shape, f.cb, 9, -1, 1, &dy);
    test_tensor tdx = test_tensor_create(f.shape, f.cb);
    test_buffer dgamma = test_buffer_create(f.channels);
    for (size_t i = 0; i < f.count; i++) g[i] = y[i] > 0 ? dy[i] : 0;
    ref_batchnorm_backward(&f.ref, f.x, f.mean, f.variance, f.gamma, g, 0, want, want_dgamma, want_dbeta);
    trine_batchnorm_gradients call = {
        .y = &ty.t, .dy = &tdy.t, .dx = &tdx.t, .saved = &f.saved, .gamma = f.bgamma.buffer};
    ASSERT_OK(trine_batchnorm_backward(f.bn, dev.stream, &call));
    double *dx = test_tensor_read(&tdx), *masked = test_tensor_read(&tdy);
    const double scale = 1.5 * largest_rstd(&f);
    test_compare("dx alone", dx, want, f.shape, test_bound(16, 1, scale, 1));
    test_compare_exact("masked gradient", masked, g, f.shape);
    call = (trine_batchnorm_gradients){.x = &f.tx.t,
                                       .dy = &tdy.t,
                                       .saved = &f.saved,
                                       .dgamma = dgamma.buffer,
                                       .partials = f.partials.buffer,
                                       .batch = 1};
    ASSERT_OK(trine_batchnorm_backward(f.bn, dev.stream, &call));
    double *got = test_buffer_read(&dgamma);
    test_compare("dgamma alone", got, want_dgamma, test_vector(f.channels),
                 test_bound(8, (double)f.count, 1, scale));
    double *arrays[] = {y, dy, g, want, want_dgamma, want_dbeta, dx, masked, got};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_tensor *tensors[] = {&ty, &tdy, &tdx};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) test_tensor_release(tensors[i]);
    test_buffer_release(&dgamma);
    teardown(&f);
}
END_TEST

/* The reference's own gradients by central differences of sum(g * y), and the device's dx against them. */
START_TEST(test_finite_differences)
{
    test_report("batchnorm", NULL, "backward");
    fixture f = setup(2, 3, 3, 2, 4, test_random(36, 21, -1, 2));
    batch_statistics(&f, NULL, NULL, 0);
    double *g = NULL, *numeric = test_zeros(f.count), *y = test_zeros(f.count), *mean = test_zeros(3),
           *variance = test_zeros(3);
    test_tensor tdy = test_tensor_random(f.shape, f.cb, 22, -1, 1, &g),
                tdx = test_tensor_create(f.shape, f.cb);
    const double step = 1e-5;
    for (size_t i = 0; i < f.count; i++)
        for (int side = -1; side <= 1; side += 2) {
            const double kept = f.x[i];
            f.x[i] = kept + side * step;
            ref_batchnorm_statistics(&f.ref, f.x, mean, variance);
            ref_batchnorm_apply(&f.ref, f.x, mean, variance, f.gamma, f.beta, NULL, 0, y);
            for (size_t e = 0; e < f.count; e++) numeric[i] += side * g[e] * y[e] / (2 * step);
            f.x[i] = kept;
        }
    const trine_batchnorm_gradients call = {.x = &f.tx.t,
                                            .dy = &tdy.t,
                                            .dx = &tdx.t,
                                            .saved = &f.saved,
                                            .gamma = f.bgamma.buffer,
                                            .partials = f.partials.buffer,
                                            .batch = 1};
    ASSERT_OK(trine_batchnorm_backward(f.bn, dev.stream, &call));
    double *dx = test_tensor_read(&tdx);
    test_compare("dx by differences", dx, numeric, f.shape, 1e-5);
    double *arrays[] = {g, numeric, y, mean, variance, dx};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_tensor_release(&tdy);
    test_tensor_release(&tdx);
    teardown(&f);
}
END_TEST

START_TEST(test_refused)
{
    fixture f = setup_case(&cases[1]);
    trine_batchnorm_gradients twice = {
        .x = &f.tx.t, .y = &f.tx.t, .dy = &f.tx.t, .dx = &f.tx.t, .saved = &f.saved, .relu = 1};
    ASSERT_FAILS(TRINE_ERR_ARG, trine_batchnorm_backward(f.bn, dev.stream, &twice));
    twice.x = twice.y = NULL; /* no mask at all */
    ASSERT_FAILS(TRINE_ERR_ARG, trine_batchnorm_backward(f.bn, dev.stream, &twice));
    test_device_sync();
    teardown(&f);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("batchnorm_backward");
    TCase *tcase = tcase_create("batchnorm_backward");
    tcase_add_loop_test(tcase, test_backward, 0, CASES);
    tcase_add_loop_test(tcase, test_mask_from_x, 0, CASES);
    tcase_add_test(tcase, test_backward_parts);
    tcase_add_test(tcase, test_finite_differences);
    tcase_add_test(tcase, test_refused);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
