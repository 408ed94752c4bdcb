/* SPDX-License-Identifier: MIT */
/* bn_statistics - merges the chunks' statistics of each channel and moves the running ones (pass 2 of batch statistics).
 *   mean = sum(n_i*mean_i)/n   m2 = sum(m2_i + n_i*(mean_i - mean)^2)   over chunks i, both sums compensated (Kahan)
 *   rstd = 1/sqrt(m2/n + eps)   running_mean = (1-a)*running_mean + a*mean   running_var = (1-a)*running_var + a*m2/(n-1)
 * partials [blocks][images*chunks][2][CB]; mean, rstd [C rounded up to CB] (padding: 0); running_mean, running_var [C] or null
 * 1-a in two parts: one float's rounding of it, repeated at every pass, would pull towards 0 by 3e-8/a
 * global (blocks): one work-item is one channel block; chunks are added in order: deterministic.
 * -D CB.  host src/op/batchnorm.c   ref tests/ref/ref_batchnorm.c   Chan et al. 1979 for many parts; running_var as torch.nn.BatchNorm2d */
#include "block.clh"

__kernel void bn_statistics(__global const float *restrict partials, __global float *restrict mean_out,
                            __global float *restrict rstd_out, __global float *restrict running_mean,
                            __global float *restrict running_var, const int channels, const int images, const int pixels,
                            const int chunk, const float eps, const float factor)
{
    const int block = (int)get_global_id(0), first = block * CB;
    if (first >= channels) return;
    const int chunks = (pixels + chunk - 1) / chunk;
    __global const float *parts = partials + (size_t)block * images * chunks * (2 * CB), *part = parts;
    const float n = (float)images * (float)pixels;
    const floatV origin = LOADV(0, parts);
    floatV sum = (floatV)(0.0f), error = (floatV)(0.0f); /* of count*(chunk's mean - origin): small numbers, compensated */
    for (int image = 0; image < images; image++)
        for (int left = pixels; left > 0; left -= chunk, part += 2 * CB) {
            const floatV term = (float)min(chunk, left) * (LOADV(0, part) - origin) - error, total = sum + term;
            error = (total - sum) - term;
            sum = total;
        }
    const floatV offset = sum / n, mean = origin + offset;
    floatV m2 = (floatV)(0.0f);
    error = (floatV)(0.0f);
    part = parts;
    for (int image = 0; image < images; image++)
        for (int left = pixels; left > 0; left -= chunk, part += 2 * CB) {
            const floatV delta = (LOADV(0, part) - origin) - offset;
            const floatV term = fma((float)min(chunk, left) * delta, delta, LOADV(1, part)) - error, total = m2 + term;
            error = (total - m2) - term;
            m2 = total;
        }
    float means[CB], squares[CB];
    STOREV(mean, 0, means);
    STOREV(m2, 0, squares);
    const float keep = 1.0f - factor, lost = (1.0f - keep) - factor; /* keep + lost is 1 - factor */
    for (int l = 0; l < CB; l++) {
        const int c = first + l, there = c < channels;
        mean_out[c] = there ? means[l] : 0.0f;
        rstd_out[c] = there ? 1.0f / sqrt(squares[l] / n + eps) : 0.0f;
        if (running_mean && there) running_mean[c] = fma(keep, running_mean[c], fma(lost, running_mean[c], factor * means[l]));
        if (running_var && there)
            running_var[c] = fma(keep, running_var[c], fma(lost, running_var[c], factor * (squares[l] / (n - 1.0f))));
    }
}
