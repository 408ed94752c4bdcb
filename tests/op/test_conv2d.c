/* SPDX-License-Identifier: MIT */
/* Every implementation of conv2d, forced by name, in every direction, with dense and blocked weights, against the reference. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conv2d_cases.h"
#include "conv2d_stored.h"
#include "ref/ref_conv2d.h"
#include "op/conv2d_private.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"

enum { MOST_ALGORITHMS = 16, LAYOUTS = 2 /* dense, blocked */ };

/* A case with its operands on the host and the device. */
typedef struct fixture {
    conv_case c;
    ref_conv2d ref;
    trine_shape in, out;
    size_t weight_count;
    stored_weights stored[LAYOUTS]; /* how the weights lie */
    int blocked;                    /* which of them */
    int variants;                   /* run variants only, or none of them */
    double *x, *w, *dy;
    test_tensor tx, tdy;
    test_buffer bw[LAYOUTS];
    char name[240];
} fixture;

/* Weights are there dense and in the blocks that the context chooses, or in some that no kernel has, where that would be none. */
static fixture setup(const conv_case *c)
{
    fixture f = {.c = *c};
    f.ref = (ref_conv2d){c->n,         c->c,           c->h,           c->w,         c->k,
                         c->kernel[0], c->kernel[1],   c->stride[0],   c->stride[1], c->pad[0],
                         c->pad[1],    c->dilation[0], c->dilation[1], c->groups};
    f.in = (trine_shape){c->n, c->c, c->h, c->w};
    f.out = (trine_shape){c->n, c->k, ref_conv2d_p(&f.ref), ref_conv2d_q(&f.ref)};
    f.weight_count = (size_t)c->k * (size_t)(c->c / c->groups) * (size_t)c->kernel[0] * (size_t)c->kernel[1];
    f.tx = test_tensor_random(f.in, c->in_cb, 1, -1, 1, &f.x);
    f.tdy = test_tensor_random(f.out, c->out_cb, 2, -1, 1, &f.dy);
    f.w = test_random(f.weight_count, 3, -1, 1);
    trine_conv2d_desc d = desc_of(c);
    trine_conv2d_choose_weight_blocks(dev.context, &d);
    for (int blocked = 0; blocked < LAYOUTS; blocked++) {
        stored_weights *w = &f.stored[blocked];
        *w = (stored_weights){c->k, c->c / c->groups, c->kernel[0] * c->kernel[1], 1, 1};
        if (blocked) w->kb = d.weight_kb, w->cb = d.weight_cb;
        if (blocked && w->kb == 1 && w->cb == 1) w->kb = 4, w->cb = 2;
        double *stored = stored_from_dense(w, f.w);
        f.bw[blocked] = test_buffer_from(stored, stored_count(w), stored_count(w));
        free(stored);
    }
    return f;
}

static void teardown(fixture *f)
{
    free(f->x);
    free(f->w);
    free(f->dy);
    test_tensor_release(&f->tx);
    test_tensor_release(&f->tdy);
    for (int i = 0; i < LAYOUTS; i++) test_buffer_release(&f->bw[i]);
}

/* An operator for one direction with a forced implementation, its weights prepared; the fixture's name says
 * which. */
static trine_conv2d *create(fixture *f, trine_direction direction, const char *algorithm, int relu)
{
    const conv_case *c = &f->c;
    trine_conv2d_desc d = desc_of(c);
    d.algorithm = algorithm;
    d.relu = relu;
    d.weight_kb = f->stored[f->blocked].kb;
    d.weight_cb = f->stored[f->blocked].cb;
    snprintf(f->name, sizeof f->name,
             "%s %s: [%d,%d,%d,%d] -> %d, %dx%d stride %d,%d pad %d,%d dilation %d,%d groups %d cb %d,%d "
             "weights in %d,%d",
             trine__direction_name(direction), algorithm, c->n, c->c, c->h, c->w, c->k, c->kernel[0],
             c->kernel[1], c->stride[0], c->stride[1], c->pad[0], c->pad[1], c->dilation[0], c->dilation[1],
             c->groups, c->in_cb, c->out_cb, d.weight_kb, d.weight_cb);
    trine_conv2d *op = NULL;
    const trine_status status = trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << direction, &op);
    ck_assert_msg(status == TRINE_OK, "%s: create: %s", f->name, trine_last_error());
    ck_assert_str_eq(trine_conv2d_algorithm(op, direction), algorithm);
    test_report("conv2d", algorithm, trine__direction_name(direction));
    trine_shape out;
    ASSERT_OK(trine_conv2d_output_shape(op, c->n, &out));
    ck_assert_msg(memcmp(&out, &f->out, sizeof out) == 0, "%s: output is [%d,%d,%d,%d]", f->name, out.n,
                  out.c, out.h, out.w);
    ASSERT_OK(trine_conv2d_prepare(op, dev.stream, f->bw[f->blocked].buffer));
    return op;
}

