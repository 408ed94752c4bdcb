/* SPDX-License-Identifier: MIT */
/* Cases of batch normalization, and everything that its passes read and write. */
#ifndef TRINE_TESTS_OP_BATCHNORM_FIXTURE_H
#define TRINE_TESTS_OP_BATCHNORM_FIXTURE_H

#include <math.h>
#include <stdlib.h>

#include "ref/ref_batchnorm.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/batchnorm.h"

#define EPS 1e-5

typedef struct bn_case {
    int small; /* 1: also with $TRINE_TEST_SMALL */
    int n, c, h, w, cb;
} bn_case;

static const bn_case cases[] = {
    {1, 1, 1, 1, 2, 1},     {1, 2, 3, 5, 7, 1},    {1, 2, 1, 1, 1, 8},
    {1, 2, 8, 3, 3, 8},     {1, 3, 5, 4, 4, 4},    {1, 1, 17, 2, 3, 16},
    {0, 2, 64, 28, 28, 16}, {0, 3, 65, 9, 11, 16}, {0, 1, 16, 127, 1, 16},
    {0, 1, 8, 1, 128, 8},   {0, 2, 7, 43, 3, 2},   {0, 5, 24, 13, 29, 8},
    {0, 8, 512, 7, 7, 16},  {0, 1, 3, 56, 57, 1},  {0, 2, 48, 128, 129, 16} /* written past the caches */,
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
static inline fixture setup(int n, int c, int h, int w, int cb, double *x)
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

static inline fixture setup_case(const bn_case *c)
{
    const size_t count = (size_t)c->n * (size_t)c->c * (size_t)c->h * (size_t)c->w;
    return setup(c->n, c->c, c->h, c->w, c->cb, test_random(count, 1, -2, 1));
}

static inline void teardown(fixture *f)
{
    double *arrays[] = {f->x, f->gamma, f->beta, f->mean, f->variance};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_buffer *buffers[] = {&f->bgamma, &f->bbeta, &f->bmean, &f->brstd, &f->partials};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) test_buffer_release(buffers[i]);
    test_tensor_release(&f->tx);
    trine_batchnorm_destroy(&f->bn);
}

/* Batch statistics of x into saved. */
static inline void batch_statistics(fixture *f, trine_buffer *running_mean, trine_buffer *running_var,
                                    float factor)
{
    ASSERT_OK(trine_batchnorm_partials(f->bn, dev.stream, &f->tx.t, f->partials.buffer));
    ASSERT_OK(trine_batchnorm_statistics(f->bn, dev.stream, &f->shape, f->partials.buffer, &f->saved,
                                         running_mean, running_var, factor));
}

static inline double largest_rstd(const fixture *f)
{
    double most = 0;
    for (size_t c = 0; c < f->channels; c++) most = fmax(most, 1 / sqrt(f->variance[c] + EPS));
    return most;
}

#endif
