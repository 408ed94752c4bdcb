/* SPDX-License-Identifier: MIT */
/* conv2d_mma on every maker's matrix unit, played by ordinary instructions (cl/conv2d_mma_imitated.clh), in every direction against the
 * reference: tiles that are full, cut off below and to the right, and groups. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "half.h"
#include "op/conv2d_private.h"
#include "ref/ref_conv2d.h"
#include "support/report.h"

static const struct unit {
    const char *name;
    trine__matrix_unit unit;
    trine_dtype storage; /* TRINE_F32: products of TF32 */
} units[] = {{"mma", TRINE__MMA, TRINE_F16},           {"mfma", TRINE__MFMA, TRINE_F16},
             {"wmma", TRINE__WMMA, TRINE_F16},         {"dpas of 8", TRINE__DPAS8, TRINE_F16},
             {"dpas of 16", TRINE__DPAS16, TRINE_F16}, {"mma of TF32", TRINE__MMA, TRINE_F32}};
enum { UNITS = sizeof units / sizeof units[0] };
static const ref_conv2d cases[] = {
    {1, 24, 9, 11, 72, 3, 3, 1, 1, 1, 1, 1, 1,
     1}, /* 72 x 99 results of 216; 72 x 216 of 99; 24 x 99 of 648 */
    {2, 34, 6, 7, 36, 1, 3, 2, 1, 0, 1, 1, 1, 2},
    {1, 20, 3, 5, 24, 1, 1, 1, 1, 0, 0, 1, 1, 1}, /* for simulators */
};
enum { CASES = sizeof cases / sizeof cases[0], SMALL = 2, WAYS = 3 };

/* Values as the device gets them; as its units multiply them. */
typedef struct factors {
    double *given, *rounded;
} factors;

typedef struct operands {
    trine_shape in, out;
    size_t weight_count;
    trine_dtype storage;
    factors x, w, dy;
} operands;

/* The nearest of 10 bits behind the point; of two the one away from zero. */
static double as_tf32(double value)
{
    int exponent;
    const double mantissa = frexp(value, &exponent); /* 1/2 <= |mantissa| < 1 */
    return ldexp(round(ldexp(mantissa, 11)), exponent - 11);
}

/* Random values in (-1, 1); halves where those are stored. */
static factors draw(size_t count, uint64_t seed, trine_dtype storage)
{
    factors v = {test_random(count, seed, -1, 1), test_zeros(count)};
    for (size_t i = 0; i < count; i++) {
        v.given[i] = storage == TRINE_F16 ? as_half(v.given[i]) : (double)(float)v.given[i];
        v.rounded[i] = storage == TRINE_F16 ? v.given[i] : as_tf32(v.given[i]);
    }
    return v;
}

static operands operands_of(const ref_conv2d *c, trine_dtype storage)
{
    operands o = {.in = {c->n, c->c, c->h, c->w},
                  .out = {c->n, c->k, ref_conv2d_p(c), ref_conv2d_q(c)},
                  .storage = storage};
    o.weight_count = (size_t)(c->k * (c->c / c->groups) * c->r * c->s);
    o.x = draw(test_dense(o.in), 1, storage);
    o.dy = draw(test_dense(o.out), 2, storage);
    o.w = draw(o.weight_count, 3, storage);
    return o;
}

static void operands_free(operands *o)
{
    double *all[] = {o->x.given, o->x.rounded, o->w.given, o->w.rounded, o->dy.given, o->dy.rounded};
    for (size_t i = 0; i < TRINE_COUNTOF(all); i++) free(all[i]);
}

static test_tensor tensor_from(const operands *o, trine_shape shape, const double *values)
{
    return o->storage == TRINE_F16 ? test_tensor_half_from(shape, 1, values)
                                   : test_tensor_from(shape, 1, values);
}

static test_tensor tensor_new(const operands *o, trine_shape shape)
{
    return o->storage == TRINE_F16 ? test_tensor_create_half(shape, 1) : test_tensor_create(shape, 1);
}

static trine_conv2d_desc desc_of(const ref_conv2d *c, trine_dtype storage)
{
    trine_conv2d_desc d = trine_conv2d_desc_default(c->c, c->k, 1);
    d.kernel_h = c->r;
    d.kernel_w = c->s;
    d.stride_h = c->stride_h;
    d.stride_w = c->stride_w;
    d.pad_h = c->pad_h;
    d.pad_w = c->pad_w;
    d.groups = c->groups;
    d.in_dtype = d.out_dtype = storage;
    d.allow_tf32 = 1;
    d.algorithm = "conv2d_mma";
    return d;
}

/* Against `want`: sums of `length` products in single precision, rounded to a half where halves are stored. */
static void compare(const char *name, const test_tensor *got, const double *want, double length)
{
    const size_t count = test_dense(got->t.shape);
    double *result = test_tensor_read(got), *bounds = test_zeros(count);
    for (size_t i = 0; i < count; i++)
        bounds[i] = test_bound(4, length, 1, 1) +
                    (got->t.dtype == TRINE_F16 ? fmax(fabs(want[i]), ldexp(1, -14)) * ldexp(1, -11) : 0);
    test_compare_each(name, result, want, got->t.shape, bounds);
    free(result);
    free(bounds);
}

