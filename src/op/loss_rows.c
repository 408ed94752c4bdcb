/* SPDX-License-Identifier: MIT */
#include "op/loss_rows.h"

#include <limits.h>

trine_status trine__rows_check(const char *op, const char *name, const trine_tensor *t, trine__rows *out)
{
    TRINE_CHECK(t && t->buffer, TRINE_ERR_ARG, "%s: %s is missing", op, name);
    const trine_shape s = t->shape;
    TRINE_CHECK(s.n >= 1 && s.c >= 1 && s.h == 1 && s.w == 1, TRINE_ERR_SHAPE,
                "%s: %s is [%d,%d,%d,%d], want [N,D,1,1]", op, name, s.n, s.c, s.h, s.w);
    TRINE_CHECK(t->cb >= 1 && t->cb <= 16 && (t->cb & (t->cb - 1)) == 0, TRINE_ERR_ARG,
                "%s: %s has channel block %d, want 1, 2, 4, 8 or 16", op, name, t->cb);
    TRINE_CHECK(s.c <= INT_MAX - 4096, TRINE_ERR_SHAPE, "%s: %s has %d channels, more than %d", op, name, s.c,
                INT_MAX - 4096);
    TRINE_CHECK(t->dtype == TRINE_F32, TRINE_ERR_ARG, "%s: %s is stored as %s, want F32", op, name,
                trine_dtype_name(t->dtype));
    TRINE_TRY(trine__bytes_check(op, name, t->buffer, trine_tensor_bytes(t)));
    *out = (trine__rows){s.n, s.c, trine__ceil_div(s.c, t->cb) * t->cb};
    return TRINE_OK;
}

trine_status trine__rows_check_like(const char *op, const char *name, const trine_tensor *t,
                                    const trine_tensor *like)
{
    trine__rows rows = {0};
    TRINE_TRY(trine__rows_check(op, name, t, &rows));
    TRINE_CHECK(rows.n == like->shape.n && rows.d == like->shape.c && t->cb == like->cb, TRINE_ERR_SHAPE,
                "%s: %s is [%d,%d,1,1] in channel blocks of %d, want [%d,%d,1,1] in blocks of %d", op, name,
                rows.n, rows.d, t->cb, like->shape.n, like->shape.c, like->cb);
    return TRINE_OK;
}

trine_status trine__bytes_check(const char *op, const char *name, const trine_buffer *buffer, size_t bytes)
{
    TRINE_CHECK(buffer, TRINE_ERR_ARG, "%s: %s is missing", op, name);
    TRINE_CHECK(trine_buffer_bytes(buffer) >= bytes, TRINE_ERR_SHAPE, "%s: %s has %zu bytes, needs %zu", op,
                name, trine_buffer_bytes(buffer), bytes);
    return TRINE_OK;
}

trine_status trine__slot_check(const char *op, const trine_buffer *stats, int slot, int floats, int *at)
{
    TRINE_CHECK(stats, TRINE_ERR_ARG, "%s: stats is missing", op);
    const size_t slots = trine_buffer_bytes(stats) / ((size_t)floats * sizeof(float));
    TRINE_CHECK(slot >= 0 && (size_t)slot < slots && slot <= INT_MAX / floats, TRINE_ERR_ARG,
                "%s: slot %d is outside the %zu slots of stats", op, slot, slots);
    *at = slot * floats;
    return TRINE_OK;
}
