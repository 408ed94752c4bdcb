/* SPDX-License-Identifier: MIT */
/* conv2d_gemm - convolution as a matrix product whose right side is gathered from the image on the way to local memory (implicit GEMM);
 * serves forward and backward_data, any kernel, stride, padding, dilation, groups and channel blocks.
 *   y[n][m][oy + row*os_h][ox + col*os_w] = epilogue( sum over c, taps t of w(m, c, t.z) * x[n][c][row*step_h + t.x][col*step_w + t.y] )
 *   epilogue(v) = relu?( v * scale[m] + shift[m] + residual + beta * y )
 * backward_data: x is the output's gradient, w is transposed; one launch for each phase of the stride with the taps that reach it.
 * x [N][groups*sources][in_h][in_w] in blocks of 1 << x_shift; y, residual [N][groups*results][out_h][out_w] in blocks of 1 << y_shift,
 * whose padding is written with zeros; w as in conv2d_gemm_layout.clh; scale, shift [channels of y's blocks] or null; taps: row, column
 * and position among a filter's
 * global (SIDE * ceil(pixels / BN), SIDE * ceil(results and padding / BM), groups), local (SIDE, SIDE, 1)
 * The sums' order does not depend on the tile. The next step's values are on their way while this one's are multiplied.
 * -D SIDE TM TN X_HALF Y_HALF MMA   host src/op/conv2d_gemm.c   ref tests/ref/ref_conv2d.c   after: Chetlur et al., arXiv 1410.0759 (2014) */
#include "conv2d_gemm.clh"
#include "conv2d_gemm_layout.clh"
#include "conv2d_epilogue.clh"

/* A place in the reduction: block of sources, tap, and where in the block. */
typedef struct place {
    int block, tap, within;
} place;

static inline place place_of(const int kk, const int source_shift, const int taps)
{
    place p;
    p.block = (kk >> source_shift) / taps;
    p.tap = (kk >> source_shift) % taps;
    p.within = kk & ((1 << source_shift) - 1);
    return p;
}

/* SIDE further: blocks of sources have at most as many. */
static inline place next_place(place p, const int source_shift, const int taps)
{
    p.block += (SIDE >> source_shift) / taps;
    p.tap += (SIDE >> source_shift) % taps;
    if (p.tap >= taps) {
        p.tap -= taps;
        p.block++;
    }
    return p;
}

/* A result pixel as its tap (0, 0) sees the image: position in x, row and column. */
typedef struct pixel {
    int at, corner;
} pixel;

/* Filters m, m + SIDE, ... of a tile at one place of the reduction; a tile may reach behind the last block of filters, whose values do. */
static inline void fetch_weights(float part[TM], __global const float *restrict w, const place p, const int tap, const int blocks,
                                 const int taps, const int source_shift, const int m, const int last_row)
{
#pragma unroll
    for (int i = 0; i < TM; i++) {
        const int to = m + i * SIDE, row = min(to / LANES, last_row);
        part[i] = p.block < blocks
                      ? w[((((row * blocks + p.block) * taps + tap) << source_shift) + p.within) * LANES + to % LANES]
                      : 0.0f;
    }
}

static inline void fetch_pixels(float part[TN], __global const x_t *restrict x, const pixel pixels[TN], const int4 tap, const int c,
                                const int sources, const int group, const int in_h, const int in_w, const int x_shift)
{
    const int at = CHANNEL(group * sources + c, in_h * in_w, x_shift) + ((tap.x * in_w + tap.y) << x_shift);
#pragma unroll
    for (int j = 0; j < TN; j++) {
        const int row = CORNER_ROW(pixels[j].corner) + tap.x, column = CORNER_COLUMN(pixels[j].corner) + tap.y;
        const int inside = c < sources && row >= 0 && row < in_h && column >= 0 && column < in_w;
        part[j] = inside ? LOADX(pixels[j].at + at, x) : 0.0f;
    }
}

