/* SPDX-License-Identifier: MIT */
/* triplet_nt_xent - for each anchor-positive pair  -log(exp(-d_ap / t) / (exp(-d_ap / t) + sum_n exp(-d_an / t))):  with
 *   x_j = (d_aj - d of the closest negative) / t,  Z = sum_n exp(-x_n) >= 1:  log(1 + Z exp(x_p)),
 *   d loss / d d_ap = Z / (exp(-x_p) + Z) / t,  d loss / d d_an = -exp(-x_n) / t * sum_p 1 / (exp(-x_p) + Z)
 * so that an anchor takes one pass for each of these sums, however many positives it has.  As the loss depends on d / t alone,
 *   d loss / d log(t) = -sum_j d_aj d loss / d d_aj, with d_aj less the closest negative's, as these derivatives' sum is 0
 * ws: distances in; matrix 1, the coefficients (not yet divided by the number of pairs), and the anchors' sums out; a term is a pair,
 * active if one of its negatives is closer than its positive, and its d_an the mean over the negatives.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is an anchor; a work-item owns the columns j = lid mod LOCAL.
 * -D LEARN (1: ROW_TURN out)
 * host src/op/triplet.c   ref tests/ref/ref_triplet.c   sources: Sohn 2016, eq. 6; Chen et al. 2020, eq. 1 */
#include "group.clh"
#include "triplet.clh"

__kernel void triplet_nt_xent(__global float *ws, const int n, const int m, const float inverse_temperature,
                              __global const float *restrict learned)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *dist = ws + WS_MATRIX(n, m) + (size_t)i * m;
    __global float *coef = ws + WS_MATRIX(n, m) + ((size_t)n + i) * m;
    const int label = labels[i];
    const float factor = learned ? exp(-learned[0]) : inverse_temperature;
    float near = -INFINITY, z = 0.0f, d_ap = 0.0f, d_an = 0.0f, negatives = 0.0f;
    for (int j = lid; j < m; j += LOCAL) {
        coef[j] = 0.0f;
        if (labels[j] == label) continue;
        near = fmax(near, -dist[j]);
        negatives += 1.0f;
        d_an += dist[j];
    }
    near = -group_max(near, scratch);
    negatives = group_sum(negatives, scratch);
    d_an = group_sum(d_an, scratch);
    if (!(negatives > 0.0f)) { /* the same for all work-items */
        if (lid == 0) store_row(ws, n, m, i, 0.0f, 0.0f, 0.0f, 0, 0);
        if (lid == 0) store_turn(ws, n, m, i, 0.0f);
        return;
    }
    for (int j = lid; j < m; j += LOCAL)
        if (labels[j] != label) z += exp((near - dist[j]) * factor);
    z = group_sum(z, scratch);
    float loss = 0.0f, active = 0.0f, terms = 0.0f, rest = 0.0f, turn = 0.0f;
    for (int j = lid; j < m; j += LOCAL) {
        if (j == i || labels[j] != label) continue;
        const float x = (dist[j] - near) * factor, inverse = 1.0f / (exp(-x) + z);
        loss += x > 0.0f ? x + log(exp(-x) + z) : log1p(z * exp(x));
        rest += inverse;
        coef[j] = factor * z * inverse;
        turn -= x * z * inverse;
        active += x > 0.0f ? 1.0f : 0.0f;
        terms += 1.0f;
        d_ap += dist[j];
    }
    loss = group_sum(loss, scratch);
    rest = group_sum(rest, scratch);
    active = group_sum(active, scratch);
    terms = group_sum(terms, scratch);
    d_ap = group_sum(d_ap, scratch);
    for (int j = lid; j < m; j += LOCAL) {
        if (labels[j] == label) continue;
        const float part = exp((near - dist[j]) * factor) * rest;
        coef[j] = -factor * part;
        turn += (dist[j] - near) * factor * part;
    }
#if LEARN
    turn = group_sum(turn, scratch);
    if (lid == 0) store_turn(ws, n, m, i, turn);
#endif
    if (lid == 0) store_row(ws, n, m, i, loss, d_ap, d_an / negatives * terms, (uint)active, (uint)terms);
}
