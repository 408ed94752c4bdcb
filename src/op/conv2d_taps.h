/* SPDX-License-Identifier: MIT */
/* The data gradient of a strided convolution, one axis at a time: positions of one remainder by the stride (a phase) are all reached by
 * the same taps, and by no others. */
#ifndef TRINE_OP_CONV2D_TAPS_H
#define TRINE_OP_CONV2D_TAPS_H

/* One launch of a convolution: a grid of results that begins at (oy, ox), and the taps that reach them. */
typedef struct trine__phase {
    int rows, columns, oy, ox;
    int first_tap, tap_count;
} trine__phase;

/* Taps of one axis that reach one phase of the result: they read position base + j + t * delta of the gradient
 * for result j, and weight first + t * step. */
typedef struct trine__axis {
    int count; /* results of this phase */
    int base, delta;
    int first, step, taps;
} trine__axis;

/* Of the results offset, offset + stride, ... below `in`. */
trine__axis trine__backward_axis(int in, int offset, int kernel, int stride, int pad, int dilation);

#endif
