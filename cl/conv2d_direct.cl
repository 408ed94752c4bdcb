/* SPDX-License-Identifier: MIT */
/* conv2d_direct - convolution by register tiles of TW pixels x KV channel blocks; serves forward and backward_data.
 *   y[n][k][oy + row*os][ox + col*os] = epilogue( sum over c, taps t of x[n][c][f + taps[t].x] * w[k][c][taps[t].y] )
 *   f = row*x_row + col*IS*XS;   epilogue(v) = relu?( v * scale[k] + shift[k] + residual + beta * y )
 * x is arranged (cl/conv2d_arrange.cl) so that a tap is a constant distance from its pixel, whatever the kernel, stride, padding and
 * dilation; tiles go along rows, then columns, then images.
 * backward_data: x is the output's gradient, w transposed (c <-> k); one launch for each phase (h mod stride, w mod stride) of the
 * input with the taps that reach it: no multiplication by inserted zeros.
 * x [N][in_blocks] of x_block floats, pixels XS apart; y, residual [N][out_blocks][out_h][out_w][CB]; scale, shift [out_blocks*CB] or null
 * partials: batch statistics of y, a part a work-item (cl/bn_parts.clh; one phase, y all of the image), or null
 * w [groups*group_kb][group_in] of w_block floats, a tap's [CBI][KV*CB], packed by conv2d_pack
 * global (slab, groups * group_kb, slabs), local (1, 1, 1): one work-item is `chunk` tiles of a channel block; those of a slab, whose
 * pixels a core's own cache holds, go through all blocks before the next.
 * Each tap and channel: KV weight vectors, TW broadcasts, TW*KV fused multiply-adds; only the tile is unrolled, because unrolled
 * taps make compilers share loads across taps and spill. A last tile that would overhang is shifted back and stores its new part.
 * The next channel blocks' pixels, then the next tile's, are prefetched, because no hardware prefetcher follows the step from plane to plane.
 * So are what the epilogue adds and, of tiles in a row, the lines that they are stored to, a pixel a channel of the last block.
 * POINTWISE: one tap, at 0.
 * Images in NCHW (the stem): CBI = S and XS = 1 make the taps of a row a pixel's channels, w's layout being the same; one column of
 * taps is left, and pixels are IS apart.
 * With -D SUMS (backward_data) y is masked and summed up for BatchNorm, a part a work-item (cl/bn_sums.clh).
 * With -D MADE (POINTWISE, images as they are, one group) a work-item makes its pixels of x first, by BatchNorm's last pass (cl/bn_made.clh), and goes through all blocks:
 * global (items, 1, 1). A last tile that is shifted back is never a work-item's only one, because it reads what the one before has made. What
 * the next work-item makes its pixels from is brought into the second cache behind the products, a tensor for each of the first blocks.
 * -D CB (output block) CBI (input block) XS KV TW IS POINTWISE SUMS MADE
 * host src/op/conv2d_direct.c   ref tests/ref/ref_conv2d.c   after: Georganas et al., SC 2018 (direct convolution) */
#include "block.clh"
#include "bn_made.clh"
#include "bn_parts.clh"
#include "bn_sums.clh"
#include "conv2d_epilogue.clh"
#ifndef CBI
#define CBI CB /* values of a pixel */
#endif
#ifndef XS
#define XS CBI /* floats from a pixel to its neighbour */
#endif
#ifndef KV
#define KV 2 /* channel blocks of a tile */
#endif
#ifndef TW
#define TW 6 /* pixels of a tile: TW*KV + KV + 1 vector registers */
#endif
#ifndef IS
#define IS 1 /* input pixels from one of a row to the next */
#endif

#ifdef MADE /* x is in what it makes; a work-item takes all blocks of filters */
#define READ_FROM              unused
#define FOR_FILTERS(kb, count) for (int kb = 0; kb < (count); kb++)
#define FAR_OF(c)              (far + (c) * far_step)
#else
#define READ_FROM              restrict x
#define FOR_FILTERS(kb, count) const int kb = (int)get_global_id(1);
#define FAR_OF(c)              0
#endif
#define AHEAD 1024 /* floats of weights that are prefetched before they are needed */
#ifdef POINTWISE
#define NEAR 4 /* channel blocks whose pixels are on their way: memory answers later than one block's products take */
#else
#define NEAR 1
#endif

