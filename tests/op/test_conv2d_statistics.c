/* SPDX-License-Identifier: MIT */
/* Batch statistics that a convolution writes on its way: those of its output, whoever writes them, and the same output as without. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conv2d_cases.h"
#include "ref/ref_batchnorm.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/batchnorm.h"

enum { MOST_ALGORITHMS = 16 };
static const float EPS = 1e-5f;

static const conv_case statistics_cases[] = {
    {1, 2, 5, 6, 7, 9, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 8, 8},
    {1, 2, 1, 5, 7, 3, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 1, 1},
    /* parts that begin in one image and end in the next; a last tile that is shifted back; channels that do not fill their blocks */
    {0, 5, 24, 7, 7, 40, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 16, 16},
    {0, 3, 16, 23, 29, 32, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, 16, 16},
    {0, 2, 3, 31, 33, 16, {7, 7}, {2, 2}, {3, 3}, {1, 1}, 1, 1, 16},
    /* tiles of minimal filtering beyond the border, groups of them that end in another image, fused and not */
    {0, 3, 20, 13, 11, 36, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 16, 16},
    {0, 8, 512, 7, 7, 64, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 16, 16},
    {0, 4, 544, 7, 9, 32, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 16, 16},
    /* one image of few channels, which is shared out by small parts; groups within a block */
    {0, 1, 16, 9, 8, 16, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 16, 16},
    {0, 2, 32, 9, 8, 32, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 4, 16, 16},
};
enum { CASES = sizeof statistics_cases / sizeof statistics_cases[0] };

/* What one case needs, on the host and the device. */
typedef struct fixture {
    trine_conv2d_desc desc;
    const conv_case *c;
    trine_shape out;
    test_tensor tx, ty;
    test_buffer weights;
    char name[200];
} fixture;

static void check_statistics(fixture *f, trine_conv2d *op, trine_batchnorm *bn)
{
    const size_t channels = (size_t)f->c->k, padded = trine_batchnorm_channel_bytes(bn) / sizeof(float);
    test_buffer partials = test_workspace_create(trine_batchnorm_partial_bytes(bn, &f->out)),
                mean = test_buffer_create(padded), rstd = test_buffer_create(padded);
    test_buffer workspace = test_workspace_create(trine_conv2d_workspace_bytes(op, TRINE_FORWARD, f->c->n));
    ASSERT_OK(trine_conv2d_forward(op, dev.stream, &f->tx.t, NULL, &f->ty.t, workspace.buffer));
    double *y = test_tensor_read(&f->ty);
    const trine_conv2d_epilogue e = {NULL, NULL, NULL, partials.buffer};
    ASSERT_OK(trine_conv2d_forward(op, dev.stream, &f->tx.t, &e, &f->ty.t, workspace.buffer));
    double *again = test_tensor_read(&f->ty);
    test_compare_exact(f->name, again, y, f->out);
    trine_batchnorm_saved saved = {mean.buffer, rstd.buffer};
    ASSERT_OK(trine_batchnorm_statistics(bn, dev.stream, &f->out, partials.buffer, &saved, NULL, NULL, 0));
    double *got_mean = test_buffer_read(&mean), *got_rstd = test_buffer_read(&rstd);
    double *want_mean = test_zeros(channels), *variance = test_zeros(channels), *bound = test_zeros(channels);
    const ref_batchnorm ref = {f->out.n, f->out.c, f->out.h, f->out.w, EPS};
    ref_batchnorm_statistics(&ref, y, want_mean, variance);
    test_compare(f->name, got_mean, want_mean, test_vector(channels),
                 test_bound(8, 1, test_max_abs(y, test_dense(f->out)), 1));
    for (size_t i = 0; i < channels; i++) {
        variance[i] = 1 / sqrt(variance[i] + EPS);
        bound[i] = test_bound(32, 1, variance[i], 1);
    }
    test_compare_each(f->name, got_rstd, variance, test_vector(channels), bound);
    double *arrays[] = {y, again, got_mean, got_rstd, want_mean, variance, bound};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_buffer *buffers[] = {&partials, &mean, &rstd, &workspace};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) test_buffer_release(buffers[i]);
}

