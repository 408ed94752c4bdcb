/* SPDX-License-Identifier: MIT */
/* SGD, Adam, AdamW over sequences of gradients against double; ranges, odd offsets, resume from exported
 * state. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op/optimizer.h"
#include "ref/ref_optimizer.h"
#include "rt/context.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"

static const struct setting {
    trine_optimizer_desc desc;
    double beta1, beta2; /* as written */
} settings[] = {
    {{TRINE_SGD, 0, 0, 0, 0, 0, 0}, 0, 0},
    {{TRINE_SGD, 0, 0, 0.01f, 0, 0, 0}, 0, 0},
    {{TRINE_SGD, 0.9f, 0, 0, 0, 0, 0}, 0, 0},
    {{TRINE_SGD, 0.9f, 0, 5e-4f, 0, 0, 0}, 0, 0},
    {{TRINE_SGD, 0.8f, 1, 5e-4f, 0, 0, 0}, 0, 0},
    {{TRINE_ADAM, 0, 0, 0, 0.9f, 0.999f, 1e-8f}, 0.9, 0.999},
    {{TRINE_ADAM, 0, 0, 0.01f, 0.8f, 0.99f, 1e-5f}, 0.8, 0.99},
    {{TRINE_ADAMW, 0, 0, 0.01f, 0.9f, 0.999f, 1e-8f}, 0.9, 0.999},
    {{TRINE_ADAMW, 0, 0, 0.3f, 0.5f, 0.95f, 1e-6f}, 0.5, 0.95},
};
enum { SETTINGS = sizeof settings / sizeof settings[0], STEPS = 20 };
static const size_t counts[] = {1, 3, 15, 16, 17, 64, 1000, 4096, 4097, 70001};

static double rate(int step)
{
    return (float)(step < 10 ? 1e-2 : 3e-3);
}

static double *gradients_of(int step, size_t count)
{
    return test_random(count, 900 + (uint64_t)step, -1, 1);
}

static void upload(test_buffer *b, const double *values, size_t count)
{
    float *f = calloc(count, sizeof *f);
    for (size_t i = 0; i < count; i++) f[i] = (float)values[i];
    test_buffer_write(b, f, count * sizeof *f);
    free(f);
}

START_TEST(test_against_reference)
{
    /* once for the device, once in the kernels' shape for CPUs or for others, whichever this is not */
    const struct setting *s = &settings[_i % SETTINGS];
    const bool cpu = dev.context->caps.cpu;
    dev.context->caps.cpu = _i < SETTINGS ? cpu : !cpu;
    for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        const size_t count = counts[k];
        if (count > 1000 && test_small()) continue;
        static const char *const kinds[] = {"sgd", "adam", "adamw"};
        test_report("optimizer", kinds[s->desc.kind], "step");
        trine_optimizer *op;
        ASSERT_OK(trine_optimizer_create(dev.context, &s->desc, count, &op));
        ref_optimizer ref = {(int)s->desc.kind, s->desc.momentum, s->desc.weight_decay, s->beta1,
                             s->beta2,          s->desc.eps,      s->desc.nesterov,     0,
                             test_zeros(count), test_zeros(count)};
        double *p = test_random(count, 8, -1, 1);
        test_buffer tp = test_buffer_from(p, count, count), tg = test_buffer_create(count);
        for (int step = 0; step < STEPS; step++) {
            double *g = gradients_of(step, count);
            upload(&tg, g, count);
            trine_optimizer_advance(op);
            /* in three ranges, most of them not aligned to vectors */
            const size_t a = count / 3, b = count / 2;
            const float lr = (float)rate(step);
            ASSERT_OK(trine_optimizer_step(op, dev.stream, tp.buffer, tg.buffer, b, count - b, lr));
            ASSERT_OK(trine_optimizer_step(op, dev.stream, tp.buffer, tg.buffer, 0, a, lr));
            ASSERT_OK(trine_optimizer_step(op, dev.stream, tp.buffer, tg.buffer, a, b - a, lr));
            ref_optimizer_step(&ref, p, g, count, rate(step));
            free(g);
        }
        double *got = test_buffer_read(&tp);
        /* each step rounds the parameter once or twice and its own size (at most 10 lr in all) a few times */
        test_compare("parameters", got, p, test_vector(count), test_bound(4, STEPS, 1, 1.1));
        float *state = calloc(count, sizeof *state);
        double *wide = test_zeros(count);
        for (int i = 0; i < trine__optimizer_state_count(op); i++) {
            ASSERT_OK(trine__optimizer_state_export(op, dev.stream, i, state));
            for (size_t j = 0; j < count; j++) wide[j] = state[j];
            const double *want = i == 0 ? ref.first : ref.second;
            test_compare(trine__optimizer_state_name(op, i), wide, want, test_vector(count),
                         test_bound(4, STEPS, 1, test_max_abs(want, count)));
        }
        free(state);
        free(wide);
        free(got);
        free(p);
        free(ref.first);
        free(ref.second);
        test_buffer_release(&tp);
        test_buffer_release(&tg);
        trine_optimizer_destroy(&op);
    }
    dev.context->caps.cpu = cpu;
}
END_TEST

