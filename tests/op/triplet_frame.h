/* SPDX-License-Identifier: MIT */
/* What the suites of the mined losses share: one run on the device, with a memory or without, and labels of classes of all sizes. */
#ifndef TRINE_TESTS_OP_TRIPLET_FRAME_H
#define TRINE_TESTS_OP_TRIPLET_FRAME_H

#include <math.h>
#include <stdlib.h>

#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/loss.h"

/* How embeddings are made: random in [-1, 1]; the same on the unit sphere; multiples of 1/4 with copies (exact ties); random with copies;
 * all the same. */
typedef enum fill { RANDOM, UNIT, GRID, COPIES, EQUAL } fill;

/* i % classes, downwards; classes 0: 0 0 0 1 2 2 3, some classes of one. */
static inline int32_t *make_labels(int n, int classes)
{
    static const int32_t mixed[] = {0, 0, 0, 1, 2, 2, 3};
    int32_t *labels = calloc((size_t)n, sizeof *labels);
    for (int i = 0; i < n; i++) labels[i] = classes ? 7 - i % classes : mixed[i % 7] - 2;
    return labels;
}

typedef struct outcome {
    double *stats, *gradient; /* [TRINE_TRIPLET_STATS], [n][d] */
    uint32_t *words;          /* of the gradient */
} outcome;

static inline void outcome_free(outcome *o)
{
    free(o->stats);
    free(o->gradient);
    free(o->words);
}

/* A memory of rows n to m - 1, with room for a few more. */
static inline trine_triplet_memory *remember(const double *e, const int32_t *labels, int n, int m, int d,
                                             int cb)
{
    trine_triplet_memory *memory = NULL;
    test_tensor past = test_tensor_from((trine_shape){m - n, d, 1, 1}, cb, e + n * d);
    test_buffer past_labels = test_buffer_create((size_t)(m - n));
    test_buffer_write(&past_labels, labels + n, (size_t)(m - n) * sizeof *labels);
    ASSERT_OK(trine_triplet_memory_create(dev.context, m - n + 3, d, cb, &memory));
    ASSERT_OK(trine_triplet_memory_add(memory, dev.stream, &past.t, past_labels.buffer));
    test_device_sync();
    test_buffer_release(&past_labels);
    test_tensor_release(&past);
    return memory;
}

/* Run on the device as step 5: slot 1 of three, the others must stay as they were.
 * @param e [m][d], of which the first n are the batch and the rest is remembered */
static inline outcome run_triplet(const char *name, const trine_triplet_desc *desc, const double *e,
                                  const int32_t *labels, int n, int m, int d, int cb, bool with_gradient)
{
    test_report("triplet", name, with_gradient ? "gradient" : "loss");
    trine_triplet *op;
    trine_triplet_memory *memory = m > n ? remember(e, labels, n, m, d, cb) : NULL;
    ASSERT_OK(trine_triplet_create(dev.context, desc, &op));
    ASSERT_OK(trine_triplet_set_memory(op, memory));
    test_tensor x = test_tensor_from((trine_shape){n, d, 1, 1}, cb, e),
                de = test_tensor_create(x.t.shape, cb);
    test_buffer stats = test_buffer_create(3 * TRINE_TRIPLET_STATS), lab = test_buffer_create((size_t)n);
    test_buffer ws = test_workspace_create(trine_triplet_workspace_bytes(op, n));
    test_buffer_write(&lab, labels, (size_t)n * sizeof *labels);
    trine_triplet_set_step(op, 5);
    ASSERT_OK(trine_triplet_run(op, dev.stream, &x.t, lab.buffer, with_gradient ? &de.t : NULL, stats.buffer,
                                1, ws.buffer));
    outcome out = {test_zeros(TRINE_TRIPLET_STATS), NULL, NULL};
    double *all = test_buffer_read(&stats);
    for (int i = 0; i < 3 * TRINE_TRIPLET_STATS; i++) {
        if (i / TRINE_TRIPLET_STATS == 1)
            out.stats[i - TRINE_TRIPLET_STATS] = all[i];
        else
            ck_assert_msg(isnan(all[i]), "a neighbouring slot was written");
    }
    free(all);
    if (with_gradient) {
        out.gradient = test_tensor_read(&de);
        out.words = test_tensor_read_words(&de);
    }
    test_buffer_release(&ws);
    test_buffer_release(&lab);
    test_buffer_release(&stats);
    test_tensor_release(&de);
    test_tensor_release(&x);
    trine_triplet_destroy(&op);
    ck_assert_ptr_null(op);
    trine_triplet_memory_destroy(&memory);
    return out;
}

#endif
