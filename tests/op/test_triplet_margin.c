/* SPDX-License-Identifier: MIT */
/* Explicit triplets (TripletMarginLoss): every p x swap x reduction against double, with all three gradients. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref_loss.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/loss.h"

static const double powers[] = {1, 2, 3, 1.5, 0.5, INFINITY};
enum { POWERS = sizeof powers / sizeof powers[0] };

static const struct shape_case {
    int n, d, cb;
    double margin;
} cases[] = {{1, 1, 1, 1},   {1, 9, 8, 0.5},   {7, 16, 16, 1},
             {5, 17, 16, 0}, {64, 65, 1, 0.2}, {300, 130, 8, 1}};

typedef struct outcome {
    double *loss, total, *gradient[3];
} outcome;

static outcome run(const trine_triplet_margin_desc *desc, double *const in[3], trine_shape s, int cb)
{
    test_report("triplet_margin", NULL, "gradient");
    trine_triplet_margin *op;
    ASSERT_OK(trine_triplet_margin_create(dev.context, desc, &op));
    test_tensor x[3], g[3];
    for (int i = 0; i < 3; i++) {
        x[i] = test_tensor_from(s, cb, in[i]);
        g[i] = test_tensor_create(s, cb);
    }
    test_buffer loss = test_buffer_create((size_t)s.n), total = test_buffer_create(1);
    trine_buffer *sum = desc->reduction == TRINE_REDUCE_NONE ? NULL : total.buffer;
    ASSERT_OK(trine_triplet_margin_run(op, dev.stream, &x[0].t, &x[1].t, &x[2].t, &g[0].t, &g[1].t, &g[2].t,
                                       loss.buffer, sum));
    outcome out = {.loss = test_buffer_read(&loss)};
    double *value = test_buffer_read(&total);
    out.total = value[0];
    free(value);
    for (int i = 0; i < 3; i++) out.gradient[i] = test_tensor_read(&g[i]);
    /* no gradients wanted: the same loss, nothing else written */
    ASSERT_OK(trine_triplet_margin_run(op, dev.stream, &x[0].t, &x[1].t, &x[2].t, NULL, NULL, NULL,
                                       loss.buffer, sum));
    double *again = test_buffer_read(&loss);
    ck_assert_mem_eq(again, out.loss, (size_t)s.n * sizeof *again);
    free(again);
    for (int i = 0; i < 3; i++) {
        test_tensor_release(&x[i]);
        test_tensor_release(&g[i]);
    }
    test_buffer_release(&loss);
    test_buffer_release(&total);
    trine_triplet_margin_destroy(&op);
    return out;
}

static void outcome_free(outcome *o)
{
    free(o->loss);
    for (int i = 0; i < 3; i++) free(o->gradient[i]);
}

static void check_case(const struct shape_case *c, double p, int swap, int reduction)
{
    const trine_triplet_margin_desc desc = {(float)c->margin, (float)p, 1e-6f, swap,
                                            (trine_reduction)reduction};
    const ref_margin_desc ref = {desc.margin, p, desc.eps, swap, reduction};
    const trine_shape s = {c->n, c->d, 1, 1};
    const size_t count = test_dense(s);
    double *in[3], *want[3], *loss = test_zeros((size_t)c->n);
    static const char *const names[] = {"da", "dp", "dn"};
    for (int i = 0; i < 3; i++) {
        in[i] = test_random(count, 40 + (uint64_t)i, -1, 1);
        want[i] = test_zeros(count);
    }
    const double total =
        ref_triplet_margin(&ref, in[0], in[1], in[2], c->n, c->d, loss, want[0], want[1], want[2]);
    outcome got = run(&desc, in, s, c->cb);
    /* distances: sums of d terms of at most 2, to the 1/p; p < 1 adds up to d^(1/p - 1) more */
    const double reach = c->margin + 4 * (isinf(p) ? 1 : pow(c->d, 1 / p)),
                 bound = test_bound(8, c->d + 16, 1, reach);
    char what[120];
    snprintf(what, sizeof what, "n %d, d %d, cb %d, p %g, swap %d, reduction %d", c->n, c->d, c->cb, p, swap,
             reduction);
    test_compare(what, got.loss, loss, test_vector((size_t)c->n), bound);
    if (reduction)
        ck_assert_msg(fabs(got.total - total) <= bound * (reduction == 1 ? 1 : c->n),
                      "%s: total %.9g, want %.9g", what, got.total, total);
    else
        ck_assert_msg(isnan(got.total), "%s: total was written", what);
    double largest = 0;
    for (int i = 0; i < 3; i++) largest = fmax(largest, test_max_abs(want[i], count));
    for (int i = 0; i < 3; i++) {
        char each[140];
        snprintf(each, sizeof each, "%s: %s", names[i], what);
        /* components near zero: |v|^(p-1) amplifies the rounding of v, most for p < 1 */
        test_compare(each, got.gradient[i], want[i], s,
                     test_bound(p < 2 && p != 1 ? 4096 : 16, c->d + 16, 1, largest));
    }
    outcome_free(&got);
    free(loss);
    for (int i = 0; i < 3; i++) {
        free(in[i]);
        free(want[i]);
    }
}

