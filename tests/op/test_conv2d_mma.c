/* SPDX-License-Identifier: MIT */
/* conv2d_mma on every maker's matrix unit, played by ordinary instructions (cl/conv2d_mma_imitated.clh), in every direction against the
 * reference: tiles that are full, cut off below and to the right, and groups. */
#include <math.h>
#include <stdio.h>

#include "half.h"
#include "op/conv2d_private.h"
#include "ref/ref_conv2d.h"
#include "support/report.h"

static const char *const units[] = {"none", "mma", "mfma", "wmma", "dpas of 8", "dpas of 16"};
static const ref_conv2d cases[] = {
    {1, 24, 9, 11, 72, 3, 3, 1, 1, 1, 1, 1, 1,
     1}, /* 72 x 99 results of 216; 72 x 216 of 99; 24 x 99 of 648 */
    {2, 34, 6, 7, 36, 1, 3, 2, 1, 0, 1, 1, 1, 2},
};
enum { CASES = sizeof cases / sizeof cases[0], SMALL = 1, WAYS = 3 };

typedef struct operands {
    trine_shape in, out;
    size_t weight_count;
    double *x, *w, *dy;
} operands;

/* Random values in (-1, 1) that halves hold. */
static double *draw(size_t count, uint64_t seed)
{
    double *values = test_random(count, seed, -1, 1);
    for (size_t i = 0; i < count; i++) values[i] = as_half(values[i]);
    return values;
}

static operands operands_of(const ref_conv2d *c)
{
    operands o = {.in = {c->n, c->c, c->h, c->w}, .out = {c->n, c->k, ref_conv2d_p(c), ref_conv2d_q(c)}};
    o.weight_count = (size_t)(c->k * (c->c / c->groups) * c->r * c->s);
    o.x = draw(test_dense(o.in), 1);
    o.dy = draw(test_dense(o.out), 2);
    o.w = draw(o.weight_count, 3);
    return o;
}

static trine_conv2d_desc desc_of(const ref_conv2d *c)
{
    trine_conv2d_desc d = trine_conv2d_desc_default(c->c, c->k, 1);
    d.kernel_h = c->r;
    d.kernel_w = c->s;
    d.stride_h = c->stride_h;
    d.stride_w = c->stride_w;
    d.pad_h = c->pad_h;
    d.pad_w = c->pad_w;
    d.groups = c->groups;
    d.in_dtype = d.out_dtype = TRINE_F16;
    d.algorithm = "conv2d_mma";
    return d;
}

/* Against `want`: sums of `length` products in single precision, then rounded to a half. */
static void compare(const char *name, const test_tensor *got, const double *want, double length)
{
    const size_t count = test_dense(got->t.shape);
    double *values = test_tensor_read(got), *bounds = test_zeros(count);
    for (size_t i = 0; i < count; i++)
        bounds[i] = test_bound(4, length, 1, 1) + fmax(fabs(want[i]), ldexp(1, -14)) * ldexp(1, -11);
    test_compare_each(name, values, want, got->t.shape, bounds);
    free(values);
    free(bounds);
}

