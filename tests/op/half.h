/* SPDX-License-Identifier: MIT */
/* Tensors in both storages, for the suites of half precision. Arithmetic is in float, so that an operator's results are those of single
 * precision on the same values, rounded to halves as they are written. */
#ifndef TRINE_TESTS_HALF_H
#define TRINE_TESTS_HALF_H

#include <math.h>
#include <stdlib.h>

#include "base/dtype.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"

/* One tensor in both storages. */
typedef struct both {
    test_tensor f, h;
} both;

static inline double as_half(double value)
{
    return trine__half_to_float(trine__half_from_float((float)value));
}

/* Random values that halves hold exactly. */
static inline both both_random(trine_shape shape, int cb, uint64_t seed)
{
    double *values = test_random(test_dense(shape), seed, -2, 2);
    for (size_t i = 0; i < test_dense(shape); i++) values[i] = as_half(values[i]);
    const both b = {test_tensor_from(shape, cb, values), test_tensor_half_from(shape, cb, values)};
    free(values);
    return b;
}

static inline both both_new(trine_shape shape, int cb)
{
    return (both){test_tensor_create(shape, cb), test_tensor_create_half(shape, cb)};
}

static inline void both_release(both *b)
{
    test_tensor_release(&b->f);
    test_tensor_release(&b->h);
}

/* A half result is the float one, rounded; `steps` units in the last place away at most. */
static inline void same(const char *what, const test_tensor *f, const test_tensor *h, int steps)
{
    double *want = test_tensor_read(f), *got = test_tensor_read(h),
           *bounds = test_zeros(test_dense(f->t.shape));
    for (size_t i = 0; i < test_dense(f->t.shape); i++) {
        want[i] = as_half(want[i]);
        bounds[i] = steps * fmax(fabs(want[i]), ldexp(1, -14)) * ldexp(1, -10);
    }
    test_compare_each(what, got, want, f->t.shape, bounds);
    free(want);
    free(got);
    free(bounds);
}

/* Two float tensors. */
static inline void exact(const char *what, const test_tensor *want, const test_tensor *got)
{
    double *a = test_tensor_read(want), *b = test_tensor_read(got);
    test_compare_exact(what, b, a, want->t.shape);
    free(a);
    free(b);
}

static inline void same_floats(const char *what, const test_buffer *a, const test_buffer *b)
{
    double *want = test_buffer_read(a), *got = test_buffer_read(b);
    test_compare_exact(what, got, want, test_vector(a->floats));
    free(want);
    free(got);
}

/* Sums in another order. */
static inline void near_floats(const char *what, const test_buffer *a, const test_buffer *b)
{
    double *want = test_buffer_read(a), *got = test_buffer_read(b);
    test_compare(what, got, want, test_vector(a->floats), 1e-5 * test_max_abs(want, a->floats));
    free(want);
    free(got);
}

#endif
