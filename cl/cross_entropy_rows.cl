/* SPDX-License-Identifier: MIT */
/* cross_entropy_rows - softmax cross-entropy of every row, and its gradient times `scale`.
 *   loss[n] = log(sum_k exp(z[n][k] - max)) - (z[n][label] - max);   dz = (softmax - onehot) * scale
 * z [N][K]; labels [N]; dz [N][K] out or null; rows [2][N] out: loss; 1 if the largest logit (lowest index among equals) is the
 * label's, else 0.  A label outside [0, K) makes its row's loss and gradient NaN.
 * global (LOCAL, N), local (LOCAL, 1): a work-group is a row.
 * host src/op/cross_entropy.c   ref tests/ref/ref_loss.c   torch.nn.CrossEntropyLoss */
#include "group.clh"

__kernel void cross_entropy_rows(__global const float *restrict z, __global const int *restrict labels,
                                 __global float *restrict dz, __global float *restrict rows, const int n, const int k,
                                 const float scale)
{
    __local float values[LOCAL];
    __local int indices[LOCAL];
    const int lid = (int)get_local_id(0), row = (int)get_group_id(1);
    const size_t base = (size_t)row * k;
    float best = -INFINITY;
    int at = -1;
    for (int c = lid; c < k; c += LOCAL) {
        const float v = z[base + c];
        if (at < 0 || v > best) {
            best = v;
            at = c;
        }
    }
    at = group_argmax(best, at, values, indices);
    const float largest = z[base + at];
    float sum = 0.0f;
    for (int c = lid; c < k; c += LOCAL) sum += exp(z[base + c] - largest);
    sum = group_sum(sum, values);
    const int label = labels[row];
    const bool known = label >= 0 && label < k;
    if (lid == 0) {
        rows[row] = known ? log(sum) - (z[base + label] - largest) : NAN;
        rows[n + row] = at == label ? 1.0f : 0.0f;
    }
    if (!dz) return;
    for (int c = lid; c < k; c += LOCAL) {
        const float p = exp(z[base + c] - largest) / sum;
        dz[base + c] = known ? (p - (c == label ? 1.0f : 0.0f)) * scale : NAN;
    }
}
