/* SPDX-License-Identifier: MIT */
/* conv2d_direct_backward_weights - filter gradient in the packed layout, one partial sum per split of the batch.
 *   dw[k][c][t] = sum over n, p, q of dy[n][k][p][q] * x[n][c][p*x_row + q*ST*XS + taps[t].x]
 * x + x_at [N][in_blocks] of x_block floats, arranged (cl/conv2d_arrange.cl); dy [N][out_blocks][P][Q][CB], a 1x1 convolution's one row
 * partial [splits][groups*group_kb / OKV][group_in][taps][CBI][OKV*KV*CB], every element written, added to if `beta`; conv2d_unpack or
 * conv2d_add_splits adds the splits up, if there are several
 * global (ceil(group_in / c_count) * ceil(taps / t_count), groups * ceil(group_kb / k_count), splits), local (1, 1, 1): one work-item is up
 * to t_count taps of up to c_count x k_count blocks of CBI x KV*CB channels. A block of rows and columns of x and dy serves all of
 * them before the next, from a core's own cache, as do their sums, which lie in `partial`; the channels go by in PARTS of one size, or one
 * more. The next block is brought near all the while at one pace: what comes from memory at once keeps a core from its own cache.
 * PX pixels have accumulators of their own where a part is small (the stem). No atomics.
 * -D CB CBI XS KV OKV PARTS PX ST
 * host src/op/conv2d_direct_gradient.c   ref tests/ref/ref_conv2d.c */
#include "block.clh"
#ifndef CBI
#define CBI CB /* values of a pixel */
#endif
#ifndef XS
#define XS CBI /* floats from a pixel to its neighbour: with CBI = S and XS = 1 the taps of a padded row are a pixel's values */
#endif
#ifndef KV
#define KV 1
#endif
#ifndef OKV
#define OKV 1 /* of KV*CB channels, side by side in the result */
#endif
#ifndef PARTS
#define PARTS 2
#endif
#define SMALL (CBI / PARTS) /* input channels at a time */
#define LARGE_COUNT (CBI % PARTS) /* parts of one more */
#ifndef PX
#define PX 1 /* pixels in flight */
#endif
#ifndef ST
#define ST 1 /* pixels of x from one of dy to the next */
#endif

/* rows x columns pixels of dy into sum, from nothing if `fresh`, for COUNT channels. x, g and sum are those of the first. Every 1 << pace pixels the
 * next one `ahead` is brought near, `step` floats on. */
#define DEFINE_PART(NAME, COUNT)                                                                                               \
    void NAME(__global const float *restrict x, __global const float *restrict g, __global float *sum, const int fresh,         \
              const int x_row, const int g_row, const int plane, const int rows, const int columns,                            \
              __global const float *ahead, const int ahead_row, const int step, const int pace)                                \
    {                                                                                                                          \
        floatV acc[PX][COUNT][KV];                                                                                             \
        if (fresh) {                                                                                                           \
            _Pragma("unroll") for (int i = 0; i < COUNT; i++) _Pragma("unroll") for (int v = 0; v < KV; v++) acc[0][i][v] = 0.0f; \
        } else {                                                                                                               \
            _Pragma("unroll") for (int i = 0; i < COUNT; i++) _Pragma("unroll") for (int v = 0; v < KV; v++)                   \
                acc[0][i][v] = LOADV(i * (OKV * KV) + v, sum);                                                                 \
        }                                                                                                                      \
        _Pragma("unroll") for (int j = 1; j < PX; j++)                                                                         \
            _Pragma("unroll") for (int i = 0; i < COUNT; i++) _Pragma("unroll") for (int v = 0; v < KV; v++) acc[j][i][v] = 0.0f; \
        _Pragma("unroll 1") for (int y = 0; y < rows; y++)                                                                     \
        {                                                                                                                      \
            __global const float *xp = x + (size_t)y * x_row;                                                                  \
            __global const float *gp = g + (size_t)y * g_row, *ap = ahead + (size_t)y * ahead_row;                             \
            int u = 0;                                                                                                         \
            _Pragma("unroll 1") for (; u + PX <= columns; u += PX, xp += PX * ST * XS, gp += PX * CB)                          \
            {                                                                                                                  \
                PREFETCH(ap + (u >> pace) * step);                                                                             \
                _Pragma("unroll") for (int j = 0; j < PX; j++) _Pragma("unroll") for (int v = 0; v < KV; v++)                  \
                {                                                                                                              \
                    const floatV d = LOADV(v * plane + j, gp);                                                                 \
                    _Pragma("unroll") for (int i = 0; i < COUNT; i++)                                                          \
                        acc[j][i][v] = fma((floatV)(xp[j * ST * XS + i]), d, acc[j][i][v]);                                    \
                }                                                                                                              \
            }                                                                                                                  \
            _Pragma("unroll 1") for (; u < columns; u++, xp += ST * XS, gp += CB) _Pragma("unroll") for (int v = 0; v < KV; v++) \
            {                                                                                                                  \
                const floatV d = LOADV(v * plane, gp);                                                                         \
                _Pragma("unroll") for (int i = 0; i < COUNT; i++)                                                              \
                    acc[0][i][v] = fma((floatV)(xp[i]), d, acc[0][i][v]);                                                      \
            }                                                                                                                  \
        }                                                                                                                      \
        _Pragma("unroll") for (int i = 0; i < COUNT; i++) _Pragma("unroll") for (int v = 0; v < KV; v++)                       \
        {                                                                                                                      \
            floatV total = acc[0][i][v];                                                                                       \
            _Pragma("unroll") for (int j = 1; j < PX; j++) total += acc[j][i][v];                                              \
            STOREV(total, i * (OKV * KV) + v, sum);                                                                            \
        }                                                                                                                      \
    }

