/* SPDX-License-Identifier: MIT */
/* knn_select - merge a tile's distances into each query's list of the k nearest so far, nearest first, ties by lowest index.
 * tile [queries][ld], `count` of each row valid: vectors first, first + 1, ... of the base; best [queries][k], at [queries][k] in and out,
 * or only out where `begin` is set. Lists that are not full end in (infinity, -1); NaN and infinity never enter. Query i leaves out
 * vector self + i of the base, none where self < 0.
 * global (queries), local (LOCAL): one work-item is a query. With LOCAL > 1 a work-group reads LOCAL x WIDE distances side by side into
 * local memory first. Later tiles have higher indices: what is as near as the last of a list stays out.
 * -D LOCAL CB     host src/op/knn.c   ref tests/ref/ref_knn.c */
#include "block.clh"
#define WIDE 16

/* Put a distance that belongs into a full or half full list to its place; the last one falls out. */
static void insert(const float value, const int index, const int k, __global float *best, __global int *at)
{
    int to = k - 1;
    for (; to > 0 && best[to - 1] > value; to--) {
        best[to] = best[to - 1];
        at[to] = at[to - 1];
    }
    best[to] = value;
    at[to] = index;
}

__kernel void knn_select(__global const float *restrict tile, __global float *restrict best, __global int *restrict at, const int queries,
                         const int ld, const int count, const int first, const int self, const int k, const int begin)
{
    const int query = (int)get_global_id(0);
    const int mine = self < 0 ? -1 : self + query - first; /* column that the query leaves out */
#if LOCAL > 1
    __local float part[LOCAL * (WIDE + 1)];
    const int lid = (int)get_local_id(0), row0 = (int)get_group_id(0) * LOCAL;
#endif
    best += (size_t)min(query, queries - 1) * k;
    at += (size_t)min(query, queries - 1) * k;
    if (begin && query < queries)
        for (int i = 0; i < k; i++) {
            best[i] = INFINITY;
            at[i] = -1;
        }
    float last = query < queries ? best[k - 1] : 0.0f;
#if LOCAL > 1
    for (int j0 = 0; j0 < count; j0 += WIDE) {
        for (int i = lid; i < LOCAL * WIDE; i += LOCAL)
            part[i / WIDE * (WIDE + 1) + i % WIDE] =
                tile[(size_t)min(row0 + i / WIDE, queries - 1) * ld + min(j0 + i % WIDE, count - 1)];
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int j = 0; query < queries && j < WIDE && j0 + j < count; j++) {
            const float value = part[lid * (WIDE + 1) + j];
            if (!(value < last) || j0 + j == mine) continue;
            insert(value, first + j0 + j, k, best, at);
            last = best[k - 1];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
#else
    tile += (size_t)query * ld;
    for (int j0 = 0; j0 < count; j0 += CB) { /* rows are whole panels long */
        if (!any(LOADV(j0 / CB, tile) < (floatV)(last))) continue;
        for (int j = j0; j < min(j0 + CB, count); j++) {
            if (!(tile[j] < last) || j == mine) continue;
            insert(tile[j], first + j, k, best, at);
            last = best[k - 1];
        }
    }
#endif
}
