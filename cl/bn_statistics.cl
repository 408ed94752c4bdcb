/* SPDX-License-Identifier: MIT */
/* bn_statistics - merges the chunks' statistics of one channel and moves the running ones (pass 2 of batch statistics).
 *   mean = sum(n_i*mean_i)/n   m2 = sum(m2_i + n_i*(mean_i - mean)^2)   over chunks i, both sums compensated (Kahan)
 *   rstd = 1/sqrt(m2/n + eps)   running_mean = (1-a)*running_mean + a*mean   running_var = (1-a)*running_var + a*m2/(n-1)
 * partials [blocks][images*chunks][2][CB]; mean, rstd [C rounded up to CB] (padding: 0); running_mean, running_var [C] or null
 * 1-a in two parts: one float's rounding of it, repeated at every pass, would pull towards 0 by 3e-8/a
 * global (C rounded up to CB), local (64, 1, 1); chunks are added in order: deterministic.
 * -D CB.  host src/op/batchnorm.c   ref tests/ref/ref_batchnorm.c   Chan et al. 1979 for many parts; running_var as torch.nn.BatchNorm2d */
#include "block.clh"

__kernel void bn_statistics(__global const float *restrict partials, __global float *restrict mean_out,
                            __global float *restrict rstd_out, __global float *restrict running_mean,
                            __global float *restrict running_var, const int channels, const int images, const int pixels,
                            const int chunk, const float eps, const float factor)
{
    const int c = (int)get_global_id(0), padded = (channels + CB - 1) / CB * CB;
    if (c >= padded) return;
    if (c >= channels) {
        mean_out[c] = 0.0f;
        rstd_out[c] = 0.0f;
        return;
    }
    const int chunks = (pixels + chunk - 1) / chunk;
    __global const float *part = partials + (size_t)(c / CB) * images * chunks * (2 * CB) + c % CB;
    const float n = (float)images * (float)pixels, origin = part[0];
    float sum = 0.0f, error = 0.0f; /* of count*(chunk's mean - origin): small numbers, compensated */
    for (int i = 0; i < images * chunks; i++) {
        const float count = (float)min(chunk, pixels - i % chunks * chunk);
        const float term = count * (part[i * 2 * CB] - origin) - error, total = sum + term;
        error = (total - sum) - term;
        sum = total;
    }
    const float offset = sum / n, mean = origin + offset;
    float m2 = 0.0f;
    error = 0.0f;
    for (int i = 0; i < images * chunks; i++) {
        const float count = (float)min(chunk, pixels - i % chunks * chunk);
        const float delta = (part[i * 2 * CB] - origin) - offset;
        const float term = fma(count * delta, delta, part[i * 2 * CB + CB]) - error, total = m2 + term;
        error = (total - m2) - term;
        m2 = total;
    }
    mean_out[c] = mean;
    rstd_out[c] = 1.0f / sqrt(m2 / n + eps);
    const float keep = 1.0f - factor, lost = (1.0f - keep) - factor; /* keep + lost is 1 - factor */
    if (running_mean) running_mean[c] = fma(keep, running_mean[c], fma(lost, running_mean[c], factor * mean));
    if (running_var) running_var[c] = fma(keep, running_var[c], fma(lost, running_var[c], factor * (m2 / (n - 1.0f))));
}
