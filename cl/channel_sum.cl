/* SPDX-License-Identifier: MIT */
/* channel_sum - sum[c] = beta*sum[c] + sum over n and pixels of x[n][c].
 * x [N][blocks][pixels][CB]; sum [C] dense
 * global (LANES, blocks), local (LANES, 1): one work-group is one channel block. Each lane adds every LANES-th pixel of each
 * image, then one lane per channel adds the lanes in order: the same order on every run.
 * -D CB LANES X_HALF     host src/op/elementwise.c   ref tests/ref/ref_elementwise.c */
#include "block.clh"

__kernel void channel_sum(__global const x_t *restrict x, __global float *restrict sum, const int images, const int channels,
                          const int pixels, const int beta)
{
    __local float lanes[LANES * CB];
    const int lane = (int)get_local_id(0), block = (int)get_group_id(1);
    floatV mine = (floatV)(0.0f);
    for (int n = 0; n < images; n++) {
        __global const x_t *xp = x + ((size_t)n * get_num_groups(1) + block) * pixels * CB;
        floatV image = (floatV)(0.0f);
        for (int i = lane; i < pixels; i += LANES) image += LOADX(i, xp);
        mine += image;
    }
    STOREV(mine, lane, lanes);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane < CB) {
        const int c = block * CB + lane;
        float total = 0.0f;
        for (int i = 0; i < LANES; i++) total += lanes[i * CB + lane];
        if (c < channels) sum[c] = beta ? sum[c] + total : total;
    }
}