/* The products of one channel: KV weight vectors, of which those AHEAD are prefetched, by the values VALUE(i) of the tile's pixels. */
#define MULTIPLY_ADD(acc, wp, VALUE)                                                                                           \
    {                                                                                                                          \
        floatV wv[KV];                                                                                                         \
        _Pragma("unroll") for (int v = 0; v < KV; v++)                                                                         \
        {                                                                                                                      \
            wv[v] = LOADV(v, wp);                                                                                              \
            PREFETCH(wp + AHEAD + v * CB);                                                                                     \
        }                                                                                                                      \
        _Pragma("unroll") for (int i = 0; i < TW; i++)                                                                         \
        {                                                                                                                      \
            const float value = (VALUE(i));                                                                                    \
            _Pragma("unroll") for (int v = 0; v < KV; v++) acc[v][i] = fma((floatV)(value), wv[v], acc[v][i]);                 \
        }                                                                                                                      \
    }

/* One tap of one channel block: CBI channels of TW pixels, from x on, the next XS floats away. On their way, a pixel a channel: what lies `near`
 * floats on, and with `to` the tile's KV places in y, `plane` blocks apart, the next pixel's os blocks away. */
static inline void multiply_add_row(floatV acc[KV][TW], __global const float *x, const int near, __global const float *restrict wp,
                                    __global const float *to, const size_t plane, const int os, __global const float *far)
{
#define ROW_VALUE(i) x[(i) * (IS * XS)]
#pragma unroll 1
    for (int l = 0; l < CBI; l++, wp += KV * CB, x++) {
        if (XS > 1 && l < TW) PREFETCH(x + near + l * (IS * XS - 1));
        if (to && l < TW) {
#pragma unroll
            for (int v = 0; v < KV; v++) PREFETCH_TO_WRITE(to + (l * os + v * plane) * CB);
        }
#ifdef MADE
        PREFETCH_FAR(far + l * CB);
#endif
        MULTIPLY_ADD(acc, wp, ROW_VALUE)
    }
}

/* The same of pixels anywhere, from float `at` of each. */
static inline void multiply_add_any(floatV acc[KV][TW], __global const float *const x[TW], const int at, const int near,
                                    __global const float *restrict wp)
{
#define ANY_VALUE(i) x[i][at + l]
    if (XS > 1) {
#pragma unroll
        for (int i = 0; i < TW; i++) PREFETCH(x[i] + at + near);
    }
#pragma unroll 1
    for (int l = 0; l < CBI; l++, wp += KV * CB) MULTIPLY_ADD(acc, wp, ANY_VALUE)
}

/* Pixels side by side take one address: those of all are more than a processor has registers for. What announces nothing is a loop of its own. */
static inline void multiply_add(floatV acc[KV][TW], __global const float *const x[TW], const int side_by_side, const int at,
                                const int near, __global const float *restrict wp, __global const float *to, const size_t plane,
                                const int os, __global const float *far)
{
    if (side_by_side && to)
        multiply_add_row(acc, x[0] + at, near, wp, to, plane, os, far);
    else if (side_by_side)
        multiply_add_row(acc, x[0] + at, near, wp, 0, plane, os, far);
    else
        multiply_add_any(acc, x, at, near, wp);
}

/* A pixel of the result: image, row and column. */
typedef struct pixel {
    int n, row, column;
} pixel;

static inline pixel pixel_at(const int f, const int rows, const int columns)
{
    pixel p;
    p.n = f / (rows * columns);
    p.row = f % (rows * columns) / columns;
    p.column = f % columns;
    return p;
}

static inline pixel next_pixel(pixel p, const int rows, const int columns)
{
    if (++p.column == columns) {
        p.column = 0;
        if (++p.row == rows) {
            p.row = 0;
            p.n++;
        }
    }
    return p;
}

/* Where a pixel's block `block` lies in x, in floats, and in y, in blocks. */
static inline size_t place_in_x(const pixel p, const int block, const int in_blocks, const int x_block, const int x_row)
{
    return (size_t)(p.n * in_blocks + block) * x_block + (size_t)p.row * x_row + p.column * (IS * XS);
}

static inline size_t place_in_y(const pixel p, const int block, const int out_blocks, const size_t plane, const int out_w, const int oy,
                                const int ox, const int os)
{
    return ((size_t)p.n * out_blocks + block) * plane + (size_t)(oy + p.row * os) * out_w + ox + p.column * os;
}