/* A range that is not stepped stays as it was, weight decay and state included. */
START_TEST(test_untouched)
{
    const size_t count = 100;
    trine_optimizer *op;
    ASSERT_OK(trine_optimizer_create(dev.context, &settings[_i].desc, count, &op));
    double *p, *g;
    test_buffer tp = test_buffer_random(count, 3, -1, 1, &p), tg = test_buffer_random(count, 4, -1, 1, &g);
    trine_optimizer_advance(op);
    ASSERT_OK(trine_optimizer_step(op, dev.stream, tp.buffer, tg.buffer, 33, 40, 0.1f));
    ASSERT_OK(trine_optimizer_step(op, dev.stream, tp.buffer, tg.buffer, 100, 0, 0.1f));
    double *got = test_buffer_read(&tp);
    float state[100];
    for (size_t i = 0; i < count; i++)
        ck_assert_msg((got[i] == p[i]) == (i < 33 || i >= 73), "element %zu", i);
    for (int k = 0; k < trine__optimizer_state_count(op); k++) {
        ASSERT_OK(trine__optimizer_state_export(op, dev.stream, k, state));
        for (size_t i = 0; i < count; i++)
            ck_assert_msg((state[i] == 0.0f) == (i < 33 || i >= 73), "state %zu", i);
    }
    free(p);
    free(g);
    free(got);
    test_buffer_release(&tp);
    test_buffer_release(&tg);
    trine_optimizer_destroy(&op);
}
END_TEST

/* Ten steps in one go, and five, state through the host, five: the same bits. */
START_TEST(test_resume)
{
    const size_t count = 333;
    double *p = test_random(count, 8, -1, 1);
    test_buffer a = test_buffer_from(p, count, count), b = test_buffer_from(p, count, count),
                tg = test_buffer_create(count);
    trine_optimizer *one, *two;
    ASSERT_OK(trine_optimizer_create(dev.context, &settings[_i].desc, count, &one));
    ASSERT_OK(trine_optimizer_create(dev.context, &settings[_i].desc, count, &two));
    for (int step = 0; step < 10; step++) {
        double *g = gradients_of(step, count);
        upload(&tg, g, count);
        free(g);
        if (step == 5) {
            trine_optimizer *next;
            float state[333];
            ASSERT_OK(trine_optimizer_create(dev.context, &settings[_i].desc, count, &next));
            for (int k = 0; k < trine__optimizer_state_count(two); k++) {
                ASSERT_OK(trine__optimizer_state_export(two, dev.stream, k, state));
                ASSERT_OK(trine__optimizer_state_import(next, dev.stream, k, state));
            }
            trine__optimizer_set_steps(next, trine__optimizer_steps(two));
            trine_optimizer_destroy(&two);
            two = next;
        }
        trine_optimizer_advance(one);
        trine_optimizer_advance(two);
        ASSERT_OK(trine_optimizer_step(one, dev.stream, a.buffer, tg.buffer, 0, count, 0.01f));
        ASSERT_OK(trine_optimizer_step(two, dev.stream, b.buffer, tg.buffer, 0, count, 0.01f));
    }
    uint32_t *x = test_buffer_read_words(&a), *y = test_buffer_read_words(&b);
    ck_assert_mem_eq(x, y, count * sizeof *x);
    ck_assert_uint_eq(trine__optimizer_steps(two), 10);
    free(x);
    free(y);
    free(p);
    test_buffer_release(&a);
    test_buffer_release(&b);
    test_buffer_release(&tg);
    trine_optimizer_destroy(&one);
    trine_optimizer_destroy(&two);
}
END_TEST

