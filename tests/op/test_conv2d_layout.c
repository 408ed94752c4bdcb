/* SPDX-License-Identifier: MIT */
/* Weights between the dense layout and blocks, on the host. */
#include <string.h>

#include "conv2d_stored.h"
#include "op/conv2d_weights.h"
#include "support/check_main.h"

static const struct {
    int c, k, kernel[2], groups;
} problems[] = {
    {1, 1, {1, 1}, 1},   {3, 64, {7, 7}, 1},  {64, 64, {3, 3}, 1},  {17, 37, {1, 1}, 1}, {13, 5, {3, 2}, 1},
    {64, 32, {1, 1}, 2}, {12, 18, {3, 3}, 3}, {48, 48, {3, 3}, 48}, {20, 30, {1, 5}, 5},
};
static const int blocks[][2] = {{1, 1}, {16, 16}, {32, 16}, {16, 1}, {8, 8}, {4, 2}, {1, 4}};

enum { PROBLEMS = sizeof problems / sizeof problems[0], BLOCKS = sizeof blocks / sizeof blocks[0] };

START_TEST(test_round_trip)
{
    trine_conv2d_desc d = trine_conv2d_desc_default(problems[_i].c, problems[_i].k, 1);
    d.kernel_h = problems[_i].kernel[0];
    d.kernel_w = problems[_i].kernel[1];
    d.groups = problems[_i].groups;
    const size_t count = trine_conv2d_weight_count(&d); /* dense by default */
    ck_assert_uint_eq(count, (size_t)(d.out_channels * (d.in_channels / d.groups) * d.kernel_h * d.kernel_w));
    float *dense = calloc(count, sizeof *dense), *back = calloc(count, sizeof *back);
    for (size_t i = 0; i < count; i++) dense[i] = (float)(i + 1);
    for (int b = 0; b < BLOCKS; b++) {
        d.weight_kb = blocks[b][0];
        d.weight_cb = blocks[b][1];
        const stored_weights s = {d.out_channels, d.in_channels / d.groups, d.kernel_h * d.kernel_w,
                                  d.weight_kb, d.weight_cb};
        const size_t floats = trine_conv2d_weight_count(&d);
        ck_assert_uint_eq(floats, stored_count(&s));
        float *stored = malloc(floats * sizeof *stored);
        memset(stored, 0xff, floats * sizeof *stored);
        trine_conv2d_weights_from_dense(&d, dense, stored);
        double sum = 0;
        for (size_t i = 0; i < floats; i++) sum += (double)stored[i]; /* NaN where nothing was written */
        ck_assert_double_eq(sum, (double)count * ((double)count + 1) / 2);
        for (int k = 0; k < s.k; k++)
            for (int c = 0; c < s.c; c++)
                for (int tap = 0; tap < s.taps; tap++)
                    if (stored[stored_index(&s, k, c, tap)] != dense[(k * s.c + c) * s.taps + tap])
                        ck_abort_msg("blocks of %d, %d: filter %d, channel %d, tap %d", s.kb, s.cb, k, c,
                                     tap);
        memset(back, 0xff, count * sizeof *back);
        trine_conv2d_weights_to_dense(&d, stored, back);
        ck_assert_mem_eq(back, dense, count * sizeof *dense);
        if (s.kb == 1 && s.cb == 1) ck_assert_mem_eq(stored, dense, count * sizeof *dense);
        free(stored);
    }
    free(dense);
    free(back);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("conv2d_layout");
    TCase *tcase = tcase_create("conv2d_layout");
    tcase_add_loop_test(tcase, test_round_trip, 0, PROBLEMS);
    suite_add_tcase(suite, tcase);
    return check_main(suite);
}
