/* SPDX-License-Identifier: MIT */
/* conv2d_winograd_accumulate - the filters' gradient in the transformed domain: dU[k][c] = (dU +) sum over tiles of V[c] * M[k]
 * v = work [tile blocks][A*A][in_blocks][T][CB] of conv2d_winograd_input; m = work + m_at [tile blocks][A*A][out_blocks][T][CB] of
 * conv2d_winograd_gradient; du = work + du_at [out_blocks][A*A][in_blocks*CB][CB], every element written, added to if `add`
 * global (in_blocks, out_blocks / KV, A*A), local (1, 1, 1): one work-item is CB x KV*CB products of one plane, CT channels of v at a
 * time (and what is left of CB): per tile KV vectors of m, CT broadcasts of v, CT*KV fused multiply-adds. Tiles are added in order: no
 * atomics.
 * -D CB CT KV MO   host src/op/conv2d_winograd.c   ref tests/ref/ref_conv2d.c */
#include "block.clh"
#include "conv2d_winograd.clh"
#ifndef CT
#define CT 4 /* channels in registers */
#endif
#ifndef KV
#define KV 1 /* blocks of filters in registers */
#endif

/* COUNT channels of v from `l` on. v and m are those of the first tile block, `v_step` and `m_step` floats from one to the next; results
 * of the KV blocks are `out_step` apart. */
#define DEFINE_PART(NAME, COUNT)                                                                                            \
    void NAME(__global const float *restrict v, __global const float *restrict m, __global float *restrict out,             \
              const size_t v_step, const size_t m_step, const size_t out_step, const int tile_blocks, const int t_count,    \
              const int add, const int l)                                                                                   \
    {                                                                                                                       \
        floatV acc[KV][COUNT];                                                                                              \
        _Pragma("unroll") for (int k = 0; k < KV; k++) _Pragma("unroll") for (int i = 0; i < COUNT; i++)                    \
            acc[k][i] = add ? LOADV(l + i, out + k * out_step) : (floatV)(0.0f);                                            \
        _Pragma("unroll 1") for (int tb = 0; tb < tile_blocks; tb++)                                                        \
        {                                                                                                                   \
            __global const float *vp = v + tb * v_step + l, *mp = m + tb * m_step;                                          \
            _Pragma("unroll 1") for (int t = 0; t < t_count; t++)                                                           \
            {                                                                                                               \
                floatV g[KV];                                                                                               \
                PREFETCH(vp + v_step + t * CB);                                                                             \
                _Pragma("unroll") for (int k = 0; k < KV; k++)                                                              \
                {                                                                                                           \
                    PREFETCH(mp + m_step + (k * t_count + t) * CB);                                                         \
                    g[k] = LOADV(k * t_count + t, mp);                                                                      \
                }                                                                                                           \
                _Pragma("unroll") for (int i = 0; i < COUNT; i++)                                                           \
                {                                                                                                           \
                    const floatV x = (floatV)(vp[t * CB + i]);                                                              \
                    _Pragma("unroll") for (int k = 0; k < KV; k++) acc[k][i] = fma(x, g[k], acc[k][i]);                     \
                }                                                                                                           \
            }                                                                                                               \
        }                                                                                                                   \
        _Pragma("unroll") for (int k = 0; k < KV; k++) _Pragma("unroll") for (int i = 0; i < COUNT; i++)                    \
            STOREV(acc[k][i], l + i, out + k * out_step);                                                                   \
    }

DEFINE_PART(part, CT)
#if CB % CT
DEFINE_PART(rest, (CB % CT))
#endif

__kernel void conv2d_winograd_accumulate(__global float *work, const int m_at, const int du_at, const int tile_blocks,
                                         const int t_count, const int add)
{
    const int cb = (int)get_global_id(0), in_blocks = (int)get_global_size(0);
    const int kb = (int)get_global_id(1) * KV, out_blocks = (int)get_global_size(1) * KV, p = (int)get_global_id(2);
    const size_t tiles = (size_t)t_count * CB, v_plane = PLANE_FLOATS(in_blocks, t_count), m_plane = PLANE_FLOATS(out_blocks, t_count);
    const size_t du_plane = FILTER_PLANE_FLOATS(in_blocks, 1);
    __global float *out = work + du_at + ((size_t)kb * PLANES + p) * du_plane + cb * (CB * CB);
    __global const float *v = work + p * v_plane + cb * tiles;
    __global const float *m = work + m_at + p * m_plane + kb * tiles;
    const size_t v_step = PLANES * v_plane, m_step = PLANES * m_plane, out_step = PLANES * du_plane;
#pragma unroll 1
    for (int l = 0; l + CT <= CB; l += CT) part(v, m, out, v_step, m_step, out_step, tile_blocks, t_count, add, l);
#if CB % CT
    rest(v, m, out, v_step, m_step, out_step, tile_blocks, t_count, add, CB - CB % CT);
#endif
}
