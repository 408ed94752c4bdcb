/* SPDX-License-Identifier: MIT */
/* Convolutions that normalise what they read: the bits of BatchNorm and ReLU written and then read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conv2d_cases.h"
#include "op/conv2d_private.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"

enum { MOST_ALGORITHMS = 16 };

static const conv_case normalised_cases[] = {
    {1, 2, 5, 6, 7, 9, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 8, 8},
    {1, 1, 5, 7, 6, 3, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, 4, 4},
    /* border tiles, of which what lies beyond stays 0 whatever BatchNorm makes of 0; both strides */
    {0, 3, 20, 13, 11, 36, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 16, 16},
    {0, 2, 16, 15, 12, 48, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, 16, 16},
    {0, 2, 16, 9, 10, 16, {3, 3}, {2, 2}, {0, 0}, {1, 1}, 1, 8, 8},
};
enum {
    CASES = sizeof normalised_cases / sizeof normalised_cases[0],
    LITTLE = 1 << 12 /* bytes of local memory, with which nothing is fused */
};

typedef struct fixture {
    const conv_case *c;
    trine_batchnorm *bn;
    test_tensor z, x, y[2], dy; /* x = relu(batchnorm(z)) */
    test_buffer w, dw[2], mean, rstd, gamma, beta;
    trine__batchnorm_input input;
    char name[200];
} fixture;

static void setup(fixture *f, const conv_case *c)
{
    const trine_conv2d_desc d = desc_of(c);
    const trine_shape in = {c->n, c->c, c->h, c->w};
    const size_t weights = trine_conv2d_weight_count(&d);
    trine_conv2d *op = NULL;
    trine_shape out;
    double *unused[8] = {NULL};
    *f = (fixture){.c = c};
    ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << TRINE_FORWARD, &op));
    ASSERT_OK(trine_conv2d_output_shape(op, c->n, &out));
    trine_conv2d_destroy(&op);
    ASSERT_OK(trine_batchnorm_create(dev.context, c->c, c->in_cb, 1e-5f, &f->bn));
    const size_t channels = trine_batchnorm_channel_bytes(f->bn) / sizeof(float);
    f->z = test_tensor_random(in, c->in_cb, 1, -1, 1, &unused[0]);
    f->x = test_tensor_create(in, c->in_cb);
    f->dy = test_tensor_random(out, c->out_cb, 2, -1, 1, &unused[1]);
    f->w = test_buffer_random(weights, 3, -1, 1, &unused[2]);
    f->mean = test_buffer_random(channels, 4, -0.5, 0.5, &unused[3]);
    f->rstd = test_buffer_random(channels, 5, 0.5, 2, &unused[4]);
    f->gamma = test_buffer_random(channels, 6, -1.5, 1.5, &unused[5]);
    f->beta = test_buffer_random(channels, 7, 0.2, 0.5, &unused[6]); /* relu(batchnorm(0)) is not 0 */
    for (int i = 0; i < 2; i++) {
        f->y[i] = test_tensor_create(out, c->out_cb);
        f->dw[i] = test_buffer_create(weights);
    }
    const trine_batchnorm_saved saved = {f->mean.buffer, f->rstd.buffer};
    ASSERT_OK(trine_batchnorm_apply(f->bn, dev.stream, &f->z.t, &saved, f->gamma.buffer, f->beta.buffer, NULL,
                                    1, &f->x.t));
    ASSERT_OK(trine__batchnorm_coefficients(f->bn, dev.stream, &saved, f->gamma.buffer, f->beta.buffer));
    f->input = trine__batchnorm_input_of(f->bn, &saved);
    for (size_t i = 0; i < sizeof unused / sizeof unused[0]; i++) free(unused[i]);
}

