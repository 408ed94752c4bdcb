/* SPDX-License-Identifier: MIT */
/* Minimal filtering on GPUs where its tiles need several chunks, parts and sizes of work-groups: the bits of one that needs none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op/conv2d_private.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"

enum { IMAGES = 3, WAYS = 3 };
static const char *const names[] = {"conv2d_winograd4_gemm", "conv2d_winograd2_gemm"};
enum { NAMES = sizeof names / sizeof names[0] };

typedef struct fixture {
    trine_conv2d_desc desc;
    trine_shape in, out;
    test_tensor x, dy;
    test_buffer w;
} fixture;

/* Blocks of 1 and 4; padding 0 and 4: more than the filter reaches. */
static fixture setup(int images)
{
    const int size = test_small() ? 9 : 35, k = test_small() ? 7 : 40;
    double *unused;
    fixture f = {.desc = trine_conv2d_desc_default(5, k, 3)};
    f.desc.pad_h = 0;
    f.desc.pad_w = 4;
    f.desc.out_cb = 4;
    f.in = (trine_shape){images, 5, size, size};
    f.out = (trine_shape){images, k, size - 2, size + 6};
    f.x = test_tensor_random(f.in, 1, 1, -1, 1, &unused);
    free(unused);
    f.dy = test_tensor_random(f.out, 4, 2, -1, 1, &unused);
    free(unused);
    f.w = test_buffer_random((size_t)(5 * k * 9), 3, -1, 1, &unused);
    free(unused);
    return f;
}

static void teardown(fixture *f)
{
    test_tensor_release(&f->x);
    test_tensor_release(&f->dy);
    test_buffer_release(&f->w);
}

/* What a direction writes, a new array; *bytes is the workspace that it took. */
static double *run(fixture *f, trine_direction direction, const char *algorithm, size_t *bytes)
{
    trine_conv2d *op = NULL;
    f->desc.algorithm = algorithm;
    ASSERT_OK(trine_conv2d_create(dev.context, &f->desc, f->in.h, f->in.w, 1u << direction, &op));
    ASSERT_OK(trine_conv2d_prepare(op, dev.stream, f->w.buffer));
    *bytes = trine_conv2d_workspace_bytes(op, direction, f->in.n);
    test_buffer workspace = test_workspace_create(*bytes);
    double *got;
    if (direction == TRINE_BACKWARD_WEIGHTS) {
        test_buffer dw = test_buffer_create(f->w.floats);
        ASSERT_OK(
            trine_conv2d_backward_weights(op, dev.stream, &f->x.t, &f->dy.t, 0, dw.buffer, workspace.buffer));
        got = test_buffer_read(&dw);
        test_buffer_release(&dw);
    } else {
        const bool forward = direction == TRINE_FORWARD;
        test_tensor out = test_tensor_create(forward ? f->out : f->in, forward ? 4 : 1);
        ASSERT_OK(forward
                      ? trine_conv2d_forward(op, dev.stream, &f->x.t, NULL, &out.t, workspace.buffer)
                      : trine_conv2d_backward_data(op, dev.stream, &f->dy.t, 0, &out.t, workspace.buffer));
        got = test_tensor_read(&out);
        test_tensor_release(&out);
    }
    test_buffer_release(&workspace);
    trine_conv2d_destroy(&op);
    return got;
}

static double bound_of(const char *algorithm, double k)
{
    return test_bound(2 * (strcmp(algorithm, names[0]) == 0 ? 16 : 2), k, 1, 1);
}

/* One name, one direction: with memory for few tiles, and then with groups of 8 x 8, as without, and near the plain one. */
START_TEST(test_chunks)
{
    const char *algorithm = names[_i / WAYS];
    const trine_direction direction = (trine_direction)(_i % WAYS);
    const bool f2 = _i / WAYS, weights = direction == TRINE_BACKWARD_WEIGHTS;
    trine__caps *caps = &dev.context->caps, kept = *caps;
    fixture f = setup(IMAGES);
    const trine_shape shape = weights                      ? (trine_shape){f.out.c, f.in.c, 3, 3}
                              : direction == TRINE_FORWARD ? f.out
                                                           : f.in;
    const double k = weights                      ? IMAGES * f.out.h * f.out.w
                     : direction == TRINE_FORWARD ? f.in.c * 9
                                                  : f.out.c * 9;
    const size_t block = sizeof(float) * (f2 ? 16 : 36) * (size_t)(f.in.c + f.out.c) * 64,
                 blocks = test_small() ? 1
                          : f2         ? 9
                                       : 2; /* of a chunk */
    size_t none, all, few;
    char name[128];
    snprintf(name, sizeof name, "%s %s", algorithm, trine__direction_name(direction));
    test_report("conv2d", algorithm, trine__direction_name(direction));
    double *plain = run(&f, direction, "conv2d_plain", &none), *whole = run(&f, direction, algorithm, &all);
    caps->max_allocation = 8 * block * blocks;
    caps->compute_units = 64; /* so that nine blocks of the filter gradient are added up in parts */
    double *cut = run(&f, direction, algorithm, &few);
    caps->max_local_size = 64;
    double *small = test_small() ? NULL : run(&f, direction, algorithm, &few);
    *caps = kept;
    if (!weights && (f2 || !test_small())) ck_assert_uint_lt(few, all);
    test_compare(name, whole, plain, shape, bound_of(algorithm, k));
    if (weights)
        test_compare(name, cut, plain, shape, bound_of(algorithm, k));
    else
        test_compare_exact(name, cut, whole, shape);
    if (small)
        test_compare_exact(name, small, cut, shape); /* the order of sums does not depend on the group */
    double *arrays[] = {plain, whole, cut, small};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(arrays[i]);
    teardown(&f);
}
END_TEST

