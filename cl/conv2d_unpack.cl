/* SPDX-License-Identifier: MIT */
/* conv2d_unpack - adds up the filter gradient's partial sums and brings them into the dense layout.
 *   dw[k][c][tap] = beta * dw[k][c][tap] + sum over splits of partial[split][packed_index(k, c, tap)]
 * partial [splits][count] f32; dw [K][C/groups][R*S] f32
 * global (K, C/groups * R*S), local (64, 1, 1): neighbours read neighbouring lanes; splits are added in order (deterministic).
 * host src/op/conv2d_direct.c */
#include "conv2d_packing.clh"

__kernel void conv2d_unpack(__global const float *restrict partial, __global float *restrict dw, const int splits,
                            const int count, const int beta, const int out_channels, const int in_channels,
                            const int out_per_group, const int in_per_group, const int merge, const int group_kb,
                            const int group_in, const int taps, const int block_out, const int block_in)
{
    const int k = (int)get_global_id(0), i = (int)get_global_id(1);
    if (k >= out_channels) return;
    const packing m = {out_channels, in_channels, out_per_group, in_per_group, merge, group_kb,
                       group_in,     taps,        block_out,     block_in,     0};
    const int at = packed_index(m, k, i / taps, i % taps);
    float sum = 0.0f;
    for (int split = 0; split < splits; split++) sum += partial[(size_t)split * count + at];
    const size_t to = (size_t)k * in_per_group * taps + i;
    dw[to] = beta ? dw[to] + sum : sum;
}
