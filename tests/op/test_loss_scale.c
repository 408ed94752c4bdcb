/* SPDX-License-Identifier: MIT */
/* Dynamic loss scaling, and optimizers that follow it. */
#include "half.h"
#include "op/loss_scale.h"
#include "op/optimizer.h"
#include "support/report.h"

/* A step of each optimizer with gradients that are `scale` times as large is the step without; one with an infinite or undefined gradient
 * leaves everything alone. Then the scale moves. */
START_TEST(test_loss_scale)
{
    enum { COUNT = 4133 };
    static const char *const names[] = {"sgd", "adam", "adamw"};
    const trine_optimizer_kind kind = (trine_optimizer_kind)_i;
    test_report("loss scale", names[kind], "step");
    trine_optimizer_desc desc = trine_optimizer_desc_default(kind);
    if (kind == TRINE_SGD) desc.momentum = 0.9f;
    double *p, *g, *scaled = test_zeros(COUNT);
    trine__loss_scale *scale = NULL;
    trine__loss_scale_state state;
    trine_optimizer *op[2] = {NULL, NULL};
    test_buffer parameters[] = {test_buffer_random(COUNT, 1, -1, 1, &p), test_buffer_from(p, COUNT, COUNT)};
    test_buffer gradients = test_buffer_random(COUNT, 2, -1, 1, &g);
    ASSERT_OK(trine__loss_scale_create(dev.context, dev.stream, &scale));
    ASSERT_OK(trine__loss_scale_read(scale, dev.stream, &state));
    ck_assert_float_eq(state.scale * state.inverse, 1.0f);
    test_tensor d = test_tensor_from((trine_shape){1, COUNT, 1, 1}, 1, g);
    ASSERT_OK(trine__loss_scale_apply(scale, dev.stream, &d.t, &d.t));
    double *applied = test_tensor_read(&d);
    for (int i = 0; i < COUNT; i++) scaled[i] = g[i] * (double)state.scale;
    test_compare_exact("scaled", applied, scaled, test_vector(COUNT));
    for (int k = 0; k < 2; k++) {
        ASSERT_OK(trine_optimizer_create(dev.context, &desc, COUNT, &op[k]));
        trine_optimizer_advance(op[k]);
        ASSERT_OK(trine__loss_scale_check(scale, dev.stream, d.t.buffer, 0, COUNT));
        ASSERT_OK(trine__optimizer_step_number(
            op[k], dev.stream, parameters[k].buffer, k ? d.t.buffer : gradients.buffer,
            k ? trine__loss_scale_buffer(scale) : NULL, 0, COUNT, 0.1f, 1));
    }
    same_floats("step", &parameters[0], &parameters[1]);
    ASSERT_OK(trine__loss_scale_update(scale, dev.stream));
    static const double bad[] = {INFINITY, -INFINITY, NAN};
    static const int places[] = {0, 1000, COUNT - 1};
    for (int i = 0; i < 3; i++) {
        const double good = scaled[places[i]];
        scaled[places[i]] = bad[i];
        test_buffer wrong = test_buffer_from(scaled, COUNT, COUNT);
        scaled[places[i]] = good;
        ASSERT_OK(trine__loss_scale_check(scale, dev.stream, wrong.buffer, 0, COUNT));
        ASSERT_OK(trine__optimizer_step_number(op[1], dev.stream, parameters[1].buffer, wrong.buffer,
                                               trine__loss_scale_buffer(scale), 0, COUNT, 0.1f, 2));
        ASSERT_OK(trine__loss_scale_update(scale, dev.stream));
        const float before = state.scale;
        ASSERT_OK(trine__loss_scale_read(scale, dev.stream, &state));
        ck_assert_float_eq(state.scale, before / 2);
        ck_assert_float_eq(state.skipped, (float)(i + 1));
        ck_assert_float_eq(state.overflow, 0);
        same_floats("left out", &parameters[0], &parameters[1]);
        test_buffer_release(&wrong);
    }
    /* what lies outside the range that is checked does not matter; many good steps double the scale */
    state.steps = 499;
    ASSERT_OK(trine__loss_scale_write(scale, dev.stream, &state));
    ASSERT_OK(trine__loss_scale_check(scale, dev.stream, gradients.buffer, 1, COUNT - 1));
    ASSERT_OK(trine__loss_scale_update(scale, dev.stream));
    const float before = state.scale;
    ASSERT_OK(trine__loss_scale_read(scale, dev.stream, &state));
    ck_assert_float_eq(state.scale, before * 2);
    ck_assert_float_eq(state.inverse, 1 / state.scale);
    for (int k = 0; k < 2; k++) {
        trine_optimizer_destroy(&op[k]);
        test_buffer_release(&parameters[k]);
    }
    trine__loss_scale_destroy(&scale);
    test_tensor_release(&d);
    test_buffer_release(&gradients);
    free(p);
    free(g);
    free(scaled);
    free(applied);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("loss scale");
    TCase *tc = tcase_create("loss scale");
    tcase_add_loop_test(tc, test_loss_scale, TRINE_SGD, TRINE_ADAMW + 1);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
