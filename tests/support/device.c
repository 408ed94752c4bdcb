/* SPDX-License-Identifier: MIT */
#include "support/device.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/random.h"
#include "rt/context.h"

enum { SKIP = 77 };

/* A quiet NaN with a payload that no computation makes, so that a guard that was overwritten by a NaN still
 * shows. */
#define GUARD_WORD 0x7fc5a5a5u

test_device dev;

static void must(trine_status status, const char *what)
{
    if (status != TRINE_OK) ck_abort_msg("%s: %s (%s)", what, trine_status_text(status), trine_last_error());
}

static void *must_alloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p) ck_abort_msg("out of host memory");
    return p;
}

static void print_log(void *user, const char *sentence)
{
    (void)user;
    fprintf(stderr, "log: %s\n", sentence);
}

void test_imitate(trine_context *context, const char *shape)
{
    trine__caps *caps = &context->caps;
    caps->cpu = strcmp(shape, "gpu") != 0;
    const bool neon = strcmp(shape, "neon") == 0;
    caps->vector_width = !caps->cpu ? 1 : neon ? 4 : atoi(shape);
    caps->vector_registers =
        caps->cpu ? trine__vector_registers(neon ? "aarch64" : "x86_64", caps->vector_width) : 16;
    caps->matrix_unit = caps->cpu ? TRINE__NO_MATRIX_UNIT : TRINE__MMA;
    caps->matrix_imitated = true;
    caps->sub_groups = caps->cpu ? TRINE__NO_SUB_GROUPS : TRINE__SUB_GROUPS_IMITATED;
}

void test_device_open(void)
{
    const char *selector = getenv("TRINE_TEST_DEVICE");
    const trine_status status =
        trine_context_create(selector && selector[0] ? selector : "auto", print_log, NULL, &dev.context);
    if (status == TRINE_ERR_DEVICE) {
        printf("SKIP: no OpenCL device (%s)\n", trine_last_error());
        exit(SKIP);
    }
    if (status != TRINE_OK || trine_stream_create(dev.context, 0, &dev.stream) != TRINE_OK) {
        printf("the device cannot be opened: %s\n", trine_last_error());
        exit(EXIT_FAILURE);
    }
    const char *shape = getenv("TRINE_TEST_SHAPE");
    if (shape && shape[0]) test_imitate(dev.context, shape);
    const trine__caps *caps = &dev.context->caps;
    printf("device: %s, %s-shaped, vectors of %d\n", trine_context_device(dev.context)->name,
           caps->cpu ? "CPU" : "GPU", caps->vector_width);
}

void test_device_close(void)
{
    uint64_t now = 0;
    const uint64_t zeros_bytes = 256; /* the context's own */
    trine_stream_destroy(&dev.stream);
    trine_context_memory(dev.context, &now, NULL);
    trine_context_destroy(&dev.context);
    if (now > zeros_bytes) {
        printf("%" PRIu64 " bytes of device buffers were never released\n", now - zeros_bytes);
        exit(EXIT_FAILURE);
    }
}

void test_device_sync(void)
{
    must(trine_stream_sync(dev.stream), "sync");
}

bool test_small(void)
{
    const char *small = getenv("TRINE_TEST_SMALL");
    return small && small[0] && strcmp(small, "0") != 0;
}

/* Floats of a guard band: a multiple of the alignment of views, at least 256 bytes. */
static size_t guard_floats(void)
{
    const size_t alignment = trine_buffer_alignment(dev.context);
    return (alignment < 256 ? 256 : alignment) / sizeof(float);
}

static test_buffer create_with(const uint32_t *words, size_t floats)
{
    const size_t guard = guard_floats(), total = floats + 2 * guard;
    test_buffer b = {NULL, NULL, floats};
    uint32_t *all = must_alloc(total, sizeof *all);
    for (size_t i = 0; i < total; i++) all[i] = GUARD_WORD;
    if (words) memcpy(all + guard, words, floats * sizeof *words);
    must(trine_buffer_create(dev.context, total * sizeof *all, &b.parent), "test buffer");
    must(trine_buffer_write(dev.stream, b.parent, 0, all, total * sizeof *all), "test buffer");
    must(trine_buffer_view(b.parent, guard * sizeof *all, floats * sizeof *all, &b.buffer), "test buffer");
    free(all);
    return b;
}

test_buffer test_buffer_create(size_t floats)
{
    return create_with(NULL, floats);
}

