/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_accumulate - the filters' gradient in the transformed domain: dU[k][c] = (dU +) sum over tiles of V[c] * M[k]
 * v = work [tile blocks][A*A][in_blocks][T][CB] of conv2d_winograd_input; m = work + m_at [tile blocks][A*A][out_blocks][T][CB] of
 * conv2d_winograd_gradient; du = work + du_at [out_blocks][A*A][in_blocks*CB][CB], every element written, added to if `add`
 * global (in_blocks, out_blocks, A*A), local (1, 1, 1): one work-item is CB x CB products of one plane, CT channels of v at a time:
 * per tile a vector of m, CT broadcasts of v, CT fused multiply-adds. Tiles are added in order: no atomics.
 * -D CB CT MO   host src/op/conv2d_winograd.c   ref tests/ref/ref_conv2d.c */
#include "block.clh"
#include "conv2d_winograd.clh"
#ifndef CT
#define CT 4 /* channels at a time; divides CB */
#endif

__kernel void conv2d_winograd_accumulate(__global float *work, const int m_at, const int du_at, const int tile_blocks, const int t_count, const int add)
{
    const int cb = (int)get_global_id(0), in_blocks = (int)get_global_size(0);
    const int kb = (int)get_global_id(1), out_blocks = (int)get_global_size(1), p = (int)get_global_id(2);
    __global float *restrict out = work + du_at + (((size_t)kb * PLANES + p) * in_blocks + cb) * (CB * CB);
#pragma unroll 1
    for (int l = 0; l < CB; l += CT) {
        floatV acc[CT];
#pragma unroll
        for (int i = 0; i < CT; i++) acc[i] = add ? LOADV(l + i, out) : (floatV)(0.0f);
#pragma unroll 1
        for (int tb = 0; tb < tile_blocks; tb++) {
            __global const float *restrict vp = work + (((size_t)tb * PLANES + p) * in_blocks + cb) * t_count * CB + l;
            __global const float *restrict mp = work + m_at + (((size_t)tb * PLANES + p) * out_blocks + kb) * t_count * CB;
#pragma unroll 1
            for (int t = 0; t < t_count; t++) {
                const floatV g = LOADV(t, mp);
#pragma unroll
                for (int i = 0; i < CT; i++) acc[i] = fma((floatV)(vp[t * CB + i]), g, acc[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < CT; i++) STOREV(acc[i], l + i, out);
    }
}
