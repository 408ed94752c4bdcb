/* SPDX-License-Identifier: MIT */
/* conv2d_gemm_subgroups - conv2d_gemm's convolution without local memory and barriers: a work-item is a pixel of TM results, and reads the
 * values of x that it alone multiplies. The TM weights of a place in the reduction lie in the SUB_LANES work-items of a sub-group, as one
 * block read gives them, and are broadcast from there; which pixel a work-item has does not matter.
 * Parameters, layouts and the sums' order are conv2d_gemm's (cl/conv2d_gemm.cl), and so are the results.
 * -D SUB_GROUP=1: cl_intel_subgroups and cl_intel_required_subgroup_size; =2: their block read and shuffle by ordinary reads, for tests;
 * =3: cl_khr_subgroups, of at least SUB_LANES work-items (the host asks): each SUB_LANES of them hold the same weights
 * global (SIDE * ceil(pixels / SIDE), ceil(results and padding / TM), groups), local (SIDE, 1, 1)
 * -D SIDE TM (16) TN (1) STEP (sources in a block of packed weights) SUB_GROUP X_HALF Y_HALF
 * host src/op/conv2d_gemm.c   ref tests/ref/ref_conv2d.c   Intel: OpenCL extension cl_intel_subgroups */
#ifndef TM
#define SIDE 64
#define TM 16
#define TN 1
#endif
#include "conv2d_gemm.clh"
#include "conv2d_gemm_layout.clh"
#include "conv2d_epilogue.clh"

#define SUB_LANES 16
#ifndef STEP
#define STEP 8
#endif
#if TM != SUB_LANES || TN != 1
#error "a work-item has half a row of packed weights and one pixel"
#endif
/* As STEP_UNROLL, which is of a tile's side. PLACES whose values of x are read together: AMD's compiler has scalar registers for the
 * broadcast weights of two, and spills those of four. */
#if SUB_GROUP == 3 && STEP > 2
#define PLACES 2
#else
#define PLACES STEP
#endif
#if STEP_UNROLL == 1
#define PLACES_UNROLL 1
#else
#define PLACES_UNROLL PLACES
#endif

/* HOLD reads the weights of one place from `w`, WEIGHT is that of filter m. A block read gives lane l w[l]. */
#if SUB_GROUP == 3
/* As in cl_khr_subgroups: compilers that know them from OpenCL C 2.0 on do not declare them in 1.2. */
uint __attribute__((overloadable)) get_sub_group_local_id(void);
float __attribute__((overloadable, convergent)) sub_group_broadcast(float value, uint lane);
#define SUB_GROUP_SIZE
#define HOLD(held, w)      const float held = (w)[get_sub_group_local_id() % SUB_LANES]
#define WEIGHT(held, m)    sub_group_broadcast(held, (uint)(m))
#elif SUB_GROUP == 1
#define SUB_GROUP_SIZE     __attribute__((intel_reqd_sub_group_size(SUB_LANES)))
#define HOLD(held, w)      const float held = as_float(intel_sub_group_block_read((__global const uint *)(w)))
#define WEIGHT(held, m)    intel_sub_group_shuffle(held, m)
#else
#define SUB_GROUP_SIZE
#define HOLD(held, w)      __global const float *restrict held = (w)
#define WEIGHT(held, m)    held[m]
#endif

__attribute__((reqd_work_group_size(SIDE, 1, 1))) SUB_GROUP_SIZE
__kernel void conv2d_gemm_subgroups(
    __global const x_t *restrict x, __global const float *restrict w, __global const int4 *restrict taps,
    __global const float *restrict scale, __global const float *restrict shift, __global const y_t *residual, __global y_t *y,
    const int sources, const int results, const int source_shift, const int weight_taps, const int in_h, const int in_w, const int rows,
    const int columns, const int pixel_count, const int step_h, const int step_w, const int out_h, const int out_w, const int oy,
    const int ox, const int os_h, const int os_w, const int first_tap, const int tap_count, const int x_shift, const int y_shift,
    const int flags)
{
    const int f = (int)get_global_id(0), group = (int)get_group_id(2), groups = (int)get_num_groups(2);
    const int image = f / (rows * columns), out_row = f % (rows * columns) / columns, out_column = f % columns;
    const int row = out_row * step_h, column = out_column * step_w;
    const int at = image * IMAGE(groups * sources, in_h * in_w, x_shift) + ((row * in_w + column) << x_shift);
    const int m0 = (int)get_group_id(1) * TM, result_rows = (results + LANES - 1) / LANES, blocks = (sources + STEP - 1) / STEP;
    w += (size_t)(group * result_rows + min(m0 / LANES, result_rows - 1)) * blocks * weight_taps * (STEP * LANES) + m0 % LANES;
    float acc[TM][TN];
    clear(acc);
    for (int block = 0; block < blocks; block++, w += weight_taps * (STEP * LANES))
#pragma unroll 1
        for (int t = 0; t < tap_count; t++) {
            const int4 tap = taps[first_tap + t];
            const int from_row = row + tap.x, from_column = column + tap.y;
            const int inside = f < pixel_count && from_row >= 0 && from_row < in_h && from_column >= 0 && from_column < in_w;
            const int from = at + ((tap.x * in_w + tap.y) << x_shift);
            __global const float *restrict place = w + tap.z * (STEP * LANES);
#pragma unroll 1
            for (int first = 0; first < STEP; first += PLACES, place += PLACES * LANES) {
                float b[PLACES];
#pragma unroll PLACES_UNROLL
                for (int k = 0; k < PLACES; k++) {
                    const int c = block * STEP + first + k;
                    b[k] = inside && c < sources ? LOADX(from + CHANNEL(group * sources + c, in_h * in_w, x_shift), x) : 0.0f;
                }
#pragma unroll PLACES_UNROLL
                for (int k = 0; k < PLACES; k++) {
                    HOLD(held, place + k * LANES);
#pragma unroll
                    for (int m = 0; m < TM; m++) acc[m][0] = fma(WEIGHT(held, m), b[k], acc[m][0]);
                }
            }
        }
    if (f >= pixel_count) return;
    const int padded = group == groups - 1 ? ((((groups * results - 1) >> y_shift) + 1) << y_shift) - group * results : results;
    const int pixel_at = image * IMAGE(groups * results, out_h * out_w, y_shift) +
                         (((oy + out_row * os_h) * out_w + ox + out_column * os_w) << y_shift);
#pragma unroll
    for (int i = 0; i < TM; i++) {
        const int channel = group * results + m0 + i;
        if (m0 + i >= padded) continue;
        const int to = pixel_at + CHANNEL(channel, out_h * out_w, y_shift);
        STOREY(epilogue(acc[i][0], scale != 0, scale ? scale[channel] : 1.0f, shift ? shift[channel] : 0.0f, residual, y, to, flags), to, y);
    }
}
