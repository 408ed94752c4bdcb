/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ref/ref_batchnorm.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "trine/batchnorm.h"

#define EPS 1e-5

typedef struct bn_case {
    int small; /* 1: also with $TRINE_TEST_SMALL */
    int n, c, h, w, cb;
} bn_case;

static const bn_case cases[] = {
    {1, 1, 1, 1, 2, 1},     {1, 2, 3, 5, 7, 1},   {1, 2, 1, 1, 1, 8},     {1, 2, 8, 3, 3, 8},
    {1, 3, 5, 4, 4, 4},     {1, 1, 17, 2, 3, 16}, {0, 2, 64, 28, 28, 16}, {0, 3, 65, 9, 11, 16},
    {0, 1, 16, 127, 1, 16}, {0, 1, 8, 1, 128, 8}, {0, 2, 7, 43, 3, 2},    {0, 5, 24, 13, 29, 8},
    {0, 8, 512, 7, 7, 16},  {0, 1, 3, 56, 57, 1},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* A batch normalization with everything that its passes read and write. Per-channel vectors of parameters are
 * dense [C]; saved ones have trine_batchnorm_channel_bytes(). */
typedef struct fixture {
    ref_batchnorm ref;
    trine_shape shape;
    size_t count, channels;
    int cb;
    trine_batchnorm *bn;
    double *x, *gamma, *beta, *mean, *variance; /* mean, variance: the reference's, of x */
    test_tensor tx;
    test_buffer bgamma, bbeta, bmean, brstd, partials;
    trine_batchnorm_saved saved;
} fixture;

/* x is taken over. */
static fixture setup(int n, int c, int h, int w, int cb, double *x)
{
    fixture f = {.ref = {n, c, h, w, EPS}, .shape = {n, c, h, w}, .cb = cb, .x = x, .channels = (size_t)c};
    f.count = test_dense(f.shape);
    ASSERT_OK(trine_batchnorm_create(dev.context, c, cb, (float)EPS, &f.bn));
    const size_t padded = trine_batchnorm_channel_bytes(f.bn) / sizeof(float);
    ck_assert_uint_eq(padded, ((size_t)c + (size_t)cb - 1) / (size_t)cb * (size_t)cb);
    f.tx = test_tensor_from(f.shape, cb, x);
    f.bgamma = test_buffer_random(f.channels, 11, 0.5, 1.5, &f.gamma);
    f.bbeta = test_buffer_random(f.channels, 12, -1, 1, &f.beta);
    f.bmean = test_buffer_create(padded);
    f.brstd = test_buffer_create(padded);
    f.partials = test_workspace_create(trine_batchnorm_partial_bytes(f.bn, &f.shape));
    f.saved = (trine_batchnorm_saved){f.bmean.buffer, f.brstd.buffer};
    f.mean = test_zeros(f.channels);
    f.variance = test_zeros(f.channels);
    ref_batchnorm_statistics(&f.ref, x, f.mean, f.variance);
    return f;
}

static fixture setup_case(const bn_case *c)
{
    const size_t count = (size_t)c->n * (size_t)c->c * (size_t)c->h * (size_t)c->w;
    return setup(c->n, c->c, c->h, c->w, c->cb, test_random(count, 1, -2, 1));
}

static void teardown(fixture *f)
{
    double *arrays[] = {f->x, f->gamma, f->beta, f->mean, f->variance};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_buffer *buffers[] = {&f->bgamma, &f->bbeta, &f->bmean, &f->brstd, &f->partials};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) test_buffer_release(buffers[i]);
    test_tensor_release(&f->tx);
    trine_batchnorm_destroy(&f->bn);
}

/* Batch statistics of x into saved. */
static void batch_statistics(fixture *f, trine_buffer *running_mean, trine_buffer *running_var, float factor)
{
    ASSERT_OK(trine_batchnorm_partials(f->bn, dev.stream, &f->tx.t, f->partials.buffer));
    ASSERT_OK(trine_batchnorm_statistics(f->bn, dev.stream, &f->shape, f->partials.buffer, &f->saved,
                                         running_mean, running_var, factor));
}

static double largest(const double *values, size_t count)
{
    return test_max_abs(values, count);
}

static double largest_rstd(const fixture *f)
{
    double most = 0;
    for (size_t c = 0; c < f->channels; c++) most = fmax(most, 1 / sqrt(f->variance[c] + EPS));
    return most;
}

