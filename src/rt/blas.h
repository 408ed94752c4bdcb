/* SPDX-License-Identifier: MIT */
/* Matrix products through CLBlast, with the caller's temporary buffer. The only file that includes CLBlast is
 * blas.c. */
#ifndef TRINE_RT_BLAS_H
#define TRINE_RT_BLAS_H

#include "rt/stream.h"

/* Row-major C[m][n] = alpha * op(A)[m][k] * op(B)[k][n] + beta * C; offsets and leading dimensions in floats. */
typedef struct trine__gemm {
    bool transpose_a, transpose_b;
    int m, n, k;
    float alpha, beta;
    size_t a_offset, b_offset, c_offset;
    int lda, ldb, ldc;
} trine__gemm;

/* Bytes of temporary memory that the product needs. */
trine_status trine__blas_workspace(trine_stream *stream, const trine__gemm *g, size_t *bytes);
/* Enqueue; `workspace` may be NULL where trine__blas_workspace() said 0. */
trine_status trine__blas_sgemm(trine_stream *stream, const trine__gemm *g, const trine_buffer *a,
                               const trine_buffer *b, trine_buffer *c, trine_buffer *workspace);

#endif