DEFINE_PART(small, SMALL)
#if LARGE_COUNT
DEFINE_PART(large, (SMALL + 1))
#endif

/* Channel l's part: the pixels, sums and what is brought near meanwhile. `near` is what pass number `pass` has to bring: of the next
 * block's sides, dy's planes and each tap's x, a 1 << pace-th part. */
#define PART(NAME, COUNT)                                                                                                      \
    {                                                                                                                          \
        const int side = min(pass >> pace, sides - 1), of_x = side - ks * KV, part = pass & ((1 << pace) - 1);                  \
        const int step = of_x < 0 ? CB : min(CB, ST * XS), x_side = ts == 1 ? of_x : of_x / ts;                                \
        __global const float *near = (of_x < 0 ? ga + (size_t)side * p * q * CB                                                \
                                               : xa + (size_t)x_side * x_block + taps[tap + of_x - x_side * ts].x) +           \
                                     part * ((columns >> pace) + 1) * step;                                                    \
        NAME(xb + l, gb, sb + l * (OKV * KV * CB), fresh, x_row, q * CB, p * q, rows, columns, near, of_x < 0 ? q * CB : x_row, step, \
             pace);                                                                                                            \
        l += COUNT;                                                                                                            \
        pass++;                                                                                                                \
    }

__kernel void conv2d_direct_backward_weights(__global const float *x, __global const float *restrict dy, __global float *partial,
                                             __global const int2 *restrict taps, const int x_at, const int x_block, const int x_row,
                                             const int batch, const int p, const int q, const int in_blocks, const int group_in,
                                             const int out_blocks, const int group_kb, const int tap_count, const int row_block,
                                             const int column_block, const int c_count, const int k_count, const int t_count,
                                             const int beta)
{
    const int t_items = (tap_count + t_count - 1) / t_count, tap = (int)get_global_id(0) % t_items * t_count;
    const int c = (int)get_global_id(0) / t_items * c_count;
    const int k_items = (group_kb + k_count - 1) / k_count, group = (int)get_global_id(1) / k_items;
    const int kb = group * group_kb + (int)get_global_id(1) % k_items * k_count;
    const int cs = min(c_count, group_in - c), ks = min(k_count, (group + 1) * group_kb - kb); /* blocks of this item */
    const int ts = min(t_count, tap_count - tap);
    const int split = (int)get_global_id(2), splits = (int)get_global_size(2);
    const size_t dy_plane = (size_t)KV * p * q * CB, kbs = (size_t)(get_global_size(1) / k_items) * group_kb;
    const int passes = cs * ks * ts * PARTS, sides = ks * KV + cs * ts;
    int fresh = !beta, pace = 0;
    while (sides << (pace + 1) <= passes) pace++;

    for (int n = split; n < batch; n += splits) {
        __global const float *xn = x + x_at + (size_t)(n * in_blocks + group * group_in + c) * x_block;
        __global const float *gn = dy + (size_t)(n * out_blocks + kb * KV) * p * q * CB;
        for (int y = 0; y < p; y += row_block)
            for (int u = 0; u < q; u += column_block) {
                const int rows = min(row_block, p - y), columns = min(column_block, q - u);
                __global const float *xy = xn + (size_t)y * x_row + (size_t)u * ST * XS, *gy = gn + ((size_t)y * q + u) * CB;
                const int same_row = u + column_block < q, same_image = same_row || y + row_block < p;
                const int y_next = same_row ? y : same_image ? y + row_block : 0, u_next = same_row ? u + column_block : 0;
                __global const float *xa = xn + (same_image ? 0 : (size_t)splits * in_blocks * x_block) + (size_t)y_next * x_row +
                                           (size_t)u_next * ST * XS;
                __global const float *ga = gn + (same_image ? 0 : (size_t)splits * out_blocks * p * q * CB) +
                                           ((size_t)y_next * q + u_next) * CB;
                int pass = 0;
                for (int k = 0; k < ks; k++)
                    for (int i = 0; i < cs; i++)
#pragma unroll 1
                        for (int t = 0; t < ts; t++) {
                            const size_t block = split * kbs + kb + k;
                            __global const float *xb = xy + (size_t)i * x_block + taps[tap + t].x, *gb = gy + k * dy_plane;
                            __global float *sb =
                                partial + ((block / OKV * group_in + c + i) * tap_count + tap + t) * (CBI * OKV * KV * CB) +
                                block % OKV * (KV * CB);
                            int l = 0;
#if LARGE_COUNT
#pragma unroll 1
                            while (l < LARGE_COUNT * (SMALL + 1)) PART(large, SMALL + 1)
#endif
#pragma unroll 1
                            while (l < CBI) PART(small, SMALL)
                        }
                fresh = 0;
            }
    }
}
