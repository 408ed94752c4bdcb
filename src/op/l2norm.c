/* SPDX-License-Identifier: MIT */
/* L2 normalisation of embedding rows. */
#include "trine/loss.h"

#include <stdlib.h>

#include "op/loss_rows.h"

struct trine_l2norm {
    trine__kernel *forward, *backward;
};

trine_status trine_l2norm_create(trine_context *context, trine_l2norm **out)
{
    TRINE_CHECK(context && out, TRINE_ERR_ARG, "l2norm: context or result is missing");
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_l2norm), &memory));
    trine_l2norm *op = memory;
    trine_status status;
    TRINE_TRY_GOTO(trine__kernel_create(context, "l2norm_forward", "", &op->forward));
    TRINE_TRY_GOTO(trine__kernel_create(context, "l2norm_backward", "", &op->backward));
    *out = op;
    return TRINE_OK;
cleanup:
    trine_l2norm_destroy(&op);
    return status;
}

trine_status trine_l2norm_forward(trine_l2norm *op, trine_stream *stream, const trine_tensor *x,
                                  trine_tensor *y, trine_buffer *norms)
{
    trine__rows rows;
    TRINE_TRY(trine__rows_check("l2norm", "x", x, &rows));
    TRINE_TRY(trine__rows_check_like("l2norm", "y", y, x));
    TRINE_TRY(trine__bytes_check("l2norm", "norms", norms, (size_t)rows.n * sizeof(float)));
    const trine__arg args[] = {trine__arg_tensor(x), trine__arg_tensor(y), trine__arg_buffer(norms),
                               trine__arg_i32(rows.d), trine__arg_i32(rows.ld)};
    return trine__launch(stream, op->forward, args, TRINE_COUNTOF(args), trine__grid_rows(rows.n), NULL);
}

trine_status trine_l2norm_backward(trine_l2norm *op, trine_stream *stream, const trine_tensor *y,
                                   const trine_buffer *norms, const trine_tensor *dy, trine_tensor *dx)
{
    trine__rows rows;
    TRINE_TRY(trine__rows_check("l2norm", "y", y, &rows));
    TRINE_TRY(trine__rows_check_like("l2norm", "dy", dy, y));
    TRINE_TRY(trine__rows_check_like("l2norm", "dx", dx, y));
    TRINE_TRY(trine__bytes_check("l2norm", "norms", norms, (size_t)rows.n * sizeof(float)));
    const trine__arg args[] = {trine__arg_tensor(y),  trine__arg_buffer(norms), trine__arg_tensor(dy),
                               trine__arg_tensor(dx), trine__arg_i32(rows.d),   trine__arg_i32(rows.ld)};
    return trine__launch(stream, op->backward, args, TRINE_COUNTOF(args), trine__grid_rows(rows.n), NULL);
}

void trine_l2norm_destroy(trine_l2norm **op)
{
    if (!op || !*op) return;
    trine__kernel_destroy(&(*op)->forward);
    trine__kernel_destroy(&(*op)->backward);
    free(*op);
    *op = NULL;
}
