/* SPDX-License-Identifier: MIT */
/* triplet_terms - the loss over the negatives that were chosen for the anchor-positive pairs, and d loss / d distance.
 *   with swap, d_an is the smaller of d(a,n) and d(p,n); of a remembered positive, which has no row, that is matrix 3 (triplet_swap),
 *   and the row of its negative takes that part of the gradient
 * ws: distances in; matrix 2, of ints, in: in row a and column p the negative or -1; matrix 1 out: the coefficients of row i's distances,
 * not yet divided by the number of terms.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is a row, as anchor and (swap) as the positive of others; a work-item owns the
 * columns j = lid mod LOCAL.
 * -D LEARN (1: ROW_TURN out)
 * host src/op/triplet.c   ref tests/ref/ref_triplet.c   source: Balntas et al. 2016, section 3.2 (swap) */
#include "group.clh"
#include "triplet.clh"

__kernel void triplet_terms(__global float *ws, const int n, const int m, const int swap, const float margin,
                            const float fixed_temperature, __global const float *restrict learned)
{
    const int lid = (int)get_local_id(0), i = (int)get_group_id(1);
    __global const int *labels = (__global const int *)ws + WS_LABELS(n, m);
    __global const float *matrix = ws + WS_MATRIX(n, m), *dist = matrix + (size_t)i * m;
    __global const int *chosen = (__global const int *)matrix + 2 * (size_t)n * m;
    __global float *coef = ws + WS_MATRIX(n, m) + ((size_t)n + i) * m;
    __global const float *pn = matrix + 3 * (size_t)n * m;
    const int label = labels[i];
    const float temperature = temperature_now(fixed_temperature, learned);
    float loss = 0.0f, d_ap = 0.0f, d_an = 0.0f, turn = 0.0f, slope;
    uint active = 0, terms = 0;
    for (int j = lid; j < m; j += LOCAL)
        coef[j] = 0.0f;
    for (int p = 0; p < m; p++) { /* the same for all work-items */
        if (p == i || labels[p] != label) continue;
        const int q = chosen[(size_t)i * m + p];
        if (q < 0) continue;
        float far = dist[q], share = 1.0f;
        if (swap) {
            const float d_pn = p < n ? matrix[(size_t)p * m + q] : pn[(size_t)i * m + p];
            share = share_of(far, d_pn);
            far = fmin(far, d_pn);
        }
        const float value = term(dist[p] - far, margin, temperature, &slope);
        if (p % LOCAL == lid) coef[p] = slope;
        if (q % LOCAL == lid) coef[q] -= slope * share;
#if LEARN
        turn += by_temperature(dist[p] - far, temperature);
#endif
        loss += value;
        d_ap += dist[p];
        d_an += far;
        active += temperature > 0.0f || value > 0.0f;
        terms++;
    }
    for (int a = 0; a < n && swap; a++) {
        if (a == i || labels[a] != label) continue;
        const int q = chosen[(size_t)a * m + i];
        if (q < 0) continue;
        const float far = matrix[(size_t)a * m + q], d_pn = dist[q], share = share_of(far, d_pn);
        if (share == 1.0f) continue;
        term(dist[a] - fmin(far, d_pn), margin, temperature, &slope);
        if (q % LOCAL == lid) coef[q] -= slope * (1.0f - share);
    }
    for (int p = lid; p < m && swap && m > n; p += LOCAL) { /* remembered positives, i being the negative */
        if (p < n || labels[p] == label) continue;
        float sum = 0.0f;
        for (int a = 0; a < n; a++) {
            if (labels[a] != labels[p] || chosen[(size_t)a * m + p] != i) continue;
            const float far = matrix[(size_t)a * m + i], share = share_of(far, dist[p]);
            if (share == 1.0f) continue;
            term(matrix[(size_t)a * m + p] - fmin(far, dist[p]), margin, temperature, &slope);
            sum += slope * (1.0f - share);
        }
        coef[p] -= sum;
    }
    if (lid == 0) store_row(ws, n, m, i, loss, d_ap, d_an, active, terms);
    if (lid == 0) store_turn(ws, n, m, i, turn);
}
