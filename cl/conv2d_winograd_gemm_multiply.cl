/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_gemm_multiply - a matrix product for every plane of the transformed domain, with tiles in local memory
 * (conv2d_gemm.clh):
 *   out[split][plane][m][n] = (out +) sum over the split's l of a[plane][l][m] * b[plane][l][n]
 *   with -D ALONG, where what is added up lies along rows: of a[plane][m][l] * b[plane][n][l]
 * a [planes][depth][a_stride] from a_at on, b [planes][depth][b_stride]; ALONG: a [planes][rows][depth], b [planes][columns][depth], depth
 * a multiple of SIDE; out [splits][planes][rows][out_stride] from out_at on, whole tiles written, added to if `add`; strides are
 * multiples of BM and BN, positions multiples of 4 floats. A split is `share` of depth, ALONG a multiple of SIDE. No atomics.
 * global (SIDE * ceil(columns / BN), SIDE * ceil(rows / BM), planes * splits), local (SIDE, SIDE, 1)
 * The sums' order does not depend on the tile. The next step's values are on their way while this one's are multiplied.
 * -D SIDE ALONG   host src/op/conv2d_winograd_gemm.c   ref tests/ref/ref_conv2d.c */
#include "conv2d_gemm.clh"

/* Of the SIDE x (SIDE * count) values that a work-group fetches, a work-item's: count / 4 quads, the i-th of them ... */
#ifdef ALONG
/* ... lies along the reduction: values QUAD_AT * 4 to + 3 of row ROW_AT. */
#define ROW_AT(i, item)  (((item) + (i) * SIDE * SIDE) / (SIDE / 4))
#define QUAD_AT(item)    ((item) % (SIDE / 4))
static inline void fetch(float4 *part, const int count, __global const float4 *from, const int first, const int rows, const int stride,
                         const int l, const int end, const int item)
{
    const int at = min(l, end - SIDE) / 4 + QUAD_AT(item); /* what is fetched ahead at the end is not used */
#pragma unroll
    for (int i = 0; i < count / 4; i++) part[i] = from[min(first + ROW_AT(i, item), rows - 1) * (stride / 4) + at];
}

static inline void put(const float4 *part, const int count, __local float4 *tile, const int row, const int item)
{
#pragma unroll
    for (int i = 0; i < count / 4; i++) {
        __local float *to = (__local float *)tile + QUAD_AT(item) * 4 * row + ROW_AT(i, item);
        to[0] = part[i].x;
        to[row] = part[i].y;
        to[2 * row] = part[i].z;
        to[3 * row] = part[i].w;
    }
}
#else
/* ... lies across it: a neighbour's quad is the next of a row. */
static inline void fetch(float4 *part, const int count, __global const float4 *from, const int first, const int rows, const int stride,
                         const int l, const int end, const int item)
{
    const int at = l + item / SIDE;
#pragma unroll
    for (int i = 0; i < count / 4; i++)
        part[i] = at < end ? from[at * (stride / 4) + first / 4 + i * SIDE + item % SIDE] : (float4)(0.0f);
}

static inline void put(const float4 *part, const int count, __local float4 *tile, const int row, const int item)
{
#pragma unroll
    for (int i = 0; i < count / 4; i++) tile[item / SIDE * (row / 4) + i * SIDE + item % SIDE] = part[i];
}
#endif

__attribute__((reqd_work_group_size(SIDE, SIDE, 1)))
__kernel void conv2d_winograd_gemm_multiply(__global const float4 *a, __global const float4 *b, __global float4 *out, const int a_at,
                                            const int out_at, const int rows, const int columns, const int depth, const int a_stride,
                                            const int b_stride, const int out_stride, const int planes, const int share, const int add)
{
    TILE(a_tile, A_ROW);
    TILE(b_tile, B_ROW);
    const int lx = (int)get_local_id(0), ly = (int)get_local_id(1), item = ly * SIDE + lx;
    const int plane = (int)get_group_id(2) % planes, split = (int)get_group_id(2) / planes;
    const int m0 = (int)get_group_id(1) * BM, n0 = (int)get_group_id(0) * BN;
    const int first = split * share, end = min(first + share, depth);
#ifdef ALONG
    a += a_at / 4 + plane * rows * (a_stride / 4);
    b += plane * columns * (b_stride / 4);
#else
    a += a_at / 4 + plane * depth * (a_stride / 4);
    b += plane * depth * (b_stride / 4);
#endif
    float acc[TM][TN];
    float4 a_part[TM / 4], b_part[TN / 4];
    clear(acc);
    if (first < end) {
        fetch(a_part, TM, a, m0, rows, a_stride, first, end, item);
        fetch(b_part, TN, b, n0, columns, b_stride, first, end, item);
    }
#pragma unroll 1
    for (int l = first; l < end; l += SIDE) {
        put(a_part, TM, a_tile, A_ROW, item);
        put(b_part, TN, b_tile, B_ROW, item);
        barrier(CLK_LOCAL_MEM_FENCE);
        fetch(a_part, TM, a, m0, rows, a_stride, l + SIDE, end, item);
        fetch(b_part, TN, b, n0, columns, b_stride, l + SIDE, end, item);
        multiply_tiles(acc, a_tile, b_tile, ly, lx);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    out += out_at / 4 + (split * planes + plane) * rows * (out_stride / 4) + n0 / 4;
#pragma unroll
    for (int i = 0; i < TM; i++) {
        const int m = m0 + ROW_OF(i, ly, lx);
        if (m >= rows) continue;
#pragma unroll
        for (int j = 0; j < TN; j += 4) {
            __global float4 *to = out + m * (out_stride / 4) + COLUMN_OF(j, ly, lx) / 4;
            const float4 sum = (float4)(acc[i][j], acc[i][j + 1], acc[i][j + 2], acc[i][j + 3]);
            *to = add ? *to + sum : sum;
        }
    }
}
