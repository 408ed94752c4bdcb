/* SPDX-License-Identifier: MIT */
/* Comparison of a device's float32 result with a reference in double. NaN passes only where the reference is
 * NaN as well and the comparison says so; everything else fails the running Check test and shows the worst
 * element. */
#ifndef TRINE_TESTS_COMPARE_H
#define TRINE_TESTS_COMPARE_H

#include "trine/tensor.h"

/* c * eps * k * max|a| * max|b|: the error of a sum of k products in float32, with c as the stated slack (eps
 * = 2^-24). */
double test_bound(double c, double k, double max_a, double max_b);

/* |got - want| <= bound for every element of a dense NCHW array; `what` names the case. */
void test_compare(const char *what, const double *got, const double *want, trine_shape shape, double bound);

/* The same with a bound per element. */
void test_compare_each(const char *what, const double *got, const double *want, trine_shape shape,
                       const double *bounds);

/* Equal as numbers; NaN where the reference has NaN, and only there. */
void test_compare_exact(const char *what, const double *got, const double *want, trine_shape shape);

/* The shape of a plain array, for the functions above. */
trine_shape test_vector(size_t count);

#endif
