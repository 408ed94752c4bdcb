/* SPDX-License-Identifier: MIT */
/* gradient_clip - from gradient_norm's partial sums to what the optimizers' kernels multiply gradients by:
 *   norm = factor * inverse * sqrt(sum of partials);   state = {norm, factor * inverse * min(1, most / (norm + 1e-6)), overflow}
 * as torch.nn.utils.clip_grad_norm_; scaling: null, or loss_scale's state, which gives inverse and overflow (else 1 and 0).
 * most = infinity: no clipping. Sums in order with Kahan's compensation, one work-item. global (1).   host src/op/gradient_norm.c */
__kernel void gradient_clip(__global const float *restrict partials, const int count, __global const float *restrict scaling,
                            const float factor, const float most, __global float *restrict state)
{
    if (get_global_id(0) > 0) return;
    float sum = 0.0f, lost = 0.0f;
    for (int i = 0; i < count; i++) {
        const float term = partials[i] - lost, next = sum + term;
        lost = (next - sum) - term;
        sum = next;
    }
    const float scale = scaling ? factor * scaling[1] : factor;
    const float norm = scale * sqrt(sum);
    state[0] = norm;
    state[1] = scale * fmin(most / (norm + 1e-6f), 1.0f);
    state[2] = scaling ? scaling[2] : 0.0f;
}
