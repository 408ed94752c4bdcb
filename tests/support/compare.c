/* SPDX-License-Identifier: MIT */
#include "support/compare.h"

#include <check.h>
#include <math.h>
#include <stddef.h>

double test_bound(double c, double k, double max_a, double max_b)
{
    return c * 0x1p-24 * k * max_a * max_b;
}

trine_shape test_vector(size_t count)
{
    return (trine_shape){1, 1, 1, (int)count};
}

static void complain(const char *what, size_t at, trine_shape s, double got, double want, double bound,
                     size_t failures)
{
    const size_t w = at % (size_t)s.w, h = at / (size_t)s.w % (size_t)s.h;
    const size_t plane = (size_t)s.w * (size_t)s.h, c = at / plane % (size_t)s.c,
                 n = at / plane / (size_t)s.c;
    ck_abort_msg("%s: [%zu,%zu,%zu,%zu] of [%d,%d,%d,%d] is %.9g, want %.9g: off by %.3g, allowed %.3g (%zu "
                 "elements fail)",
                 what, n, c, h, w, s.n, s.c, s.h, s.w, got, want, fabs(got - want), bound, failures);
}

/* `bounds` NULL: `bound` for all. */
static void compare(const char *what, const double *got, const double *want, trine_shape s, double bound,
                    const double *bounds)
{
    const size_t count = (size_t)s.n * (size_t)s.c * (size_t)s.h * (size_t)s.w;
    size_t worst = 0, failures = 0;
    double worst_excess = -1;
    for (size_t i = 0; i < count; i++) {
        const double limit = bounds ? bounds[i] : bound, error = fabs(got[i] - want[i]);
        if (error <= limit) continue; /* false for NaN */
        const double excess = error <= INFINITY ? error - limit : INFINITY;
        failures++;
        if (excess > worst_excess) {
            worst_excess = excess;
            worst = i;
        }
    }
    if (failures) complain(what, worst, s, got[worst], want[worst], bounds ? bounds[worst] : bound, failures);
}

void test_compare(const char *what, const double *got, const double *want, trine_shape shape, double bound)
{
    ck_assert_msg(bound >= 0 && bound < INFINITY, "%s: the bound itself is %g", what, bound);
    compare(what, got, want, shape, bound, NULL);
}

void test_compare_each(const char *what, const double *got, const double *want, trine_shape shape,
                       const double *bounds)
{
    compare(what, got, want, shape, 0, bounds);
}

void test_compare_exact(const char *what, const double *got, const double *want, trine_shape s)
{
    const size_t count = (size_t)s.n * (size_t)s.c * (size_t)s.h * (size_t)s.w;
    for (size_t i = 0; i < count; i++) {
        const int same = isnan(want[i]) ? isnan(got[i]) : got[i] == want[i];
        if (!same) complain(what, i, s, got[i], want[i], 0, 1);
    }
}