static void check(const ref_conv2d *c, const operands *o, trine_direction direction, const char *name)
{
    const trine_conv2d_desc d = desc_of(c, o->storage);
    trine_conv2d *op = NULL;
    ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << direction, &op));
    test_buffer w = test_buffer_from(o->w.given, o->weight_count, o->weight_count),
                dw = test_buffer_create(o->weight_count),
                workspace = test_workspace_create(trine_conv2d_workspace_bytes(op, direction, c->n));
    test_tensor x = tensor_from(o, o->in, o->x.given), dy = tensor_from(o, o->out, o->dy.given),
                y = tensor_new(o, o->out), dx = tensor_new(o, o->in);
    ASSERT_OK(trine_conv2d_prepare(op, dev.stream, w.buffer));
    if (direction == TRINE_FORWARD) {
        double *want = test_zeros(test_dense(o->out));
        ref_conv2d_forward(c, o->x.rounded, o->w.rounded, NULL, want);
        ASSERT_OK(trine_conv2d_forward(op, dev.stream, &x.t, NULL, &y.t, workspace.buffer));
        compare(name, &y, want, c->c / c->groups * c->r * c->s);
        free(want);
    } else if (direction == TRINE_BACKWARD_DATA) {
        double *want = test_zeros(test_dense(o->in));
        ref_conv2d_backward_data(c, o->dy.rounded, o->w.rounded, want);
        ASSERT_OK(trine_conv2d_backward_data(op, dev.stream, &dy.t, 0, &dx.t, workspace.buffer));
        compare(name, &dx, want, c->k / c->groups * c->r * c->s);
        free(want);
    } else {
        double *want = test_zeros(o->weight_count), *got;
        ref_conv2d_backward_weights(c, o->x.rounded, o->dy.rounded, want);
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
    const struct unit *unit = &units[_i / CASES];
    operands o = operands_of(c, unit->storage);
    test_imitate(dev.context, "gpu");
    dev.context->caps.matrix_unit = unit->unit;
    dev.context->matrix_trials[0] = dev.context->matrix_trials[1] = 0;
    for (int direction = 0; direction < WAYS; direction++) {
        char name[128];
        snprintf(name, sizeof name, "%s, %s, %dx%d of %d groups", unit->name,
                 trine__direction_name((trine_direction)direction), c->r, c->s, c->groups);
        test_report("conv2d", "conv2d_mma", unit->name);
        check(c, &o, (trine_direction)direction, name);
    }
    operands_free(&o);
}
END_TEST

/* Is conv2d_mma offered for the problem? */
static bool offered(const trine_conv2d_desc *desc)
{
    const char *names[16];
    trine_conv2d_desc d = *desc;
    trine_conv2d *op = NULL;
    d.algorithm = NULL;
    ASSERT_OK(trine_conv2d_create(dev.context, &d, cases[0].h, cases[0].w, 1, &op));
    const size_t count = trine_conv2d_algorithms(op, TRINE_FORWARD, names, TRINE_COUNTOF(names));
    bool found = false;
    for (size_t i = 0; i < count; i++) found |= strcmp(names[i], "conv2d_mma") == 0;
    trine_conv2d_destroy(&op);
    return found;
}

/* Precision is lost only where it is allowed: not from single to TF32 by itself, and from floats to halves never. */
START_TEST(test_allowed)
{
    trine_conv2d_desc d = desc_of(&cases[0], TRINE_F32);
    trine_conv2d *op = NULL;
    test_imitate(dev.context, "gpu");
    for (int unit = TRINE__MMA; unit < TRINE__MATRIX_UNITS; unit++) {
        dev.context->caps.matrix_unit = (trine__matrix_unit)unit;
        dev.context->matrix_trials[0] = dev.context->matrix_trials[1] = 1;
        d.allow_tf32 = 1;
        ck_assert_int_eq(offered(&d), unit == TRINE__MMA);
        d.allow_tf32 = 0;
        ck_assert(!offered(&d));
        ASSERT_FAILS(TRINE_ERR_UNSUPPORTED,
                     trine_conv2d_create(dev.context, &d, cases[0].h, cases[0].w, 1, &op));
        d.in_dtype = TRINE_F16; /* and y in single precision */
        ck_assert(!offered(&d));
        d.in_dtype = TRINE_F32;
    }
}
END_TEST

/* A unit that the driver's words suggest and its compiler does not know is none: nothing offers it, and by name it is refused. */
START_TEST(test_not_built)
{
    const trine_conv2d_desc d = desc_of(&cases[0], TRINE_F16);
    trine_conv2d *op = NULL;
    test_imitate(dev.context, "gpu");
    dev.context->caps.matrix_unit = TRINE__MFMA;
    dev.context->caps.matrix_imitated = false;
    dev.context->matrix_trials[1] = 0;
    ASSERT_FAILS(TRINE_ERR_UNSUPPORTED, trine_conv2d_create(dev.context, &d, cases[0].h, cases[0].w, 1, &op));
    ck_assert_int_eq(dev.context->matrix_trials[1], -1);
    ck_assert(!offered(&d));
    dev.context->matrix_trials[1] = 0;
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("conv2d on matrix units");
    TCase *tc = tcase_create("conv2d on matrix units");
    tcase_add_loop_test(tc, test_unit, 0, UNITS * CASES);
    tcase_add_test(tc, test_allowed);
    tcase_add_test(tc, test_not_built);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