#ifdef SUMS
/* Have on their way what a tile's sums are made from. */
static inline void announce_sums(const bn_sums *bn, const size_t at_y[TW], const size_t plane)
{
#pragma unroll
    for (int i = 0; i < TW; i++) {
#pragma unroll
        for (int v = 0; v < KV; v++) {
            PREFETCH(bn->x + (at_y[i] + v * plane) * CB);
            if (bn->y) PREFETCH(bn->y + (at_y[i] + v * plane) * CB);
        }
    }
}

/* A tile's results from pixel `skip` on as a gradient that BatchNorm goes on with: masked, stored and summed up. */
static inline void store_sums(floatV acc[KV][TW], const bn_sums *bn, block_sums sums[KV], const size_t at_y[TW], const size_t plane,
                              const int skip, __global float *y, const int flags)
{
#pragma unroll
    for (int v = 0; v < KV; v++) {
        const floatV zero = 0.0f, mean = LOADV(0, sums[v].mean), a = LOADV(0, sums[v].a), b = LOADV(0, sums[v].b);
        floatV sum = LOADV(0, sums[v].sum), product = LOADV(0, sums[v].product);
#pragma unroll
        for (int i = 0; i < TW; i++) {
            if (i < skip) continue;
            const size_t at = at_y[i] + v * plane;
            const floatV d = LOADV(at, bn->x) - mean, value = flags & FLAG_BETA ? acc[v][i] + LOADV(at, y) : acc[v][i];
            const floatV g = SELECTV(zero, value, (bn->y ? LOADV(at, bn->y) : fma(d, a, b)) > zero);
            STOREV(g, at, y);
            sum += g;
            product = fma(g, d, product);
        }
        STOREV(sum, 0, sums[v].sum);
        STOREV(product, 0, sums[v].product);
    }
}
#endif

