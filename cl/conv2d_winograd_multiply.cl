/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_multiply - the products of the transformed domain, summed over channels, and back:
 *   y tile = epilogue( At [ sum over c of U[k][c] * V[c][tile] ] A ),  epilogue(v) = relu?( v*scale[k] + shift[k] + residual + beta*y )
 * v [tile blocks][A*A][in_blocks][T][CB], T = groups * TT; u [out blocks / KV][A*A][in_blocks*CB][KV*CB]
 * y, residual [N][out_blocks][P][Q][CB]; scale, shift [out_blocks*CB] or null; m local, A*A*KV*T*CB floats
 * global (out blocks / KV, tile blocks), local (1, 1, 1): one work-item is T tiles of KV channel blocks. Each plane is a product of
 * matrices: per channel KV vectors of u, TT broadcasts of v, TT*KV fused multiply-adds; only the tile is unrolled.
 * -D CB KV TT MO   host src/op/conv2d_winograd.c   ref tests/ref/ref_conv2d.c */
#include "block.clh"
#include "conv2d_winograd.clh"
#ifndef KV
#define KV 1
#endif
#ifndef TT
#define TT 6 /* tiles in registers: TT*KV + KV + 1 vectors */
#endif

enum { FLAG_RELU = 1, FLAG_BETA = 2 };

__kernel void conv2d_winograd_multiply(__global const float *restrict v, __global const float *restrict u,
                                       __global const float *restrict scale, __global const float *restrict shift,
                                       __global const float *residual, __global float *y, __local float *restrict m,
                                       const int p_count, const int q_count, const int tile_rows, const int tile_columns,
                                       const int tiles, const int first, const int groups, const int in_blocks,
                                       const int out_blocks, const int flags)
{
    const int kb = (int)get_global_id(0), tb = (int)get_global_id(1), t_count = groups * TT;
    const int m_plane = KV * t_count * CB;
    __global const float *up = u + (size_t)kb * PLANES * in_blocks * (CB * KV * CB);
    __global const float *vp = v + (size_t)tb * PLANES * in_blocks * t_count * CB;
#pragma unroll 1
    for (int p = 0; p < PLANES; p++, up += (size_t)in_blocks * (CB * KV * CB), vp += (size_t)in_blocks * t_count * CB) {
#pragma unroll 1
        for (int g = 0; g < groups; g++) {
            floatV acc[KV][TT];
#pragma unroll
            for (int i = 0; i < TT; i++)
#pragma unroll
                for (int k = 0; k < KV; k++) acc[k][i] = 0.0f;
            __global const float *wp = up;
#pragma unroll 1
            for (int c = 0; c < in_blocks; c++) {
                __global const float *xp = vp + (size_t)(c * t_count + g * TT) * CB;
#pragma unroll 1
                for (int l = 0; l < CB; l++) {
                    floatV wv[KV];
#pragma unroll
                    for (int k = 0; k < KV; k++) wv[k] = LOADV(k, wp);
                    wp += KV * CB;
#pragma unroll
                    for (int i = 0; i < TT; i++) {
                        const float value = xp[i * CB + l];
#pragma unroll
                        for (int k = 0; k < KV; k++) acc[k][i] = fma((floatV)(value), wv[k], acc[k][i]);
                    }
                }
            }
#pragma unroll
            for (int k = 0; k < KV; k++)
#pragma unroll
                for (int i = 0; i < TT; i++) STOREV(acc[k][i], k * t_count + g * TT + i, m + p * m_plane);
        }
    }
    for (int k = 0; k < KV; k++) {
        const int block = kb * KV + k;
        const floatV a = scale ? LOADV(block, scale) : (floatV)(1.0f);
        const floatV b = shift ? LOADV(block, shift) : (floatV)(0.0f);
        for (int t = 0; t < t_count; t++) {
            const int tile = first + tb * t_count + t;
            if (tile >= tiles) break;
            const int n = tile / (tile_rows * tile_columns), at = tile % (tile_rows * tile_columns);
            const int row = at / tile_columns * MO, column = at % tile_columns * MO;
            const size_t base = (((size_t)n * out_blocks + block) * p_count + row) * q_count + column;
            floatV half_way[MO * A], o[MO * MO];
#pragma unroll
            for (int j = 0; j < A; j++) {
                floatV column_of_m[A];
#pragma unroll
                for (int i = 0; i < A; i++) column_of_m[i] = LOADV(k * t_count + t, m + (i * A + j) * m_plane);
                winograd_output(column_of_m, 1, half_way + j, A);
            }
#pragma unroll
            for (int i = 0; i < MO; i++) winograd_output(half_way + i * A, 1, o + i * MO, 1);
#pragma unroll
            for (int i = 0; i < MO; i++)
#pragma unroll
                for (int j = 0; j < MO; j++) {
                    if (row + i >= p_count || column + j >= q_count) continue;
                    const size_t to = base + i * q_count + j;
                    floatV value = scale ? fma(o[i * MO + j], a, b) : o[i * MO + j] + b;
                    if (residual) value += LOADV(to, residual);
                    if (flags & FLAG_BETA) value += LOADV(to, y);
                    if (flags & FLAG_RELU) value = SELECTV(value, (floatV)(0.0f), value < (floatV)(0.0f));
                    STOREV(value, to, y);
                }
        }
    }
}