/* saved against the reference, relatively. The mean is good to a few roundings of x; rstd to a few of itself. */
static void check_saved(fixture *f, const char *what)
{
    double *mean = test_buffer_read(&f->bmean), *rstd = test_buffer_read(&f->brstd);
    double *bound = test_zeros(f->channels), *want = test_zeros(f->channels);
    for (size_t c = 0; c < f->channels; c++) {
        want[c] = 1 / sqrt(f->variance[c] + EPS);
        bound[c] = test_bound(32, 1, want[c], 1);
    }
    test_compare(what, mean, f->mean, test_vector(f->channels), test_bound(8, 1, largest(f->x, f->count), 1));
    test_compare_each(what, rstd, want, test_vector(f->channels), bound);
    free(mean);
    free(rstd);
    free(bound);
    free(want);
}

START_TEST(test_statistics)
{
    const bn_case *c = &cases[_i];
    if (test_small() && !c->small) return;
    fixture f = setup_case(c);
    batch_statistics(&f, NULL, NULL, 0);
    check_saved(&f, "statistics");
    teardown(&f);
}
END_TEST

/* running = (1-a)*running + a*batch with the unbiased variance; 1 replaces, 0 keeps (to the bit). */
START_TEST(test_running_update)
{
    static const double factors[] = {0.1, 1, 0, 0.5};
    const bn_case *c = &cases[_i / 4];
    const double factor = factors[_i % 4];
    if (test_small() && !c->small) return;
    fixture f = setup_case(c);
    double *mean = NULL, *variance = NULL;
    test_buffer bmean = test_buffer_random(f.channels, 3, -1, 1, &mean),
                bvar = test_buffer_random(f.channels, 4, 0.5, 2, &variance);
    batch_statistics(&f, bmean.buffer, bvar.buffer, (float)factor);
    ref_batchnorm_update(&f.ref, f.mean, f.variance, (float)factor, mean, variance);
    double *got_mean = test_buffer_read(&bmean), *got_variance = test_buffer_read(&bvar);
    const double exact = factor == 0 ? 0 : 1;
    test_compare("running mean", got_mean, mean, test_vector(f.channels), exact * test_bound(8, 1, 2, 1));
    test_compare("running variance", got_variance, variance, test_vector(f.channels),
                 exact * test_bound(32, 1, fmax(2, largest(variance, f.channels)), 1));
    /* now use them */
    ASSERT_OK(trine_batchnorm_use_running(f.bn, dev.stream, bmean.buffer, bvar.buffer, &f.saved));
    double *saved_mean = test_buffer_read(&f.bmean), *saved_rstd = test_buffer_read(&f.brstd),
           *want = test_zeros(f.channels);
    double *bound = test_zeros(f.channels);
    for (size_t i = 0; i < f.channels; i++) {
        want[i] = 1 / sqrt(got_variance[i] + EPS);
        bound[i] = test_bound(8, 1, want[i], 1);
    }
    test_compare_exact("mean in use", saved_mean, got_mean, test_vector(f.channels));
    test_compare_each("rstd in use", saved_rstd, want, test_vector(f.channels), bound);
    double *arrays[] = {mean, variance, got_mean, got_variance, saved_mean, saved_rstd, want, bound};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_buffer_release(&bmean);
    test_buffer_release(&bvar);
    teardown(&f);
}
END_TEST

/* Mean 1e4, deviation 0.1: E[x^2] - E[x]^2 would lose everything. x itself is a multiple of 2^-10 there. */
START_TEST(test_cancellation)
{
    const int pixels = test_small() ? 9 : 56;
    const size_t count = (size_t)3 * 5 * (size_t)pixels * (size_t)pixels;
    double *x = test_random(count, 5, 1e4 - 0.1732, 1e4 + 0.1732);
    fixture f = setup(3, 5, pixels, pixels, 4, x);
    batch_statistics(&f, NULL, NULL, 0);
    double *mean = test_buffer_read(&f.bmean), *rstd = test_buffer_read(&f.brstd);
    for (size_t c = 0; c < f.channels; c++) {
        const double want = 1 / sqrt(f.variance[c] + EPS);
        ck_assert_msg(fabs(mean[c] - f.mean[c]) <= 0x1p-10, "mean %.9g, want %.9g", mean[c], f.mean[c]);
        /* means of parts, rounded to 2^-10, differ by up to 0.03: 2 * 0.03 * 2^-11 on a variance of 0.01 */
        ck_assert_msg(fabs(rstd[c] - want) <= 1.5e-3 * want, "rstd %.9g, want %.9g", rstd[c], want);
    }
    free(mean);
    free(rstd);
    teardown(&f);
}
END_TEST

