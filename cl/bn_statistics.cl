/* SPDX-License-Identifier: MIT */
/* bn_statistics - merges the parts' statistics of each channel and moves the running ones (pass 2 of batch statistics).
 *   mean = sum(n_i*mean_i)/n   m2 = sum(m2_i + n_i*(mean_i - mean)^2)   over parts i, both sums compensated (Kahan)
 *   rstd = 1/sqrt(m2/n + eps)   running_mean = (1-a)*running_mean + a*mean   running_var = (1-a)*running_var + a*m2/(n-1)
 * partials as in bn_parts.clh; mean, rstd [C rounded up to CB] (padding: 0); running_mean, running_var [C] or null
 * 1-a in two parts: one float's rounding of it, repeated at every pass, would pull towards 0 by 3e-8/a
 * global (blocks): one work-item is one channel block, and adds the parts in order; with -D GROUP global (blocks*LOCAL), local (LOCAL, 1, 1):
 * a work-group is a block, and its work-items' sums are added as a tree. Deterministic both.
 * -D CB GROUP.  host src/op/batchnorm.c   ref tests/ref/ref_batchnorm.c   Chan et al. 1979 for many parts; running_var as torch.nn.BatchNorm2d */
#include "block.clh"
#include "bn_parts.clh"

__kernel void bn_statistics(__global const float *restrict partials, __global float *restrict mean_out,
                            __global float *restrict rstd_out, __global float *restrict running_mean,
                            __global float *restrict running_var, const int channels, const float n, const float eps,
                            const float factor)
{
    const int block = MERGED_BLOCK, first = block * CB;
    MERGE_GUARD(first < channels);
    const int count = *(__global const int *)partials, blocks = (channels + CB - 1) / CB;
    __global const float *parts = partials + PARTS_HEADER + (size_t)block * count * (2 * CB);
    __global const float *values = partials + PARTS_HEADER + (size_t)blocks * count * (2 * CB);
    GROUP_SCRATCH(scratch);
    const floatV origin = LOADV(0, parts);
    floatV sum = (floatV)(0.0f), error = (floatV)(0.0f); /* of values*(chunk's mean - origin): small numbers, compensated */
    for (int i = MEMBER; i < count; i += MEMBERS) {
        const floatV term = values[i] * (LOADV(2 * i, parts) - origin) - error, total = sum + term;
        error = (total - sum) - term;
        sum = total;
    }
    const floatV offset = GROUP_SUM(sum, scratch) / n, mean = origin + offset;
    floatV squared = (floatV)(0.0f);
    error = (floatV)(0.0f);
    for (int i = MEMBER; i < count; i += MEMBERS) {
        const floatV delta = (LOADV(2 * i, parts) - origin) - offset;
        const floatV term = fma(values[i] * delta, delta, LOADV(2 * i + 1, parts)) - error, total = squared + term;
        error = (total - squared) - term;
        squared = total;
    }
    const floatV m2 = GROUP_SUM(squared, scratch);
    if (MEMBER != 0) return;
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
