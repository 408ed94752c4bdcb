/* SPDX-License-Identifier: MIT */
/* conv2d_gemm_backward_weights - filter gradient as a matrix product over the pixels of all images, gathered on the way to local memory.
 *   to[split][m][c][t] = beta * to + sum over the split's n, row, col of dy[n][m][row][col] * x[n][c][row*stride_h + t.x][col*stride_w + t.y]
 * x [N][groups*sources][in_h][in_w] in blocks of 1 << x_shift; dy [N][groups*results][P][Q] in blocks of 1 << y_shift; taps: row, column,
 * position (= t); to [splits][groups*results][sources*taps], every element written: partial sums, which conv2d_add_splits or conv2d_unpack
 * adds up in order, or dw itself. No atomics.
 * global (SIDE * ceil(sources*taps / BN), SIDE * ceil(results / BM), groups * splits), local (SIDE, SIDE, 1): a split is `share` pixels.
 * -D SIDE TM TN X_HALF Y_HALF (dy) MMA   host src/op/conv2d_gemm.c   ref tests/ref/ref_conv2d.c */
#include "conv2d_gemm.clh"

/* A column of the result: a channel of x seen through a tap. Its position in an image, and how far the tap is from a pixel. */
typedef struct column {
    int at, corner;
} column;

/* What pixel f of all images contributes: dy of channels m, m + SIDE, ... below m_end, and x in the columns. */
static inline void fetch(float a_part[TM], float b_part[TN], __global const x_t *restrict x, __global const y_t *restrict dy,
                         const int f, const int end, const column columns[TN], const int m, const int m_end, const int x_channels,
                         const int dy_channels, const int in_h, const int in_w, const int p, const int q, const int stride_h,
                         const int stride_w, const int x_shift, const int y_shift)
{
    const int n = f / (p * q), at = f % (p * q), row = at / q * stride_h, col = at % q * stride_w;
    const int in_x = n * IMAGE(x_channels, in_h * in_w, x_shift) + ((row * in_w + col) << x_shift);
    const int in_dy = n * IMAGE(dy_channels, p * q, y_shift) + (at << y_shift);
#pragma unroll
    for (int i = 0; i < TM; i++)
        a_part[i] = f < end && m + i * SIDE < m_end ? LOADY(in_dy + CHANNEL(m + i * SIDE, p * q, y_shift), dy) : 0.0f;
#pragma unroll
    for (int j = 0; j < TN; j++) {
        const int y = row + CORNER_ROW(columns[j].corner), z = col + CORNER_COLUMN(columns[j].corner);
        b_part[j] = f < end && y >= 0 && y < in_h && z >= 0 && z < in_w ? LOADX(in_x + columns[j].at, x) : 0.0f;
    }
}

__attribute__((reqd_work_group_size(SIDE, SIDE, 1))) UNIT_SUB_GROUP
__kernel void conv2d_gemm_backward_weights(
    __global const x_t *restrict x, __global const y_t *restrict dy, __global float *restrict to, __global const int4 *restrict taps,
    const int groups, const int sources, const int results, const int tap_count, const int in_h, const int in_w, const int p, const int q,
    const int stride_h, const int stride_w, const int pixels, const int share, const int x_shift, const int y_shift, const int beta)
{
    TILE(a, BM);
    TILE(b, BN);
    EXCHANGE
    const int lx = (int)get_local_id(0), ly = (int)get_local_id(1);
    const int group = (int)get_group_id(2) % groups, split = (int)get_group_id(2) / groups;
    const int m0 = (int)get_group_id(1) * BM, c0 = (int)get_group_id(0) * BN, width = sources * tap_count;
    const int first = split * share, end = min(first + share, pixels), m_end = (group + 1) * results;
    column columns[TN];
#pragma unroll
    for (int j = 0; j < TN; j++) {
        const int at = c0 + ly + j * SIDE;
        const int4 tap = taps[at % tap_count];
        columns[j].at = CHANNEL(group * sources + at / tap_count, in_h * in_w, x_shift) + ((tap.x * in_w + tap.y) << x_shift);
        columns[j].corner = at < width ? CORNER(tap.x, tap.y) : OUTSIDE;
    }
    float acc[ACC_ROWS][ACC_COLUMNS], a_part[TM], b_part[TN];
    clear(acc);
    fetch(a_part, b_part, x, dy, first + lx, end, columns, group * results + m0 + ly, m_end, groups * sources, groups * results, in_h, in_w, p,
          q, stride_h, stride_w, x_shift, y_shift);
#pragma unroll 1
    for (int f = first; f < end; f += SIDE) {
        put_part(a_part, TM, a, A_ROW, lx, ly);
        put_part(b_part, TN, b, B_ROW, lx, ly);
        barrier(CLK_LOCAL_MEM_FENCE);
        fetch(a_part, b_part, x, dy, f + SIDE + lx, end, columns, group * results + m0 + ly, m_end, groups * sources, groups * results,
              in_h, in_w, p, q, stride_h, stride_w, x_shift, y_shift);
        multiply_tiles(acc, a, b, ly, lx);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    to += (size_t)(split * groups + group) * results * width;
#pragma unroll
    for (int i = 0; i < ACC_ROWS; i++)
#pragma unroll
        for (int j = 0; j < ACC_COLUMNS; j++) {
            const int m = m0 + ROW_OF(i, ly, lx), at = c0 + COLUMN_OF(j, ly, lx);
            if (m >= results || at >= width) continue;
            const size_t to_at = (size_t)m * width + at;
            to[to_at] = beta ? to[to_at] + acc[i][j] : acc[i][j];
        }
}
