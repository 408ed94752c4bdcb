/* SPDX-License-Identifier: MIT */
/* conv2d_add_splits - adds up the filter gradient's partial sums where they lie as the caller's weights do.
 *   dw[i] = beta * dw[i] + sum over splits of partial[split][i]
 * partial [splits][count]; dw [count]; global (ceil(count / 64)), local (64): splits are added in order (deterministic).
 * host src/op/conv2d_direct_gradient.c   ref: tested through the convolution */
__kernel void conv2d_add_splits(__global const float *restrict partial, __global float *restrict dw, const int splits, const int count,
                                const int beta)
{
    const int i = (int)get_global_id(0);
    if (i >= count) return;
    float sum = beta ? dw[i] : 0.0f;
    for (int split = 0; split < splits; split++) sum += partial[(size_t)split * count + i];
    dw[i] = sum;
}
