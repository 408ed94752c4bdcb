/* SPDX-License-Identifier: MIT */
#include "rt/buffer.h"

#include <stdlib.h>

#include "base/memory.h"

static void count_bytes(trine_context *ctx, size_t bytes)
{
    const unsigned long long now = atomic_fetch_add(&ctx->now_bytes, bytes) + bytes;
    unsigned long long peak = ctx->peak_bytes;
    while (now > peak && !atomic_compare_exchange_weak(&ctx->peak_bytes, &peak, now)) {}
}

static trine_status create(trine_context *ctx, const void *host, size_t bytes, trine_buffer **out)
{
    TRINE_CHECK(bytes <= ctx->caps.max_allocation, TRINE_ERR_NOMEM,
                "a buffer of %zu bytes is more than the device allocates at once (%zu)", bytes,
                ctx->caps.max_allocation);
    void *p = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine_buffer), &p));
    trine_buffer *buffer = p;
    cl_int code;
    const cl_mem_flags flags = CL_MEM_READ_WRITE | (host ? CL_MEM_COPY_HOST_PTR : 0);
    buffer->mem = clCreateBuffer(ctx->cl, flags, bytes ? bytes : 4, (void *)host, &code);
    if (code != CL_SUCCESS) {
        free(buffer);
        return trine__fail(TRINE_ERR_NOMEM, "device memory: %zu bytes refused (%s)", bytes,
                           trine__cl_name(code));
    }
    buffer->context = ctx;
    buffer->bytes = bytes;
    buffer->references = 1;
    count_bytes(ctx, bytes);
    *out = buffer;
    return TRINE_OK;
}

trine_status trine_buffer_create(trine_context *context, size_t bytes, trine_buffer **out)
{
    return create(context, NULL, bytes, out);
}

trine_status trine__buffer_from_host(trine_context *context, const void *host, size_t bytes,
                                     trine_buffer **out)
{
    return create(context, host, bytes, out);
}

trine_status trine_buffer_view(trine_buffer *parent, size_t offset, size_t bytes, trine_buffer **out)
{
    trine_buffer *root =
        parent->parent ? parent->parent : parent; /* OpenCL has no sub-buffer of a sub-buffer */
    const size_t start = parent->offset + offset;
    TRINE_CHECK(offset <= parent->bytes && bytes <= parent->bytes - offset && bytes > 0, TRINE_ERR_ARG,
                "buffer view of %zu bytes at %zu leaves its parent of %zu bytes", bytes, offset,
                parent->bytes);
    TRINE_CHECK(start % root->context->caps.alignment == 0, TRINE_ERR_ARG,
                "buffer view at byte %zu: offsets must be multiples of %zu", start,
                root->context->caps.alignment);
    void *p = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine_buffer), &p));
    trine_buffer *view = p;
    const cl_buffer_region region = {start, bytes};
    cl_int code;
    view->mem = clCreateSubBuffer(root->mem, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, &code);
    if (code != CL_SUCCESS) {
        free(view);
        return trine__cl_check(code, "clCreateSubBuffer");
    }
    view->context = root->context;
    view->parent = root;
    view->offset = start;
    view->bytes = bytes;
    view->references = 1;
    atomic_fetch_add(&root->references, 1);
    *out = view;
    return TRINE_OK;
}

size_t trine_buffer_alignment(const trine_context *context)
{
    return context->caps.alignment;
}

size_t trine_buffer_bytes(const trine_buffer *buffer)
{
    return buffer->bytes;
}

void trine_buffer_release(trine_buffer **buffer)
{
    if (!buffer || !*buffer) return;
    trine_buffer *b = *buffer;
    *buffer = NULL;
    if (atomic_fetch_sub(&b->references, 1) != 1) return;
    clReleaseMemObject(b->mem);
    if (b->parent)
        trine_buffer_release(&b->parent);
    else
        atomic_fetch_sub(&b->context->now_bytes, b->bytes);
    free(b);
}

static trine_status set_add(trine__buffer_set *set, trine_buffer *buffer)
{
    void *items = set->items;
    const trine_status status = trine__reserve(&items, &set->capacity, set->count + 1, sizeof *set->items);
    if (status != TRINE_OK) {
        trine_buffer_release(&buffer);
        return status;
    }
    set->items = items;
    set->items[set->count++] = buffer;
    return TRINE_OK;
}

trine_status trine__buffer_set_create(trine__buffer_set *set, trine_context *context, size_t bytes,
                                      trine_buffer **out)
{
    trine_buffer *buffer;
    TRINE_TRY(trine_buffer_create(context, bytes, &buffer));
    TRINE_TRY(set_add(set, buffer));
    *out = buffer;
    return TRINE_OK;
}

trine_status trine__buffer_set_view(trine__buffer_set *set, trine_buffer *parent, size_t offset, size_t bytes,
                                    trine_buffer **out)
{
    trine_buffer *view;
    TRINE_TRY(trine_buffer_view(parent, offset, bytes, &view));
    TRINE_TRY(set_add(set, view));
    *out = view;
    return TRINE_OK;
}

void trine__buffer_set_release(trine__buffer_set *set)
{
    for (size_t i = set->count; i > 0; i--) trine_buffer_release(&set->items[i - 1]);
    free(set->items);
    *set = (trine__buffer_set){0};
}