START_TEST(test_arguments)
{
    static const trine_optimizer_desc bad[] = {
        {TRINE_SGD, 1, 0, 0, 0, 0, 0},          {TRINE_SGD, -0.1f, 0, 0, 0, 0, 0},
        {TRINE_SGD, 0, 1, 0, 0, 0, 0},          {TRINE_SGD, 0, 0, -1, 0, 0, 0},
        {TRINE_ADAM, 0, 0, 0, 1, 0.9f, 1e-8f},  {TRINE_ADAM, 0, 0, 0, 0.9f, -1, 1e-8f},
        {TRINE_ADAMW, 0, 0, 0, 0.9f, 0.9f, -1}, {(trine_optimizer_kind)3, 0, 0, 0, 0, 0, 0},
    };
    trine_optimizer *op = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ASSERT_FAILS(TRINE_ERR_ARG, trine_optimizer_create(dev.context, &bad[i], 10, &op));
    const trine_optimizer_desc adamw = trine_optimizer_desc_default(TRINE_ADAMW),
                               adam = trine_optimizer_desc_default(TRINE_ADAM);
    ck_assert(adamw.weight_decay == 1e-2f && adam.weight_decay == 0 && adam.beta2 == 0.999f &&
              adam.eps == 1e-8f);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_optimizer_create(dev.context, &adam, 0, &op));
    ck_assert_ptr_null(op);
    ASSERT_OK(trine_optimizer_create(dev.context, &adam, 10, &op));
    test_buffer p = test_buffer_create(10), few = test_buffer_create(9);
    trine_stream *const st = dev.stream;
    ASSERT_FAILS(TRINE_ERR_STATE, trine_optimizer_step(op, st, p.buffer, p.buffer, 0, 10, 0.1f));
    trine_optimizer_advance(op);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_optimizer_step(op, st, p.buffer, p.buffer, 5, 6, 0.1f));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_optimizer_step(op, st, p.buffer, p.buffer, 11, 0, 0.1f));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_optimizer_step(op, st, p.buffer, p.buffer, 0, 10, NAN));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_optimizer_step(op, st, p.buffer, few.buffer, 0, 10, 0.1f));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_optimizer_step(op, st, NULL, p.buffer, 0, 10, 0.1f));
    float state[10];
    ASSERT_FAILS(TRINE_ERR_ARG, trine__optimizer_state_export(op, st, 2, state));
    ck_assert_ptr_null(trine__optimizer_state_name(op, 2));
    test_buffer_release(&p);
    test_buffer_release(&few);
    trine_optimizer_destroy(&op);
    trine_optimizer_destroy(NULL);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("optimizer");
    TCase *tc = tcase_create("optimizer");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_against_reference, 0, 2 * SETTINGS);
    tcase_add_loop_test(tc, test_untouched, 0, SETTINGS);
    tcase_add_loop_test(tc, test_resume, 0, SETTINGS);
    tcase_add_test(tc, test_arguments);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
