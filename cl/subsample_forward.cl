/* SPDX-License-Identifier: MIT */
/* subsample_forward - y[n][c][p][q] = x[n][c - first][p*stride][q*stride] where 0 <= c - first < C, else 0.
 * x [N][x_blocks][H][W][CB]; y [N][y_blocks][P][Q][CB]
 * global (Q, P, N*y_blocks); one work-item is one block of y. `first` need not be a multiple of CB.
 * -D CB X_HALF     host src/op/elementwise.c   ref tests/ref/ref_elementwise.c   after: He et al. 2016, section 4.2, option A */
#include "block.clh"

__kernel void subsample_forward(__global const x_t *restrict x, __global x_t *restrict y, const int channels, const int h,
                                const int w, const int p, const int q, const int x_blocks, const int y_blocks, const int stride,
                                const int first)
{
    const int column = (int)get_global_id(0), row = (int)get_global_id(1), plane = (int)get_global_id(2);
    if (column >= q) return;
    const int n = plane / y_blocks, from = row * stride * w + column * stride;
    __global const x_t *xn = x + (size_t)n * x_blocks * h * w * CB;
    __global x_t *to = y + (((size_t)plane * p + row) * q + column) * CB;
    /* lanes from `skew` on are block `source`'s, those before it the last one's */
    const int skew = first % CB, source = plane - n * y_blocks - first / CB;
#if CB > 1
    if (channels % CB == 0 && (skew == 0 || 2 * skew == CB)) {
        const floatV zero = 0.0f;
        floatV v = source >= 0 && source < x_blocks ? LOADX((size_t)source * h * w + from, xn) : zero;
        if (skew) {
            v.hi = v.lo;
            v.lo = source >= 1 && source <= x_blocks ? LOADX((size_t)(source - 1) * h * w + from, xn).hi : zero.lo;
        }
        STOREX(v, 0, to);
        return;
    }
#endif
    for (int l = 0; l < CB; l++) {
        const int c = source * CB + l - skew;
        const size_t at = l < skew ? (size_t)(source - 1) * h * w : (size_t)source * h * w;
        STOREX1(c >= 0 && c < channels ? LOADX1((at + from) * CB + (c & (CB - 1)), xn) : 0.0f, l, to);
    }
}
