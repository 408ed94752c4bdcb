/* SPDX-License-Identifier: MIT */
/* Mined triplet loss: every mining x distance x soft against the enumeration of all triplets in double, with
 * its gradient, which is compared with finite differences of that enumeration as well. Data whose decisions
 * rounding could turn are not used, or (batch-all on many) the number of such decisions widens the bound. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op/triplet_frame.h"
#include "ref/ref_loss.h"
#include "rt/context.h"

/* mining, distance, soft: batch-all has no soft form. */
static const struct combo {
    trine_mining mining;
    trine_distance distance;
    int soft;
} combos[] = {
    {TRINE_BATCH_HARD, TRINE_EUCLIDEAN, 0}, {TRINE_BATCH_HARD, TRINE_SQUARED, 0},
    {TRINE_BATCH_HARD, TRINE_COSINE, 0},    {TRINE_BATCH_HARD, TRINE_EUCLIDEAN, 1},
    {TRINE_BATCH_HARD, TRINE_SQUARED, 1},   {TRINE_BATCH_HARD, TRINE_COSINE, 1},
    {TRINE_BATCH_ALL, TRINE_EUCLIDEAN, 0},  {TRINE_BATCH_ALL, TRINE_SQUARED, 0},
    {TRINE_BATCH_ALL, TRINE_COSINE, 0},     {TRINE_SEMI_HARD, TRINE_EUCLIDEAN, 0},
    {TRINE_SEMI_HARD, TRINE_SQUARED, 0},    {TRINE_SEMI_HARD, TRINE_COSINE, 0},
    {TRINE_SEMI_HARD, TRINE_EUCLIDEAN, 1},  {TRINE_SEMI_HARD, TRINE_SQUARED, 1},
    {TRINE_SEMI_HARD, TRINE_COSINE, 1},
};
enum { COMBOS = sizeof combos / sizeof combos[0] };

static trine_triplet_desc describe(trine_mining mining, trine_distance distance, int soft, float margin)
{
    return (trine_triplet_desc){.mining = mining, .distance = distance, .soft = soft, .margin = margin};
}

static const struct shape_case {
    int n, d, cb, classes; /* of make_labels() */
    fill how;
    double margin;
} cases[] = {
    {1, 3, 1, 1, RANDOM, 0.3},   {2, 1, 1, 1, RANDOM, 0.3},    {2, 5, 8, 2, RANDOM, 0.3},
    {3, 16, 16, 2, RANDOM, 0.3}, {7, 17, 1, 0, RANDOM, 0.3},   {7, 17, 8, 0, RANDOM, 5},
    {7, 67, 16, 0, RANDOM, 0.3}, {12, 64, 1, 3, RANDOM, 0},    {12, 64, 16, 4, GRID, 0.3},
    {13, 8, 8, 3, GRID, 0},      {16, 5, 1, 4, COPIES, 0.3},   {9, 9, 8, 1, RANDOM, 0.3},
    {9, 9, 8, 9, RANDOM, 0.3},   {8, 4, 1, 2, EQUAL, 0.3},     {65, 129, 16, 5, RANDOM, 0.2},
    {64, 3, 1, 8, GRID, 0.3},    {31, 130, 8, 2, COPIES, 0.1}, {300, 24, 8, 10, GRID, 0.2},
};

static double *make_embeddings(const struct shape_case *c, uint64_t seed)
{
    const size_t count = (size_t)c->n * (size_t)c->d;
    double *e = test_random(count, seed, -1, 1);
    for (size_t i = 0; i < count && c->how == GRID; i++) e[i] = floor(e[i] * 6) / 4;
    for (int i = 3; i < c->n && (c->how == GRID || c->how == COPIES); i += 4)
        memcpy(e + i * c->d, e + ((i * 7 + 3) % i) * c->d, (size_t)c->d * sizeof *e);
    for (int i = 2; i < c->n && c->how == COPIES; i += 5)
        memcpy(e + i * c->d, e + (i / 2) * c->d, (size_t)c->d * sizeof *e);
    for (int i = 1; i < c->n && c->how == EQUAL; i++) memcpy(e + i * c->d, e, (size_t)c->d * sizeof *e);
    return e;
}

static outcome run(const trine_triplet_desc *desc, const double *e, const int32_t *labels, int n, int d,
                   int cb, bool with_gradient)
{
    static const char *const minings[] = {"batch_hard", "batch_all", "semi_hard"};
    return run_triplet(minings[desc->mining], desc, e, labels, n, n, d, cb, with_gradient);
}

