/* SPDX-License-Identifier: MIT */
/* conv2d_pack - weights into the direct convolution's layout (see conv2d_packing.clh); zero where nothing lies.
 * weights as in conv2d_weights.clh; packed [groups*group_kb][group_in][R*S][CBI][KV*CB], every element written
 * global (group_in, groups*group_kb), local (1, 1, 1): one work-item is one block of CBI x KV*CB weights with all its taps, so that
 * what it gathers lies in a few cache lines.
 * -D WKB WCB   host src/op/conv2d_direct.c   ref: tested through the convolution */
#include "conv2d_packing.clh"

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
    for (int l = 0; l < block_in; l++)
        for (int lane = 0; lane < block_out; lane++) {
            const int at = source_index(&m, kb, c, lane, l);
            for (int tap = 0; tap < taps; tap++)
                to[(tap * block_in + l) * block_out + lane] = at < 0 ? 0.0f : weights[at + tap * WEIGHT_TAP];
        }
}
