/* SPDX-License-Identifier: MIT */
/* Convolutions that make what they read, as BatchNorm's last pass would: the bits of that pass, of it, and of the convolution after it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conv2d_cases.h"
#include "op/conv2d_private.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"

enum { MOST_ALGORITHMS = 16, MANY = 1 << 10 /* images, which any device has work for */ };

static const conv_case made_cases[] = {
    {1, 2, 9, 5, 3, 12, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 8, 8},
    {1, 1, 5, 1, 2, 3, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 4, 4},
    /* last tiles that reach back into the one before; work that goes on in the next image; one to four blocks of filters */
    {0, 3, 40, 7, 7, 16, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 16, 16},
    {0, 5, 64, 7, 7, 128, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 16, 16},
    {0, 2, 24, 19, 17, 70, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 16, 16},
    {0, 1, 16, 29, 29, 48, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 16, 16},
    {0, 2, 32, 13, 14, 64, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, 8, 8},
};
enum {
    CASES = sizeof made_cases / sizeof made_cases[0],
    SUMMED = 1 << 0,   /* backward_data masks and sums up too */
    IN_PLACE = 1 << 1, /* made over what it is made from */
    PLAIN = 1 << 2,    /* without a residual; without batch statistics */
    WAYS = 1 << 3
};

/* One side of the convolution with its BatchNorm: `in`, of which `made` is made together with `with`. */
typedef struct side {
    trine_batchnorm *bn;
    test_tensor in, made[2];
    double *with;
    test_buffer mean, rstd, gamma, beta, dgamma;
} side;

typedef struct fixture {
    const conv_case *c;
    side x, dy;
    test_tensor out[2], other; /* results; BatchNorm's x of dx */
    test_buffer w, partials[2];
    char name[200];
} fixture;

static test_buffer random_channels(const trine_batchnorm *bn, int seed, double low, double high)
{
    double *unused = NULL;
    test_buffer b = test_buffer_random(trine_batchnorm_channel_bytes(bn) / sizeof(float), (uint64_t)seed, low,
                                       high, &unused);
    free(unused);
    return b;
}

static void side_create(side *s, trine_shape shape, int cb, int seed)
{
    double *unused = NULL;
    ASSERT_OK(trine_batchnorm_create(dev.context, shape.c, cb, 1e-5f, &s->bn));
    s->in = test_tensor_random(shape, cb, (uint64_t)seed, -1, 1, &unused);
    free(unused);
    test_tensor with = test_tensor_random(shape, cb, (uint64_t)seed + 1, -1, 1, &s->with);
    test_tensor_release(&with);
    s->mean = random_channels(s->bn, seed + 2, -0.5, 0.5);
    s->rstd = random_channels(s->bn, seed + 3, 0.5, 2);
    s->gamma = random_channels(s->bn, seed + 4, -1.5, 1.5);
    s->beta = random_channels(s->bn, seed + 5, -0.5, 0.5);
    s->dgamma = random_channels(s->bn, seed + 6, 0, 0);
}

static void side_destroy(side *s)
{
    test_buffer *buffers[] = {&s->mean, &s->rstd, &s->gamma, &s->beta, &s->dgamma};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) test_buffer_release(buffers[i]);
    test_tensor_release(&s->in);
    trine_batchnorm_destroy(&s->bn);
    free(s->with);
}

static void setup(fixture *f, const conv_case *c)
{
    const trine_conv2d_desc d = desc_of(c);
    double *unused = NULL;
    *f = (fixture){.c = c};
    side_create(&f->x, (trine_shape){c->n, c->c, c->h, c->w}, c->in_cb, 10);
    side_create(&f->dy, (trine_shape){c->n, c->k, c->h, c->w}, c->out_cb, 20);
    f->other = test_tensor_random(f->x.in.t.shape, c->in_cb, 30, -1, 1, &unused);
    free(unused);
    f->w = test_buffer_random(trine_conv2d_weight_count(&d), 31, -1, 1, &unused);
    free(unused);
}

static void teardown(fixture *f)
{
    side_destroy(&f->x);
    side_destroy(&f->dy);
    test_tensor_release(&f->other);
    test_buffer_release(&f->w);
}

