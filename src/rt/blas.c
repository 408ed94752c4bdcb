/* SPDX-License-Identifier: MIT */
#include "rt/blas.h"

#include <clblast_c.h>

static trine_status check(CLBlastStatusCode code, const char *what, const trine__gemm *g)
{
    TRINE_CHECK(
        code == CLBlastSuccess, code == CLBlastTempBufferAllocFailure ? TRINE_ERR_NOMEM : TRINE_ERR_OPENCL,
        "%s of a %d x %d x %d product failed with CLBlast's code %d", what, g->m, g->n, g->k, (int)code);
    return TRINE_OK;
}

static CLBlastTranspose transpose(bool yes)
{
    return yes ? CLBlastTransposeYes : CLBlastTransposeNo;
}

trine_status trine__blas_workspace(trine_stream *stream, const trine__gemm *g, size_t *bytes)
{
    return check(CLBlastSGemmTempBufferSize(
                     CLBlastLayoutRowMajor, transpose(g->transpose_a), transpose(g->transpose_b),
                     (size_t)g->m, (size_t)g->n, (size_t)g->k, g->a_offset, (size_t)g->lda, g->b_offset,
                     (size_t)g->ldb, g->c_offset, (size_t)g->ldc, &stream->queue, bytes),
                 "workspace query", g);
}

trine_status trine__blas_sgemm(trine_stream *stream, const trine__gemm *g, const trine_buffer *a,
                               const trine_buffer *b, trine_buffer *c, trine_buffer *workspace)
{
    cl_event event = NULL;
    if (stream->context->rehearsal) return TRINE_OK;
    TRINE_TRY(
        check(CLBlastSgemmWithTempBuffer(
                  CLBlastLayoutRowMajor, transpose(g->transpose_a), transpose(g->transpose_b), (size_t)g->m,
                  (size_t)g->n, (size_t)g->k, g->alpha, a->mem, g->a_offset, (size_t)g->lda, b->mem,
                  g->b_offset, (size_t)g->ldb, g->beta, c->mem, g->c_offset, (size_t)g->ldc, &stream->queue,
                  stream->profiling ? &event : NULL, workspace ? workspace->mem : NULL),
              "enqueue", g));
    if (event) trine__stream_time(stream, event, "clblast_sgemm", NULL, 0);
    return TRINE_OK;
}