static test_buffer workspace_of(const trine_conv2d *op, trine_direction direction, int n)
{
    return test_workspace_create(trine_conv2d_workspace_bytes(op, direction, n));
}

/* The names that the library would offer for this case, but those that this run leaves out; at least one. Slow implementations of OpenCL
 * have minimal filtering on GPUs in test_conv2d_chunks: here a call is 16 or 36 matrix products. */
static size_t list_algorithms(const fixture *f, trine_direction direction, const char **names)
{
    const conv_case *c = &f->c;
    const trine_conv2d_desc d = desc_of(c);
    trine_conv2d *op = NULL;
    ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << direction, &op));
    const size_t all = trine_conv2d_algorithms(op, direction, names, MOST_ALGORITHMS);
    size_t count = 0;
    ck_assert_msg(all >= 1 && all <= MOST_ALGORITHMS, "%zu implementations", all);
    for (size_t i = 0; i < all; i++) {
        if (test_small() && strcmp(names[i], "conv2d_clblast") == 0)
            test_report_skip("conv2d", names[i], trine__direction_name(direction),
                             "CLBlast's kernels take minutes on slow implementations");
        else if ((strchr(names[i], ':') != NULL) == f->variants &&
                 !(test_small() && strstr(names[i], "winograd") && strstr(names[i], "_gemm")))
            names[count++] = names[i];
    }
    ck_assert_uint_ge(count, 1);
    trine_conv2d_destroy(&op);
    return count;
}

/* The stated bound of an implementation, in units of float's epsilon (two roundings). */
static double bound_of(const trine_conv2d *op, trine_direction direction, double k)
{
    return test_bound(2 * op->impl[direction]->error_class, k, 1, 1);
}

/* relu?(conv * scale + shift + residual), each part if asked for. `in_place`: the residual is y itself. */
static void forward_with(fixture *f, const char *algorithm, const double *plain, int scaled, int shifted,
                         int residual, int in_place, int relu)
{
    const conv_case *c = &f->c;
    const size_t count = test_dense(f->out), channels = (size_t)c->k,
                 plane = (size_t)f->out.h * (size_t)f->out.w;
    const size_t padded = (channels + (size_t)c->out_cb - 1) / (size_t)c->out_cb * (size_t)c->out_cb;
    double *scale = test_random(channels, 4, 0.5, 1.5), *shift = test_random(channels, 5, -1, 1),
           *other = test_random(count, 6, -1, 1);
    double *want = test_zeros(count);
    for (size_t i = 0; i < count; i++) {
        const size_t k = i / plane % channels;
        want[i] = plain[i] * (scaled ? scale[k] : 1) + (shifted ? shift[k] : 0) + (residual ? other[i] : 0);
        if (relu && want[i] < 0) want[i] = 0;
    }
    trine_conv2d *op = create(f, TRINE_FORWARD, algorithm, relu);
    test_buffer workspace = workspace_of(op, TRINE_FORWARD, c->n);
    test_buffer bscale = test_buffer_from(scale, channels, padded),
                bshift = test_buffer_from(shift, channels, padded);
    test_tensor tother = test_tensor_from(f->out, c->out_cb, other),
                ty = test_tensor_create(f->out, c->out_cb);
    test_tensor *y = in_place ? &tother : &ty;
    const trine_conv2d_epilogue e = {scaled ? bscale.buffer : NULL, shifted ? bshift.buffer : NULL,
                                     residual ? &tother.t : NULL, NULL};
    ASSERT_OK(trine_conv2d_forward(op, dev.stream, &f->tx.t, scaled || shifted || residual ? &e : NULL, &y->t,
                                   workspace.buffer));
    double *got = test_tensor_read(y);
    const double k = (double)c->c / c->groups * c->kernel[0] * c->kernel[1];
    test_compare(f->name, got, want, f->out, 1.5 * bound_of(op, TRINE_FORWARD, k + 2));
    double *arrays[] = {scale, shift, other, want, got};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    test_buffer_release(&bscale);
    test_buffer_release(&bshift);
    test_buffer_release(&workspace);
    test_tensor_release(&tother);
    test_tensor_release(&ty);
    trine_conv2d_destroy(&op);
}