__attribute__((reqd_work_group_size(SIDE, SIDE, 1))) UNIT_SUB_GROUP
__kernel void conv2d_gemm(
    __global const x_t *restrict x, __global const float *restrict w, __global const int4 *restrict taps,
    __global const float *restrict scale, __global const float *restrict shift, __global const y_t *residual, __global y_t *y,
    const int sources, const int results, const int source_shift, const int weight_taps, const int in_h, const int in_w, const int rows,
    const int columns, const int pixel_count, const int step_h, const int step_w, const int out_h, const int out_w, const int oy,
    const int ox, const int os_h, const int os_w, const int first_tap, const int tap_count, const int x_shift, const int y_shift,
    const int flags)
{
    TILE(a, BM);
    TILE(b, BN);
    EXCHANGE
    const int lx = (int)get_local_id(0), ly = (int)get_local_id(1), group = (int)get_group_id(2), groups = (int)get_num_groups(2);
    const int m0 = (int)get_group_id(1) * BM, p0 = (int)get_group_id(0) * BN;
    /* neighbours read neighbouring pixels, or neighbouring channels where those lie together */
    const int b_kk = x_shift ? lx : ly, b_pixel = x_shift ? ly : lx;
    pixel pixels[TN];
#pragma unroll
    for (int j = 0; j < TN; j++) {
        const int f = p0 + b_pixel + j * SIDE, row = f % (rows * columns) / columns * step_h, column = f % columns * step_w;
        pixels[j].at = f / (rows * columns) * IMAGE(groups * sources, in_h * in_w, x_shift) + ((row * in_w + column) << x_shift);
        pixels[j].corner = f < pixel_count ? CORNER(row, column) : OUTSIDE;
    }
    const int result_rows = (results + LANES - 1) / LANES, blocks = (sources + (1 << source_shift) - 1) >> source_shift;
    const int steps = (((blocks * tap_count) << source_shift) + SIDE - 1) / SIDE, taps_or_one = max(tap_count, 1);
    w += (size_t)group * result_rows * blocks * weight_taps * LANES << source_shift;
    place at_a = place_of(ly, source_shift, taps_or_one), at_b = place_of(b_kk, source_shift, taps_or_one);
    float acc[ACC_ROWS][ACC_COLUMNS], a_part[TM], b_part[TN];
    clear(acc);
    if (steps > 0) {
        fetch_weights(a_part, w, at_a, taps[first_tap + at_a.tap].z, blocks, weight_taps, source_shift, m0 + lx, result_rows - 1);
        fetch_pixels(b_part, x, pixels, taps[first_tap + at_b.tap], (at_b.block << source_shift) + at_b.within, sources, group, in_h,
                     in_w, x_shift);
    }
#pragma unroll 1
    for (int s = 0; s < steps; s++) {
        put_part(a_part, TM, a, A_ROW, ly, lx);
        put_part(b_part, TN, b, B_ROW, b_kk, b_pixel);
        barrier(CLK_LOCAL_MEM_FENCE);
        at_a = next_place(at_a, source_shift, tap_count);
        at_b = next_place(at_b, source_shift, tap_count);
        fetch_weights(a_part, w, at_a, taps[first_tap + at_a.tap].z, blocks, weight_taps, source_shift, m0 + lx, result_rows - 1);
        fetch_pixels(b_part, x, pixels, taps[first_tap + at_b.tap], (at_b.block << source_shift) + at_b.within, sources, group, in_h,
                     in_w, x_shift);
        multiply_tiles(acc, a, b, ly, lx);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    const int padded = group == groups - 1 ? ((((groups * results - 1) >> y_shift) + 1) << y_shift) - group * results : results;
#pragma unroll
    for (int j = 0; j < ACC_COLUMNS; j++) {
        const int f = p0 + COLUMN_OF(j, ly, lx), row = f % (rows * columns) / columns, column = f % columns;
        if (f >= pixel_count) continue;
        const int pixel_at = f / (rows * columns) * IMAGE(groups * results, out_h * out_w, y_shift) +
                             (((oy + row * os_h) * out_w + ox + column * os_w) << y_shift);
#pragma unroll
        for (int i = 0; i < ACC_ROWS; i++) {
            const int m = m0 + ROW_OF(i, ly, lx), channel = group * results + m;
            if (m >= padded) continue;
            const int at = pixel_at + CHANNEL(channel, out_h * out_w, y_shift);
            STOREY(epilogue(acc[i][j], scale != 0, scale ? scale[channel] : 1.0f, shift ? shift[channel] : 0.0f, residual, y, at, flags), at,
                   y);
        }
    }
}
