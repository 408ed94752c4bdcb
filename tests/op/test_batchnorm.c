/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "batchnorm_fixture.h"

static double largest(const double *values, size_t count)
{
    return test_max_abs(values, count);
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
    test_report("batchnorm", NULL, "statistics");
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
    test_report("batchnorm", NULL, "running");
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
    test_report("batchnorm", NULL, "statistics");
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
    test_report("batchnorm", NULL, "statistics");
    fixture f = setup(2, 2, 707, 709, 2, test_random((size_t)2 * 2 * 707 * 709, 6, 3, 5));
    batch_statistics(&f, NULL, NULL, 0);
    check_saved(&f, "a million values");
    teardown(&f);
}
END_TEST

/* A constant channel gives beta, exactly. */
START_TEST(test_constant_channel)
{
    test_report("batchnorm", NULL, "apply");
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
    test_report("batchnorm", NULL, "apply");
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
    test_report("batchnorm", NULL, "fold");
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
    tcase_add_test(tcase, test_refused);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
