/* SPDX-License-Identifier: MIT */
/* conv2d_direct - convolution by register tiles of TW pixels x KV channel blocks; serves forward and backward_data.
 *   y[n][k][oy + j*os][ox + i*os] = epilogue( sum over c, tap rows tr, tap columns ts of
 *       x[n][c][iy + j*IS + tr*dy][ix + i*IS + ts*dx] * w[k][c][r0 + tr*rstep][s0 + ts*sstep] )
 *   epilogue(v) = relu?( v * scale[k] + shift[k] + residual + beta * y )
 * Forward:        iy = -pad, IS = stride, dy = dilation, r0 = 0, rstep = 1, os = 1.
 * backward_data:  x is the output's gradient, w transposed (c <-> k); one launch for each phase (h mod stride, w mod stride) of
 *                 the input, whose taps form an arithmetic progression: no multiplication by inserted zeros.
 * x [N][in_blocks][H][W][CBI]; y, residual [N][out_blocks][out_h][out_w][CB]; scale, shift [out_blocks*CB] or null
 * w [groups*group_kb][group_in][R*S][CBI][KV*CB], packed by conv2d_pack
 * global (ceil(tiles/chunk) * p, groups * group_kb, N), local (1, 1, 1): one work-item is `chunk` tiles of one output row.
 * Each tap and channel: KV weight vectors, TW broadcasts, TW*KV fused multiply-adds; only the tile is unrolled, because unrolled
 * taps make compilers share loads across taps and spill. Pixels that may lie beyond the border (the first and last E of a tile)
 * have a pointer each, to a row of zeros where they do. A last tile that would overhang is shifted back and stores its new part.
 * The next channel block's pixels are prefetched, because no hardware prefetcher follows the step from plane to plane. POINTWISE:
 * one tap that never lies beyond the border, no tap loops.
 * Needs q >= TW, E <= 4 (the host chooses another tile or implementation otherwise).
 * Images in NCHW whose rows are padded (the stem): CBI = S and XS = 1 make the taps of a row a pixel's channels, w's layout being the
 * same; one column of taps is left.
 * -D CB (output block) CBI (input block) XS KV TW IS E POINTWISE
 * host src/op/conv2d_direct.c   ref tests/ref/ref_conv2d.c   after: Georganas et al., SC 2018 (direct convolution) */
#include "block.clh"
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
#define IS 1 /* step of the input per output pixel */
#endif
#ifndef E
#define E 1 /* pixels at either end of a tile that may need a border check */
#endif
#define EDGE(i) ((i) < E || (i) >= TW - E)

enum { FLAG_RELU = 1, FLAG_BETA = 2 };

