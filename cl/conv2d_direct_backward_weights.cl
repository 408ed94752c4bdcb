/* SPDX-License-Identifier: MIT */
/* conv2d_direct_backward_weights - filter gradient in the packed layout, one partial sum per split of the batch.
 *   dw[k][c][r][s] = sum over n, p, q of dy[n][k][p][q] * x[n][c][p*ST - pad_h + r*dil_h][q*ST - pad_w + s*dil_w]
 * x + x_at [N][in_blocks][H][W][CBI]; dy [N][out_blocks][P][Q][CB]
 * partial [splits][groups*group_kb][group_in][R*S][CBI][KV*CB], every element written; conv2d_unpack adds the splits up
 * global (ceil(group_in / c_count) * R * S, groups * ceil(group_kb / k_count), splits), local (1, 1, 1): one work-item is one tap of up to
 * c_count x k_count blocks of CBI x KV*CB channels, so that what it reads is used several times while it is near.
 * A block of rows and columns of dy stays in the first-level cache while the channels go by CT at a time; borders are exact
 * loop bounds, not checks. PX pixels have accumulators of their own where CT is small (the stem). No atomics.
 * -D CB CBI XS KV CT PX ST BLOCKS
 * host src/op/conv2d_direct.c   ref tests/ref/ref_conv2d.c */
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
#ifndef CT
#define CT 4 /* input channels at a time; what is left of CBI goes last */
#endif
#ifndef BLOCKS
#define BLOCKS 4 /* most channel blocks of a work-item, either side */
#endif
#ifndef PX
#define PX 1 /* pixels in flight */
#endif
#ifndef ST
#define ST 1
#endif

/* Rows y0 .. y1 and columns u0 .. u1 of dy into sum, for COUNT channels from l0 on. x and g are those of dy's first pixel. */
#define DEFINE_PART(NAME, COUNT)                                                                                               \
    void NAME(__global const float *restrict x, __global const float *restrict g, floatV *sum, const int width,              \
              const int q, const int plane, const int y0, const int y1, const int u0, const int u1, const int l0)            \
    {                                                                                                                         \
        floatV acc[PX][COUNT][KV];                                                                                            \
        _Pragma("unroll") for (int i = 0; i < COUNT; i++) _Pragma("unroll") for (int v = 0; v < KV; v++)                      \
        {                                                                                                                     \
            acc[0][i][v] = sum[(l0 + i) * KV + v];                                                                            \
            _Pragma("unroll") for (int j = 1; j < PX; j++) acc[j][i][v] = 0.0f;                                               \
        }                                                                                                                     \
        _Pragma("unroll 1") for (int y = y0; y < y1; y++)                                                                     \
        {                                                                                                                     \
            __global const float *xp = x + ((long)y * ST * width + (long)u0 * ST) * XS + l0;                                  \
            __global const float *gp = g + ((size_t)y * q + u0) * CB;                                                         \
            int u = u0;                                                                                                       \
            _Pragma("unroll 1") for (; u + PX <= u1; u += PX, xp += PX * ST * XS, gp += PX * CB)                              \
            {                                                                                                                 \
                _Pragma("unroll") for (int j = 0; j < PX; j++) _Pragma("unroll") for (int v = 0; v < KV; v++)                 \
                {                                                                                                             \
                    const floatV d = LOADV(v * plane + j, gp);                                                                \
                    _Pragma("unroll") for (int i = 0; i < COUNT; i++)                                                         \
                        acc[j][i][v] = fma((floatV)(xp[j * ST * XS + i]), d, acc[j][i][v]);                                  \
                }                                                                                                             \
            }                                                                                                                 \
            _Pragma("unroll 1") for (; u < u1; u++, xp += ST * XS, gp += CB) _Pragma("unroll") for (int v = 0; v < KV; v++)  \
            {                                                                                                                 \
                const floatV d = LOADV(v * plane, gp);                                                                        \
                _Pragma("unroll") for (int i = 0; i < COUNT; i++) acc[0][i][v] = fma((floatV)(xp[i]), d, acc[0][i][v]);       \
            }                                                                                                                 \
        }                                                                                                                     \
        _Pragma("unroll") for (int i = 0; i < COUNT; i++) _Pragma("unroll") for (int v = 0; v < KV; v++)                      \
        {                                                                                                                     \
            floatV total = acc[0][i][v];                                                                                      \
            _Pragma("unroll") for (int j = 1; j < PX; j++) total += acc[j][i][v];                                             \
            sum[(l0 + i) * KV + v] = total;                                                                                   \
        }                                                                                                                     \
    }

