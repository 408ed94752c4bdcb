/* SPDX-License-Identifier: MIT */
/* loss_scale_update - after a step: an overflow halves the scale (the step was left out), `interval` steps without one double it.
 * state {scale, 1/scale, overflow, steps since the last change, skipped}; the scale stays a power of two in [1, most]
 * global (1).   host src/op/loss_scale.c   as torch.cuda.amp.GradScaler, with a bound on either side */
__kernel void loss_scale_update(__global float *state, const float interval, const float most)
{
    if (get_global_id(0) > 0) return;
    float scale = state[0], steps = state[3] + 1.0f;
    if (state[2] != 0.0f) {
        scale = fmax(scale * 0.5f, 1.0f);
        steps = 0.0f;
        state[4] += 1.0f;
    } else if (steps >= interval) {
        scale = fmin(scale * 2.0f, most);
        steps = 0.0f;
    }
    state[0] = scale;
    state[1] = 1.0f / scale;
    state[2] = 0.0f;
    state[3] = steps;
}
