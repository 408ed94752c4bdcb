/* SPDX-License-Identifier: MIT */
/* The ring of remembered embeddings: what it holds after batches of any size, and what it refuses. */
#include <stdlib.h>

#include "op/triplet_private.h"
#include "support/check_main.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/loss.h"

enum { D = 5 };

/* Value and label of the row number `number` that was ever added. */
static double value_of(int number, int c)
{
    return number * 8 + c;
}

static void add_rows(trine_triplet_memory *memory, int first, int rows, int cb)
{
    double *values = test_zeros((size_t)rows * D);
    int32_t *labels = calloc((size_t)rows, sizeof *labels);
    for (int i = 0; i < rows; i++) {
        labels[i] = 1000 - first - i;
        for (int c = 0; c < D; c++) values[i * D + c] = value_of(first + i, c);
    }
    test_tensor e = test_tensor_from((trine_shape){rows, D, 1, 1}, cb, values);
    test_buffer lab = test_buffer_create((size_t)rows);
    test_buffer_write(&lab, labels, (size_t)rows * sizeof *labels);
    ASSERT_OK(trine_triplet_memory_add(memory, dev.stream, &e.t, lab.buffer));
    test_device_sync();
    test_buffer_release(&lab);
    test_tensor_release(&e);
    free(labels);
    free(values);
}

/* Every row that should be there is, in the place that its number says. */
static void check_content(const trine_triplet_memory *memory, int added, int capacity)
{
    const int count = added < capacity ? added : capacity;
    float *rows = calloc((size_t)capacity * D, sizeof *rows);
    int32_t *labels = calloc((size_t)capacity, sizeof *labels);
    ck_assert_int_eq(trine_triplet_memory_count(memory), count);
    ASSERT_OK(trine__triplet_memory_read(memory, dev.stream, rows, labels));
    for (int place = 0; place < count; place++) {
        int number = place; /* the last that came here */
        while (number + capacity < added) number += capacity;
        ck_assert_int_eq(labels[place], 1000 - number);
        for (int c = 0; c < D; c++) ck_assert_double_eq((double)rows[place * D + c], value_of(number, c));
    }
    free(rows);
    free(labels);
}

static const struct ring_case {
    int capacity, cb;
    int batches[5]; /* 0 ends */
} rings[] = {{7, 1, {3, 3, 3, 3}}, {4, 8, {4, 4}}, {1, 16, {2, 1}}, {9, 8, {2, 2}}, {6, 16, {5, 5, 5, 5, 5}}};

START_TEST(test_ring)
{
    const struct ring_case *r = &rings[_i];
    trine_triplet_memory *memory;
    int added = 0;
    test_report("triplet_memory", NULL, "add");
    ASSERT_OK(trine_triplet_memory_create(dev.context, r->capacity, D, r->cb, &memory));
    check_content(memory, 0, r->capacity);
    for (int i = 0; i < 5 && r->batches[i]; i++) {
        add_rows(memory, added, r->batches[i], r->cb);
        added += r->batches[i];
        if (r->batches[i] <= r->capacity) check_content(memory, added, r->capacity);
    }
    trine_triplet_memory_destroy(&memory);
    ck_assert_ptr_null(memory);
}
END_TEST

/* A batch larger than the ring leaves its last rows. */
START_TEST(test_large_batch)
{
    float rows[3 * D];
    int32_t labels[3];
    trine_triplet_memory *memory;
    ASSERT_OK(trine_triplet_memory_create(dev.context, 3, D, 8, &memory));
    add_rows(memory, 0, 10, 8);
    ASSERT_OK(trine__triplet_memory_read(memory, dev.stream, rows, labels));
    for (int i = 0; i < 3; i++) ck_assert_int_eq(labels[i], 1000 - 7 - i);
    trine_triplet_memory_destroy(&memory);
}
END_TEST