static void teardown(fixture *f)
{
    test_tensor *tensors[] = {&f->z, &f->x, &f->y[0], &f->y[1], &f->dy};
    test_buffer *buffers[] = {&f->w, &f->dw[0], &f->dw[1], &f->mean, &f->rstd, &f->gamma, &f->beta};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) test_tensor_release(tensors[i]);
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) test_buffer_release(buffers[i]);
    trine_batchnorm_destroy(&f->bn);
}

static void check_forward(fixture *f, trine_conv2d *op, trine_buffer *workspace)
{
    ASSERT_OK(trine_conv2d_prepare(op, dev.stream, f->w.buffer));
    ASSERT_OK(trine_conv2d_forward(op, dev.stream, &f->x.t, NULL, &f->y[0].t, workspace));
    ASSERT_OK(trine__conv2d_forward_of(op, dev.stream, &f->z.t, &f->input, NULL, &f->y[1].t, workspace));
    double *want = test_tensor_read(&f->y[0]), *got = test_tensor_read(&f->y[1]);
    test_compare_exact(f->name, got, want, f->y[0].t.shape);
    free(want);
    free(got);
}

static void check_weights(fixture *f, trine_conv2d *op, trine_buffer *workspace)
{
    ASSERT_OK(
        trine_conv2d_backward_weights(op, dev.stream, &f->x.t, &f->dy.t, 0, f->dw[0].buffer, workspace));
    ASSERT_OK(trine__conv2d_backward_weights_of(op, dev.stream, &f->z.t, &f->input, &f->dy.t, 0,
                                                f->dw[1].buffer, workspace));
    double *want = test_buffer_read(&f->dw[0]), *got = test_buffer_read(&f->dw[1]);
    test_compare_exact(f->name, got, want, test_vector(f->dw[0].floats));
    free(want);
    free(got);
}

/* Every implementation that says it does; on CPUs minimal filtering has to. In one kernel, and by chunks of tiles. */
START_TEST(test_normalised)
{
    static const trine_direction directions[] = {TRINE_FORWARD, TRINE_BACKWARD_WEIGHTS};
    const conv_case *c = &normalised_cases[_i % CASES];
    const size_t local_bytes = dev.context->caps.local_bytes;
    if (test_small() && !c->small) return;
    if (_i >= CASES) dev.context->caps.local_bytes = LITTLE;
    fixture f;
    setup(&f, c);
    for (size_t i = 0; i < sizeof directions / sizeof directions[0]; i++) {
        const trine_direction direction = directions[i];
        trine_conv2d_desc d = desc_of(c);
        const char *names[MOST_ALGORITHMS];
        trine_conv2d *op = NULL;
        ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << direction, &op));
        const size_t all = trine_conv2d_algorithms(op, direction, names, MOST_ALGORITHMS);
        trine_conv2d_destroy(&op);
        for (size_t j = 0; j < all && j < MOST_ALGORITHMS; j++) {
            d.algorithm = names[j];
            ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << direction, &op));
            const bool does = trine__conv2d_normalises(op, direction),
                       has_to = strcmp(names[j], "conv2d_winograd2") == 0 ||
                                strcmp(names[j], "conv2d_winograd4") == 0;
            ck_assert_msg(does || !has_to, "%s: %s does not normalise", names[j],
                          trine__direction_name(direction));
            if (does) {
                test_buffer workspace =
                    test_workspace_create(trine_conv2d_workspace_bytes(op, direction, c->n));
                snprintf(f.name, sizeof f.name, "%s, %s, case %d", names[j], trine__direction_name(direction),
                         _i);
                test_report("conv2d", names[j], "normalised input");
                (direction == TRINE_FORWARD ? check_forward : check_weights)(&f, op, workspace.buffer);
                test_buffer_release(&workspace);
            }
            trine_conv2d_destroy(&op);
        }
    }
    dev.context->caps.local_bytes = local_bytes;
    teardown(&f);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("conv2d_input");
    TCase *tcase = tcase_create("conv2d_input");
    tcase_add_loop_test(tcase, test_normalised, 0, 2 * CASES);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
