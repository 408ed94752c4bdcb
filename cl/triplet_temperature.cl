/* SPDX-License-Identifier: MIT */
/* triplet_temperature - hold a temperature that is learnt where a softmax can still be computed:  learned[0] = max(learned[0], least),
 * the logarithm of it in and out.
 * global (1).
 * host src/op/triplet_temperature.c   source: Radford et al. 2021, section 2.5 (logits are scaled by 100 at the most) */
__kernel void triplet_temperature(__global float *learned, const float least)
{
    learned[0] = fmax(learned[0], least);
}
