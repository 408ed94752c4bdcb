/* SPDX-License-Identifier: MIT */
/* Data gradients that mask what they write and sum it up for BatchNorm's backward pass: the bits of the plain gradient, masked; affine gradients
 * and dx of a reference in double. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conv2d_cases.h"
#include "op/conv2d_private.h"
#include "ref/ref_batchnorm.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"

enum { MOST_ALGORITHMS = 16 };

static const conv_case summed_cases[] = {
    {1, 2, 5, 6, 7, 9, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 8, 8},
    {1, 1, 5, 7, 6, 3, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, 4, 4},
    /* one to five blocks of channels, whose products lines are announced behind; tiles that go on in the next image */
    {0, 2, 40, 6, 5, 16, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 16, 16},
    {0, 3, 24, 7, 7, 48, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 16, 16},
    {0, 2, 64, 19, 17, 80, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 16, 16},
    {0, 3, 40, 13, 18, 20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 16, 16},
    {0, 2, 16, 15, 12, 48, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, 16, 16},
    {0, 1, 16, 15, 31, 16, {5, 5}, {1, 1}, {2, 2}, {1, 1}, 1, 8, 8},
};
/* The ReLU's mask, and what there is to add to. */
enum { MASK_OF_Y, MASK_OF_X, NO_MASK, MASKS, WAYS = 2 * MASKS };
enum {
    CASES = sizeof summed_cases / sizeof summed_cases[0],
    LITTLE = 1 << 12, /* bytes of local memory, with which nothing is fused */
    MORE_IMAGES = 3   /* for which room is made */
};

typedef struct fixture {
    const conv_case *c;
    trine_batchnorm *bn;
    test_tensor x, y, dy, dx[2], out; /* x, y: of the BatchNorm, whose y the convolution reads */
    test_buffer w, mean, rstd, gamma, beta, dgamma, dbeta;
    double *before; /* dx of the call */
    double *x_host, *y_host, *mean_host, *rstd_host, *gamma_host, *beta_host;
    char name[200];
} fixture;

static void setup(fixture *f, const conv_case *c)
{
    const trine_conv2d_desc d = desc_of(c);
    const trine_shape in = {c->n, c->c, c->h, c->w};
    trine_conv2d *op = NULL;
    trine_shape out;
    double *unused[2] = {NULL};
    *f = (fixture){.c = c};
    ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << TRINE_BACKWARD_DATA, &op));
    ASSERT_OK(trine_conv2d_output_shape(op, c->n, &out));
    trine_conv2d_destroy(&op);
    ASSERT_OK(trine_batchnorm_create(dev.context, c->c, c->in_cb, 1e-5f, &f->bn));
    const size_t channels = trine_batchnorm_channel_bytes(f->bn) / sizeof(float);
    f->x = test_tensor_random(in, c->in_cb, 1, -1, 1, &f->x_host);
    f->y = test_tensor_random(in, c->in_cb, 2, -1, 1, &f->y_host);
    test_tensor before = test_tensor_random(in, c->in_cb, 3, -1, 1, &f->before);
    test_tensor_release(&before);
    f->dy = test_tensor_random(out, c->out_cb, 4, -1, 1, &unused[0]);
    f->w = test_buffer_random(trine_conv2d_weight_count(&d), 5, -1, 1, &unused[1]);
    f->mean = test_buffer_random(channels, 6, -0.5, 0.5, &f->mean_host);
    f->rstd = test_buffer_random(channels, 7, 0.5, 2, &f->rstd_host);
    f->gamma = test_buffer_random(channels, 8, -1.5, 1.5, &f->gamma_host);
    f->beta = test_buffer_random(channels, 9, -0.5, 0.5, &f->beta_host);
    f->dgamma = test_buffer_create(channels);
    f->dbeta = test_buffer_create(channels);
    f->out = test_tensor_create(in, c->in_cb);
    for (size_t i = 0; i < sizeof unused / sizeof unused[0]; i++) free(unused[i]);
}

static void teardown(fixture *f)
{
    test_tensor *tensors[] = {&f->x, &f->y, &f->dy, &f->out};
    test_buffer *buffers[] = {&f->w, &f->mean, &f->rstd, &f->gamma, &f->beta, &f->dgamma, &f->dbeta};
    double *hosts[] = {f->before,    f->x_host,     f->y_host,   f->mean_host,
                       f->rstd_host, f->gamma_host, f->beta_host};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) test_tensor_release(tensors[i]);
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) test_buffer_release(buffers[i]);
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) free(hosts[i]);
    trine_batchnorm_destroy(&f->bn);
}

/* Is value i of the gradient let through? As the device decides it, in single precision. */
static bool passes(const fixture *f, int mask, size_t i)
{
    const size_t channel = i / (size_t)(f->c->h * f->c->w) % (size_t)f->c->c;
    const float a = (float)f->gamma_host[channel] * (float)f->rstd_host[channel];
    if (mask == MASK_OF_Y) return f->y_host[i] > 0;
    return mask == NO_MASK ||
           fmaf((float)f->x_host[i] - (float)f->mean_host[channel], a, (float)f->beta_host[channel]) > 0;
}

