/* SPDX-License-Identifier: MIT */
/* conv2d_pack - dense weights into the direct convolution's layout (see conv2d_packing.clh); zero where nothing lies.
 * weights [K][C/groups][R*S] f32; packed `count` floats, every one written
 * global (count), local (64, 1, 1); host src/op/conv2d_direct.c   ref: tested through the convolution */
#include "conv2d_packing.clh"

__kernel void conv2d_pack(__global const float *restrict weights, __global float *restrict packed, const int count,
                          const int out_channels, const int in_channels, const int out_per_group, const int in_per_group,
                          const int merge, const int group_kb, const int group_in, const int taps, const int block_out,
                          const int block_in, const int transposed)
{
    const int e = (int)get_global_id(0);
    if (e >= count) return;
    const packing m = {out_channels, in_channels, out_per_group, in_per_group, merge,     group_kb,
                       group_in,     taps,        block_out,     block_in,     transposed};
    const int at = dense_index(m, e);
    packed[e] = at < 0 ? 0.0f : weights[at];
}
