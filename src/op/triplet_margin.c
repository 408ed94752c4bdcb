/* SPDX-License-Identifier: MIT */
/* Explicit triplets, torch.nn.TripletMarginLoss. One work-group a row does distances, loss and gradients in
 * one pass. */
#include "trine/loss.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "op/loss_rows.h"

struct trine_triplet_margin {
    trine_triplet_margin_desc desc;
    trine__kernel *rows, *reduce;
};

/* The kernel's P_MODE. */
static int power_mode(float p)
{
    if (isinf(p)) return 3;
    return p == 1.0f ? 1 : p == 2.0f ? 2 : 0;
}

trine_status trine_triplet_margin_create(trine_context *context, const trine_triplet_margin_desc *desc,
                                         trine_triplet_margin **out)
{
    TRINE_CHECK(context && desc && out, TRINE_ERR_ARG,
                "triplet margin: context, description or result is missing");
    TRINE_CHECK(isfinite(desc->margin), TRINE_ERR_ARG, "triplet margin: margin %g, want a number",
                (double)desc->margin);
    TRINE_CHECK(desc->p > 0, TRINE_ERR_ARG, "triplet margin: p %g, want > 0", (double)desc->p);
    TRINE_CHECK(isfinite(desc->eps), TRINE_ERR_ARG, "triplet margin: eps %g, want a number",
                (double)desc->eps);
    TRINE_CHECK((unsigned)desc->reduction <= TRINE_REDUCE_SUM, TRINE_ERR_ARG,
                "triplet margin: unknown reduction %d", (int)desc->reduction);
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_triplet_margin), &memory));
    trine_triplet_margin *op = memory;
    op->desc = *desc;
    char options[64];
    snprintf(options, sizeof options, "-DP_MODE=%d -DSWAP=%d", power_mode(desc->p), desc->swap != 0);
    trine_status status;
    TRINE_TRY_GOTO(trine__kernel_create(context, "triplet_margin_rows", options, &op->rows));
    TRINE_TRY_GOTO(trine__kernel_create(context, "triplet_margin_reduce", "", &op->reduce));
    *out = op;
    return TRINE_OK;
cleanup:
    trine_triplet_margin_destroy(&op);
    return status;
}

trine_status trine_triplet_margin_run(trine_triplet_margin *op, trine_stream *stream, const trine_tensor *a,
                                      const trine_tensor *p, const trine_tensor *n, trine_tensor *da,
                                      trine_tensor *dp, trine_tensor *dn, trine_buffer *loss,
                                      trine_buffer *total)
{
    static const char name[] = "triplet margin";
    const trine_triplet_margin_desc *desc = &op->desc;
    const bool reduced = desc->reduction != TRINE_REDUCE_NONE;
    trine__rows rows;
    TRINE_TRY(trine__rows_check(name, "a", a, &rows));
    TRINE_TRY(trine__rows_check_like(name, "p", p, a));
    TRINE_TRY(trine__rows_check_like(name, "n", n, a));
    if (da) TRINE_TRY(trine__rows_check_like(name, "da", da, a));
    if (dp) TRINE_TRY(trine__rows_check_like(name, "dp", dp, a));
    if (dn) TRINE_TRY(trine__rows_check_like(name, "dn", dn, a));
    TRINE_TRY(trine__bytes_check(name, "loss", loss, (size_t)rows.n * sizeof(float)));
    if (reduced) TRINE_TRY(trine__bytes_check(name, "total", total, sizeof(float)));
    const float scale = desc->reduction == TRINE_REDUCE_MEAN ? 1.0f / (float)rows.n : 1.0f;
    const trine__arg row_args[] = {
        trine__arg_tensor(a),         trine__arg_tensor(p),    trine__arg_tensor(n),
        trine__arg_tensor(da),        trine__arg_tensor(dp),   trine__arg_tensor(dn),
        trine__arg_buffer(loss),      trine__arg_i32(rows.d),  trine__arg_i32(rows.ld),
        trine__arg_f32(desc->margin), trine__arg_f32(desc->p), trine__arg_f32(desc->eps),
        trine__arg_f32(scale)};
    TRINE_TRY(
        trine__launch(stream, op->rows, row_args, TRINE_COUNTOF(row_args), trine__grid_rows(rows.n), NULL));
    if (!reduced) return TRINE_OK;
    const trine__arg args[] = {trine__arg_buffer(loss), trine__arg_buffer(total), trine__arg_i32(rows.n),
                               trine__arg_f32(scale)};
    return trine__launch(stream, op->reduce, args, TRINE_COUNTOF(args), trine__grid_rows(1), NULL);
}

void trine_triplet_margin_destroy(trine_triplet_margin **op)
{
    if (!op || !*op) return;
    trine__kernel_destroy(&(*op)->rows);
    trine__kernel_destroy(&(*op)->reduce);
    free(*op);
    *op = NULL;
}