/* An image's result does not depend on its companions. */
START_TEST(test_alone)
{
    size_t bytes;
    if (test_small() && _i == 0) return;
    fixture one = setup(1), more = setup(IMAGES);
    double *a = run(&one, TRINE_FORWARD, names[_i], &bytes),
           *b = run(&more, TRINE_FORWARD, names[_i], &bytes);
    test_compare_exact(names[_i], b, a, one.out); /* test_random() draws the first image first */
    free(a);
    free(b);
    teardown(&one);
    teardown(&more);
}
END_TEST

static bool supported(const fixture *f, const char *algorithm)
{
    trine_conv2d_desc d = f->desc;
    trine_conv2d *op = NULL;
    d.algorithm = algorithm;
    const trine_status status = trine_conv2d_create(dev.context, &d, f->in.h, f->in.w, 7, &op);
    ck_assert_msg(status == TRINE_OK || status == TRINE_ERR_UNSUPPORTED, "%s", trine_last_error());
    trine_conv2d_destroy(&op);
    return status == TRINE_OK;
}

/* Devices without room for the smallest tile, and problems that are none for it. */
START_TEST(test_supports)
{
    trine__caps *caps = &dev.context->caps, kept = *caps;
    fixture f = setup(1), g = f;
    caps->max_local_size = 64;
    caps->local_bytes = 4096;
    ck_assert(supported(&f, names[_i]));
    caps->max_local_size = 63;
    ck_assert(!supported(&f, names[_i]));
    caps->max_local_size = 64;
    caps->local_bytes = 2048;
    ck_assert(!supported(&f, names[_i]));
    *caps = kept;
    caps->max_allocation = 1024;
    ck_assert(!supported(&f, names[_i]));
    *caps = kept;
    g.desc.stride_h = 2;
    ck_assert(!supported(&g, names[_i]));
    g = f;
    g.desc.dilation_w = 2;
    ck_assert(!supported(&g, names[_i]));
    teardown(&f);
}
END_TEST

/* What it saves, by its own estimate: many channels on images that a tile fits, on GPUs alone. */
START_TEST(test_prefers)
{
    static const struct {
        int c, k, size;
        const char *gpu;
    } problems[] = {
        {64, 64, 56, "conv2d_winograd4_gemm"},
        {512, 512, 7, "conv2d_winograd4_gemm"},
        {128, 128, 2, "conv2d_gemm"},
        {16, 16, 56, "conv2d_gemm"},
        {3, 64, 56, "conv2d_gemm"},
    };
    trine__caps *caps = &dev.context->caps, kept = *caps;
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        trine_conv2d_desc d = trine_conv2d_desc_default(problems[i].c, problems[i].k, 3);
        d.pad_h = d.pad_w = 1;
        for (int cpu = 0; cpu <= 1; cpu++) {
            trine_conv2d *op = NULL;
            caps->cpu = cpu;
            ASSERT_OK(trine_conv2d_create(dev.context, &d, problems[i].size, problems[i].size, 7, &op));
            for (int direction = 0; direction < WAYS; direction++) {
                const char *got = trine_conv2d_algorithm(op, (trine_direction)direction);
                if (cpu)
                    ck_assert_msg(!strstr(got, "_gemm"), "a CPU gets %s", got);
                else
                    ck_assert_str_eq(got, problems[i].gpu);
            }
            trine_conv2d_destroy(&op);
        }
    }
    *caps = kept;
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("conv2d by minimal filtering on GPUs");
    TCase *tcase = tcase_create("conv2d by minimal filtering on GPUs");
    tcase_add_loop_test(tcase, test_chunks, 0, NAMES * WAYS);
    tcase_add_loop_test(tcase, test_alone, 0, NAMES);
    tcase_add_loop_test(tcase, test_supports, 0, NAMES);
    tcase_add_test(tcase, test_prefers);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
