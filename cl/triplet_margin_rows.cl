/* SPDX-License-Identifier: MIT */
/* triplet_margin_rows - explicit triplets, a row each: torch.nn.TripletMarginLoss and its gradients.
 *   d(x,y) = (sum_c |x[c] - y[c] + eps|^p)^(1/p);  v = d(a,p) - d(a,n) + margin;  loss[i] = max(0, v)
 *   SWAP: d(p,n) instead of d(a,n) where it is smaller
 * As in PyTorch the gradient passes at v = 0 (clamp_min), is shared by halves where d(a,n) = d(p,n), is 0 where a norm is 0, and
 * is shared by the largest components for p = infinity.
 * a, pos, neg, da, dp, dn [N][ld], d of them counted (padding of gradients written zero), da, dp, dn may be null; loss [N] out;
 * scale: what d loss / d row is multiplied with (1, or 1/N for the mean).
 * global (LOCAL, N), local (LOCAL, 1): a work-group is a row.
 * -D P_MODE (1, 2: that p; 3: infinity; 0: any p, by powers of ratios to the largest component) SWAP
 * host src/op/triplet_margin.c   ref tests/ref/ref_loss.c */
#include "group.clh"

float group_distance(__global const float *x, __global const float *y, int d, float eps, float p, float *ties,
                     __local float *scratch)
{
    const int lid = (int)get_local_id(0);
    float value = 0.0f;
    *ties = 1.0f;
#if P_MODE == 1
    for (int c = lid; c < d; c += LOCAL) value += fabs(x[c] - y[c] + eps);
    return group_sum(value, scratch);
#elif P_MODE == 2
    for (int c = lid; c < d; c += LOCAL) {
        const float v = x[c] - y[c] + eps;
        value = fma(v, v, value);
    }
    return sqrt(group_sum(value, scratch));
#else
    float sum = 0.0f;
    for (int c = lid; c < d; c += LOCAL) value = fmax(value, fabs(x[c] - y[c] + eps));
    const float largest = group_max(value, scratch);
#if P_MODE == 3
    for (int c = lid; c < d; c += LOCAL) {
        const float v = fabs(x[c] - y[c] + eps);
        sum += v == largest ? 1.0f : v == v ? 0.0f : v; /* fmax loses a NaN: the sum keeps it */
    }
    *ties = group_sum(sum, scratch);
    return *ties == *ties ? largest : *ties;
#else
    for (int c = lid; c < d; c += LOCAL) {
        const float v = fabs(x[c] - y[c] + eps);
        sum += v == 0.0f ? 0.0f : pow(v / largest, p);
    }
    sum = group_sum(sum, scratch);
    return largest == 0.0f && sum == 0.0f ? 0.0f : largest * pow(sum, 1.0f / p);
#endif
#endif
}

/* d norm / d component v */
float slope(float v, float norm, float ties, float p)
{
#if P_MODE == 1
    return sign(v);
#elif P_MODE == 2
    return norm == 0.0f ? 0.0f : v / norm;
#elif P_MODE == 3
    return fabs(v) == norm ? sign(v) / ties : 0.0f;
#else
    return v == 0.0f || norm == 0.0f ? 0.0f : sign(v) * pow(fabs(v) / norm, p - 1.0f);
#endif
}

__kernel void triplet_margin_rows(__global const float *restrict a, __global const float *restrict pos,
                                  __global const float *restrict neg, __global float *da, __global float *dp,
                                  __global float *dn, __global float *restrict loss, const int d, const int ld,
                                  const float margin, const float p, const float eps, const float scale)
{
    __local float scratch[LOCAL];
    const int lid = (int)get_local_id(0);
    const size_t row = get_group_id(1), base = row * ld;
    float ties_ap, ties_an, ties_pn = 1.0f, d_pn = 0.0f;
    const float d_ap = group_distance(a + base, pos + base, d, eps, p, &ties_ap, scratch);
    const float d_an = group_distance(a + base, neg + base, d, eps, p, &ties_an, scratch);
    float far = d_an, share = 1.0f; /* of d_an in the gradient; the rest is d_pn's */
#if SWAP
    d_pn = group_distance(pos + base, neg + base, d, eps, p, &ties_pn, scratch);
    if (d_pn == d_an) share = 0.5f;
    if (d_pn < d_an) share = 0.0f;
    far = d_an + d_pn != d_an + d_pn ? NAN : fmin(d_an, d_pn);
#endif
    const float v = d_ap - far + margin;
    if (lid == 0) loss[row] = v < 0.0f ? 0.0f : v;
    const float s = v < 0.0f ? 0.0f : v == v ? scale : v;
    for (int c = lid; c < ld; c += LOCAL) {
        const size_t at = base + c;
        float ap = 0.0f, an = 0.0f, pn = 0.0f;
        if (c < d) {
            ap = s * slope(a[at] - pos[at] + eps, d_ap, ties_ap, p);
            if (share > 0.0f) an = s * share * slope(a[at] - neg[at] + eps, d_an, ties_an, p);
            if (share < 1.0f) pn = s * (1.0f - share) * slope(pos[at] - neg[at] + eps, d_pn, ties_pn, p);
        }
        if (da) da[at] = ap - an;
        if (dp) dp[at] = -ap - pn;
        if (dn) dn[at] = an + pn;
    }
}