START_TEST(test_against_reference)
{
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        if (cases[k].n > 16 && test_small()) continue;
        for (int swap = 0; swap < 2; swap++)
            for (int reduction = 0; reduction < 3; reduction++)
                check_case(&cases[k], powers[_i], swap, reduction);
    }
}
END_TEST

/* All three gradients against central differences of the summed loss. */
START_TEST(test_differences)
{
    enum { N = 4, D = 5 };
    const trine_shape s = {N, D, 1, 1};
    const trine_triplet_margin_desc desc = {1.0f, (float)powers[_i], 1e-6f, 1, TRINE_REDUCE_SUM};
    const ref_margin_desc ref = {1, powers[_i], desc.eps, 1, 2};
    double *in[3], loss[N], ignored[3][N * D];
    for (int i = 0; i < 3; i++) in[i] = test_random(N * D, 50 + (uint64_t)i, -1, 1);
    outcome got = run(&desc, in, s, 1);
    const double h = 1e-7;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < N * D; k++) {
            double value[2];
            const double keep = in[i][k];
            for (int side = 0; side < 2; side++) {
                in[i][k] = keep + (side ? h : -h);
                value[side] = ref_triplet_margin(&ref, in[0], in[1], in[2], N, D, loss, ignored[0],
                                                 ignored[1], ignored[2]);
            }
            in[i][k] = keep;
            const double want = (value[1] - value[0]) / (2 * h);
            ck_assert_double_eq_tol(got.gradient[i][k], want, 2e-4 * (1 + fabs(want)));
        }
    outcome_free(&got);
    for (int i = 0; i < 3; i++) free(in[i]);
}
END_TEST

/* Equal rows (with eps 0 the distance has no gradient), d(a,n) = d(p,n), the hinge exactly at 0, NaN. */
START_TEST(test_edges)
{
    const double p = powers[_i];
    const trine_shape s = {4, 2, 1, 1};
    double a[] = {1, 2, 0, 0, 0, 0, 0, 1}, pos[] = {1, 2, 2, 0, 0, 1, 0, 1},
           neg[] = {1, 2, 1, 0, 0, 1, NAN, 1};
    double *const in[3] = {a, pos, neg}, want[3][8], loss[4];
    const trine_triplet_margin_desc desc = {0, (float)p, 0, 1, TRINE_REDUCE_NONE};
    const ref_margin_desc ref = {0, p, 0, 1, 0};
    ref_triplet_margin(&ref, a, pos, neg, 4, 2, loss, want[0], want[1], want[2]);
    outcome got = run(&desc, in, s, 1);
    ck_assert_double_eq(got.loss[0], 0);
    ck_assert_double_nan(got.loss[3]);
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 6; k++) ck_assert_double_eq_tol(got.gradient[i][k], want[i][k], 1e-6);
        ck_assert_double_nan(got.gradient[i][6]);
    }
    outcome_free(&got);
}
END_TEST

START_TEST(test_arguments)
{
    trine_triplet_margin *op = NULL;
    trine_triplet_margin_desc desc = {1, 0, 1e-6f, 0, TRINE_REDUCE_MEAN};
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_margin_create(dev.context, &desc, &op));
    desc.p = NAN;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_margin_create(dev.context, &desc, &op));
    desc = (trine_triplet_margin_desc){NAN, 2, 1e-6f, 0, TRINE_REDUCE_MEAN};
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_margin_create(dev.context, &desc, &op));
    desc = (trine_triplet_margin_desc){1, 2, 1e-6f, 0, (trine_reduction)7};
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_margin_create(dev.context, &desc, &op));
    desc.reduction = TRINE_REDUCE_MEAN;
    ck_assert_ptr_null(op);
    ASSERT_OK(trine_triplet_margin_create(dev.context, &desc, &op));
    test_tensor x = test_tensor_create((trine_shape){3, 4, 1, 1}, 1),
                y = test_tensor_create((trine_shape){3, 5, 1, 1}, 1);
    test_buffer loss = test_buffer_create(3), few = test_buffer_create(2);
    trine_tensor *const t = &x.t, *const u = &y.t;
    trine_stream *const st = dev.stream;
    trine_buffer *const l = loss.buffer;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_triplet_margin_run(op, st, t, u, t, NULL, NULL, NULL, l, l));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_triplet_margin_run(op, st, t, t, u, NULL, NULL, NULL, l, l));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_triplet_margin_run(op, st, t, t, t, NULL, NULL, u, l, l));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_triplet_margin_run(op, st, t, t, t, NULL, NULL, NULL, few.buffer, l));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_margin_run(op, st, t, t, t, NULL, NULL, NULL, l, NULL));
    test_tensor_release(&x);
    test_tensor_release(&y);
    test_buffer_release(&loss);
    test_buffer_release(&few);
    trine_triplet_margin_destroy(&op);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("triplet_margin");
    TCase *tc = tcase_create("triplet_margin");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_against_reference, 0, POWERS);
    tcase_add_loop_test(tc, test_differences, 0, POWERS);
    tcase_add_loop_test(tc, test_edges, 0, POWERS);
    tcase_add_test(tc, test_arguments);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
