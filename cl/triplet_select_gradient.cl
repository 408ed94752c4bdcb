/* SPDX-License-Identifier: MIT */
/* triplet_select_gradient - de[i] = the sum over the anchors whose triplet i is in, in their order, of
 *   slope * scale * (d d_ap / d e[i] - share * d d_an / d e[i] - (1 - share) * d d_pn / d e[i]):  O(N * D), and N^2 / CB comparisons.
 * e, de [N][ld], memory [M-N][ld] or null, d of each row counted, padding of de written zero; ws: norms, scale and what triplet_select
 * chose in.
 * global (ceil(ld/(CH*CB)), N): a work-item is CH vectors of a row.
 * -D CB (floats of a vector) CH
 * host src/op/triplet.c   ref tests/ref/ref_loss.c */
#include "block.clh"
#include "triplet.clh"
#ifndef CH
#define CH 4
#endif

/* What a term gives to a row: acc += w * (q * own - other). */
typedef struct part {
    __global const float *other;
    float w, q;
} part;

part make_part(__global const float *e, __global const float *memory, __global const float *ws, int n, int ld, int i,
               int j, float coefficient, float value, int distance)
{
    part x;
    x.other = candidate(e, memory, j, n, ld);
    x.w = weight_of(coefficient, value, distance, ws[i], ws[j]);
    x.q = turn_of(value, distance, ws[i], ws[j]);
    return x;
}

__kernel void triplet_select_gradient(__global const float *restrict e, __global const float *restrict memory,
                                      __global const float *restrict ws, __global float *restrict de, const int n,
                                      const int m, const int d, const int ld, const int distance)
{
    const int first = (int)get_global_id(0) * (CH * CB), i = (int)get_global_id(1);
    if (first >= ld) return;
    __global const int *positives = (__global const int *)ws + WS_ROW(ROW_POSITIVE, n, m);
    __global const int *negatives = (__global const int *)ws + WS_ROW(ROW_NEGATIVE, n, m);
    __global const float *own = e + (size_t)i * ld + first;
    __global float *out = de + (size_t)i * ld + first;
    const int here = clamp(d - first, 0, CH * CB), whole = here / CB; /* components of this work-item that count */
    const float scale = ws[WS_SCALE(n, m)];
    const float start = (as_uint(scale) & 0x7fffffffu) > 0x7f800000u ? scale : 0.0f; /* NaN reaches every component */
    floatV acc[CH];
    float rest[CB];
#pragma unroll
    for (int v = 0; v < CH; v++) acc[v] = start;
#pragma unroll
    for (int c = 0; c < CB; c++) rest[c] = start;
    for (int a0 = 0; a0 < n; a0 += CB) {
        if (a0 + CB <= n) {
            const intV hit = (LOADV(a0 / CB, positives) == i) | (LOADV(a0 / CB, negatives) == i);
            if (!any(hit) && (i < a0 || i >= a0 + CB)) continue;
        }
        for (int a = a0; a < min(a0 + CB, n); a++) {
            const int p = positives[a], q = negatives[a];
            if (p < 0 || (a != i && p != i && q != i)) continue;
            const float s = ws[WS_ROW(ROW_SLOPE, n, m) + a] * scale, share = ws[WS_ROW(ROW_SHARE, n, m) + a];
            const float d_ap = ws[WS_ROW(ROW_AP, n, m) + a], d_an = ws[WS_ROW(ROW_AN, n, m) + a];
            part parts[2]; /* i is in two of the pairs (a, p), (a, q), (p, q) */
            parts[0] = q == i ? make_part(e, memory, ws, n, ld, i, a, -s * share, d_an, distance)
                              : make_part(e, memory, ws, n, ld, i, a == i ? p : a, s, d_ap, distance);
            parts[1] = make_part(e, memory, ws, n, ld, i, q == i ? p : q, a == i ? -s * share : -s * (1.0f - share),
                                 d_an, distance);
#pragma unroll
            for (int k = 0; k < 2; k++) {
                const float w = parts[k].w, turn = parts[k].q;
                __global const float *other = parts[k].other + first;
                if (w == 0.0f) continue;
#pragma unroll
                for (int v = 0; v < CH; v++)
                    if (v < whole) acc[v] += w * (turn * LOADV(v, own) - LOADV(v, other));
#pragma unroll
                for (int c = 0; c < CB; c++)
                    if (whole * CB + c < here) rest[c] += w * (turn * own[whole * CB + c] - other[whole * CB + c]);
            }
        }
    }
#pragma unroll
    for (int v = 0; v < CH; v++)
        if (v < whole) STOREV(acc[v], v, out);
#pragma unroll
    for (int c = 0; c < CB; c++)
        if (whole * CB + c < here) out[whole * CB + c] = rest[c];
    for (int c = here; c < min(CH * CB, ld - first); c++) out[c] = 0.0f;
}