__kernel void conv2d_direct(__global const float *restrict x, __global const float *restrict w,
                            __global const float *restrict scale, __global const float *restrict shift,
                            __global const float *residual, __global float *y, __global const float *restrict zeros,
                            const int h, const int width, const int p, const int q, const int tiles, const int chunk,
                            const int in_blocks, const int group_in, const int out_blocks, const int group_kb,
                            const int taps, /* R * S of the packed weights */
                            const int s_count, const int r0, const int s0, const int rstep, const int sstep,
                            const int nr, const int ns, const int iy, const int ix, const int dy, const int dx,
                            const int out_h, const int out_w, const int oy, const int ox, const int os, const int flags)
{
    const int chunks = (tiles + chunk - 1) / chunk;
    const int j = (int)get_global_id(0) / chunks;
    const int first = ((int)get_global_id(0) % chunks) * chunk;
    const int kb = (int)get_global_id(1), n = (int)get_global_id(2);
    const int group = kb / group_kb;
    __global const float *xn = x + (size_t)(n * in_blocks + group * group_in) * h * width * XS;
    __global const float *wk = w + (size_t)kb * group_in * taps * (CBI * KV * CB);

    for (int tile = first; tile < min(first + chunk, tiles); tile++) {
        const int x0 = min(tile * TW, q - TW); /* first pixel; shifted back at the end of the row */
        floatV acc[KV][TW];
#pragma unroll
        for (int i = 0; i < TW; i++)
#pragma unroll
            for (int v = 0; v < KV; v++) acc[v][i] = 0.0f;
#ifdef POINTWISE
        __global const float *xp = xn + ((size_t)j * IS * width + x0 * IS) * XS, *wp = wk;
        const size_t plane = (size_t)h * width * XS;
#pragma unroll 1
        for (int c = 0; c < group_in; c++, xp += plane) {
#pragma unroll
            for (int i = 0; i < TW; i++) PREFETCH(xp + plane + i * IS * XS);
#pragma unroll 1
            for (int l = 0; l < CBI; l++) {
                floatV wv[KV];
#pragma unroll
                for (int v = 0; v < KV; v++) wv[v] = LOADV(v, wp);
                wp += KV * CB;
#pragma unroll
                for (int i = 0; i < TW; i++) {
                    const float value = xp[i * IS * XS + l];
#pragma unroll
                    for (int v = 0; v < KV; v++) acc[v][i] = fma((floatV)(value), wv[v], acc[v][i]);
                }
            }
        }
#else
#pragma unroll 1
        for (int c = 0; c < group_in; c++) {
#pragma unroll 1
            for (int tr = 0; tr < nr; tr++) {
                const int row = iy + j * IS + tr * dy;
                if (row < 0 || row >= h) continue;
                __global const float *xr = xn + ((size_t)c * h + row) * width * XS;
#if XS > 1
#pragma unroll
                for (int i = 0; i < TW * IS; i++) PREFETCH(xr + ((size_t)h * width + x0 * IS + i) * XS);
#endif
#pragma unroll 1
                for (int ts = 0; ts < ns; ts++) {
                    const int column = ix + x0 * IS + ts * dx;
                    __global const float *wp =
                        wk + (size_t)(c * taps + (r0 + tr * rstep) * s_count + s0 + ts * sstep) * (CBI * KV * CB);
                    __global const float *xp = xr + column * XS;
                    __global const float *edge[TW];
#pragma unroll
                    for (int i = 0; i < TW; i++)
                        if (EDGE(i)) edge[i] = (uint)(column + i * IS) < (uint)width ? xp + i * IS * XS : zeros;
#pragma unroll 1
                    for (int l = 0; l < CBI; l++) {
                        floatV wv[KV];
#pragma unroll
                        for (int v = 0; v < KV; v++) wv[v] = LOADV(v, wp);
                        wp += KV * CB;
#pragma unroll
                        for (int i = 0; i < TW; i++) {
                            const float value = EDGE(i) ? edge[i][l] : xp[i * IS * XS + l];
#pragma unroll
                            for (int v = 0; v < KV; v++) acc[v][i] = fma((floatV)(value), wv[v], acc[v][i]);
                        }
                    }
                }
            }
        }
#endif
        const int skip = tile * TW - x0; /* pixels that the tile before has stored */
#pragma unroll
        for (int v = 0; v < KV; v++) {
            const int block = kb * KV + v;
            const floatV a = scale ? LOADV(block, scale) : (floatV)(1.0f);
            const floatV b = shift ? LOADV(block, shift) : (floatV)(0.0f);
            const size_t base = (((size_t)n * out_blocks + block) * out_h + oy + j * os) * out_w + ox + x0 * os;
#pragma unroll
            for (int i = 0; i < TW; i++) {
                if (i < skip) continue;
                const size_t at = base + i * os;
                floatV value = scale ? fma(acc[v][i], a, b) : acc[v][i] + b;
                if (residual) value += LOADV(at, residual);
                if (flags & FLAG_BETA) value += LOADV(at, y);
                if (flags & FLAG_RELU) value = SELECTV(value, (floatV)(0.0f), value < (floatV)(0.0f));
                STOREV(value, at, y);
            }
        }
    }
}
