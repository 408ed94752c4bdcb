/* SPDX-License-Identifier: MIT */
/* What a device suite stands on: one context and stream, and guarded device memory.
 * A guarded buffer is a view into a parent that has a band of a known NaN on either side: what a kernel
 * writes outside shows when the bands are read back, what it reads outside turns its result into NaN. Buffers
 * start filled with NaN too. Everything here fails the running Check test (ck_abort_msg) instead of returning
 * a status. */
#ifndef TRINE_TESTS_DEVICE_H
#define TRINE_TESTS_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "trine/tensor.h"

typedef struct test_device {
    trine_context *context;
    trine_stream *stream;
} test_device;

/* The suite's device; valid between test_device_open() and test_device_close(). */
extern test_device dev;

/* Open the device that $TRINE_TEST_DEVICE selects (default "auto"). Without a device: print the reason, exit
 * 77 (meson: SKIP). */
void test_device_open(void);
/* From now on the layouts, tiles and kernels that another kind of device would get: "gpu", or a CPU with vectors of "4", "8" or
 * "16" floats. */
void test_imitate(trine_context *context, const char *shape);
/* Close it; a buffer that is still alive fails the suite (exit 1). */
void test_device_close(void);
/* Wait for the stream. */
void test_device_sync(void);
/* True if $TRINE_TEST_SMALL is set and not "0": run the cheap part of the shape tables (Oclgrind, rusticl). */
bool test_small(void);

typedef struct test_buffer {
    trine_buffer *buffer; /* the view that the operator gets */
    trine_buffer *parent;
    size_t floats; /* in the view */
} test_buffer;

/* Filled with NaN. */
test_buffer test_buffer_create(size_t floats);
/* A workspace: like test_buffer_create(), but 0 bytes give a NULL buffer. */
test_buffer test_workspace_create(size_t bytes);
/* From `count` doubles (rounded to float); what is beyond them up to `floats` is zero. */
test_buffer test_buffer_from(const double *values, size_t count, size_t floats);
/* From random numbers (see test_random), whose values go to a new array *host (free() it). */
test_buffer test_buffer_random(size_t floats, uint64_t seed, double low, double high, double **host);
/* Overwrite the first `bytes`. The parent is written as a whole: of one that is written in part, Oclgrind's check of
 * uninitialised reads forgets the rest. */
void test_buffer_write(const test_buffer *b, const void *data, size_t bytes);
/* The contents as a new array of doubles (free() it); checks the guards. */
double *test_buffer_read(const test_buffer *b);
/* The same contents as raw 32-bit words. */
uint32_t *test_buffer_read_words(const test_buffer *b);
/* Fails if a guard band was touched. */
void test_buffer_check_guards(const test_buffer *b);
/* Checks the guards; accepts an empty one. */
void test_buffer_release(test_buffer *b);

typedef struct test_tensor {
    trine_tensor t; /* what the operator gets */
    test_buffer memory;
} test_tensor;

/* Filled with NaN, padding channels too. */
test_tensor test_tensor_create(trine_shape shape, int cb);
/* The same in TRINE_F16. */
test_tensor test_tensor_create_half(trine_shape shape, int cb);
/* From a dense NCHW array; padding channels zero. */
test_tensor test_tensor_from(trine_shape shape, int cb, const double *dense);
/* The same in TRINE_F16: values rounded to the nearest half. */
test_tensor test_tensor_half_from(trine_shape shape, int cb, const double *dense);
/* From random numbers whose values go to a new dense array *dense (free() it). */
test_tensor test_tensor_random(trine_shape shape, int cb, uint64_t seed, double low, double high,
                               double **dense);
/* Dense NCHW copy (free() it); checks that guards are intact and padding channels are zero. */
double *test_tensor_read(const test_tensor *t);
/* The same words, without the check of the padding channels (for index tensors and such). */
uint32_t *test_tensor_read_words(const test_tensor *t);
void test_tensor_release(test_tensor *t);

/* `count` values uniform in [low, high), each exactly a float. free() it. */
double *test_random(size_t count, uint64_t seed, double low, double high);
/* `count` doubles, zero. free() it. */
double *test_zeros(size_t count);
/* `count` copies of one value. free() it. */
double *test_constant(size_t count, double value);
/* Elements of a dense array of this shape. */
size_t test_dense(trine_shape shape);
/* Largest magnitude. */
double test_max_abs(const double *values, size_t count);

#endif
