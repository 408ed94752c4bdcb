/* SPDX-License-Identifier: MIT */
/* subsample_backward - dx[n][c][p*stride][q*stride] = beta*dx + dy[n][c + first][p][q]; with beta 0, zeros in between.
 * dy [N][y_blocks][P][Q][CB]; dx [N][x_blocks][H][W][CB]
 * global (Q, P, N*x_blocks); one work-item is one block of dy and the stride*stride blocks of dx from the one that it goes to on.
 * -D CB X_HALF     host src/op/elementwise.c   ref tests/ref/ref_elementwise.c */
#include "block.clh"

__kernel void subsample_backward(__global const x_t *restrict dy, __global x_t *restrict dx, const int channels, const int h,
                                 const int w, const int p, const int q, const int x_blocks, const int y_blocks, const int stride,
                                 const int first, const int beta)
{
    const int column = (int)get_global_id(0), row = (int)get_global_id(1), plane = (int)get_global_id(2);
    if (column >= q) return;
    const int n = plane / x_blocks, block = plane - n * x_blocks;
    const size_t step = (size_t)p * q; /* from a block of dy to the next */
    __global const x_t *from = dy + (((size_t)n * y_blocks + block + first / CB) * step + row * q + column) * CB;
    __global x_t *to = dx + (size_t)plane * h * w * CB;
    const floatV zero = 0.0f;
    if (!beta)
        for (int i = row * stride; i < min((row + 1) * stride, h); i++)
            for (int j = column * stride; j < min((column + 1) * stride, w); j++) STOREX(zero, i * w + j, to);
    to += (row * stride * w + column * stride) * CB;
    const int skew = first % CB;
#if CB > 1
    if ((block + 1) * CB <= channels && (skew == 0 || 2 * skew == CB)) {
        floatV v = LOADX(0, from);
        if (skew) {
            v.lo = v.hi;
            v.hi = LOADX(step, from).lo;
        }
        STOREX(beta ? v + LOADX(0, to) : v, 0, to);
        return;
    }
#endif
    for (int l = 0; l < CB; l++) {
        const int c = block * CB + l, lane = l + skew;
        if (c >= channels) return;
        const float old = beta ? LOADX1(l, to) : 0.0f;
        STOREX1(old + LOADX1((lane / CB) * step * CB + lane % CB, from), l, to);
    }
}