test_buffer test_workspace_create(size_t bytes)
{
    if (bytes == 0) return (test_buffer){0};
    return create_with(NULL, (bytes + sizeof(float) - 1) / sizeof(float));
}

test_buffer test_buffer_from(const double *values, size_t count, size_t floats)
{
    uint32_t *words = must_alloc(floats, sizeof *words);
    for (size_t i = 0; i < count; i++) {
        const float f = (float)values[i];
        memcpy(&words[i], &f, sizeof f);
    }
    const test_buffer b = create_with(words, floats);
    free(words);
    return b;
}

test_buffer test_buffer_random(size_t floats, uint64_t seed, double low, double high, double **host)
{
    *host = test_random(floats, seed, low, high);
    return test_buffer_from(*host, floats, floats);
}

/* Everything between and with the guards, which are checked. */
static uint32_t *read_guarded(const test_buffer *b)
{
    const size_t guard = guard_floats(), total = b->floats + 2 * guard;
    uint32_t *all = must_alloc(total, sizeof *all);
    must(trine_buffer_read(dev.stream, b->parent, 0, all, total * sizeof *all), "read back");
    for (size_t i = 0; i < guard; i++) {
        if (all[i] != GUARD_WORD)
            ck_abort_msg("written %zu floats before a buffer of %zu floats", guard - i, b->floats);
        if (all[guard + b->floats + i] != GUARD_WORD)
            ck_abort_msg("written %zu floats after the end of a buffer of %zu floats", i + 1, b->floats);
    }
    return all;
}

void test_buffer_write(const test_buffer *b, const void *data, size_t bytes)
{
    const size_t guard = guard_floats(), total = b->floats + 2 * guard;
    uint32_t *all = read_guarded(b);
    memcpy(all + guard, data, bytes);
    must(trine_buffer_write(dev.stream, b->parent, 0, all, total * sizeof *all), "test buffer");
    free(all);
}

uint32_t *test_buffer_read_words(const test_buffer *b)
{
    uint32_t *all = read_guarded(b);
    memmove(all, all + guard_floats(), b->floats * sizeof *all);
    return all;
}

double *test_buffer_read(const test_buffer *b)
{
    uint32_t *words = test_buffer_read_words(b);
    double *values = must_alloc(b->floats, sizeof *values);
    for (size_t i = 0; i < b->floats; i++) {
        float f;
        memcpy(&f, &words[i], sizeof f);
        values[i] = f;
    }
    free(words);
    return values;
}

void test_buffer_check_guards(const test_buffer *b)
{
    free(read_guarded(b));
}

void test_buffer_release(test_buffer *b)
{
    if (!b->parent) return;
    test_buffer_check_guards(b);
    trine_buffer_release(&b->buffer);
    trine_buffer_release(&b->parent);
}

/* The layout's formula, from trine/tensor.h. */
static size_t element(const trine_shape *s, int cb, int n, int c, int h, int w)
{
    const int blocks = (s->c + cb - 1) / cb;
    return ((((size_t)n * (size_t)blocks + (size_t)(c / cb)) * (size_t)s->h + (size_t)h) * (size_t)s->w +
            (size_t)w) *
               (size_t)cb +
           (size_t)(c % cb);
}

static size_t padded_elements(const trine_shape *s, int cb)
{
    return (size_t)s->n * (size_t)((s->c + cb - 1) / cb * cb) * (size_t)s->h * (size_t)s->w;
}

test_tensor test_tensor_create(trine_shape shape, int cb)
{
    test_tensor t = {{.shape = shape, .cb = cb}, test_buffer_create(padded_elements(&shape, cb))};
    t.t.buffer = t.memory.buffer;
    return t;
}

test_tensor test_tensor_from(trine_shape s, int cb, const double *dense)
{
    const size_t floats = padded_elements(&s, cb);
    double *blocked = test_zeros(floats);
    for (int n = 0; n < s.n; n++)
        for (int c = 0; c < s.c; c++)
            for (int h = 0; h < s.h; h++)
                for (int w = 0; w < s.w; w++)
                    blocked[element(&s, cb, n, c, h, w)] = dense[element(&s, 1, n, c, h, w)];
    test_tensor t = {{.shape = s, .cb = cb}, test_buffer_from(blocked, floats, floats)};
    t.t.buffer = t.memory.buffer;
    free(blocked);
    return t;
}