static void compare_with_reference(const char *what, const outcome *got, const ref_triplet_result *want,
                                   int n, int d, int soft)
{
    const double eps = 0x1p-24, *s = want->stats;
    const double share =
        s[1] > 0 ? (double)want->doubtful / s[1] : 0; /* of the terms that may have been decided otherwise */
    /* a distance is a sum of d terms; a slope of softplus turns its error into a relative one */
    const double reach = 1 + want->largest, bound = 8 * eps * (d + 8) * reach + share * want->largest;
    ck_assert_msg(fabs(got->stats[0] - s[0]) <= bound, "%s: loss %.9g, want %.9g", what, got->stats[0], s[0]);
    ck_assert_msg(fabs(got->stats[1] - s[1]) <= (double)want->doubtful, "%s: %g positive, want %g", what,
                  got->stats[1], s[1]);
    ck_assert_msg(got->stats[2] == s[2], "%s: %g terms, want %g", what, got->stats[2], s[2]);
    ck_assert_msg(fabs(got->stats[3] - s[3]) <= bound, "%s: d_ap %.9g, want %.9g", what, got->stats[3], s[3]);
    ck_assert_msg(fabs(got->stats[4] - s[4]) <= bound, "%s: d_an %.9g, want %.9g", what, got->stats[4], s[4]);
    ck_assert_msg(fabs(got->stats[5] - s[5]) <= 8 * eps * (d + 8) * s[5], "%s: |e| %.9g, want %.9g", what,
                  got->stats[5], s[5]);
    const trine_shape shape = {n, d, 1, 1};
    double *bounds = test_zeros(test_dense(shape));
    for (size_t i = 0; i < test_dense(shape); i++)
        bounds[i] = 4 * eps * (d + n + 16) * want->magnitude[i] * (soft ? reach : 1) + 4 * share * want->unit;
    test_compare_each(what, got->gradient, want->gradient, shape, bounds);
    free(bounds);
}

/* Some components of the device's gradient against central differences of the reference's loss. */
static void compare_with_differences(const char *what, const ref_triplet_desc *desc, const outcome *got,
                                     double *e, const int32_t *labels, int n, int d)
{
    const double h = 1e-6;
    for (int k = 0; k < 5; k++) {
        const int at = (int)((size_t)(k * 7919 + 3) % ((size_t)n * (size_t)d));
        const double keep = e[at];
        double loss[2];
        for (int side = 0; side < 2; side++) {
            e[at] = keep + (side ? h : -h);
            ref_triplet_result r = ref_triplet(desc, e, labels, n, d, 0);
            loss[side] = r.stats[0];
            ref_triplet_free(&r);
        }
        e[at] = keep;
        const double want = (loss[1] - loss[0]) / (2 * h);
        ck_assert_msg(fabs(got->gradient[at] - want) <= 1e-4 * (1 + fabs(want)),
                      "%s: component %d is %.9g, differences give %.9g", what, at, got->gradient[at], want);
    }
}

START_TEST(test_against_reference)
{
    const struct combo *combo = &combos[_i];
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const struct shape_case *c = &cases[k];
        if (c->n > 16 && test_small()) continue;
        const trine_triplet_desc desc =
            describe(combo->mining, combo->distance, combo->soft, (float)c->margin);
        const ref_triplet_desc ref = {(int)combo->mining, (int)combo->distance, combo->soft, desc.margin};
        char what[160];
        snprintf(what, sizeof what,
                 "mining %d, distance %d, soft %d, n %d, d %d, cb %d, classes %d, fill %d, margin %g",
                 (int)combo->mining, (int)combo->distance, combo->soft, c->n, c->d, c->cb, c->classes,
                 (int)c->how, c->margin);
        const bool wide = combo->mining != TRINE_BATCH_HARD && c->n > 100;
        /* exact ties between rows that are not copies do not survive the normalisation */
        struct shape_case chosen = *c;
        if (combo->distance == TRINE_COSINE && c->how == GRID) chosen.how = COPIES;
        int32_t *labels = make_labels(c->n, c->classes);
        double *e = NULL;
        ref_triplet_result want;
        for (uint64_t seed = 100 * (k + 1);; seed++) {
            ck_assert_msg(seed < 100 * (k + 1) + 90, "%s: no seed without doubtful decisions", what);
            e = make_embeddings(&chosen, seed);
            want = ref_triplet(&ref, e, labels, c->n, c->d, c->d > 64 ? 3e-6 : 1e-6);
            if (want.doubtful == 0 || (wide && seed % 10 == 5)) break;
            ref_triplet_free(&want);
            free(e);
        }
        outcome got = run(&desc, e, labels, c->n, c->d, c->cb, true);
        compare_with_reference(what, &got, &want, c->n, c->d, combo->soft);
        if (c->how == RANDOM && c->n < 30) compare_with_differences(what, &ref, &got, e, labels, c->n, c->d);
        outcome_free(&got);
        ref_triplet_free(&want);
        free(e);
        free(labels);
    }
}
END_TEST

