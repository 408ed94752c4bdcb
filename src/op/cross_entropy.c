/* SPDX-License-Identifier: MIT */
/* Mean softmax cross-entropy: a pass over the rows, which also writes the gradient, and a reduction of their
 * losses. */
#include "trine/loss.h"

#include <stdlib.h>

#include "op/loss_rows.h"

enum { STATS = 2, ROW_VALUES = 2 }; /* loss, hit */

struct trine_cross_entropy {
    trine_context *context;
    trine__kernel *rows, *reduce;
    trine_buffer *scratch; /* [ROW_VALUES][N] for the largest batch so far */
};

trine_status trine_cross_entropy_create(trine_context *context, trine_cross_entropy **out)
{
    TRINE_CHECK(context && out, TRINE_ERR_ARG, "cross entropy: context or result is missing");
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_cross_entropy), &memory));
    trine_cross_entropy *op = memory;
    op->context = context;
    trine_status status;
    TRINE_TRY_GOTO(trine__kernel_create(context, "cross_entropy_rows", "", &op->rows));
    TRINE_TRY_GOTO(trine__kernel_create(context, "cross_entropy_reduce", "", &op->reduce));
    *out = op;
    return TRINE_OK;
cleanup:
    trine_cross_entropy_destroy(&op);
    return status;
}

/* Kernels that are still enqueued keep the smaller buffer alive. */
static trine_status reserve_scratch(trine_cross_entropy *op, int n)
{
    const size_t bytes = (size_t)n * ROW_VALUES * sizeof(float);
    if (op->scratch && trine_buffer_bytes(op->scratch) >= bytes) return TRINE_OK;
    trine_buffer *grown;
    TRINE_TRY(trine_buffer_create(op->context, bytes, &grown));
    trine_buffer_release(&op->scratch);
    op->scratch = grown;
    return TRINE_OK;
}

trine_status trine_cross_entropy_run(trine_cross_entropy *op, trine_stream *stream,
                                     const trine_tensor *logits, const trine_buffer *labels,
                                     trine_tensor *dlogits, trine_buffer *stats, int slot)
{
    trine__rows rows;
    int at;
    TRINE_TRY(trine__rows_check("cross entropy", "logits", logits, &rows));
    TRINE_CHECK(logits->cb == 1, TRINE_ERR_SHAPE, "cross entropy: logits have channel block %d, want 1",
                logits->cb);
    TRINE_TRY(trine__bytes_check("cross entropy", "labels", labels, (size_t)rows.n * sizeof(int32_t)));
    if (dlogits) TRINE_TRY(trine__rows_check_like("cross entropy", "dlogits", dlogits, logits));
    TRINE_TRY(trine__slot_check("cross entropy", stats, slot, STATS, &at));
    TRINE_TRY(reserve_scratch(op, rows.n));
    const trine__arg row_args[] = {
        trine__arg_tensor(logits),           trine__arg_buffer(labels), trine__arg_tensor(dlogits),
        trine__arg_buffer(op->scratch),      trine__arg_i32(rows.n),    trine__arg_i32(rows.d),
        trine__arg_f32(1.0f / (float)rows.n)};
    TRINE_TRY(
        trine__launch(stream, op->rows, row_args, TRINE_COUNTOF(row_args), trine__grid_rows(rows.n), NULL));
    const trine__arg args[] = {trine__arg_buffer(op->scratch), trine__arg_buffer(stats),
                               trine__arg_i32(rows.n), trine__arg_i32(at)};
    return trine__launch(stream, op->reduce, args, TRINE_COUNTOF(args), trine__grid_rows(1), NULL);
}

void trine_cross_entropy_destroy(trine_cross_entropy **op)
{
    if (!op || !*op) return;
    trine__kernel_destroy(&(*op)->rows);
    trine__kernel_destroy(&(*op)->reduce);
    trine_buffer_release(&(*op)->scratch);
    free(*op);
    *op = NULL;
}
