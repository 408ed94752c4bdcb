/* SPDX-License-Identifier: MIT */
/* conv2d_pack - weights into the direct convolution's layout (see conv2d_packing.clh); zero where nothing lies.
 * weights as in conv2d_weights.clh; packed [groups*group_kb][group_in][R*S][CBI][KV*CB], every element written
 * global (group_in, groups*group_kb), local (1, 1, 1): one work-item is one block of CBI x KV*CB weights with all its taps, so that
 * what it gathers lies in a few cache lines.
 * weights in the caller's blocks go by tiles of WCB x WCB, exchanged in registers: gathered one by one they take several times longer.
 * -D WKB WCB   host src/op/conv2d_direct.c   ref: tested through the convolution */
#if (WCB == 4 || WCB == 8 || WCB == 16) && WKB % WCB == 0
#define CB WCB
#else
#define CB 1
#endif
#include "block.clh"
#include "conv2d_packing.clh"
#include "exchange.clh"

#if CB > 1
/* Is the block made of whole tiles of the caller's, whose padding is zero, with rows and columns exchanged? */
static int transposed_tiles(const packing *m, const int filter)
{
    const int groups = (int)get_global_size(1) / m->group_kb;
    return m->transposed && m->merge == 1 && (groups == 1 || m->in_per_group % m->block_in == 0) && m->block_in % CB == 0 &&
           m->block_out % CB == 0 && filter % WKB + m->block_in <= WKB;
}

/* Filters `filter` .. + block_in, channels `channel` .. + block_out of their group; zero beyond the last. */
static void pack_tiles(__global const float *restrict weights, __global float *restrict to, const packing *m, const int filter,
                       const int channel)
{
    for (int lane = 0; lane < m->block_out; lane += CB) {
        const int there = channel + lane < m->out_per_group;
        __global const float *from = weights + (there ? weight_index(filter, channel + lane, m->out_per_group, m->taps) : 0);
        for (int tap = 0; tap < m->taps; tap++)
            for (int l = 0; l < m->block_in; l += CB) {
                floatV rows[CB];
#pragma unroll
                for (int i = 0; i < CB; i++) rows[i] = there ? LOADV(0, from + tap * WEIGHT_TAP + i * WKB + l) : (floatV)(0.0f);
                exchange(rows);
#pragma unroll
                for (int i = 0; i < CB; i++) STREAMV(rows[i], 0, to + (tap * m->block_in + l + i) * m->block_out + lane);
            }
    }
}
#endif

__kernel void conv2d_pack(__global const float *restrict weights, __global float *restrict packed, const int out_per_group,
                          const int in_per_group, const int merge, const int group_kb, const int group_in, const int taps,
                          const int block_out, const int block_in, const int transposed)
{
    packing m;
    m.out_per_group = out_per_group;
    m.in_per_group = in_per_group;
    m.merge = merge;
    m.group_kb = group_kb;
    m.group_in = group_in;
    m.taps = taps;
    m.block_out = block_out;
    m.block_in = block_in;
    m.transposed = transposed;
    const int c = (int)get_global_id(0), kb = (int)get_global_id(1);
    __global float *to = packed + (size_t)(kb * group_in + c) * taps * block_in * block_out;
#if CB > 1
    const int filter = kb / group_kb * in_per_group + c * block_in;
    if (transposed_tiles(&m, filter)) {
        pack_tiles(weights, to, &m, filter, kb % group_kb * block_out);
        return;
    }
#endif
    for (int l = 0; l < block_in; l++)
        for (int lane = 0; lane < block_out; lane++) {
            const int at = source_index(&m, kb, c, lane, l);
            for (int tap = 0; tap < taps; tap++)
                to[(tap * block_in + l) * block_out + lane] = at < 0 ? 0.0f : weights[at + tap * WEIGHT_TAP];
        }
}
