/* SPDX-License-Identifier: MIT */
/* The family of mined losses: every loss and miner, with swap, soft margins and a memory, against loops in double, and their
 * gradients against finite differences of those; ties, empty sets, NaN. tests/op/test_triplet.c has batch-hard, batch-all and
 * semi-hard over more shapes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op/triplet_frame.h"
#include "ref/ref_triplet.h"
#include "rt/context.h"

static const struct combo {
    const char *name;
    trine_triplet_loss loss;
    trine_mining mining;
    trine_distance distance;
    int soft, swap;
    trine_negative negative;
    float lower, upper; /* window */
    float temperature;  /* 0: the default */
    float epsilon;      /* multi-similarity */
} combos[] = {
    {.name = "batch_hard_swap", .swap = 1},
    {.name = "batch_hard_swap", .distance = TRINE_COSINE, .swap = 1, .soft = 1, .temperature = 0.3f},
    {.name = "batch_all_soft", .mining = TRINE_BATCH_ALL, .soft = 1, .temperature = 0.5f},
    {.name = "batch_all_swap", .mining = TRINE_BATCH_ALL, .swap = 1},
    {.name = "semi_hard_window", .mining = TRINE_SEMI_HARD, .lower = -0.2f, .upper = 0.3f},
    {.name = "semi_hard_window", .mining = TRINE_SEMI_HARD, .lower = 0.02f, .upper = 0.06f},
    {.name = "semi_hard_window", .mining = TRINE_SEMI_HARD, .distance = TRINE_COSINE, .lower = 0.05f},
    {.name = "semi_hard_swap", .mining = TRINE_SEMI_HARD, .distance = TRINE_SQUARED, .swap = 1, .soft = 1},
    {.name = "easy_positive", .mining = TRINE_EASY_POSITIVE},
    {.name = "easy_positive", .mining = TRINE_EASY_POSITIVE, .negative = TRINE_SEMI_HARD_NEGATIVE},
    {.name = "easy_positive",
     .mining = TRINE_EASY_POSITIVE,
     .negative = TRINE_SEMI_HARD_NEGATIVE,
     .distance = TRINE_COSINE,
     .upper = 0.4f},
    {.name = "easy_positive",
     .mining = TRINE_EASY_POSITIVE,
     .negative = TRINE_EASIEST_NEGATIVE,
     .swap = 1,
     .soft = 1},
    {.name = "distance_weighted", .mining = TRINE_DISTANCE_WEIGHTED},
    {.name = "distance_weighted", .mining = TRINE_DISTANCE_WEIGHTED, .distance = TRINE_SQUARED, .swap = 1},
    {.name = "distance_weighted", .mining = TRINE_DISTANCE_WEIGHTED, .distance = TRINE_COSINE, .soft = 1},
    {.name = "hardest_fraction", .mining = TRINE_HARDEST_FRACTION},
    {.name = "hardest_fraction",
     .mining = TRINE_HARDEST_FRACTION,
     .distance = TRINE_COSINE,
     .swap = 1,
     .soft = 1},
    {.name = "angular", .loss = TRINE_LOSS_ANGULAR, .distance = TRINE_COSINE},
    {.name = "multi_similarity",
     .loss = TRINE_LOSS_MULTI_SIMILARITY,
     .distance = TRINE_COSINE,
     .epsilon = 0.1f},
    {.name = "multi_similarity",
     .loss = TRINE_LOSS_MULTI_SIMILARITY,
     .distance = TRINE_COSINE,
     .epsilon = INFINITY},
    {.name = "nt_xent", .loss = TRINE_LOSS_NT_XENT, .distance = TRINE_COSINE},
    {.name = "nt_xent", .loss = TRINE_LOSS_NT_XENT, .temperature = 0.5f},
};
enum { COMBOS = sizeof combos / sizeof combos[0] };