/* The kernels' shape for devices that are not CPUs, wherever the suite runs. */
START_TEST(test_shape_of_other_devices)
{
    const bool cpu = dev.context->caps.cpu;
    dev.context->caps.cpu = !cpu;
    const struct combo *combo = &combos[_i];
    const trine_triplet_desc desc = describe(combo->mining, combo->distance, combo->soft, 0.2f);
    const ref_triplet_desc ref = {(int)combo->mining, (int)combo->distance, combo->soft, desc.margin};
    static const struct shape_case shapes[] = {
        {1, 3, 1, 1, RANDOM, 0.2}, {13, 70, 8, 3, RANDOM, 0.2}, {66, 33, 16, 6, COPIES, 0.2}};
    for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++) {
        const struct shape_case *c = &shapes[k];
        if (c->n > 16 && test_small()) continue;
        int32_t *labels = make_labels(c->n, c->classes);
        double *e = NULL;
        ref_triplet_result want = {0};
        for (uint64_t seed = 1; !e; seed++) {
            ck_assert_uint_lt(seed, 100);
            e = make_embeddings(c, seed);
            want = ref_triplet(&ref, e, labels, c->n, c->d, 1e-6);
            if (want.doubtful == 0) break;
            ref_triplet_free(&want);
            free(e);
            e = NULL;
        }
        outcome got = run(&desc, e, labels, c->n, c->d, c->cb, true);
        compare_with_reference("other devices", &got, &want, c->n, c->d, combo->soft);
        outcome_free(&got);
        ref_triplet_free(&want);
        free(e);
        free(labels);
    }
    dev.context->caps.cpu = cpu;
}
END_TEST

START_TEST(test_same_bits_every_run)
{
    const struct combo *combo = &combos[_i];
    const trine_triplet_desc desc = describe(combo->mining, combo->distance, combo->soft, 0.2f);
    const int n = test_small() ? 9 : 40, d = 72;
    double *e = test_random((size_t)(n * d), 5, -1, 1);
    int32_t *labels = make_labels(n, 6);
    outcome a = run(&desc, e, labels, n, d, 8, true), b = run(&desc, e, labels, n, d, 8, true);
    outcome c = run(&desc, e, labels, n, d, 8, false); /* loss only */
    ck_assert_mem_eq(a.words, b.words, (size_t)(n * d) * sizeof *a.words);
    ck_assert_mem_eq(a.stats, b.stats, TRINE_TRIPLET_STATS * sizeof *a.stats);
    ck_assert_mem_eq(a.stats, c.stats, TRINE_TRIPLET_STATS * sizeof *a.stats);
    outcome_free(&a);
    outcome_free(&b);
    outcome_free(&c);
    free(labels);
    free(e);
}
END_TEST

START_TEST(test_nan_is_not_lost)
{
    const struct combo *combo = &combos[_i];
    const trine_triplet_desc desc = describe(combo->mining, combo->distance, combo->soft, 0.2f);
    const int n = 8, d = 5;
    double *e = test_random((size_t)(n * d), 6, -1, 1);
    int32_t *labels = make_labels(n, 4);
    e[3 * d + 1] = NAN;
    outcome got = run(&desc, e, labels, n, d, 1, true);
    ck_assert_double_nan(got.stats[0]);
    ck_assert_double_nan(got.stats[5]);
    int nans = 0;
    for (int i = 0; i < n * d; i++) nans += isnan(got.gradient[i]) != 0;
    ck_assert_int_gt(nans, 0);
    outcome_free(&got);
    free(labels);
    free(e);
}
END_TEST

/* Embeddings that differ by 1e-3 at a length of 100: a distance from a Gram matrix in float32 would be all
 * rounding. */
