/* SPDX-License-Identifier: MIT */
/* triplet_reduce - the anchors' sums to the loss, the statistics and the scale of the gradient.
 * ws: norms and row sums in, scale out; stats[at .. at + 6] out: loss, terms with positive loss, terms in all, mean d_ap, mean
 * d_an, mean |e|, temperature.  The loss is a mean over the positive terms (`loss_over_active`) or all, the distances too
 * (`distances_over_active`); 0 where there is none.
 * Comparisons can lose a NaN, so a norm that is not finite makes the loss and the whole gradient NaN here.
 * -D LEARN=1: gradient[0] out: d loss / d log(temperature); scaling out: 1, 1, 1 where it is not finite, and no step may be taken, else 0.
 * global (LOCAL), local (LOCAL): one work-group, fixed order of summation.
 * host src/op/triplet.c   ref tests/ref/ref_loss.c */
#include "group.clh"
#include "triplet.clh"

ulong group_count(ulong value, __local ulong *scratch)
{
    const int lid = (int)get_local_id(0);
    scratch[lid] = value;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int span = LOCAL / 2; span > 0; span /= 2) {
        if (lid < span) scratch[lid] += scratch[lid + span];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    const ulong sum = scratch[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return sum;
}

__kernel void triplet_reduce(__global float *ws, __global float *restrict stats, const int n, const int m,
                             const int loss_over_active, const int distances_over_active, const int at,
                             const float temperature, __global const float *learned, __global float *gradient,
                             __global float *scaling)
{
    __local float scratch[LOCAL];
    __local ulong counts[LOCAL];
    __global const uint *row_counts = (__global const uint *)ws;
    const int lid = (int)get_local_id(0);
    float norm = 0.0f, remembered = 0.0f, turn = 0.0f, loss = 0.0f, d_ap = 0.0f, d_an = 0.0f;
    ulong active = 0, terms = 0;
    for (int i = lid; i < n; i += LOCAL) {
        norm += ws[i];
        loss += ws[WS_ROW(ROW_LOSS, n, m) + i];
        d_ap += ws[WS_ROW(ROW_AP, n, m) + i];
        d_an += ws[WS_ROW(ROW_AN, n, m) + i];
        active += row_counts[WS_ROW(ROW_ACTIVE, n, m) + i];
        terms += row_counts[WS_ROW(ROW_TERMS, n, m) + i];
#if LEARN
        turn += ws[WS_ROW(ROW_TURN, n, m) + i];
#endif
    }
    for (int j = n + lid; j < m; j += LOCAL) remembered += ws[j];
    remembered = group_sum(remembered, scratch);
    norm = group_sum(norm, scratch);
    loss = group_sum(loss, scratch);
    d_ap = group_sum(d_ap, scratch);
    d_an = group_sum(d_an, scratch);
    active = group_count(active, counts);
    terms = group_count(terms, counts);
#if LEARN
    turn = group_sum(turn, scratch);
#endif
    if (lid != 0) return;
    const ulong over = loss_over_active ? active : terms, pairs = distances_over_active ? active : terms;
    const float all = norm + remembered;
    /* NaN unless all norms are finite; told by the bits, because some compilers take norm * 0 for 0 */
    const bool finite = (as_uint(all) & 0x7f800000u) != 0x7f800000u;
    const float not_a_number = as_float(0x7fc00000u);
    ws[WS_SCALE(n, m)] = !finite ? not_a_number : over ? 1.0f / (float)over : 0.0f;
    stats[at] = !finite ? not_a_number : over ? loss / (float)over : 0.0f;
    stats[at + 1] = (float)active;
    stats[at + 2] = (float)terms;
    stats[at + 3] = pairs ? d_ap / (float)pairs : 0.0f;
    stats[at + 4] = pairs ? d_an / (float)pairs : 0.0f;
    stats[at + 5] = norm / (float)n;
    stats[at + 6] = temperature_now(temperature, learned);
#if LEARN
    turn = !finite ? not_a_number : over ? turn / (float)over : 0.0f;
    gradient[0] = turn;
    scaling[0] = scaling[1] = 1.0f;
    scaling[2] = (as_uint(turn) & 0x7f800000u) == 0x7f800000u ? 1.0f : 0.0f;
#endif
}