static void check_forward(fixture *f)
{
    const char *names[MOST_ALGORITHMS];
    const size_t count = list_algorithms(f, TRINE_FORWARD, names);
    double *plain = test_zeros(test_dense(f->out));
    ref_conv2d_forward(&f->ref, f->x, f->w, NULL, plain);
    for (size_t i = 0; i < count; i++) {
        if (!test_small()) forward_with(f, names[i], plain, 0, 0, 0, 0, 0);
        forward_with(f, names[i], plain, 1, 1, 1, 0, 1);
        forward_with(f, names[i], plain, 0, 1, 0, 0, 1);
        forward_with(f, names[i], plain, 1, 0, 1, 1, 0);
        f->blocked = 1;
        forward_with(f, names[i], plain, 0, 0, 0, 0, 0);
        f->blocked = 0;
    }
    free(plain);
}

static void check_backward_data(fixture *f)
{
    const conv_case *c = &f->c;
    const char *names[MOST_ALGORITHMS];
    const size_t count = list_algorithms(f, TRINE_BACKWARD_DATA, names), elements = test_dense(f->in);
    double *gradient = test_zeros(elements), *want = test_zeros(elements),
           *start = test_random(elements, 7, -1, 1);
    ref_conv2d_backward_data(&f->ref, f->dy, f->w, gradient);
    for (size_t i = 0; i < 2 * count; i++) {
        const int beta = f->blocked = i % 2;
        trine_conv2d *op = create(f, TRINE_BACKWARD_DATA, names[i / 2], 0);
        test_buffer workspace = workspace_of(op, TRINE_BACKWARD_DATA, c->n);
        test_tensor dx =
            beta ? test_tensor_from(f->in, c->in_cb, start) : test_tensor_create(f->in, c->in_cb);
        for (size_t e = 0; e < elements; e++) want[e] = gradient[e] + (beta ? start[e] : 0);
        ASSERT_OK(trine_conv2d_backward_data(op, dev.stream, &f->tdy.t, beta, &dx.t, workspace.buffer));
        double *got = test_tensor_read(&dx);
        const double k = (double)c->k / c->groups * c->kernel[0] * c->kernel[1];
        test_compare(f->name, got, want, f->in, bound_of(op, TRINE_BACKWARD_DATA, k + 1));
        free(got);
        test_tensor_release(&dx);
        test_buffer_release(&workspace);
        trine_conv2d_destroy(&op);
    }
    f->blocked = 0;
    free(gradient);
    free(want);
    free(start);
}

/* What adds to zeros keeps them. */
static void check_padding(const fixture *f, const double *stored, const double *dense)
{
    double *want = stored_from_dense(&f->stored[f->blocked], dense);
    for (size_t i = 0; i < stored_count(&f->stored[f->blocked]); i++)
        if (stored[i] != want[i]) ck_abort_msg("%s: padding at %zu is %g", f->name, i, stored[i]);
    free(want);
}

static void check_backward_weights(fixture *f)
{
    const conv_case *c = &f->c;
    const char *names[MOST_ALGORITHMS];
    const size_t count = list_algorithms(f, TRINE_BACKWARD_WEIGHTS, names), elements = f->weight_count;
    const trine_shape shape = {c->k, c->c / c->groups, c->kernel[0], c->kernel[1]};
    double *gradient = test_zeros(elements), *want = test_zeros(elements),
           *start = test_random(elements, 8, -1, 1);
    ref_conv2d_backward_weights(&f->ref, f->x, f->dy, gradient);
    for (size_t i = 0; i < LAYOUTS * count; i++) {
        f->blocked = i % LAYOUTS;
        const stored_weights *s = &f->stored[f->blocked];
        const size_t floats = stored_count(s);
        double *stored = stored_from_dense(s, start);
        trine_conv2d *op = create(f, TRINE_BACKWARD_WEIGHTS, names[i / LAYOUTS], 0);
        test_buffer workspace = workspace_of(op, TRINE_BACKWARD_WEIGHTS, c->n);
        const double bound = bound_of(op, TRINE_BACKWARD_WEIGHTS, (double)c->n * f->out.h * f->out.w + 1);
        double *first = NULL;
        /* written twice: the same bytes; added to. Slow implementations do each in one layout. */
        const int from = test_small() && f->blocked ? 2 : 0, runs = test_small() && !f->blocked ? 2 : 3;
        for (int run = from; run < runs; run++) {
            const int beta = run == 2;
            test_buffer dw = beta ? test_buffer_from(stored, floats, floats) : test_buffer_create(floats);
            for (size_t e = 0; e < elements; e++) want[e] = gradient[e] + (beta ? start[e] : 0);
            ASSERT_OK(trine_conv2d_backward_weights(op, dev.stream, &f->tx.t, &f->tdy.t, beta, dw.buffer,
                                                    workspace.buffer));
            double *all = test_buffer_read(&dw), *got = dense_from_stored(s, all);
            test_compare(f->name, got, want, shape, bound);
            if (beta) check_padding(f, all, got);
            free(all);
            if (run == 1) test_compare_exact(f->name, got, first, shape);
            free(first);
            first = got;
            test_buffer_release(&dw);
        }
        free(first);
        free(stored);
        test_buffer_release(&workspace);
        trine_conv2d_destroy(&op);
    }
    free(gradient);
    free(want);
    free(start);
    f->blocked = 0;
}

