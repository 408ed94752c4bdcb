/* SPDX-License-Identifier: MIT */
/* The one way a kernel is launched: typed arguments in the order of the kernel's parameters. */
#ifndef TRINE_RT_LAUNCH_H
#define TRINE_RT_LAUNCH_H

#include "base/memory.h"
#include "rt/program.h"
#include "rt/stream.h"
#include "trine/tensor.h"

typedef struct trine__arg {
    enum { TRINE__ARG_BUFFER, TRINE__ARG_I32, TRINE__ARG_F32, TRINE__ARG_LOCAL } kind;
    union {
        const trine_buffer *buffer;
        int32_t i32;
        float f32;
        size_t local_bytes;
    } value;
    size_t tensor_bytes; /* for the profile: what a tensor's shape takes */
} trine__arg;

static inline trine__arg trine__arg_buffer(const trine_buffer *b) /* NULL: a null pointer in the kernel */
{
    return (trine__arg){TRINE__ARG_BUFFER, {.buffer = b}, 0};
}
static inline trine__arg trine__arg_tensor(const trine_tensor *t) /* NULL: a null pointer in the kernel */
{
    return (trine__arg){TRINE__ARG_BUFFER, {.buffer = t ? t->buffer : NULL}, t ? trine_tensor_bytes(t) : 0};
}
static inline trine__arg trine__arg_i32(int v)
{
    return (trine__arg){TRINE__ARG_I32, {.i32 = v}, 0};
}
static inline trine__arg trine__arg_f32(float v)
{
    return (trine__arg){TRINE__ARG_F32, {.f32 = v}, 0};
}
static inline trine__arg trine__arg_local(size_t bytes)
{
    return (trine__arg){TRINE__ARG_LOCAL, {.local_bytes = bytes}, 0};
}

/* How a kernel's x and y are stored (cl/block.clh): kernels exist once for each combination, 0 to TRINE__STORAGES - 1. */
enum { TRINE__STORAGES = 4 };
static inline int trine__storage(trine_dtype x, trine_dtype y)
{
    return (x == TRINE_F16) + 2 * (y == TRINE_F16);
}
/* Compiler options of the same, to append to others. */
static inline const char *trine__storage_options(trine_dtype x, trine_dtype y)
{
    static const char *const options[TRINE__STORAGES] = {"", " -DX_HALF", " -DY_HALF", " -DX_HALF -DY_HALF"};
    return options[trine__storage(x, y)];
}

typedef struct trine__grid {
    size_t global[3]; /* work-items wanted; rounded up to local sizes: kernels guard */
    size_t local[3];
} trine__grid;

/* One work-item per point, local size 1: for kernels whose work-item is a whole tile. */
static inline trine__grid trine__grid_tiles(size_t x, size_t y, size_t z)
{
    return (trine__grid){{x, y, z}, {1, 1, 1}};
}
/* Local size `local` along x only: for kernels whose neighbouring work-items touch neighbouring memory. */
static inline trine__grid trine__grid_lines(size_t x, size_t y, size_t z, size_t local)
{
    return (trine__grid){{x, y, z}, {local, 1, 1}};
}

enum { TRINE__LOCAL = 64 }; /* the local size of all line-shaped kernels: one specialisation each */

/* Enqueue; does not wait. `label` (a string constant or NULL) tells launches of one kernel apart in the
 * profile. TRINE_ERR_OPENCL names the kernel. */
trine_status trine__launch(trine_stream *stream, trine__kernel *kernel, const trine__arg *args, size_t count,
                           trine__grid grid, const char *label);

#endif