__kernel void conv2d_direct(__global const float *READ_FROM, __global const float *restrict w, __global const int2 *restrict taps,
                            __global const float *restrict scale, __global const float *restrict shift,
                            __global const float *residual, __global float *y, __global float *partials, const int x_block, const int x_row, const int w_block,
                            const int first_tap, const int tap_count, const int rows, const int columns,
                            const int pixels, /* of all images */
                            const int tiles, const int chunk, const int in_blocks, const int group_in, const int out_blocks,
                            const int group_kb, const int out_h, const int out_w, const int oy, const int ox, const int os,
                            const int flags MADE_PARAMETERS SUMS_PARAMETERS)
{
    const int item = (int)(get_global_id(2) * get_global_size(0) + get_global_id(0)), first = item * chunk;
    const int count = min(chunk * TW, pixels - first * TW), parts = (tiles + chunk - 1) / chunk;
    const size_t plane = (size_t)out_h * out_w;
    if (first >= tiles) return;
#ifdef SUMS
    SUMS_OF(bn);
#endif
#ifdef MADE
    MADE_OF(in);
    const __global float *x = made;
    make_pixels(&in, first * TW, count, (int)plane, in_blocks);
#endif
    FOR_FILTERS(kb, group_kb)
    {
        const int group = kb / group_kb;
        __global const float *wk = w + (size_t)kb * group_in * w_block;
        __global const float *added = flags & FLAG_BETA ? y : residual; /* on its way while the products go on */
#ifdef SUMS
        block_sums sums[KV];
        for (int v = 0; v < KV; v++) sums[v] = sums_begin(&bn, kb * KV + v);
#endif
        pixel p = pixel_at(first * TW, rows, columns);
        for (int tile = first; tile < min(first + chunk, tiles); tile++) {
            const int skip = max(tile * TW - (pixels - TW), 0); /* a last tile is shifted back over what the one before has stored */
            if (skip) p = pixel_at(pixels - TW, rows, columns);
            __global const float *xp[TW], *wc = wk;
            size_t at_y[TW];
            int side_by_side = 1;
            xp[0] = x + place_in_x(p, group * group_in, in_blocks, x_block, x_row);
            at_y[0] = place_in_y(p, kb * KV, out_blocks, plane, out_w, oy, ox, os);
            if (p.column + TW < columns) { /* nothing to ask for at every pixel */
                p.column += TW;
#pragma unroll
                for (int i = 1; i < TW; i++) {
                    xp[i] = xp[0] + i * (IS * XS);
                    at_y[i] = at_y[0] + i * os;
                }
            } else {
#pragma unroll 1
                for (int i = 1; i < TW; i++) {
                    p = next_pixel(p, rows, columns);
                    xp[i] = x + place_in_x(p, group * group_in, in_blocks, x_block, x_row);
                    at_y[i] = place_in_y(p, kb * KV, out_blocks, plane, out_w, oy, ox, os);
                    if (xp[i] != xp[i - 1] + IS * XS) side_by_side = 0;
                }
                p = next_pixel(p, rows, columns);
            }
            floatV acc[KV][TW];
#pragma unroll
            for (int i = 0; i < TW; i++) {
#pragma unroll
                for (int v = 0; v < KV; v++) acc[v][i] = 0.0f;
            }
#ifdef SUMS
            if (group_in < 3 || !side_by_side) announce_sums(&bn, at_y, plane);
#else
            if (added) {
#pragma unroll
                for (int i = 0; i < TW; i++) {
#pragma unroll
                    for (int v = 0; v < KV; v++) PREFETCH(added + (at_y[i] + v * plane) * CB);
                }
            }
#endif
#ifdef MADE
            __global const float *far = x; /* what the next work-item makes its pixels from, a tensor for each of the first blocks of filters */
            if (kb < 3 && first + 2 * chunk <= tiles) far = next_made(&in, kb, (tile + chunk) * TW, (int)plane, in_blocks);
            const size_t far_step = far == x ? 0 : plane * CB;
#endif
#pragma unroll 1
            for (int c = 0; c < group_in; c++, wc += w_block) {
                const int near = c + NEAR < group_in ? NEAR * x_block : TW * (IS * XS) - max(group_in - NEAR, 0) * x_block;
                __global const float *to = c + 1 == group_in ? y + at_y[0] * CB : 0; /* the last block leaves them in the cache */
#ifdef SUMS
                if (c + 2 == group_in) to = bn.x + at_y[0] * CB;
                if (c + 3 == group_in && bn.y) to = bn.y + at_y[0] * CB;
#endif
#ifdef POINTWISE
                multiply_add(acc, xp, side_by_side, c * x_block, near, wc, to, plane, os, FAR_OF(c));
#else
#pragma unroll 1
                for (int t = first_tap; t < first_tap + tap_count; t++) {
                    const int from = (first_tap + tap_count - 1 - t) * CBI; /* pixels whose lines later taps announce */
                    multiply_add(acc, xp, side_by_side, c * x_block + taps[t].x, near, wc + taps[t].y,
                                 to && from < TW ? to + from * os * CB : 0, plane, os, 0);
                }
#endif
            }
#ifdef SUMS
            store_sums(acc, &bn, sums, at_y, plane, skip, y, flags);
            continue;
#endif
            if (skip == 0 && !scale && !shift && !added && !flags) { /* as in training */
#pragma unroll
                for (int i = 0; i < TW; i++) {
#pragma unroll
                    for (int v = 0; v < KV; v++) STOREV(acc[v][i], at_y[i] + v * plane, y);
                }
                continue;
            }
            floatV a[KV], b[KV];
#pragma unroll
            for (int v = 0; v < KV; v++) {
                a[v] = scale ? LOADV(kb * KV + v, scale) : (floatV)(1.0f);
                b[v] = shift ? LOADV(kb * KV + v, shift) : (floatV)(0.0f);
            }
#pragma unroll
            for (int i = 0; i < TW; i++) {
                if (i < skip) continue;
#pragma unroll
                for (int v = 0; v < KV; v++) {
                    const size_t at = at_y[i] + v * plane;
                    STOREV(epilogue(acc[v][i], scale != 0, a[v], b[v], residual, y, at * CB, flags), at, y);
                }
            }
        }
#ifdef SUMS
        for (int v = 0; v < KV; v++) sums_end(&bn, &sums[v], kb * KV + v, item, parts);
#else
        const int image = first * TW / (int)plane;
#pragma unroll 1
        for (int v = 0; v < KV && partials; v++)
            part_of_pixels(y, partials, kb * KV + v, out_blocks, item, parts, image, first * TW - image * (int)plane, count, (int)plane, 0);
#endif
    }
}