static void run_case(const conv_case *c, int variants)
{
    if (test_small() && !c->small) return;
    fixture f = setup(c);
    f.variants = variants;
    check_forward(&f);
    check_backward_data(&f);
    check_backward_weights(&f);
    teardown(&f);
}

START_TEST(test_odd)
{
    run_case(&odd_cases[_i], 0);
}
END_TEST

START_TEST(test_widths)
{
    const conv_case c = width_case(_i);
    run_case(&c, 0);
}
END_TEST

START_TEST(test_layers)
{
    const conv_case c = layer_case(_i);
    run_case(&c, 0);
}
END_TEST

START_TEST(test_chunked)
{
    const size_t local_bytes = dev.context->caps.local_bytes;
    dev.context->caps.local_bytes = 1 << 12;
    run_case(&chunked_cases[_i], 0);
    dev.context->caps.local_bytes = local_bytes;
}
END_TEST

/* What only a name or a measurement chooses, on devices that have it. */
START_TEST(test_variants)
{
    const trine__caps kept = dev.context->caps;
    test_imitate(dev.context, "gpu");
    run_case(&variant_cases[_i], 1);
    dev.context->caps = kept;
}
END_TEST

/* A NaN in the input reaches every output that sees it, through the ReLU of the epilogue too. */
START_TEST(test_nan)
{
    const int cb = _i ? 16 : 1;
    const conv_case c = {1, 1, 16, 9, 9, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, cb, cb};
    fixture f = setup(&c);
    const char *names[MOST_ALGORITHMS];
    const size_t count = list_algorithms(&f, TRINE_FORWARD, names), pixels = 81;
    double *x = test_zeros(16 * pixels);
    float *y = calloc(16 * pixels, sizeof *y);
    x[4 * 9 + 4] = NAN;
    test_tensor_release(&f.tx);
    f.tx = test_tensor_from(f.in, cb, x);
    for (size_t a = 0; a < count; a++) {
        trine_conv2d *op = create(&f, TRINE_FORWARD, names[a], 1);
        test_tensor ty = test_tensor_create(f.out, cb);
        test_buffer workspace = workspace_of(op, TRINE_FORWARD, 1);
        ASSERT_OK(trine_conv2d_forward(op, dev.stream, &f.tx.t, NULL, &ty.t, workspace.buffer));
        ASSERT_OK(trine_tensor_download(dev.stream, &ty.t, y));
        for (int i = 0; i < 16 * 81; i++) {
            const int row = i % 81 / 9, column = i % 9;
            const int far = abs(row - 4) > abs(column - 4) ? abs(row - 4) : abs(column - 4);
            const int spread = op->impl[TRINE_FORWARD]->spread;
            if (far > 1 && far <= 1 + spread) continue;
            ck_assert_msg(isnan(y[i]) == (far <= 1), "%s: output %d is %g", f.name, i, (double)y[i]);
        }
        test_buffer_release(&workspace);
        test_tensor_release(&ty);
        trine_conv2d_destroy(&op);
    }
    free(x);
    free(y);
    teardown(&f);
}
END_TEST