static void same(const fixture *f, const char *what, const test_tensor *got, const test_tensor *want)
{
    char name[240];
    double *a = test_tensor_read(got), *b = test_tensor_read(want);
    snprintf(name, sizeof name, "%s, %s", f->name, what);
    test_compare_exact(name, a, b, got->t.shape);
    free(a);
    free(b);
}

/* The BatchNorm's last pass before the convolution, and made by it. */
static void check_forward(fixture *f, trine_conv2d *op, int way)
{
    side *s = &f->x;
    const trine_batchnorm_saved saved = {s->mean.buffer, s->rstd.buffer};
    test_buffer workspace = test_workspace_create(trine_conv2d_workspace_bytes(op, TRINE_FORWARD, f->c->n));
    trine__batchnorm_made made;
    for (int i = 0; i < 2; i++) {
        test_tensor residual = test_tensor_from(s->in.t.shape, s->in.t.cb, s->with);
        const trine_tensor *with = way & PLAIN ? NULL : &residual.t;
        s->made[i] = way & IN_PLACE ? residual : test_tensor_create(s->in.t.shape, s->in.t.cb);
        f->out[i] = test_tensor_create(f->dy.in.t.shape, f->dy.in.t.cb);
        if (i == 0) {
            ASSERT_OK(trine_batchnorm_apply(s->bn, dev.stream, &s->in.t, &saved, s->gamma.buffer,
                                            s->beta.buffer, with, 1, &s->made[i].t));
            ASSERT_OK(
                trine_conv2d_forward(op, dev.stream, &s->made[i].t, NULL, &f->out[i].t, workspace.buffer));
        } else {
            ASSERT_OK(trine__batchnorm_apply_later(s->bn, dev.stream, &s->in.t, &saved, s->gamma.buffer,
                                                   s->beta.buffer, with, 1, &s->made[i].t, &made));
            ASSERT_OK(
                trine__conv2d_forward_made(op, dev.stream, &made, NULL, &f->out[i].t, workspace.buffer));
        }
        ASSERT_OK(trine_stream_sync(dev.stream));
        if (!(way & IN_PLACE)) test_tensor_release(&residual);
    }
    same(f, "made", &s->made[1], &s->made[0]);
    same(f, "y", &f->out[1], &f->out[0]);
    test_buffer_release(&workspace);
}

static size_t blocks_of(const fixture *f)
{
    return trine_batchnorm_channel_bytes(f->x.bn) / sizeof(float) / (size_t)f->x.in.t.cb;
}

/* The sums, which come in other parts where the input is made: both of all channels, block by block. */
static double *all_parts(const fixture *f, const trine_conv2d *op, bool made)
{
    const size_t parts = (size_t)trine__conv2d_sum_parts(op, f->c->n, made), width = 2 * (size_t)f->x.in.t.cb,
                 blocks = blocks_of(f);
    double *values = test_buffer_read(&f->partials[made]), *sums = calloc(blocks * width, sizeof *sums);
    for (size_t i = 0; i < blocks * parts * width; i++)
        sums[i / (parts * width) * width + i % width] += values[i];
    free(values);
    return sums;
}