/* A million values in a channel: the error does not grow with their number. */
START_TEST(test_many_values)
{
    if (test_small()) return;
    fixture f = setup(2, 2, 707, 709, 2, test_random((size_t)2 * 2 * 707 * 709, 6, 3, 5));
    batch_statistics(&f, NULL, NULL, 0);
    check_saved(&f, "a million values");
    teardown(&f);
}
END_TEST

/* A constant channel gives beta, exactly. */
START_TEST(test_constant_channel)
{
    static const double constants[] = {0, 1, 0.1, -12345.678, 1e-20, 3e7};
    const double value = (float)constants[_i];
    fixture f = setup(2, 5, 13, 11, 8, test_constant((size_t)2 * 5 * 13 * 11, value));
    batch_statistics(&f, NULL, NULL, 0);
    test_tensor ty = test_tensor_create(f.shape, f.cb);
    ASSERT_OK(trine_batchnorm_apply(f.bn, dev.stream, &f.tx.t, &f.saved, f.bgamma.buffer, f.bbeta.buffer,
                                    NULL, 0, &ty.t));
    double *y = test_tensor_read(&ty), *want = test_zeros(f.count);
    for (size_t i = 0; i < f.count; i++) want[i] = f.beta[i / (13 * 11) % 5];
    test_compare_exact("constant channel", y, want, f.shape);
    free(y);
    free(want);
    test_tensor_release(&ty);
    teardown(&f);
}
END_TEST

/* y with every combination of affine, residual, relu and place. */
static void check_apply(fixture *f, int affine, int residual, int relu, int place)
{
    char name[96];
    snprintf(name, sizeof name, "apply [%d,%d,%d,%d] cb %d affine %d residual %d relu %d place %d",
             f->shape.n, f->shape.c, f->shape.h, f->shape.w, f->cb, affine, residual, relu, place);
    double *other = NULL, *want = test_zeros(f->count);
    test_tensor tx = test_tensor_from(f->shape, f->cb, f->x), ty = test_tensor_create(f->shape, f->cb);
    test_tensor tother = test_tensor_random(f->shape, f->cb, 7, -1, 1, &other);
    ref_batchnorm_apply(&f->ref, f->x, f->mean, f->variance, affine ? f->gamma : NULL,
                        affine ? f->beta : NULL, residual ? other : NULL, relu, want);
    test_tensor *y = place == 0 ? &ty : place == 1 ? &tx : &tother;
    ASSERT_OK(trine_batchnorm_apply(f->bn, dev.stream, &tx.t, &f->saved, affine ? f->bgamma.buffer : NULL,
                                    affine ? f->bbeta.buffer : NULL, residual ? &tother.t : NULL, relu,
                                    &y->t));
    double *got = test_tensor_read(y);
    /* roundings of x - mean (times rstd) and of the sum */
    const double scale = largest_rstd(f) * (affine ? 1.5 : 1);
    test_compare(name, got, want, f->shape,
                 test_bound(16, 1, largest(f->x, f->count), scale) + test_bound(8, 1, 2, 1));
    free(other);
    free(want);
    free(got);
    test_tensor_release(&tx);
    test_tensor_release(&ty);
    test_tensor_release(&tother);
}

START_TEST(test_apply)
{
    const bn_case *c = &cases[_i];
    if (test_small() && !c->small) return;
    fixture f = setup_case(c);
    batch_statistics(&f, NULL, NULL, 0);
    for (int combination = 0; combination < 8; combination++) {
        const int residual = combination >> 1 & 1;
        for (int place = 0; place < 2 + residual; place++)
            check_apply(&f, combination & 1, residual, combination >> 2, place);
    }
    teardown(&f);
}
END_TEST

