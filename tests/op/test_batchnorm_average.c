/* SPDX-License-Identifier: MIT */
/* Running averages over thousands of batches, beside the same recurrence in double: no rounding of 1 - a may
 * pull at them. */
#include <math.h>

#include "support/check_main.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/batchnorm.h"

enum { CHANNELS = 5, BATCHES = 40, PASSES = 6000, PASSES_SMALL = 300 };

static const double factors[] = {0.1, 0.01, 0.003, 0.001};

/* A float's rounding error of a value, 6e-8, enters at every pass and decays by a: as a random walk it leaves
 * 6e-8/sqrt(2a). A constant error of 1 - a by 3e-8 would leave 3e-8/a: 1e-5 at a = 1e-3. */
START_TEST(test_long_average)
{
    test_report("batchnorm", NULL, "running");
    const float a = (float)factors[_i];
    const trine_shape shape = {2, CHANNELS, 3, 3};
    const double n = 2 * 3 * 3, bound = 3 * 6e-8 / sqrt(2 * factors[_i]);
    trine_batchnorm *bn = NULL;
    ASSERT_OK(trine_batchnorm_create(dev.context, CHANNELS, 1, 1e-5f, &bn));
    test_buffer mean = test_buffer_create(CHANNELS), rstd = test_buffer_create(CHANNELS), partials[BATCHES];
    trine_batchnorm_saved saved = {mean.buffer, rstd.buffer};
    double means[BATCHES][CHANNELS], vars[BATCHES][CHANNELS], want_mean[CHANNELS], want_var[CHANNELS];
    for (int k = 0; k < BATCHES; k++) {
        double *x;
        test_tensor t = test_tensor_random(shape, 1, (uint64_t)(k + 1), 1, 3, &x);
        partials[k] = test_workspace_create(trine_batchnorm_partial_bytes(bn, &shape));
        ASSERT_OK(trine_batchnorm_partials(bn, dev.stream, &t.t, partials[k].buffer));
        for (int c = 0; c < CHANNELS; c++) {
            double sum = 0, square = 0;
            for (int i = 0; i < (int)n; i++) sum += x[(i / 9 * CHANNELS + c) * 9 + i % 9];
            for (int i = 0; i < (int)n; i++)
                square += pow(x[(i / 9 * CHANNELS + c) * 9 + i % 9] - sum / n, 2);
            means[k][c] = sum / n;
            vars[k][c] = square / (n - 1);
        }
        free(x);
        test_device_sync();
        test_tensor_release(&t);
    }
    for (int c = 0; c < CHANNELS; c++) {
        want_mean[c] = 2;
        want_var[c] = 0.25;
    }
    test_buffer running_mean = test_buffer_from(want_mean, CHANNELS, CHANNELS),
                running_var = test_buffer_from(want_var, CHANNELS, CHANNELS);
    const int passes = test_small() ? PASSES_SMALL : PASSES;
    double *order =
        test_random((size_t)passes, 99, 0, BATCHES); /* a cycle would round the same way again and again */
    for (int i = 0; i < passes; i++) {
        const int k = (int)order[i];
        ASSERT_OK(trine_batchnorm_statistics(bn, dev.stream, &shape, partials[k].buffer, &saved,
                                             running_mean.buffer, running_var.buffer, a));
        for (int c = 0; c < CHANNELS; c++) {
            want_mean[c] = (1 - (double)a) * want_mean[c] + (double)a * means[k][c];
            want_var[c] = (1 - (double)a) * want_var[c] + (double)a * vars[k][c];
        }
    }
    double *got_mean = test_buffer_read(&running_mean), *got_var = test_buffer_read(&running_var);
    for (int c = 0; c < CHANNELS; c++) {
        ck_assert_double_le(fabs(got_mean[c] - want_mean[c]), bound * want_mean[c]);
        ck_assert_double_le(fabs(got_var[c] - want_var[c]), bound * want_var[c]);
    }
    free(order);
    free(got_mean);
    free(got_var);
    for (int k = 0; k < BATCHES; k++) test_buffer_release(&partials[k]);
    test_buffer_release(&running_mean);
    test_buffer_release(&running_var);
    test_buffer_release(&mean);
    test_buffer_release(&rstd);
    trine_batchnorm_destroy(&bn);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("batchnorm_average");
    TCase *tc = tcase_create("batchnorm_average");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_long_average, 0, (int)(sizeof factors / sizeof factors[0]));
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
