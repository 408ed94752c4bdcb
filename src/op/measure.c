/* SPDX-License-Identifier: MIT */
/* What the device reaches: rates that kernels are compared with. */
#include <stdio.h>
#include <time.h>

#include "rt/launch.h"
#include "trine/elementwise.h"
#include "trine/measure.h"

enum { CHAINS = 12, RUNS = 5, LAUNCHES = 200 };

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static trine_status measure_fma(trine_context *context, trine_stream *stream, double *gflops)
{
    const trine__caps *caps = &context->caps;
    const int width = caps->cpu ? caps->vector_width : 1;
    const size_t local = caps->cpu ? 1 : TRINE__LOCAL;
    const size_t items = (size_t)caps->compute_units * (caps->cpu ? 8 : 64 * TRINE__LOCAL);
    const int count = caps->cpu ? 100000 : 4096;
    trine__kernel *kernel = NULL;
    trine_buffer *out = NULL;
    char options[64];
    double best = 1e30;
    trine_status status;
    snprintf(options, sizeof options, "-DCB=%d -DCHAINS=%d", width, (int)CHAINS);
    TRINE_TRY_GOTO(trine__kernel_create(context, "measure_fma", options, &kernel));
    TRINE_TRY_GOTO(trine_buffer_create(context, items * (size_t)width * sizeof(float), &out));
    const trine__arg args[] = {trine__arg_buffer(out), trine__arg_f32(0.999f), trine__arg_f32(0.001f),
                               trine__arg_i32(count)};
    for (int run = -1; run < RUNS; run++) { /* the first one compiles */
        const double start = seconds();
        TRINE_TRY_GOTO(trine__launch(stream, kernel, args, TRINE_COUNTOF(args),
                                     trine__grid_lines(items, 1, 1, local), NULL));
        TRINE_TRY_GOTO(trine_stream_sync(stream));
        const double took = seconds() - start;
        if (run >= 0 && took < best) best = took;
    }
    *gflops = 2.0 * (double)items * width * CHAINS * count / best * 1e-9;
cleanup:
    trine__kernel_destroy(&kernel);
    trine_buffer_release(&out);
    return status;
}

/* y = y + x over tensors of this shape; the best time of RUNS times `repeat` sums. */
static trine_status time_add(trine_stream *stream, const trine_shape *shape, int repeat, double *out)
{
    trine_elementwise *op = NULL;
    trine_tensor x = {0}, y = {0};
    double best = 1e30;
    trine_status status;
    TRINE_TRY_GOTO(trine_elementwise_create(stream->context, &op));
    TRINE_TRY_GOTO(trine_tensor_create(stream->context, shape, 1, &x));
    TRINE_TRY_GOTO(trine_tensor_create(stream->context, shape, 1, &y));
    TRINE_TRY_GOTO(trine__stream_zero(stream, x.buffer, 0, trine_buffer_bytes(x.buffer)));
    TRINE_TRY_GOTO(trine__stream_zero(stream, y.buffer, 0, trine_buffer_bytes(y.buffer)));
    for (int run = -1; run < RUNS; run++) { /* the first one compiles */
        const double start = seconds();
        for (int i = 0; i < repeat; i++) TRINE_TRY_GOTO(trine_add(op, stream, &y, &x, &y));
        TRINE_TRY_GOTO(trine_stream_sync(stream));
        const double took = (seconds() - start) / repeat;
        if (run >= 0 && took < best) best = took;
    }
    *out = best;
cleanup:
    trine_elementwise_destroy(&op);
    trine_buffer_release(&x.buffer);
    trine_buffer_release(&y.buffer);
    return status;
}

trine_status trine_device_measure(trine_context *context, trine_stream *stream, trine_device_speed *out)
{
    static const trine_shape large = {8, 64, 128, 128}, small = {1, 1, 1, 1};
    trine_device_speed speed = {0};
    double add = 0, launch = 0;
    TRINE_CHECK(context && stream && out, TRINE_ERR_ARG, "measure: context, stream or result is missing");
    TRINE_TRY(measure_fma(context, stream, &speed.gflops));
    TRINE_TRY(time_add(stream, &large, 1, &add));
    TRINE_TRY(time_add(stream, &small, LAUNCHES, &launch));
    speed.gbps = 3.0 * sizeof(float) * (double)trine_tensor_elements(&large, 1) / add * 1e-9;
    speed.launch_us = 1e6 * launch;
    *out = speed;
    return TRINE_OK;
}
