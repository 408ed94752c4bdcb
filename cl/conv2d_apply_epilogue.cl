/* SPDX-License-Identifier: MIT */
/* conv2d_apply_epilogue - a convolution's epilogue, after a matrix product that knows none (cl/conv2d_epilogue.clh).
 *   y[n][k][i] = relu?( sums[n][k][i]*scale[k] + shift[k] + residual[n][k][i] )
 * sums, residual (or null; may be y), y [N][K][pixels]; scale, shift [K] or null
 * global (pixels, K, N), local (64, 1, 1)
 * host src/op/conv2d_clblast.c   ref tests/ref/ref_conv2d.c */
#define CB 1
#include "block.clh"
#include "conv2d_epilogue.clh"

__kernel void conv2d_apply_epilogue(__global const float *restrict sums, __global const float *restrict scale,
                                    __global const float *restrict shift, __global const y_t *residual, __global y_t *y,
                                    const int pixels, const int flags)
{
    const int i = (int)get_global_id(0), k = (int)get_global_id(1);
    if (i >= pixels) return;
    const size_t at = ((size_t)get_global_id(2) * get_global_size(1) + k) * pixels + i;
    STOREY(epilogue(sums[at], scale != 0, scale ? scale[k] : 1.0f, shift ? shift[k] : 0.0f, residual, y, at, flags), at, y);
}