test_tensor test_tensor_create_half(trine_shape shape, int cb)
{
    test_tensor t = {{.shape = shape, .cb = cb, .dtype = TRINE_F16},
                     test_buffer_create((padded_elements(&shape, cb) + 1) / 2)};
    t.t.buffer = t.memory.buffer;
    return t;
}

test_tensor test_tensor_half_from(trine_shape shape, int cb, const double *dense)
{
    test_tensor t = test_tensor_create_half(shape, cb);
    uint16_t *halves = must_alloc(t.memory.floats * 2, sizeof *halves);
    for (int n = 0; n < shape.n; n++)
        for (int c = 0; c < shape.c; c++)
            for (int h = 0; h < shape.h; h++)
                for (int w = 0; w < shape.w; w++)
                    halves[element(&shape, cb, n, c, h, w)] =
                        trine__half_from_float((float)dense[element(&shape, 1, n, c, h, w)]);
    test_buffer_write(&t.memory, halves, t.memory.floats * sizeof(float));
    free(halves);
    return t;
}

test_tensor test_tensor_random(trine_shape shape, int cb, uint64_t seed, double low, double high,
                               double **dense)
{
    *dense = test_random(test_dense(shape), seed, low, high);
    return test_tensor_from(shape, cb, *dense);
}

/* As they lie, each as a 32-bit word: a half as the float that it stands for. */
static uint32_t *read_elements(const test_tensor *t)
{
    uint32_t *words = test_buffer_read_words(&t->memory);
    if (t->t.dtype == TRINE_F32) return words;
    const size_t count = padded_elements(&t->t.shape, t->t.cb);
    uint32_t *elements = must_alloc(count, sizeof *elements);
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, (const char *)words + i * sizeof half, sizeof half);
        const float value = trine__half_to_float(half);
        memcpy(&elements[i], &value, sizeof value);
    }
    free(words);
    return elements;
}

static uint32_t *read_dense(const test_tensor *t, bool check_padding)
{
    const trine_shape *s = &t->t.shape;
    const int cb = t->t.cb, padded = (s->c + cb - 1) / cb * cb;
    uint32_t *blocked = read_elements(t);
    uint32_t *dense = must_alloc(test_dense(*s), sizeof *dense);
    for (int n = 0; n < s->n; n++)
        for (int c = 0; c < padded; c++)
            for (int h = 0; h < s->h; h++)
                for (int w = 0; w < s->w; w++) {
                    const uint32_t word = blocked[element(s, cb, n, c, h, w)];
                    if (c < s->c)
                        dense[element(s, 1, n, c, h, w)] = word;
                    else if (check_padding && (word & 0x7fffffffu) != 0) /* either zero */
                        ck_abort_msg("padding channel %d of a [%d,%d,%d,%d] tensor (block %d) is 0x%08x at n "
                                     "%d, h %d, w %d, not zero",
                                     c, s->n, s->c, s->h, s->w, cb, word, n, h, w);
                }
    free(blocked);
    return dense;
}

uint32_t *test_tensor_read_words(const test_tensor *t)
{
    return read_dense(t, false);
}

double *test_tensor_read(const test_tensor *t)
{
    uint32_t *words = read_dense(t, true);
    const size_t count = test_dense(t->t.shape);
    double *values = must_alloc(count, sizeof *values);
    for (size_t i = 0; i < count; i++) {
        float f;
        memcpy(&f, &words[i], sizeof f);
        values[i] = f;
    }
    free(words);
    return values;
}

void test_tensor_release(test_tensor *t)
{
    test_buffer_release(&t->memory);
    t->t.buffer = NULL;
}

double *test_random(size_t count, uint64_t seed, double low, double high)
{
    double *values = must_alloc(count, sizeof *values);
    trine__random r = trine__random_stream(seed, 0, 0);
    for (size_t i = 0; i < count; i++) values[i] = (float)(low + (high - low) * trine__random_unit(&r));
    return values;
}

double *test_zeros(size_t count)
{
    return must_alloc(count, sizeof(double));
}

double *test_constant(size_t count, double value)
{
    double *values = test_zeros(count);
    for (size_t i = 0; i < count; i++) values[i] = value;
    return values;
}

size_t test_dense(trine_shape s)
{
    return (size_t)s.n * (size_t)s.c * (size_t)s.h * (size_t)s.w;
}

double test_max_abs(const double *values, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) {
        const double magnitude = values[i] < 0 ? -values[i] : values[i];
        if (magnitude > most) most = magnitude;
    }
    return most;
}