/* scale and shift of a convolution's epilogue; zero in padding channels. */
START_TEST(test_fold)
{
    const bn_case *c = &cases[_i];
    if (test_small() && !c->small) return;
    fixture f = setup_case(c);
    const size_t padded = f.brstd.floats;
    double *mean = NULL, *variance = NULL, *want_scale = test_zeros(padded), *want_shift = test_zeros(padded);
    test_buffer bmean = test_buffer_random(f.channels, 3, -1, 1, &mean),
                bvar = test_buffer_random(f.channels, 4, 0.1, 2, &variance);
    for (int affine = 0; affine < 2; affine++) {
        test_buffer scale = test_buffer_create(padded), shift = test_buffer_create(padded);
        ASSERT_OK(trine_batchnorm_fold(f.bn, dev.stream, bmean.buffer, bvar.buffer,
                                       affine ? f.bgamma.buffer : NULL, affine ? f.bbeta.buffer : NULL,
                                       scale.buffer, shift.buffer));
        for (size_t i = 0; i < f.channels; i++) {
            want_scale[i] = (affine ? f.gamma[i] : 1) / sqrt(variance[i] + EPS);
            want_shift[i] = (affine ? f.beta[i] : 0) - mean[i] * want_scale[i];
        }
        double *got_scale = test_buffer_read(&scale), *got_shift = test_buffer_read(&shift);
        test_compare("scale", got_scale, want_scale, test_vector(padded), test_bound(8, 1, 5, 1));
        test_compare("shift", got_shift, want_shift, test_vector(padded), test_bound(8, 1, 6, 1));
        for (size_t i = f.channels; i < padded; i++) ck_assert(got_scale[i] == 0 && got_shift[i] == 0);
        free(got_scale);
        free(got_shift);
        test_buffer_release(&scale);
        test_buffer_release(&shift);
    }
    double *arrays[] = {mean, variance, want_scale, want_shift};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_buffer_release(&bmean);
    test_buffer_release(&bvar);
    teardown(&f);
}
END_TEST

/* One backward pass. with_y: the ReLU's mask; place: dx in its own tensor or over dy. */
static void check_backward(fixture *f, int batch, int affine, int with_y, int in_place)
{
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

/* What may be left out with running statistics: x, partials, affine gradients; or dx. */
START_TEST(test_backward_parts)
{
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
    trine_batchnorm *none = NULL;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_batchnorm_create(dev.context, 0, 1, 1e-5f, &none));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_batchnorm_create(dev.context, 4, 3, 1e-5f, &none));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_batchnorm_create(dev.context, 4, 4, 0, &none));
    ck_assert_ptr_null(none);
    fixture f = setup(1, 5, 1, 1, 4, test_random(5, 1, -1, 1)); /* one value a channel */
    ASSERT_OK(trine_batchnorm_partials(f.bn, dev.stream, &f.tx.t, f.partials.buffer));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_batchnorm_statistics(f.bn, dev.stream, &f.shape, f.partials.buffer,
                                                             &f.saved, NULL, NULL, 0));
    const trine_shape two = {2, 5, 1, 1};
    ASSERT_FAILS(TRINE_ERR_WORKSPACE, trine_batchnorm_statistics(f.bn, dev.stream, &two, f.partials.buffer,
                                                                 &f.saved, NULL, NULL, 0));
    trine_tensor wrong = f.tx.t;
    wrong.cb = 8;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_batchnorm_partials(f.bn, dev.stream, &wrong, f.partials.buffer));
    wrong = f.tx.t;
    wrong.shape.c = 4;
    ASSERT_FAILS(TRINE_ERR_SHAPE,
                 trine_batchnorm_apply(f.bn, dev.stream, &wrong, &f.saved, NULL, NULL, NULL, 0, &wrong));
    test_device_sync();
    teardown(&f);
    fixture large = setup_case(&cases[1]);
    ASSERT_OK(trine_batchnorm_partials(large.bn, dev.stream, &large.tx.t, large.partials.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_batchnorm_statistics(large.bn, dev.stream, &large.shape, large.partials.buffer,
                                            &large.saved, NULL, NULL, 1.5f));
    test_device_sync();
    teardown(&large);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("batchnorm");
    TCase *tcase = tcase_create("batchnorm");
    tcase_add_loop_test(tcase, test_statistics, 0, CASES);
    tcase_add_loop_test(tcase, test_running_update, 0, 4 * CASES);
    tcase_add_test(tcase, test_cancellation);
    tcase_add_test(tcase, test_many_values);
    tcase_add_loop_test(tcase, test_constant_channel, 0, 6);
    tcase_add_loop_test(tcase, test_apply, 0, CASES);
    tcase_add_loop_test(tcase, test_fold, 0, CASES);
    tcase_add_loop_test(tcase, test_backward, 0, CASES);
    tcase_add_test(tcase, test_backward_parts);
    tcase_add_test(tcase, test_finite_differences);
    tcase_add_test(tcase, test_refused);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
