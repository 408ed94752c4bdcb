/* SPDX-License-Identifier: MIT */
#include "op/weight_average.h"

#include <stdio.h>
#include <stdlib.h>

#include "op/optimizer.h"

struct trine__weight_average {
    trine__kernel *kernel;
    const trine__caps *caps;
};

trine_status trine__weight_average_create(trine_context *context, trine__weight_average **out)
{
    void *memory;
    char options[24];
    TRINE_TRY(trine__calloc(1, sizeof(trine__weight_average), &memory));
    trine__weight_average *op = memory;
    op->caps = &context->caps;
    snprintf(options, sizeof options, "-DCB=%d", trine__flat_grid_of(op->caps, 1).vector);
    const trine_status status = trine__kernel_create(context, "weight_average", options, &op->kernel);
    if (status == TRINE_OK)
        *out = op;
    else
        trine__weight_average_destroy(&op);
    return status;
}

trine_status trine__weight_average_run(trine__weight_average *op, trine_stream *stream,
                                       const trine_buffer *weights, trine_buffer *averages, size_t count,
                                       double decay)
{
    if (count == 0) return TRINE_OK;
    const trine__flat_grid flat = trine__flat_grid_of(op->caps, count);
    const trine__arg args[] = {trine__arg_buffer(weights), trine__arg_buffer(averages),
                               trine__arg_i32((int)count), trine__arg_i32(flat.chunk),
                               trine__arg_f32((float)(1 - decay))};
    return trine__launch(stream, op->kernel, args, TRINE_COUNTOF(args), flat.grid, NULL);
}

void trine__weight_average_destroy(trine__weight_average **op)
{
    if (!op || !*op) return;
    trine__kernel_destroy(&(*op)->kernel);
    free(*op);
    *op = NULL;
}
