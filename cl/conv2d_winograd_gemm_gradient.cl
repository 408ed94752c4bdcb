/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_gemm_gradient - tiles of the output's gradient in the transformed domain: M = A dy At (see conv2d_winograd_gemm.clh).
 * dy [N][channels][p_count][q_count] in blocks of 1 << x_shift; m = work + m_at [A*A][channels][t_count], in
 * conv2d_winograd_gemm_input's order, zero for the tiles that do not exist and for pixels beyond the border
 * global (t_count, channels), local (64, 1): one work-item is one tile
 * -D MO X_HALF (dy)   host src/op/conv2d_winograd_gemm.c   ref: tested through the convolution */
#include "conv2d_winograd_gemm.clh"

__kernel void conv2d_winograd_gemm_gradient(__global const x_t *restrict dy, __global float *restrict work, const int m_at,
                                            const int p_count, const int q_count, const int tile_rows, const int tile_columns,
                                            const int tiles, const int first, const int t_count, const int x_shift)
{
    const int t = (int)get_global_id(0), k = (int)get_global_id(1), channels = (int)get_global_size(1);
    const tile_place at = place_of_tile(min(first + t, tiles - 1), tile_rows, tile_columns);
    float d[MO * MO], half_way[A * MO], o[PLANES];
    load_square(d, MO, dy, at.image * IMAGE(channels, p_count * q_count, x_shift) + CHANNEL(k, p_count * q_count, x_shift), at.row,
                at.column, p_count, q_count, x_shift, first + t < tiles);
#pragma unroll
    for (int j = 0; j < MO; j++) winograd_gradient(d + j, MO, half_way + j, MO);
#pragma unroll
    for (int i = 0; i < A; i++) winograd_gradient(half_way + i * MO, 1, o + i * A, 1);
    store_planes(o, work + m_at + k * t_count + t, channels * t_count);
}
