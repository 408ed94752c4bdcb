/* SPDX-License-Identifier: MIT */
/* Learning-rate schedules against what PyTorch 1.13's give (numbers recorded from them). */
#include "learn/schedule.h"

#include <math.h>

#include "base/memory.h"
#include "support/check_main.h"
#include "trine/trainer.h"

static void assert_near(double got, double want)
{
    ck_assert_msg(fabs(got - want) <= 1e-12 * fabs(want) + 1e-18, "got %.17g, want %.17g", got, want);
}

START_TEST(constant)
{
    for (int step = 0; step < 5; step++) {
        assert_near(trine_schedule_lr(TRINE_SCHEDULE_CONSTANT, 0.25, step, 5), 0.25);
        assert_near(trine_schedule_lr(TRINE_SCHEDULE_PLATEAU, 0.25, step, 5), 0.25);
    }
}
END_TEST

/* MultiStepLR([10, 15], gamma=0.1) over 20 steps. */
START_TEST(steps)
{
    for (int step = 0; step < 20; step++)
        assert_near(trine_schedule_lr(TRINE_SCHEDULE_STEP, 0.3, step, 20), step < 10   ? 0.3
                                                                           : step < 15 ? 0.03
                                                                                       : 0.003);
    assert_near(trine_schedule_lr(TRINE_SCHEDULE_STEP, 0.3, 0, 1), 0.3);
    assert_near(trine_schedule_lr(TRINE_SCHEDULE_STEP, 0.3, 2, 5), 0.3);
    assert_near(trine_schedule_lr(TRINE_SCHEDULE_STEP, 0.3, 3, 5), 0.03);
    assert_near(trine_schedule_lr(TRINE_SCHEDULE_STEP, 0.3, 2000000000, 2100000000), 0.003);
}
END_TEST

/* CosineAnnealingLR(T_max=7). */
START_TEST(cosine)
{
    const double want[] = {0.3,
                           0.28514533018536287,
                           0.24352347027881002,
                           0.18337814009344716,
                           0.11662185990655285,
                           0.05647652972118998,
                           0.014854669814637145};
    for (int step = 0; step < 7; step++)
        assert_near(trine_schedule_lr(TRINE_SCHEDULE_COSINE, 0.3, step, 7), want[step]);
}
END_TEST

/* SequentialLR([LinearLR(start_factor=1/4, total_iters=3), S], milestones=[3]) over 10 steps, S being CosineAnnealingLR(T_max=7),
 * MultiStepLR([4, 6], gamma=0.1) and ConstantLR(factor=1). */
START_TEST(warmup)
{
    const double rise[] = {0.075, 0.15, 0.225};
    const trine_schedule schedules[] = {TRINE_SCHEDULE_CONSTANT, TRINE_SCHEDULE_STEP, TRINE_SCHEDULE_COSINE,
                                        TRINE_SCHEDULE_PLATEAU};
    for (size_t s = 0; s < TRINE_COUNTOF(schedules); s++) {
        for (int step = 0; step < 3; step++)
            assert_near(trine_schedule_lr_warmed(schedules[s], 0.3, step, 10, 3), rise[step]);
        for (int step = 3; step < 10; step++)
            assert_near(trine_schedule_lr_warmed(schedules[s], 0.3, step, 10, 3),
                        trine_schedule_lr(schedules[s], 0.3, step - 3, 7));
        assert_near(trine_schedule_lr_warmed(schedules[s], 0.3, 4, 10, 0),
                    trine_schedule_lr(schedules[s], 0.3, 4, 10));
    }
    assert_near(trine_schedule_lr_warmed(TRINE_SCHEDULE_COSINE, 0.3, 4, 10, 3), 0.28514533018536287);
    assert_near(trine_schedule_lr_warmed(TRINE_SCHEDULE_STEP, 0.3, 6, 10, 3), 0.3);
    assert_near(trine_schedule_lr_warmed(TRINE_SCHEDULE_STEP, 0.3, 7, 10, 3), 0.03);
    assert_near(trine_schedule_lr_warmed(TRINE_SCHEDULE_STEP, 0.3, 9, 10, 3), 0.003);
}
END_TEST

/* ReduceLROnPlateau over runs of (loss, times). */
START_TEST(plateau)
{
    const struct {
        double loss;
        int times;
    } losses[] = {{3.0, 1},  {2.0, 1},      {1.99990, 1}, {1.9998, 1}, {1.9997, 1}, {2.0, 9}, {1.5, 1},
                  {1.5, 11}, {1.49990, 11}, {1.4, 1},     {NAN, 12},   {9, 60},     {1.3, 1}, {1.3, 11}};
    const struct {
        int at;
        double lr;
    } cuts[] = {{25, 5e-2}, {36, 5e-3}, {48, 5e-4}, {59, 5e-5},
                {70, 5e-6}, {81, 5e-7}, {92, 5e-8}, {103, 5e-9}};
    trine__plateau p = trine__plateau_start(0.5);
    assert_near(p.lr, 0.5);
    double want = 0.5;
    size_t cut = 0;
    int i = 0;
    for (size_t run = 0; run < TRINE_COUNTOF(losses); run++) {
        for (int t = 0; t < losses[run].times; t++, i++) {
            trine__plateau_update(&p, losses[run].loss);
            if (cut < TRINE_COUNTOF(cuts) && i == cuts[cut].at) want = cuts[cut++].lr;
            ck_assert_msg(fabs(p.lr - want) <= 1e-9 * want, "after loss %d: %.17g, want %.17g", i, p.lr,
                          want);
        }
    }
    ck_assert_int_eq(i, 122);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schedule");
    TCase *tc = tcase_create("schedule");
    tcase_add_test(tc, constant);
    tcase_add_test(tc, steps);
    tcase_add_test(tc, cosine);
    tcase_add_test(tc, warmup);
    tcase_add_test(tc, plateau);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