static void check(const ref_conv2d *c, const operands *o, trine_direction direction, const char *name)
{
    const trine_conv2d_desc d = desc_of(c);
    trine_conv2d *op = NULL;
    ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << direction, &op));
    test_buffer w = test_buffer_from(o->w, o->weight_count, o->weight_count),
                dw = test_buffer_create(o->weight_count),
                workspace = test_workspace_create(trine_conv2d_workspace_bytes(op, direction, c->n));
    test_tensor x = test_tensor_half_from(o->in, 1, o->x), dy = test_tensor_half_from(o->out, 1, o->dy),
                y = test_tensor_create_half(o->out, 1), dx = test_tensor_create_half(o->in, 1);
    ASSERT_OK(trine_conv2d_prepare(op, dev.stream, w.buffer));
    if (direction == TRINE_FORWARD) {
        double *want = test_zeros(test_dense(o->out));
        ref_conv2d_forward(c, o->x, o->w, NULL, want);
        ASSERT_OK(trine_conv2d_forward(op, dev.stream, &x.t, NULL, &y.t, workspace.buffer));
        compare(name, &y, want, c->c / c->groups * c->r * c->s);
        free(want);
    } else if (direction == TRINE_BACKWARD_DATA) {
        double *want = test_zeros(test_dense(o->in));
        ref_conv2d_backward_data(c, o->dy, o->w, want);
        ASSERT_OK(trine_conv2d_backward_data(op, dev.stream, &dy.t, 0, &dx.t, workspace.buffer));
        compare(name, &dx, want, c->k / c->groups * c->r * c->s);
        free(want);
    } else {
        double *want = test_zeros(o->weight_count), *got;
        ref_conv2d_backward_weights(c, o->x, o->dy, want);
        ASSERT_OK(trine_conv2d_backward_weights(op, dev.stream, &x.t, &dy.t, 0, dw.buffer, workspace.buffer));
        got = test_buffer_read(&dw);
        test_compare(name, got, want, test_vector(o->weight_count),
                     test_bound(4, c->n * o->out.h * o->out.w, 1, 1));
        free(want);
        free(got);
    }
    test_tensor *tensors[] = {&x, &y, &dx, &dy};
    test_buffer *buffers[] = {&w, &dw, &workspace};
    trine_conv2d_destroy(&op);
    for (size_t i = 0; i < TRINE_COUNTOF(tensors); i++) test_tensor_release(tensors[i]);
    for (size_t i = 0; i < TRINE_COUNTOF(buffers); i++) test_buffer_release(buffers[i]);
}

START_TEST(test_unit)
{
    if (test_small() && _i % CASES != SMALL) return;
    const ref_conv2d *c = &cases[_i % CASES];
    const trine__matrix_unit unit = (trine__matrix_unit)(_i / CASES + 1);
    const operands o = operands_of(c);
    test_imitate(dev.context, "gpu");
    dev.context->caps.matrix_unit = unit;
    dev.context->matrix_trial = 0;
    for (int direction = 0; direction < WAYS; direction++) {
        char name[128];
        snprintf(name, sizeof name, "%s, %s, %dx%d of %d groups", units[unit],
                 trine__direction_name((trine_direction)direction), c->r, c->s, c->groups);
        test_report("conv2d", "conv2d_mma", units[unit]);
        check(c, &o, (trine_direction)direction, name);
    }
    free(o.x);
    free(o.w);
    free(o.dy);
}
END_TEST

/* A unit that the driver's words suggest and its compiler does not know is none: nothing offers it, and by name it is refused. */
START_TEST(test_not_built)
{
    trine_conv2d_desc d = desc_of(&cases[0]);
    trine_conv2d *op = NULL;
    const char *names[16];
    test_imitate(dev.context, "gpu");
    dev.context->caps.matrix_unit = TRINE__MFMA;
    dev.context->caps.matrix_imitated = false;
    dev.context->matrix_trial = 0;
    ASSERT_FAILS(TRINE_ERR_UNSUPPORTED, trine_conv2d_create(dev.context, &d, cases[0].h, cases[0].w, 1, &op));
    ck_assert_int_eq(dev.context->matrix_trial, -1);
    d.algorithm = NULL;
    ASSERT_OK(trine_conv2d_create(dev.context, &d, cases[0].h, cases[0].w, 1, &op));
    const size_t count = trine_conv2d_algorithms(op, TRINE_FORWARD, names, TRINE_COUNTOF(names));
    for (size_t i = 0; i < count; i++) ck_assert_str_ne(names[i], "conv2d_mma");
    trine_conv2d_destroy(&op);
    dev.context->matrix_trial = 0;
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("conv2d on matrix units");
    TCase *tc = tcase_create("conv2d on matrix units");
    tcase_add_loop_test(tc, test_unit, 0, (TRINE__MATRIX_UNITS - 1) * CASES);
    tcase_add_test(tc, test_not_built);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
