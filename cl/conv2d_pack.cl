/* SPDX-License-Identifier: MIT */
/* conv2d_pack - weights into the direct convolution's layout (see conv2d_packing.clh); zero where nothing lies.
 * weights as in conv2d_weights.clh; packed [groups*group_kb][group_in][R*S][CBI][KV*CB], every element written
 * global (group_in, groups*group_kb), local (1, 1, 1): one work-item is one block of CBI x KV*CB weights with all its taps, so that
 * what it gathers lies in a few cache lines.
 * -D WKB WCB   host src/op/conv2d_direct.c   ref: tested through the convolution */
#include "conv2d_packing.clh"

/* Is all of the block one block of the caller's, whose padding is zero, with rows and columns exchanged? */
static int transposed_blocks(const packing *m, const int kb, const int c)
{
    const int groups = (int)get_global_size(1) / m->group_kb, group = kb / m->group_kb;
    const int filter = group * m->in_per_group + c * m->block_in, channel = kb % m->group_kb * m->block_out;
    return m->transposed && m->merge == 1 && (groups == 1 || m->in_per_group % m->block_in == 0) &&
           filter % WKB + m->block_in <= WKB && channel % WCB + m->block_out <= WCB;
}

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
    const int first = source_index(&m, kb, c, 0, 0);
    if (transposed_blocks(&m, kb, c)) {
        for (int tap = 0; tap < taps; tap++)
            for (int l = 0; l < block_in; l++)
                for (int lane = 0; lane < block_out; lane++)
                    to[(tap * block_in + l) * block_out + lane] = weights[first + tap * WEIGHT_TAP + lane * WKB + l];
        return;
    }
    for (int l = 0; l < block_in; l++)
        for (int lane = 0; lane < block_out; lane++) {
            const int at = source_index(&m, kb, c, lane, l);
            for (int tap = 0; tap < taps; tap++)
                to[(tap * block_in + l) * block_out + lane] = at < 0 ? 0.0f : weights[at + tap * WEIGHT_TAP];
        }
}