DEFINE_PART(part, CT)
#if CBI % CT
DEFINE_PART(rest, (CBI % CT))
#endif

__kernel void conv2d_direct_backward_weights(__global const float *x, __global const float *restrict dy,
                                             __global float *partial, const int x_at, const int batch, const int h, const int width,
                                             const int p, const int q, const int in_blocks, const int group_in,
                                             const int out_blocks, const int group_kb, const int taps, const int s_count,
                                             const int pad_h, const int pad_w, const int dil_h, const int dil_w,
                                             const int row_block, const int column_block, const int c_count,
                                             const int k_count)
{
    const int tap = (int)get_global_id(0) % taps, c = (int)get_global_id(0) / taps * c_count;
    const int k_items = (group_kb + k_count - 1) / k_count, group = (int)get_global_id(1) / k_items;
    const int kb = group * group_kb + (int)get_global_id(1) % k_items * k_count;
    const int cs = min(c_count, group_in - c), ks = min(k_count, (group + 1) * group_kb - kb); /* blocks of this item */
    const int split = (int)get_global_id(2), splits = (int)get_global_size(2);
    const int r = tap / s_count, s = tap % s_count;
    const int row0 = r * dil_h - pad_h, column0 = s * dil_w - pad_w;
    /* output rows and columns whose input lies inside the image */
    const int p_low = row0 >= 0 ? 0 : (-row0 + ST - 1) / ST, p_high = min(p, h - 1 - row0 < 0 ? 0 : (h - 1 - row0) / ST + 1);
    const int q_low = column0 >= 0 ? 0 : (-column0 + ST - 1) / ST;
    const int q_high = min(q, width - 1 - column0 < 0 ? 0 : (width - 1 - column0) / ST + 1);
    const size_t x_plane = (size_t)h * width * XS, dy_plane = (size_t)KV * p * q * CB;
    floatV sum[BLOCKS * BLOCKS * CBI * KV];
#pragma unroll 1
    for (int i = 0; i < BLOCKS * BLOCKS * CBI * KV; i++) sum[i] = 0.0f;

    for (int n = split; n < batch; n += splits) {
        __global const float *xn =
            x + x_at + (size_t)(n * in_blocks + group * group_in + c) * x_plane + ((long)row0 * width + column0) * XS;
        __global const float *gn = dy + (size_t)(n * out_blocks + kb * KV) * p * q * CB;
        for (int y0 = p_low; y0 < p_high; y0 += row_block)
            for (int u0 = q_low; u0 < q_high; u0 += column_block) {
                const int y1 = min(y0 + row_block, p_high), u1 = min(u0 + column_block, q_high);
#pragma unroll 1
                for (int b = 0; b < cs * ks; b++) {
                    __global const float *xb = xn + b / ks * x_plane, *gb = gn + b % ks * dy_plane;
                    floatV *sb = sum + b * (CBI * KV);
#pragma unroll 1
                    for (int l0 = 0; l0 + CT <= CBI; l0 += CT) part(xb, gb, sb, width, q, p * q, y0, y1, u0, u1, l0);
#if CBI % CT
                    rest(xb, gb, sb, width, q, p * q, y0, y1, u0, u1, CBI - CBI % CT);
#endif
                }
            }
    }
    const size_t kbs = (size_t)(get_global_size(1) / k_items) * group_kb;
#pragma unroll 1
    for (int b = 0; b < cs * ks; b++) {
        __global float *out = partial + (((split * kbs + kb + b % ks) * group_in + c + b / ks) * taps + tap) * (CBI * KV * CB);
#pragma unroll 1
        for (int i = 0; i < CBI * KV; i++) STOREV(sum[b * (CBI * KV) + i], i, out);
    }
}
