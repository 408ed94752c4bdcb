/* SPDX-License-Identifier: MIT */
/* Embeddings of earlier batches as candidates of the mined losses: a ring on the device, its place kept by the host. */
#include "op/triplet_private.h"

#include <stdlib.h>
#include <string.h>

#include "op/loss_rows.h"

trine_status trine_triplet_memory_create(trine_context *context, int rows, int d, int cb,
                                         trine_triplet_memory **out)
{
    TRINE_CHECK(context && out, TRINE_ERR_ARG, "triplet memory: context or result is missing");
    TRINE_CHECK(rows >= 1 && d >= 1 && cb >= 1, TRINE_ERR_ARG,
                "triplet memory: %d rows of %d values in blocks of %d, want at least 1", rows, d, cb);
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_triplet_memory), &memory));
    trine_triplet_memory *m = memory;
    *m = (trine_triplet_memory){.context = context, .capacity = rows, .d = d, .cb = cb};
    m->ld = (int)trine__round_up((size_t)d, (size_t)cb);
    trine_status status;
    TRINE_TRY_GOTO(trine__kernel_create(context, "triplet_memory_add", "", &m->add));
    TRINE_TRY_GOTO(trine_buffer_create(context, (size_t)rows * (size_t)m->ld * sizeof(float), &m->rows));
    TRINE_TRY_GOTO(trine_buffer_create(context, (size_t)rows * sizeof(int32_t), &m->labels));
    *out = m;
    return TRINE_OK;
cleanup:
    trine_triplet_memory_destroy(&m);
    return status;
}

trine_status trine_triplet_memory_add(trine_triplet_memory *memory, trine_stream *stream,
                                      const trine_tensor *e, const trine_buffer *labels)
{
    trine__rows r;
    TRINE_CHECK(memory && stream, TRINE_ERR_ARG, "triplet memory: memory or stream is missing");
    TRINE_TRY(trine__rows_check("triplet memory", "e", e, &r));
    TRINE_CHECK(r.d == memory->d && r.ld == memory->ld, TRINE_ERR_SHAPE,
                "triplet memory: e has rows of %d values in blocks of %d, the memory has %d in blocks of %d",
                r.d, e->cb, memory->d, memory->cb);
    TRINE_TRY(trine__bytes_check("triplet memory", "labels", labels, (size_t)r.n * sizeof(int32_t)));
    const int rows = r.n < memory->capacity ? r.n : memory->capacity;
    const trine__arg args[] = {trine__arg_tensor(e),
                               trine__arg_buffer(labels),
                               trine__arg_buffer(memory->rows),
                               trine__arg_buffer(memory->labels),
                               trine__arg_i32(r.ld),
                               trine__arg_i32(r.n - rows),
                               trine__arg_i32(rows),
                               trine__arg_i32(memory->next),
                               trine__arg_i32(memory->capacity)};
    TRINE_TRY(trine__launch(stream, memory->add, args, TRINE_COUNTOF(args),
                            trine__grid_lines((size_t)r.ld, (size_t)rows, 1, TRINE__LOCAL), NULL));
    memory->next = (memory->next + rows) % memory->capacity;
    memory->count = memory->count + rows < memory->capacity ? memory->count + rows : memory->capacity;
    return TRINE_OK;
}

int trine_triplet_memory_count(const trine_triplet_memory *memory)
{
    return memory ? memory->count : 0;
}

trine_status trine__triplet_memory_read(const trine_triplet_memory *memory, trine_stream *stream, float *rows,
                                        int32_t *labels)
{
    const size_t count = (size_t)memory->count, d = (size_t)memory->d, ld = (size_t)memory->ld;
    void *padded;
    trine_status status;
    if (count == 0) return TRINE_OK;
    TRINE_TRY(trine__calloc(count * ld, sizeof(float), &padded));
    TRINE_TRY_GOTO(trine_buffer_read(stream, memory->rows, 0, padded, count * ld * sizeof(float)));
    TRINE_TRY_GOTO(trine_buffer_read(stream, memory->labels, 0, labels, count * sizeof(int32_t)));
    for (size_t i = 0; i < count; i++) memcpy(rows + i * d, (float *)padded + i * ld, d * sizeof(float));
cleanup:
    free(padded);
    return status;
}

trine_status trine__triplet_memory_write(trine_triplet_memory *memory, trine_stream *stream,
                                         const float *rows, const int32_t *labels, int count, int next)
{
    const size_t n = (size_t)count, d = (size_t)memory->d, ld = (size_t)memory->ld;
    void *padded = NULL;
    trine_status status = TRINE_OK;
    if (count > 0) {
        TRINE_TRY(trine__calloc(n * ld, sizeof(float), &padded));
        for (size_t i = 0; i < n; i++) memcpy((float *)padded + i * ld, rows + i * d, d * sizeof(float));
        TRINE_TRY_GOTO(trine_buffer_write(stream, memory->rows, 0, padded, n * ld * sizeof(float)));
        TRINE_TRY_GOTO(trine_buffer_write(stream, memory->labels, 0, labels, n * sizeof(int32_t)));
    }
    memory->count = count;
    memory->next = next;
cleanup:
    free(padded);
    return status;
}

void trine_triplet_memory_destroy(trine_triplet_memory **memory)
{
    if (!memory || !*memory) return;
    trine__kernel_destroy(&(*memory)->add);
    trine_buffer_release(&(*memory)->rows);
    trine_buffer_release(&(*memory)->labels);
    free(*memory);
    *memory = NULL;
}