START_TEST(test_close_far_from_origin)
{
    const trine_triplet_desc desc = describe(TRINE_BATCH_HARD, TRINE_EUCLIDEAN, 0, 0.01f);
    const ref_triplet_desc ref = {0, 0, 0, desc.margin};
    const int n = 6, d = 32;
    double *e = test_random((size_t)(n * d), 7, 0, 1e-3);
    for (int i = 0; i < n * d; i++) e[i] = (float)(20 + e[i]);
    int32_t *labels = make_labels(n, 2);
    ref_triplet_result want = ref_triplet(&ref, e, labels, n, d, 0);
    outcome got = run(&desc, e, labels, n, d, 1, true);
    ck_assert_double_eq_tol(got.stats[0], want.stats[0], 1e-6 * want.stats[3]);
    ck_assert_double_eq_tol(got.stats[3], want.stats[3], 1e-6 * want.stats[3]);
    test_compare("close embeddings", got.gradient, want.gradient, (trine_shape){n, d, 1, 1}, 1e-6);
    outcome_free(&got);
    ref_triplet_free(&want);
    free(labels);
    free(e);
}
END_TEST

START_TEST(test_arguments)
{
    trine_triplet *op = NULL;
    trine_triplet_desc desc = describe(TRINE_BATCH_HARD, TRINE_EUCLIDEAN, 0, -0.1f);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_create(dev.context, &desc, &op));
    desc.margin = NAN;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_create(dev.context, &desc, &op));
    desc = describe((trine_mining)9, TRINE_EUCLIDEAN, 0, 0.1f);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_create(dev.context, &desc, &op));
    desc = describe(TRINE_BATCH_HARD, (trine_distance)3, 0, 0.1f);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_create(dev.context, &desc, &op));
    ck_assert_ptr_null(op);
    desc.distance = TRINE_COSINE;
    ASSERT_OK(trine_triplet_create(dev.context, &desc, &op));
    const int n = 4;
    test_tensor e = test_tensor_create((trine_shape){n, 6, 1, 1}, 1),
                de = test_tensor_create((trine_shape){n, 5, 1, 1}, 1);
    test_tensor image = test_tensor_create((trine_shape){n, 6, 2, 1}, 1);
    test_buffer stats = test_buffer_create(2 * TRINE_TRIPLET_STATS), labels = test_buffer_create((size_t)n);
    test_buffer ws = test_workspace_create(trine_triplet_workspace_bytes(op, n)),
                small = test_buffer_create(8);
    trine_buffer *const lab = labels.buffer;
    ASSERT_FAILS(TRINE_ERR_SHAPE,
                 trine_triplet_run(op, dev.stream, &image.t, lab, NULL, stats.buffer, 0, ws.buffer));
    ASSERT_FAILS(TRINE_ERR_SHAPE,
                 trine_triplet_run(op, dev.stream, &e.t, lab, &de.t, stats.buffer, 0, ws.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_triplet_run(op, dev.stream, &e.t, lab, NULL, stats.buffer, 2, ws.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_triplet_run(op, dev.stream, &e.t, lab, NULL, stats.buffer, -1, ws.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_triplet_run(op, dev.stream, &e.t, lab, &e.t, stats.buffer, 0, ws.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_triplet_run(op, dev.stream, &e.t, NULL, NULL, stats.buffer, 0, ws.buffer));
    ASSERT_FAILS(TRINE_ERR_WORKSPACE,
                 trine_triplet_run(op, dev.stream, &e.t, lab, NULL, stats.buffer, 0, small.buffer));
    ASSERT_FAILS(TRINE_ERR_WORKSPACE,
                 trine_triplet_run(op, dev.stream, &e.t, lab, NULL, stats.buffer, 0, NULL));
    test_buffer *const buffers[] = {&stats, &labels, &ws, &small};
    test_tensor *const tensors[] = {&e, &de, &image};
    for (size_t i = 0; i < 4; i++) test_buffer_release(buffers[i]);
    for (size_t i = 0; i < 3; i++) test_tensor_release(tensors[i]);
    trine_triplet_destroy(&op);
    trine_triplet_destroy(&op);
    trine_triplet_destroy(NULL);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("triplet");
    TCase *tc = tcase_create("triplet");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_against_reference, 0, COMBOS);
    tcase_add_loop_test(tc, test_shape_of_other_devices, 0, COMBOS);
    tcase_add_loop_test(tc, test_same_bits_every_run, 0, COMBOS);
    tcase_add_loop_test(tc, test_nan_is_not_lost, 0, COMBOS);
    tcase_add_test(tc, test_close_far_from_origin);
    tcase_add_test(tc, test_arguments);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