/* dx and the affine gradients of the rest of the pass, from the masked gradient g. */
static void check_rest(fixture *f, const double *g)
{
    const conv_case *c = f->c;
    const size_t channels = (size_t)c->c, count = channels * (size_t)(c->n * c->h * c->w);
    const ref_batchnorm ref = {c->n, c->c, c->h, c->w, 0};
    double *variance = calloc(3 * channels + count, sizeof *variance), *dgamma = variance + channels,
           *dbeta = dgamma + channels, *dx = dbeta + channels;
    for (size_t i = 0; i < channels; i++) variance[i] = 1 / (f->rstd_host[i] * f->rstd_host[i]);
    ref_batchnorm_backward(&ref, f->x_host, f->mean_host, variance, f->gamma_host, g, 1, dx, dgamma, dbeta);
    double *got[] = {test_buffer_read(&f->dgamma), test_buffer_read(&f->dbeta), test_tensor_read(&f->out)};
    const double pixels = c->n * c->h * c->w, largest = 9.0 * c->k; /* |g|, about */
    test_compare(f->name, got[0], dgamma, test_vector(channels), test_bound(4, pixels, largest, 3));
    test_compare(f->name, got[1], dbeta, test_vector(channels), test_bound(4, pixels, largest, 1));
    test_compare(f->name, got[2], dx, f->out.t.shape, test_bound(16, 4, largest, 9));
    for (int i = 0; i < 3; i++) free(got[i]);
    free(variance);
}

static void check_sums(fixture *f, trine_conv2d *op, int most, int mask, int beta)
{
    const int parts = trine__conv2d_sum_parts(op, f->c->n, false);
    test_buffer partials = test_buffer_create(trine__batchnorm_sums_bytes(f->bn, most) / sizeof(float));
    test_buffer workspace =
        test_workspace_create(trine_conv2d_workspace_bytes(op, TRINE_BACKWARD_DATA, f->c->n));
    const trine_batchnorm_saved saved = {f->mean.buffer, f->rstd.buffer};
    const trine_batchnorm_gradients g = {.x = &f->x.t,
                                         .y = mask == MASK_OF_Y ? &f->y.t : NULL,
                                         .dy = &f->dx[1].t,
                                         .dx = &f->out.t,
                                         .saved = &saved,
                                         .gamma = f->gamma.buffer,
                                         .beta = f->beta.buffer,
                                         .dgamma = f->dgamma.buffer,
                                         .dbeta = f->dbeta.buffer,
                                         .partials = partials.buffer,
                                         .relu = mask == MASK_OF_X,
                                         .batch = 1};
    trine__batchnorm_sums sums;
    ck_assert_int_le(parts, most);
    for (int i = 0; i < 2; i++) f->dx[i] = test_tensor_from(f->x.t.shape, f->c->in_cb, f->before);
    ASSERT_OK(trine_conv2d_prepare(op, dev.stream, f->w.buffer));
    ASSERT_OK(trine_conv2d_backward_data(op, dev.stream, &f->dy.t, beta, &f->dx[0].t, workspace.buffer));
    ASSERT_OK(trine__batchnorm_sums_of(f->bn, dev.stream, &g, &sums));
    ASSERT_OK(trine__conv2d_backward_data_joined(op, dev.stream, &f->dy.t, beta, NULL, &sums, &f->dx[1].t,
                                                 workspace.buffer));
    double *want = test_tensor_read(&f->dx[0]), *got = test_tensor_read(&f->dx[1]);
    const trine_shape shape = f->x.t.shape;
    for (size_t i = 0; i < (size_t)shape.n * (size_t)shape.c * (size_t)(shape.h * shape.w); i++)
        if (!passes(f, mask, i)) want[i] = 0;
    test_compare_exact(f->name, got, want, shape);
    ASSERT_OK(trine__batchnorm_backward_from(f->bn, dev.stream, &g, parts));
    check_rest(f, got);
    free(want);
    free(got);
    for (int i = 0; i < 2; i++) test_tensor_release(&f->dx[i]);
    test_buffer_release(&partials);
    test_buffer_release(&workspace);
}

/* Those that have to on CPUs: minimal filtering, and the direct convolution of stride 1. */
static bool has_to(const char *name, const conv_case *c)
{
    return strcmp(name, "conv2d_winograd2") == 0 || strcmp(name, "conv2d_winograd4") == 0 ||
           (strcmp(name, "conv2d_direct") == 0 && c->stride[0] == 1);
}

/* Every implementation that says it does, in one kernel and by chunks of tiles. */
START_TEST(test_summed)
{
    const conv_case *c = &summed_cases[_i % CASES];
    const size_t local_bytes = dev.context->caps.local_bytes;
    trine_conv2d_desc d = desc_of(c);
    const char *names[MOST_ALGORITHMS];
    trine_conv2d *op = NULL;
    if (test_small() && !c->small) return;
    if (_i >= CASES) dev.context->caps.local_bytes = LITTLE;
    fixture f;
    setup(&f, c);
    ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << TRINE_BACKWARD_DATA, &op));
    const size_t all = trine_conv2d_algorithms(op, TRINE_BACKWARD_DATA, names, MOST_ALGORITHMS);
    trine_conv2d_destroy(&op);
    for (size_t j = 0; j < all && j < MOST_ALGORITHMS; j++) {
        int most = 0;
        d.algorithm = names[j];
        ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << TRINE_BACKWARD_DATA, &op));
        ASSERT_OK(trine__conv2d_sums_create(op, c->n + MORE_IMAGES, false, &most));
        ck_assert_msg(most > 0 || !has_to(names[j], c), "%s makes no sums", names[j]);
        for (int way = 0; most > 0 && way < WAYS; way++) {
            snprintf(f.name, sizeof f.name, "%s, mask %d, beta %d, case %d", names[j], way / 2, way % 2, _i);
            test_report("conv2d", names[j], "sums of the gradient");
            check_sums(&f, op, most, way / 2, way % 2);
        }
        trine_conv2d_destroy(&op);
    }
    dev.context->caps.local_bytes = local_bytes;
    teardown(&f);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("conv2d_sums");
    TCase *tcase = tcase_create("conv2d_sums");
    tcase_add_loop_test(tcase, test_summed, 0, 2 * CASES);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
