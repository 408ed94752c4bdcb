/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_gradient - tiles of the output's gradient in the transformed domain: M = A dy At (see conv2d_winograd.clh).
 * dy [N][blocks][P][Q][CB]; m = work + m_at [tile blocks][A*A][blocks][T][CB], zero for the tiles that do not exist
 * global (blocks, tile blocks), local (1, 1, 1): one work-item is T tiles of one channel block, in conv2d_winograd_input's order.
 * -D CB MO LANES   host src/op/conv2d_winograd.c   ref: tested through the convolution */
#include "block.clh"
#include "conv2d_winograd.clh"

__kernel void conv2d_winograd_gradient(__global const float *restrict dy, __global float *restrict work, const int m_at, const int p_count,
                                       const int q_count, const int tile_rows, const int tile_columns, const int tiles,
                                       const int first, const int t_count)
{
    const int cb = (int)get_global_id(0), blocks = (int)get_global_size(0), tb = (int)get_global_id(1);
    const size_t plane = PLANE_FLOATS(blocks, t_count);
    __global float *out = work + m_at + tb * PLANES * plane + (size_t)cb * t_count * CB;
    for (int t = 0; t < t_count; t++, out += CB) {
        const int tile = first + tb * t_count + t;
        const int n = tile / (tile_rows * tile_columns), at = tile % (tile_rows * tile_columns);
        const int row = at / tile_columns * MO, column = at % tile_columns * MO;
        __global const float *from = dy + (((size_t)n * blocks + cb) * p_count + row) * q_count * CB + column * CB;
#pragma unroll 1
        for (int lane = 0; lane < CB; lane += LANES) {
            floatL half_way[A * MO];
#pragma unroll 1
            for (int j = 0; j < MO; j++) {
                floatL d[MO], o[A];
#pragma unroll
                for (int i = 0; i < MO; i++) {
                    d[i] = (floatL)(0.0f);
                    if (tile < tiles && row + i < p_count && column + j < q_count)
                        d[i] = LOADL(from + (i * q_count + j) * CB + lane);
                    if (lane == 0) PREFETCH(from + ((p_count + i) * q_count + j) * CB); /* the next channel block's */
                }
                winograd_gradient(d, 1, o, 1);
#pragma unroll
                for (int i = 0; i < A; i++) half_way[i * MO + j] = o[i];
            }
#pragma unroll 1
            for (int i = 0; i < A; i++) {
                floatL o[A];
                winograd_gradient(half_way + i * MO, 1, o, 1);
#pragma unroll
                for (int j = 0; j < A; j++) STOREL(o[j], out + (i * A + j) * plane + lane);
            }
        }
    }
}