/* What describes no convolution is refused with a sentence. */
START_TEST(test_refused)
{
    const conv_case good = {1, 1, 4, 5, 5, 6, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 1, 1};
    const struct {
        size_t field; /* offset of the int to spoil */
        int value;
        trine_status want;
    } spoils[] = {
        {offsetof(trine_conv2d_desc, in_channels), 0, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, groups), 3, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, groups), 0, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, kernel_h), 0, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, stride_w), 0, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, pad_h), -1, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, dilation_w), 0, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, dilation_w), INT_MAX, TRINE_ERR_ARG}, /* sizes that would overflow */
        {offsetof(trine_conv2d_desc, pad_h), INT_MAX, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, in_cb), 3, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, out_cb), 32, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, weight_kb), 0, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, weight_cb), 64, TRINE_ERR_ARG},
        {offsetof(trine_conv2d_desc, kernel_w), 8, TRINE_ERR_SHAPE},
    };
    trine_conv2d *op = NULL;
    for (size_t i = 0; i < sizeof spoils / sizeof spoils[0]; i++) {
        trine_conv2d_desc d = desc_of(&good);
        memcpy((char *)&d + spoils[i].field, &spoils[i].value, sizeof(int));
        ASSERT_FAILS(spoils[i].want, trine_conv2d_create(dev.context, &d, 5, 5, 7, &op));
    }
    trine_conv2d_desc d = desc_of(&good);
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_conv2d_create(dev.context, &d, 0, 5, 7, &op));
    d.algorithm = "conv2d_magic";
    ASSERT_FAILS(TRINE_ERR_UNSUPPORTED, trine_conv2d_create(dev.context, &d, 5, 5, 7, &op));
    ck_assert_ptr_null(op);
}
END_TEST

/* Calls that do not fit the operator leave the output as it was. */
START_TEST(test_calls)
{
    const conv_case c = {1, 1, 4, 5, 5, 6, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 1, 1};
    fixture f = setup(&c);
    const trine_conv2d_desc d = desc_of(&c);
    trine_conv2d *op = NULL;
    ASSERT_OK(trine_conv2d_create(dev.context, &d, 5, 5, 1u << TRINE_FORWARD, &op));
    ck_assert_ptr_null(trine_conv2d_algorithm(op, TRINE_BACKWARD_DATA));
    test_tensor ty = test_tensor_create(f.out, 1);
    ASSERT_FAILS(TRINE_ERR_STATE, trine_conv2d_forward(op, dev.stream, &f.tx.t, NULL, &ty.t, NULL));
    ASSERT_OK(trine_conv2d_prepare(op, dev.stream, f.bw[0].buffer));
    trine_tensor wrong = f.tx.t;
    wrong.shape.c = 3;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_conv2d_forward(op, dev.stream, &wrong, NULL, &ty.t, NULL));
    wrong = ty.t;
    wrong.shape.w = 4;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_conv2d_forward(op, dev.stream, &f.tx.t, NULL, &wrong, NULL));
    test_buffer few = test_buffer_create(4);
    const trine_conv2d_epilogue short_scale = {.scale = few.buffer};
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_conv2d_forward(op, dev.stream, &f.tx.t, &short_scale, &ty.t, NULL));
    uint32_t *words = test_buffer_read_words(&ty.memory);
    for (size_t i = 0; i < ty.memory.floats; i++) ck_assert_uint_eq(words[i], words[0]);
    free(words);
    trine_conv2d_destroy(&op);
    ASSERT_OK(trine_conv2d_create(dev.context, &d, 5, 5, 1u << TRINE_BACKWARD_WEIGHTS, &op));
    test_buffer workspace = workspace_of(op, TRINE_BACKWARD_WEIGHTS, 1);
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_conv2d_backward_weights(op, dev.stream, &f.tx.t, &ty.t, 0, few.buffer,
                                                                workspace.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_conv2d_backward_weights(op, dev.stream, &f.tx.t, &ty.t, 0, NULL, workspace.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_conv2d_backward_weights(op, dev.stream, &f.tx.t, &ty.t, 2,
                                                              f.bw[0].buffer, workspace.buffer));
    trine_conv2d_destroy(&op);
    test_buffer_release(&workspace);
    test_buffer_release(&few);
    test_tensor_release(&ty);
    teardown(&f);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("conv2d");
    TCase *tcase = tcase_create("conv2d");
    tcase_add_loop_test(tcase, test_odd, 0, ODD_CASES);
    tcase_add_loop_test(tcase, test_widths, 0, WIDTHS * WIDTH_KINDS);
    tcase_add_loop_test(tcase, test_layers, 0, LAYERS);
    tcase_add_loop_test(tcase, test_chunked, 0, CHUNKED_CASES);
    tcase_add_loop_test(tcase, test_variants, 0, VARIANT_CASES);
    tcase_add_loop_test(tcase, test_nan, 0, 2);
    tcase_add_test(tcase, test_refused);
    tcase_add_test(tcase, test_calls);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