static void check_backward(fixture *f, trine_conv2d *op, int way)
{
    side *s = &f->dy;
    const trine_batchnorm_saved saved = {s->mean.buffer, s->rstd.buffer},
                                before = {f->x.mean.buffer, f->x.rstd.buffer};
    test_buffer workspace =
                    test_workspace_create(trine_conv2d_workspace_bytes(op, TRINE_BACKWARD_DATA, f->c->n)),
                partials = test_workspace_create(trine_batchnorm_partial_bytes(s->bn, &s->in.t.shape));
    trine__batchnorm_made made;
    trine__batchnorm_sums sums;
    for (int i = 0; i < 2; i++) {
        test_tensor g = test_tensor_from(s->in.t.shape, s->in.t.cb, s->with);
        s->made[i] = way & IN_PLACE ? g : test_tensor_create(s->in.t.shape, s->in.t.cb);
        f->out[i] = test_tensor_from(f->x.in.t.shape, f->c->in_cb, f->x.with);
        const int parts = trine__conv2d_sum_parts(op, f->c->n, i == 1);
        f->partials[i] = test_buffer_create(trine__batchnorm_sums_bytes(f->x.bn, parts) / sizeof(float));
        const trine_batchnorm_gradients last = {.x = &s->in.t,
                                                .dy = &g.t,
                                                .dx = &s->made[i].t,
                                                .saved = &saved,
                                                .gamma = s->gamma.buffer,
                                                .dgamma = s->dgamma.buffer,
                                                .partials = partials.buffer,
                                                .batch = !(way & PLAIN)};
        const trine_batchnorm_gradients next = {.x = &f->other.t,
                                                .dy = &f->out[i].t,
                                                .saved = &before,
                                                .gamma = f->x.gamma.buffer,
                                                .beta = f->x.beta.buffer,
                                                .dgamma = f->x.dgamma.buffer,
                                                .partials = f->partials[i].buffer,
                                                .relu = 1,
                                                .batch = 1};
        ASSERT_OK(trine__batchnorm_sums_of(f->x.bn, dev.stream, &next, &sums));
        const trine__batchnorm_sums *wanted = way & SUMMED ? &sums : NULL;
        if (i == 0) {
            ASSERT_OK(trine_batchnorm_backward(s->bn, dev.stream, &last));
            ASSERT_OK(trine__conv2d_backward_data_joined(op, dev.stream, &s->made[i].t, 1, NULL, wanted,
                                                         &f->out[i].t, workspace.buffer));
        } else {
            ASSERT_OK(trine__batchnorm_backward_later(s->bn, dev.stream, &last, 0, &made));
            ASSERT_OK(trine__conv2d_backward_data_joined(op, dev.stream, made.to, 1, &made, wanted,
                                                         &f->out[i].t, workspace.buffer));
        }
        ASSERT_OK(trine_stream_sync(dev.stream));
        if (!(way & IN_PLACE)) test_tensor_release(&g);
    }
    same(f, "made", &s->made[1], &s->made[0]);
    same(f, "dx", &f->out[1], &f->out[0]);
    if (way & SUMMED) {
        double *got = all_parts(f, op, true), *want = all_parts(f, op, false);
        const double terms = f->c->n * f->c->h * f->c->w, largest = 9.0 * f->c->k;
        test_compare(f->name, got, want, test_vector(2 * (size_t)f->x.in.t.cb * blocks_of(f)),
                     test_bound(4, terms, largest, 2));
        free(got);
        free(want);
    }
    for (int i = 0; i < 2; i++) test_buffer_release(&f->partials[i]);
    test_buffer_release(&workspace);
    test_buffer_release(&partials);
}

/* Every implementation that says it does; the direct convolution has to on CPUs. */
START_TEST(test_made)
{
    static const trine_direction directions[] = {TRINE_FORWARD, TRINE_BACKWARD_DATA};
    const conv_case *c = &made_cases[_i];
    if (test_small() && !c->small) return;
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
            int parts = 0;
            d.algorithm = names[j];
            ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << direction, &op));
            const bool does = trine__conv2d_can_make(op, direction, MANY);
            ck_assert_msg(does || strcmp(names[j], "conv2d_direct") != 0 || !dev.context->caps.cpu,
                          "%s: %s does not make what it reads", names[j], trine__direction_name(direction));
            if (does) {
                ASSERT_OK(trine__conv2d_make_create(op, direction));
                for (int made = 0; made < 2 && direction == TRINE_BACKWARD_DATA; made++)
                    ASSERT_OK(trine__conv2d_sums_create(op, c->n, made, &parts));
                ASSERT_OK(trine_conv2d_prepare(op, dev.stream, f.w.buffer));
                test_report("conv2d", names[j], "made input");
            }
            for (int way = 0; does && way < WAYS; way++) {
                snprintf(f.name, sizeof f.name, "%s, %s, way %d, case %d", names[j],
                         trine__direction_name(direction), way, _i);
                (direction == TRINE_FORWARD ? check_forward : check_backward)(&f, op, way);
                side *s = direction == TRINE_FORWARD ? &f.x : &f.dy;
                for (int k = 0; k < 2; k++) test_tensor_release(&s->made[k]);
                for (int k = 0; k < 2; k++) test_tensor_release(&f.out[k]);
            }
            trine_conv2d_destroy(&op);
        }
    }
    teardown(&f);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("conv2d_made");
    TCase *tcase = tcase_create("conv2d_made");
    tcase_add_loop_test(tcase, test_made, 0, CASES);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
