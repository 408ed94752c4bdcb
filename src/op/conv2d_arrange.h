/* SPDX-License-Identifier: MIT */
/* Images as the direct convolution reads them: padded, and taken apart by the stride's phases. */
#ifndef TRINE_OP_CONV2D_ARRANGE_H
#define TRINE_OP_CONV2D_ARRANGE_H

#include "op/conv2d_private.h"

/* The copy. Padded position (u, v) is pixel (u - top, v - left) of the image; plane (u mod stride_h, v mod stride_w) holds
 * it at row u / stride_h and column v / stride_w. */
typedef struct trine__arrangement {
    bool identity; /* nothing to copy */
    int values;    /* floats of a pixel */
    int h, w;      /* of the image */
    int stride_h, stride_w, phases_h, phases_w, top, left;
    int rows, width, tail; /* a plane has rows * width + tail pixels: rows share the zeros between them */
} trine__arrangement;

/* How far taps reach along one axis: positions first .. last of the padded image. */
typedef struct trine__reach {
    int image;  /* pixels of the image */
    int pad;    /* before them */
    int stride; /* from plane to plane; 1: one plane */
    int planes; /* in use, <= stride */
    int count;  /* positions read in a plane */
} trine__reach;

trine__arrangement trine__arrangement_make(const trine__reach *rows, const trine__reach *columns, int values);
/* Floats of one block of channels of one image. */
size_t trine__arrangement_floats(const trine__arrangement *a);
/* Where position (u, v) lies, in floats from the block's beginning; of a block below 2^31 floats. */
int trine__arrangement_at(const trine__arrangement *a, int u, int v);
trine_status trine__arrangement_kernel(trine_context *context, const trine__arrangement *a,
                                       trine__kernel **out);
/* Copy x to `to`, from float `at` on. Enqueues only. */
trine_status trine__arrange(trine_stream *stream, trine__kernel *kernel, const trine__arrangement *a,
                            const trine_tensor *x, trine_buffer *to, size_t at, const char *label);

#endif
