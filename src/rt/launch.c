/* SPDX-License-Identifier: MIT */
#include "rt/launch.h"

static trine_status set_argument(const trine__kernel *kernel, cl_uint index, const trine__arg *arg)
{
    cl_int code = CL_SUCCESS;
    switch (arg->kind) {
    case TRINE__ARG_BUFFER: {
        const cl_mem mem = arg->value.buffer ? arg->value.buffer->mem : NULL;
        code = clSetKernelArg(kernel->cl, index, sizeof mem, &mem);
        break;
    }
    case TRINE__ARG_I32:
        code = clSetKernelArg(kernel->cl, index, sizeof(cl_int), &arg->value.i32);
        break;
    case TRINE__ARG_F32:
        code = clSetKernelArg(kernel->cl, index, sizeof(cl_float), &arg->value.f32);
        break;
    case TRINE__ARG_LOCAL:
        code = clSetKernelArg(kernel->cl, index, arg->value.local_bytes, NULL);
        break;
    }
    TRINE_CHECK(code == CL_SUCCESS, TRINE_ERR_OPENCL, "kernel %s: argument %u refused: %s", kernel->name,
                index, trine__cl_name(code));
    return TRINE_OK;
}

static trine_status rehearse(const trine_stream *stream, const trine__kernel *kernel, const trine__arg *args,
                             size_t count, trine__grid grid)
{
    size_t local_bytes = 0;
    for (size_t i = 0; i < count; i++)
        if (args[i].kind == TRINE__ARG_LOCAL) local_bytes += args[i].value.local_bytes;
    trine__kernel_rehearse(kernel, grid.local, local_bytes, stream->scope);
    return TRINE_OK;
}

trine_status trine__launch(trine_stream *stream, trine__kernel *kernel, const trine__arg *args, size_t count,
                           trine__grid grid, const char *label)
{
    double bytes = 0;
    if (kernel->context->rehearsal) return rehearse(stream, kernel, args, count, grid);
    for (size_t i = 0; i < count; i++) {
        TRINE_TRY(set_argument(kernel, (cl_uint)i, &args[i]));
        bytes += (double)args[i].tensor_bytes;
    }
    size_t global[3];
    for (int i = 0; i < 3; i++) {
        TRINE_CHECK(grid.global[i] > 0 && grid.local[i] > 0, TRINE_ERR_ARG, "kernel %s: empty grid",
                    kernel->name);
        global[i] = trine__round_up(grid.global[i], grid.local[i]);
    }
    cl_event event = NULL;
    const cl_int code = clEnqueueNDRangeKernel(stream->queue, kernel->cl, 3, NULL, global, grid.local, 0,
                                               NULL, stream->profiling ? &event : NULL);
    TRINE_CHECK(code == CL_SUCCESS,
                code == CL_MEM_OBJECT_ALLOCATION_FAILURE ? TRINE_ERR_NOMEM : TRINE_ERR_OPENCL,
                "kernel %s: launch of %zu x %zu x %zu refused: %s", kernel->name, global[0], global[1],
                global[2], trine__cl_name(code));
    if (event) trine__stream_time(stream, event, kernel->name, label, bytes);
    trine__program_ran(kernel->program);
    return TRINE_OK;
}