static trine_triplet_desc describe(const struct combo *c)
{
    trine_triplet_desc d = trine_triplet_desc_default(c->loss);
    d.mining = c->mining;
    d.distance = c->distance;
    d.margin = 0.3f;
    d.soft = c->soft;
    d.swap = c->swap;
    d.negative = c->negative;
    d.window_lower = c->lower;
    d.window_upper = c->upper;
    d.fraction = 0.3f;
    d.epsilon = c->epsilon;
    d.seed = 17;
    if (c->temperature > 0) d.temperature = c->temperature;
    return d;
}

/* What a term's slope makes of an error in a distance. */
static double sharpness(const trine_triplet_desc *d)
{
    if (d->loss == TRINE_LOSS_MULTI_SIMILARITY) return d->beta;
    if (d->loss == TRINE_LOSS_ANGULAR) return 8;
    return d->soft || d->loss == TRINE_LOSS_NT_XENT ? 1 / d->temperature : 1;
}

static const struct shape_case {
    int n, d, cb, classes, remembered; /* classes of make_labels() */
    fill how;
} cases[] = {
    {1, 3, 1, 1, 0, UNIT},    {2, 4, 8, 1, 0, UNIT},      {2, 5, 1, 2, 3, UNIT},  {7, 17, 8, 0, 0, UNIT},
    {12, 64, 16, 3, 0, UNIT}, {9, 9, 1, 9, 0, UNIT},      {9, 9, 1, 9, 11, UNIT}, {8, 6, 8, 1, 0, UNIT},
    {14, 8, 1, 4, 0, GRID},   {13, 21, 16, 0, 6, COPIES}, {8, 4, 1, 2, 0, EQUAL}, {40, 130, 8, 6, 30, COPIES},
    {70, 33, 16, 9, 0, UNIT}, {66, 16, 16, 20, 50, GRID},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static double *make_rows(const struct shape_case *c, fill how, int m, uint64_t seed)
{
    const size_t count = (size_t)m * (size_t)c->d;
    double *e = test_random(count, seed, -1, 1);
    for (int i = 0; i < m && how != GRID; i++) {
        double norm = 0;
        for (int k = 0; k < c->d; k++) norm += e[i * c->d + k] * e[i * c->d + k];
        for (int k = 0; k < c->d; k++) e[i * c->d + k] = (float)(e[i * c->d + k] / sqrt(norm));
    }
    for (size_t i = 0; i < count && how == GRID; i++) e[i] = floor(e[i] * 3) / 4;
    for (int i = 3; i < m && (how == GRID || how == COPIES); i += 4)
        memcpy(e + i * c->d, e + ((i * 7 + 3) % i) * c->d, (size_t)c->d * sizeof *e);
    for (int i = 1; i < m && how == EQUAL; i++) memcpy(e + i * c->d, e, (size_t)c->d * sizeof *e);
    return e;
}

static outcome run(const char *name, const trine_triplet_desc *desc, const double *e, const int32_t *labels,
                   int n, int m, int d, int cb)
{
    return run_triplet(name, desc, e, labels, n, m, d, cb, true);
}

/* A distance is a sum of d terms, an anchor's loss one of up to m; `sharp` turns an error of a distance into a relative one. */
static void compare(const char *what, const outcome *got, const ref_mined *want, int n, int m, int d,
                    double sharp)
{
    const double eps = 0x1p-24, reach = 1 + want->largest, bound = 8 * eps * (d + m + 16) * reach * sharp;
    for (int k = 0; k < TRINE_TRIPLET_STATS; k++) {
        const double allowed = k == 1 || k == 2 ? 0 : k == 0 ? bound * (1 + want->stats[0]) : bound;
        ck_assert_msg(fabs(got->stats[k] - want->stats[k]) <= allowed, "%s: statistic %d is %.9g, want %.9g",
                      what, k, got->stats[k], want->stats[k]);
    }
    const trine_shape shape = {n, d, 1, 1};
    double *bounds = test_zeros(test_dense(shape));
    for (size_t i = 0; i < test_dense(shape); i++)
        bounds[i] = 4 * eps * (d + m + 16) * want->magnitude[i] * reach * sharp;
    test_compare_each(what, got->gradient, want->gradient, shape, bounds);
    free(bounds);
}

/* Some components against central differences of the reference's loss. */
static void compare_differences(const char *what, const trine_triplet_desc *desc, const outcome *got,
                                double *e, const int32_t *labels, const struct shape_case *c, int m,
                                double sharp)
{
    const double h = 1e-6;
    for (int k = 0; k < 5; k++) {
        const int at = (int)((size_t)(k * 7919 + 3) % ((size_t)c->n * (size_t)c->d));
        const double keep = e[at];
        double loss[2];
        for (int side = 0; side < 2; side++) {
            e[at] = keep + (side ? h : -h);
            ref_mined r = ref_triplet_mined(desc, e, labels, c->n, m, c->d, 5);
            loss[side] = r.stats[0];
            ref_mined_free(&r);
        }
        e[at] = keep;
        const double want = (loss[1] - loss[0]) / (2 * h);
        ck_assert_msg(fabs(got->gradient[at] - want) <= 2e-5 * sharp * (1 + fabs(want)),
                      "%s: component %d is %.9g, differences give %.9g", what, at, got->gradient[at], want);
    }
}

static void check_case(const struct combo *combo, const struct shape_case *c)
{
    const trine_triplet_desc desc = describe(combo);
    const int m = c->n + c->remembered;
    char what[200];
    snprintf(what, sizeof what, "%s (%d), n %d, d %d, cb %d, classes %d, remembered %d, fill %d", combo->name,
             (int)(combo - combos), c->n, c->d, c->cb, c->classes, m - c->n, (int)c->how);
    /* exact ties between rows that are not copies do not survive a normalisation */
    const fill how = c->how == GRID && combo->distance == TRINE_COSINE ? COPIES : c->how;
    double *e = make_rows(c, how, m, 31 + (uint64_t)(c - cases));
    int32_t *labels = make_labels(m, c->classes);
    ref_mined want = ref_triplet_mined(&desc, e, labels, c->n, m, c->d, 5);
    outcome got = run(combo->name, &desc, e, labels, c->n, m, c->d, c->cb);
    compare(what, &got, &want, c->n, m, c->d, sharpness(&desc));
    if (how == UNIT && c->n < 30) compare_differences(what, &desc, &got, e, labels, c, m, sharpness(&desc));
    outcome_free(&got);
    ref_mined_free(&want);
    free(labels);
    free(e);
}

START_TEST(test_against_reference)
{
    for (int k = 0; k < CASES; k++)
        if (cases[k].n <= 16 || !test_small()) check_case(&combos[_i], &cases[k]);
}
END_TEST

/* The kernels' shape for devices that are not CPUs, wherever the suite runs. */
START_TEST(test_shape_of_other_devices)
{
    const bool cpu = dev.context->caps.cpu;
    dev.context->caps.cpu = !cpu;
    check_case(&combos[_i], &cases[3]);
    check_case(&combos[_i], &cases[9]);
    if (!test_small()) check_case(&combos[_i], &cases[11]);
    dev.context->caps.cpu = cpu;
}
END_TEST

START_TEST(test_same_bits_every_run)
{
    const struct shape_case many = {20, 40, 8, 5, 9, COPIES}, few = {8, 8, 8, 5, 3, COPIES},
                            c = test_small() ? few : many;
    const trine_triplet_desc desc = describe(&combos[_i]);
    const int m = c.n + c.remembered;
    double *e = make_rows(&c, c.how, m, 8);
    int32_t *labels = make_labels(m, c.classes);
    outcome a = run(combos[_i].name, &desc, e, labels, c.n, m, c.d, c.cb),
            b = run(combos[_i].name, &desc, e, labels, c.n, m, c.d, c.cb);
    ck_assert_mem_eq(a.words, b.words, (size_t)(c.n * c.d) * sizeof *a.words);
    ck_assert_mem_eq(a.stats, b.stats, TRINE_TRIPLET_STATS * sizeof *a.stats);
    outcome_free(&a);
    outcome_free(&b);
    free(labels);
    free(e);
}
END_TEST

/* In the batch and in the memory: the loss and the whole gradient are NaN. */
START_TEST(test_nan_is_not_lost)
{
    const struct shape_case c = {8, 5, 1, 4, 3, UNIT};
    const trine_triplet_desc desc = describe(&combos[_i]);
    const int m = c.n + c.remembered;
    int32_t *labels = make_labels(m, c.classes);
    for (int row = 3; row < m; row += 6) {
        double *e = make_rows(&c, c.how, m, 6);
        e[row * c.d + 1] = NAN;
        outcome got = run(combos[_i].name, &desc, e, labels, c.n, m, c.d, c.cb);
        ck_assert_double_nan(got.stats[0]);
        int nans = 0;
        for (int i = 0; i < c.n * c.d; i++) nans += isnan(got.gradient[i]) != 0;
        ck_assert_int_gt(nans, 0);
        outcome_free(&got);
        free(e);
    }
    free(labels);
}
END_TEST

/* Draws depend on seed and step; over many steps they follow the weights. */
START_TEST(test_draws)
{
    enum { N = 6, D = 8, STEPS = 600 };
    trine_triplet_desc desc = trine_triplet_desc_default(TRINE_LOSS_TRIPLET);
    desc.mining = TRINE_DISTANCE_WEIGHTED;
    desc.weight_upper = 1.9f;
    desc.soft = 1;
    const int32_t labels[N] = {0, 0, 1, 2, 3, 4};
    const struct shape_case c = {N, D, 1, 0, 0, UNIT};
    double *e = make_rows(&c, UNIT, N, 3);
    const int steps = test_small() ? 20 : STEPS;
    double mean = 0, expected = 0;
    trine_triplet *op;
    ASSERT_OK(trine_triplet_create(dev.context, &desc, &op));
    test_tensor x = test_tensor_from((trine_shape){N, D, 1, 1}, 1, e);
    test_buffer stats = test_buffer_create((size_t)steps * TRINE_TRIPLET_STATS), lab = test_buffer_create(N);
    test_buffer ws = test_workspace_create(trine_triplet_workspace_bytes(op, N));
    test_buffer_write(&lab, labels, sizeof labels);
    for (int s = 0; s < steps; s++) {
        trine_triplet_set_step(op, (uint64_t)s);
        ASSERT_OK(trine_triplet_run(op, dev.stream, &x.t, lab.buffer, NULL, stats.buffer, s, ws.buffer));
    }
    double *all = test_buffer_read(&stats);
    for (int s = 0; s < steps; s++) mean += all[s * TRINE_TRIPLET_STATS + 4] / steps;
    /* d_an is a mean over the two anchors with a positive */
    for (int a = 0; a < 2; a++) {
        double sum = 0, weights = 0;
        for (int j = 2; j < N; j++) {
            double d = 0;
            for (int k = 0; k < D; k++) d += pow(e[a * D + k] - e[j * D + k], 2);
            d = sqrt(d);
            const double v = fmax(d, desc.weight_lower);
            const double w = d < desc.weight_upper ? pow(v, 2 - D) * pow(1 - v * v / 4, (3 - D) / 2.0) : 0;
            sum += w * d;
            weights += w;
        }
        ck_assert_double_gt(weights, 0);
        expected += sum / weights / 2;
    }
    if (!test_small())
        ck_assert_double_eq_tol(mean, expected,
                                4 * 0.5 / sqrt(2.0 * STEPS)); /* 4 sigma of d in a range of 1 */
    free(all);
    free(e);
    test_buffer_release(&ws);
    test_buffer_release(&lab);
    test_buffer_release(&stats);
    test_tensor_release(&x);
    trine_triplet_destroy(&op);
}
END_TEST

static double loss_at(trine_triplet_desc desc, double log_temperature, const double *e, const int32_t *labels,
                      const struct shape_case *c, int m)
{
    desc.temperature = (float)exp(log_temperature);
    ref_mined r = ref_triplet_mined(&desc, e, labels, c->n, m, c->d, 5);
    const double loss = r.stats[0];
    ref_mined_free(&r);
    return loss;
}

/* The gradient by log(temperature) against differences, then steps down it: SGD's formula, the bound, and none after a NaN. */
START_TEST(test_temperature)
{
    const struct shape_case c = {12, 24, 8, 3, 5, COPIES};
    const int m = c.n + c.remembered;
    trine_triplet_desc desc = describe(&combos[_i]);
    const bool learns = desc.loss == TRINE_LOSS_NT_XENT || (desc.loss == TRINE_LOSS_TRIPLET && desc.soft);
    if (!learns) return;
    const trine_optimizer_desc sgd = trine_optimizer_desc_default(TRINE_SGD);
    double *e = make_rows(&c, c.how, m, 12);
    int32_t *labels = make_labels(m, c.classes);
    trine_triplet *op;
    trine_optimizer *optimizer;
    trine_triplet_memory *memory = remember(e, labels, c.n, m, c.d, c.cb);
    float start, gradient, now, lr = 0.5f;
    desc.learn_temperature = 1;
    ASSERT_OK(trine_triplet_create(dev.context, &desc, &op));
    ASSERT_OK(trine_triplet_set_memory(op, memory));
    ASSERT_OK(trine_optimizer_create(dev.context, &sgd, 1, &optimizer));
    test_tensor x = test_tensor_from((trine_shape){c.n, c.d, 1, 1}, c.cb, e);
    test_buffer stats = test_buffer_create(TRINE_TRIPLET_STATS), lab = test_buffer_create((size_t)c.n);
    test_buffer ws = test_workspace_create(trine_triplet_workspace_bytes(op, c.n));
    test_buffer_write(&lab, labels, (size_t)c.n * sizeof *labels);
    trine_triplet_set_step(op, 5);
    for (int step = 0; step < 3; step++) {
        ASSERT_OK(trine_triplet_run(op, dev.stream, &x.t, lab.buffer, NULL, stats.buffer, 0, ws.buffer));
        ASSERT_OK(trine_triplet_read_temperature(op, dev.stream, &start, &gradient));
        const double at = log((double)start), h = 1e-3;
        const double want =
            (loss_at(desc, at + h, e, labels, &c, m) - loss_at(desc, at - h, e, labels, &c, m)) /
            (log((double)(float)exp(at + h)) - log((double)(float)exp(at - h)));
        ck_assert_msg(fabs((double)gradient - want) <= 2e-4 * (0.1 + fabs(want)),
                      "%s: %.9g, differences give %.9g", combos[_i].name, (double)gradient, want);
        if (step == 2) lr = (float)(20 / fabs(want)); /* out of all bounds */
        ASSERT_OK(trine_triplet_step_temperature(op, dev.stream, optimizer, lr));
        ASSERT_OK(trine_triplet_read_temperature(op, dev.stream, &now, NULL));
        const double moved = fmax(at - (double)lr * (double)gradient, log((double)TRINE_LEAST_TEMPERATURE));
        ck_assert_double_eq_tol(log((double)now), moved, 1e-5 * (1 + fabs(moved)));
    }
    e[1] = NAN;
    test_tensor_release(&x);
    x = test_tensor_from((trine_shape){c.n, c.d, 1, 1}, c.cb, e);
    ASSERT_OK(trine_triplet_run(op, dev.stream, &x.t, lab.buffer, NULL, stats.buffer, 0, ws.buffer));
    ASSERT_OK(trine_triplet_step_temperature(op, dev.stream, optimizer, 1));
    ASSERT_OK(trine_triplet_read_temperature(op, dev.stream, &start, &gradient));
    ck_assert(isnan(gradient) && start == now);
    test_buffer_release(&ws);
    test_buffer_release(&lab);
    test_buffer_release(&stats);
    test_tensor_release(&x);
    trine_optimizer_destroy(&optimizer);
    trine_triplet_destroy(&op);
    trine_triplet_memory_destroy(&memory);
    free(labels);
    free(e);
}
END_TEST

static void refuse(trine_triplet_desc desc)
{
    trine_triplet *op = NULL;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_create(dev.context, &desc, &op));
    ck_assert_ptr_null(op);
}

