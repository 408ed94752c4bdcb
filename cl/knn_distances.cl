/* SPDX-License-Identifier: MIT */
/* knn_distances - a tile of distances between vectors in panels (knn.clh):
 *   METRIC 0: sum over d of (b[d] - q[d])^2     1: 1 - sum of b[d] * q[d] (rows of length 1)     2: -sum of b[d] * q[d]
 * q = work [query blocks][dim][QR], b = work + base_at [panels][dim][PANEL]; out [queries][ld], ld >= panels * PANEL, where what lies
 * behind the last vector is the last one's distance again
 * global (panels * LOCAL, query blocks), local (LOCAL, 1): one work-item is QR queries against KV vectors of V floats, PANEL = LOCAL*V*KV.
 * Differences, not |q|^2 + |b|^2 - 2qb: the error is relative to the distance itself, and equal vectors are at 0.
 * On CPUs a panel comes from the second cache while the queries stay in the first; on GPUs a work-group reads a panel side by side and
 * every lane the same query.
 * -D CB (floats of a vector) KV QR LOCAL METRIC     host src/op/knn.c   ref tests/ref/ref_knn.c */
#include "block.clh"
#include "knn.clh"
#define PANEL (LOCAL * CB * KV)
#if METRIC == 0
#define TERM(b, q, sum) fma((b) - (q), (b) - (q), (sum))
#else
#define TERM(b, q, sum) fma((b), (floatV)(q), (sum))
#endif

__attribute__((reqd_work_group_size(LOCAL, 1, 1)))
__kernel void knn_distances(__global const float *restrict work, __global float *restrict out, const int base_at, const int dim,
                            const int queries, const int ld)
{
    const int lid = (int)get_local_id(0), panel = (int)get_group_id(0), block = (int)get_global_id(1);
    __global const float *q = work + (size_t)block * dim * QR, *b = work + base_at + (size_t)panel * dim * PANEL;
    floatV total[QR][KV];
#pragma unroll
    for (int i = 0; i < QR; i++)
#pragma unroll
        for (int k = 0; k < KV; k++) total[i][k] = (floatV)(0.0f);
#pragma unroll 1
    for (int d0 = 0; d0 < dim; d0 += CHUNK) {
        const int end = min(d0 + CHUNK, dim);
        floatV part[QR][KV];
#pragma unroll
        for (int i = 0; i < QR; i++)
#pragma unroll
            for (int k = 0; k < KV; k++) part[i][k] = (floatV)(0.0f);
#pragma unroll 1
        for (int d = d0; d < end; d++, q += QR, b += PANEL) {
            floatV bv[KV];
#pragma unroll
            for (int k = 0; k < KV; k++) bv[k] = LOADV(k * LOCAL + lid, b);
#pragma unroll
            for (int i = 0; i < QR; i++) {
                const float qv = q[i];
#pragma unroll
                for (int k = 0; k < KV; k++) part[i][k] = TERM(bv[k], qv, part[i][k]);
            }
        }
#pragma unroll
        for (int i = 0; i < QR; i++)
#pragma unroll
            for (int k = 0; k < KV; k++) total[i][k] += part[i][k];
    }
#pragma unroll
    for (int i = 0; i < QR; i++) {
        if (block * QR + i >= queries) continue;
        __global float *row = out + (size_t)(block * QR + i) * ld + panel * PANEL;
#pragma unroll
        for (int k = 0; k < KV; k++) {
#if METRIC == 0
            STOREV(total[i][k], k * LOCAL + lid, row);
#elif METRIC == 1
            STOREV((floatV)(1.0f) - total[i][k], k * LOCAL + lid, row);
#else
            STOREV(-total[i][k], k * LOCAL + lid, row);
#endif
        }
    }
}