/* Every implementation; weights whose filters lean to one side, so that means are many deviations away from 0. */
START_TEST(test_statistics)
{
    const conv_case *c = &statistics_cases[_i];
    if (test_small() && !c->small) return;
    fixture f = {.desc = desc_of(c), .c = c};
    double *x = NULL, *w = NULL;
    const size_t weights = trine_conv2d_weight_count(&f.desc);
    const char *names[MOST_ALGORITHMS];
    trine_conv2d *op = NULL;
    ASSERT_OK(trine_conv2d_create(dev.context, &f.desc, c->h, c->w, 1u << TRINE_FORWARD, &op));
    ASSERT_OK(trine_conv2d_output_shape(op, c->n, &f.out));
    size_t count = trine_conv2d_algorithms(op, TRINE_FORWARD, names, MOST_ALGORITHMS);
    trine_conv2d_destroy(&op);
    f.tx = test_tensor_random((trine_shape){c->n, c->c, c->h, c->w}, c->in_cb, 1, 0.9, 1.1, &x);
    f.ty = test_tensor_create(f.out, c->out_cb);
    f.weights = test_buffer_random(weights, 2, -0.2, 1, &w);
    trine_batchnorm *bn = NULL;
    ASSERT_OK(trine_batchnorm_create(dev.context, c->k, c->out_cb, EPS, &bn));
    f.desc.emit_bn_partials = 1;
    for (size_t i = 0; i < count && i < MOST_ALGORITHMS; i++) {
        if (strstr(names[i], "clblast") || strchr(names[i], ':')) continue; /* nothing of their own here */
        if (test_small() && strstr(names[i], "winograd") && strstr(names[i], "_gemm"))
            continue; /* nor here, but 36 products */
        f.desc.algorithm = names[i];
        snprintf(f.name, sizeof f.name, "%s, case %d", names[i], _i);
        ASSERT_OK(trine_conv2d_create(dev.context, &f.desc, c->h, c->w, 1u << TRINE_FORWARD, &op));
        ASSERT_OK(trine_conv2d_prepare(op, dev.stream, f.weights.buffer));
        test_report("conv2d", names[i], "statistics");
        check_statistics(&f, op, bn);
        trine_conv2d_destroy(&op);
    }
    trine_batchnorm_destroy(&bn);
    test_tensor_release(&f.tx);
    test_tensor_release(&f.ty);
    test_buffer_release(&f.weights);
    free(x);
    free(w);
}
END_TEST

/* Partials are given to those that were made for them, and large enough. */
START_TEST(test_refused)
{
    const conv_case *c = &statistics_cases[0];
    trine_conv2d_desc d = desc_of(c);
    trine_conv2d *op = NULL;
    trine_batchnorm *bn = NULL;
    double *x = NULL, *w = NULL;
    test_tensor tx = test_tensor_random((trine_shape){c->n, c->c, c->h, c->w}, c->in_cb, 1, -1, 1, &x),
                ty = test_tensor_create((trine_shape){c->n, c->k, c->h, c->w}, c->out_cb);
    test_buffer weights = test_buffer_random(trine_conv2d_weight_count(&d), 2, -1, 1, &w);
    ASSERT_OK(trine_batchnorm_create(dev.context, c->k, c->out_cb, EPS, &bn));
    const size_t bytes = trine_batchnorm_partial_bytes(bn, &ty.t.shape);
    test_buffer partials = test_workspace_create(bytes), small = test_workspace_create(bytes / 2);
    for (int emit = 0; emit < 2; emit++) {
        d.emit_bn_partials = emit;
        ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << TRINE_FORWARD, &op));
        ASSERT_OK(trine_conv2d_prepare(op, dev.stream, weights.buffer));
        test_buffer workspace = test_workspace_create(trine_conv2d_workspace_bytes(op, TRINE_FORWARD, c->n));
        const trine_conv2d_epilogue e = {NULL, NULL, NULL, emit ? small.buffer : partials.buffer};
        ASSERT_FAILS(emit ? TRINE_ERR_WORKSPACE : TRINE_ERR_ARG,
                     trine_conv2d_forward(op, dev.stream, &tx.t, &e, &ty.t, workspace.buffer));
        test_device_sync();
        test_buffer_release(&workspace);
        trine_conv2d_destroy(&op);
    }
    trine_batchnorm_destroy(&bn);
    test_tensor_release(&tx);
    test_tensor_release(&ty);
    test_buffer *buffers[] = {&weights, &partials, &small};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) test_buffer_release(buffers[i]);
    free(x);
    free(w);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("conv2d_statistics");
    TCase *tcase = tcase_create("conv2d_statistics");
    tcase_add_loop_test(tcase, test_statistics, 0, CASES);
    tcase_add_test(tcase, test_refused);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