#define REFUSE(of, change)                                                                                   \
    do {                                                                                                     \
        trine_triplet_desc d = trine_triplet_desc_default(of);                                               \
        change;                                                                                              \
        refuse(d);                                                                                           \
    } while (0)

START_TEST(test_arguments)
{
    REFUSE(TRINE_LOSS_TRIPLET, d.loss = (trine_triplet_loss)4);
    REFUSE(TRINE_LOSS_TRIPLET, d.negative = (trine_negative)3);
    REFUSE(TRINE_LOSS_TRIPLET, d.temperature = -1);
    REFUSE(TRINE_LOSS_TRIPLET, d.window_lower = NAN);
    REFUSE(TRINE_LOSS_TRIPLET, d.window_upper = NAN);
    REFUSE(TRINE_LOSS_TRIPLET, (d.mining = TRINE_HARDEST_FRACTION, d.fraction = 0));
    REFUSE(TRINE_LOSS_TRIPLET, (d.mining = TRINE_HARDEST_FRACTION, d.fraction = 1.5f));
    REFUSE(TRINE_LOSS_TRIPLET, (d.mining = TRINE_DISTANCE_WEIGHTED, d.weight_lower = 0));
    REFUSE(TRINE_LOSS_TRIPLET, (d.mining = TRINE_DISTANCE_WEIGHTED, d.weight_upper = 2));
    REFUSE(TRINE_LOSS_TRIPLET, (d.mining = TRINE_DISTANCE_WEIGHTED, d.weight_upper = 0.4f));
    REFUSE(TRINE_LOSS_ANGULAR, d.distance = TRINE_EUCLIDEAN);
    REFUSE(TRINE_LOSS_ANGULAR, d.angle = 90);
    REFUSE(TRINE_LOSS_ANGULAR, d.angle = NAN);
    REFUSE(TRINE_LOSS_MULTI_SIMILARITY, d.distance = TRINE_SQUARED);
    REFUSE(TRINE_LOSS_MULTI_SIMILARITY, d.alpha = 0);
    REFUSE(TRINE_LOSS_MULTI_SIMILARITY, d.beta = NAN);
    REFUSE(TRINE_LOSS_MULTI_SIMILARITY, d.base = INFINITY);
    REFUSE(TRINE_LOSS_MULTI_SIMILARITY, d.epsilon = -1);
    REFUSE(TRINE_LOSS_NT_XENT, d.temperature = INFINITY);
    REFUSE(TRINE_LOSS_NT_XENT, (d.learn_temperature = 1, d.temperature = 0.009f));
    REFUSE(TRINE_LOSS_TRIPLET, d.learn_temperature = 1);
    REFUSE(TRINE_LOSS_ANGULAR, d.learn_temperature = 1);
    const trine_triplet_desc plain = trine_triplet_desc_default(TRINE_LOSS_NT_XENT);
    trine_triplet *op;
    ASSERT_OK(trine_triplet_create(dev.context, &plain, &op));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_step_temperature(op, dev.stream, NULL, 0.1f));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_read_temperature(op, dev.stream, NULL, NULL));
    trine_triplet_destroy(&op);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("triplet_losses");
    TCase *tc = tcase_create("triplet_losses");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_against_reference, 0, COMBOS);
    tcase_add_loop_test(tc, test_shape_of_other_devices, 0, COMBOS);
    tcase_add_loop_test(tc, test_same_bits_every_run, 0, COMBOS);
    tcase_add_loop_test(tc, test_nan_is_not_lost, 0, COMBOS);
    tcase_add_loop_test(tc, test_temperature, 0, COMBOS);
    tcase_add_test(tc, test_draws);
    tcase_add_test(tc, test_arguments);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