/* What is read and written again is the same, on whatever layout. */
START_TEST(test_write)
{
    float rows[6 * D], again[6 * D];
    int32_t labels[6], labels_again[6];
    trine_triplet_memory *a, *b;
    ASSERT_OK(trine_triplet_memory_create(dev.context, 6, D, 1, &a));
    ASSERT_OK(trine_triplet_memory_create(dev.context, 6, D, 16, &b));
    add_rows(a, 0, 4, 1);
    add_rows(a, 4, 4, 1);
    ASSERT_OK(trine__triplet_memory_read(a, dev.stream, rows, labels));
    ASSERT_OK(trine__triplet_memory_write(b, dev.stream, rows, labels, a->count, a->next));
    ASSERT_OK(trine__triplet_memory_read(b, dev.stream, again, labels_again));
    ck_assert_mem_eq(rows, again, sizeof rows);
    ck_assert_mem_eq(labels, labels_again, sizeof labels);
    add_rows(b, 8, 3, 16);
    check_content(b, 11, 6);
    trine_triplet_memory_destroy(&a);
    trine_triplet_memory_destroy(&b);
}
END_TEST

START_TEST(test_arguments)
{
    trine_triplet_memory *memory = NULL;
    trine_triplet *op;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_memory_create(dev.context, 0, D, 1, &memory));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_triplet_memory_create(dev.context, 3, 0, 1, &memory));
    ck_assert_ptr_null(memory);
    ASSERT_OK(trine_triplet_memory_create(dev.context, 3, D, 1, &memory));
    test_tensor e = test_tensor_create((trine_shape){4, D + 1, 1, 1}, 1),
                de = test_tensor_create(e.t.shape, 1),
                padded = test_tensor_create((trine_shape){4, D, 1, 1}, 8);
    test_buffer lab = test_buffer_create(4), few = test_buffer_create(1),
                stats = test_buffer_create(TRINE_TRIPLET_STATS);
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_triplet_memory_add(memory, dev.stream, &e.t, lab.buffer));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_triplet_memory_add(memory, dev.stream, &padded.t, lab.buffer));
    add_rows(memory, 0, 2, 1);
    trine_triplet_desc desc = trine_triplet_desc_default(TRINE_LOSS_TRIPLET);
    ASSERT_OK(trine_triplet_create(dev.context, &desc, &op));
    const size_t alone = trine_triplet_workspace_bytes(op, 4);
    ASSERT_OK(trine_triplet_set_memory(op, memory));
    ck_assert_uint_gt(trine_triplet_workspace_bytes(op, 4), alone);
    test_buffer ws = test_workspace_create(trine_triplet_workspace_bytes(op, 4)),
                small = test_workspace_create(alone);
    ASSERT_FAILS(TRINE_ERR_SHAPE,
                 trine_triplet_run(op, dev.stream, &e.t, lab.buffer, &de.t, stats.buffer, 0, ws.buffer));
    test_tensor fits = test_tensor_create((trine_shape){4, D, 1, 1}, 1);
    ASSERT_FAILS(TRINE_ERR_WORKSPACE,
                 trine_triplet_run(op, dev.stream, &fits.t, lab.buffer, NULL, stats.buffer, 0, small.buffer));
    ASSERT_OK(trine_triplet_set_memory(op, NULL));
    ck_assert_uint_eq(trine_triplet_workspace_bytes(op, 4), alone);
    trine_triplet_destroy(&op);
    test_tensor *const tensors[] = {&e, &de, &padded, &fits};
    test_buffer *const buffers[] = {&lab, &few, &stats, &ws, &small};
    for (size_t i = 0; i < 4; i++) test_tensor_release(tensors[i]);
    for (size_t i = 0; i < 5; i++) test_buffer_release(buffers[i]);
    trine_triplet_memory_destroy(&memory);
    trine_triplet_memory_destroy(&memory);
    trine_triplet_memory_destroy(NULL);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("triplet_memory");
    TCase *tc = tcase_create("triplet_memory");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_ring, 0, (int)(sizeof rings / sizeof rings[0]));
    tcase_add_test(tc, test_large_batch);
    tcase_add_test(tc, test_write);
    tcase_add_test(tc, test_arguments);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
