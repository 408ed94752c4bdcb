/* SPDX-License-Identifier: MIT */
/* conv2d_unpack - adds up the filter gradient's partial sums and brings them into the caller's layout.
 *   dw[k][c][tap] = beta * dw[k][c][tap] + sum over splits of partial[split][...]
 * partial [splits][count] in conv2d_packing.clh's layout; dw as in conv2d_weights.clh, its padding left alone
 * global (group_in, groups*group_kb), local (1, 1, 1): one work-item is one block of CBI x KV*CB weights with all its taps; splits
 * are added in order (deterministic).
 * -D WKB WCB   host src/op/conv2d_direct_gradient.c */
#include "conv2d_packing.clh"

__kernel void conv2d_unpack(__global const float *restrict partial, __global float *restrict dw, const int out_per_group,
                            const int in_per_group, const int merge, const int group_kb, const int group_in, const int taps,
                            const int block_out, const int block_in, const int splits, const int count, const int beta)
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
    m.transposed = 0;
    const int c = (int)get_global_id(0), kb = (int)get_global_id(1);
    __global const float *from = partial + (size_t)(kb * group_in + c) * taps * block_in * block_out;
    for (int lane = 0; lane < block_out; lane++)
        for (int l = 0; l < block_in; l++) {
            const int at = source_index(&m, kb, c, lane, l);
            if (at < 0) continue;
            for (int tap = 0; tap < taps; tap++) {
                float sum = beta ? dw[at + tap * WEIGHT_TAP] : 0.0f;
                for (int split = 0; split < splits; split++)
                    sum += from[(size_t)split * count + (tap * block_in + l) * block_out + lane];
                dw[at + tap * WEIGHT_TAP] = sum;
            }
        }
}
