/* SPDX-License-Identifier: MIT */
/* Launches: arguments that do not fit, grids that are not multiples of the local size. */
#include <string.h>

#include "rt/launch.h"
#include "support/check_main.h"
#include "support/device.h"

/* add(a, b, y, count, run) with V = 1: one work-item adds `run` floats. */
static trine__kernel *add_kernel(void)
{
    trine__kernel *kernel = NULL;
    ASSERT_OK(trine__kernel_create(dev.context, "add", "-D V=1", &kernel));
    return kernel;
}

/* Every element once, nothing behind the end, whatever the rounding: the guards of `y` would show it. */
START_TEST(test_rounding_up)
{
    static const struct {
        int count, run;
        size_t local;
    } cases[] = {{1, 1, 64},    {63, 1, 64},  {64, 1, 64}, {65, 1, 64},
                 {1000, 3, 64}, {1000, 7, 1}, {130, 1, 16}};
    trine__kernel *kernel = add_kernel();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int n = cases[i].count, run = cases[i].run;
        double *x, *y;
        test_buffer a = test_buffer_random((size_t)n, 1, -1, 1, &x),
                    b = test_buffer_random((size_t)n, 2, -1, 1, &y), sum = test_buffer_create((size_t)n);
        const trine__arg args[] = {trine__arg_buffer(a.buffer), trine__arg_buffer(b.buffer),
                                   trine__arg_buffer(sum.buffer), trine__arg_i32(n), trine__arg_i32(run)};
        ASSERT_OK(trine__launch(dev.stream, kernel, args, TRINE_COUNTOF(args),
                                trine__grid_lines((size_t)trine__ceil_div(n, run), 1, 1, cases[i].local),
                                NULL));
        double *got = test_buffer_read(&sum);
        for (int k = 0; k < n; k++) ck_assert_double_eq(got[k], (float)(x[k] + y[k]));
        free(got);
        free(x);
        free(y);
        test_buffer_release(&a);
        test_buffer_release(&b);
        test_buffer_release(&sum);
    }
    trine__kernel_destroy(&kernel);
}
END_TEST

START_TEST(test_grids)
{
    const trine__grid tiles = trine__grid_tiles(3, 4, 5), lines = trine__grid_lines(3, 4, 5, 64);
    ck_assert(tiles.global[0] == 3 && tiles.global[1] == 4 && tiles.global[2] == 5);
    ck_assert(tiles.local[0] == 1 && tiles.local[1] == 1 && tiles.local[2] == 1);
    ck_assert(lines.global[0] == 3 && lines.global[2] == 5 && lines.local[0] == 64 && lines.local[1] == 1);
}
END_TEST

START_TEST(test_errors)
{
    trine__kernel *kernel = add_kernel();
    test_buffer a = test_buffer_create(4);
    const trine__arg ok[] = {trine__arg_buffer(a.buffer), trine__arg_buffer(a.buffer),
                             trine__arg_buffer(a.buffer), trine__arg_i32(4), trine__arg_i32(1)};
    trine__arg many[6], wrong[5];
    memcpy(many, ok, sizeof ok);
    many[5] = trine__arg_i32(1);
    ASSERT_FAILS(TRINE_ERR_OPENCL,
                 trine__launch(dev.stream, kernel, many, 6, trine__grid_tiles(4, 1, 1), NULL));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "kernel add: argument 5"));
    memcpy(wrong, ok, sizeof ok);
    wrong[3] = trine__arg_local(64); /* a number is wanted */
    ASSERT_FAILS(TRINE_ERR_OPENCL,
                 trine__launch(dev.stream, kernel, wrong, 5, trine__grid_tiles(4, 1, 1), NULL));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "kernel add: argument 3"));
    static const trine__grid empty[] = {
        {{0, 1, 1}, {1, 1, 1}}, {{1, 0, 1}, {1, 1, 1}}, {{1, 1, 0}, {1, 1, 1}}, {{1, 1, 1}, {0, 1, 1}}};
    for (size_t i = 0; i < TRINE_COUNTOF(empty); i++) {
        ASSERT_FAILS(TRINE_ERR_ARG, trine__launch(dev.stream, kernel, ok, 5, empty[i], NULL));
        ck_assert_ptr_nonnull(strstr(trine_last_error(), "kernel add: empty grid"));
    }
    ASSERT_FAILS(TRINE_ERR_OPENCL,
                 trine__launch(dev.stream, kernel, ok, 5, trine__grid_lines(1, 1, 1, 1 << 20), NULL));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "kernel add: launch of"));
    ASSERT_OK(trine__launch(dev.stream, kernel, ok, 5, trine__grid_tiles(4, 1, 1), NULL)); /* still usable */
    test_device_sync();
    test_buffer_release(&a);
    trine__kernel_destroy(&kernel);
}
END_TEST

/* A fresh kernel without its arguments. */
START_TEST(test_missing_arguments)
{
    trine__kernel *kernel = add_kernel();
    ASSERT_FAILS(TRINE_ERR_OPENCL,
                 trine__launch(dev.stream, kernel, NULL, 0, trine__grid_tiles(1, 1, 1), NULL));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "CL_INVALID_KERNEL_ARGS"));
    trine__kernel_destroy(&kernel);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("launch");
    TCase *tc = tcase_create("launch");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, test_rounding_up);
    tcase_add_test(tc, test_grids);
    tcase_add_test(tc, test_errors);
    tcase_add_test(tc, test_missing_arguments);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
