/* SPDX-License-Identifier: MIT */
/* subsample_backward - dx[n][c][h][w] = beta*dx + dy[n][c + first][h/stride][w/stride] where stride divides h and w, else + 0.
 * dy [N][y_blocks][P][Q][CB]; dx [N][x_blocks][H][W][CB], every element written
 * global (H*W, x_blocks, N); one work-item is one block of dx.
 * -D CB X_HALF     host src/op/elementwise.c   ref tests/ref/ref_elementwise.c */
#include "block.clh"

__kernel void subsample_backward(__global const x_t *restrict dy, __global x_t *restrict dx, const int channels, const int h,
                                 const int w, const int p, const int q, const int y_blocks, const int stride, const int first,
                                 const int beta)
{
    const int i = (int)get_global_id(0), block = (int)get_global_id(1), n = (int)get_global_id(2);
    if (i >= h * w) return;
    const int row = i / w, column = i % w;
    const int kept = row % stride == 0 && column % stride == 0;
    const int from = (row / stride) * q + column / stride;
    __global const x_t *yn = dy + (size_t)n * y_blocks * p * q * CB;
    __global x_t *to = dx + (((size_t)n * get_global_size(1) + block) * h * w + i) * CB;
    const int skew = first % CB;
    if (!kept || (skew == 0 && (block + 1) * CB <= channels)) {
        const floatV value = beta ? LOADX(0, to) : (floatV)(0.0f);
        STOREX(kept ? value + LOADX((size_t)(block + first / CB) * p * q + from, yn) : value, 0, to);
        return;
    }
    for (int l = 0; l < CB; l++) {
        const int c = block * CB + l + first;
        float value = beta ? LOADX1(l, to) : 0.0f;
        if (c - first < channels) value += LOADX1(((size_t)(c / CB) * p * q + from) * CB + c % CB, yn);
        STOREX1(value, l, to);
    }
}
