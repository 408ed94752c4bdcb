/* SPDX-License-Identifier: MIT */
/* A convolution as minimal filtering F(mo x mo, 3 x 3) sees it, whatever computes it: what is read, what is written, and its tiles
 * (cl/conv2d_winograd.clh). */
#ifndef TRINE_OP_CONV2D_WINOGRAD_SHAPE_H
#define TRINE_OP_CONV2D_WINOGRAD_SHAPE_H

#include "op/conv2d_private.h"

typedef struct trine__winograd_shape {
    int mo, stride; /* side of a tile, for backward_data of stride 2 of twice as many pixels */
    int planes;     /* products of a tile and a pair of channels */
    int in_channels, out_channels;
    int in_h, in_w, out_h, out_w, pad_h, pad_w; /* backward_data: of the gradients; padding may be negative */
    int tile_rows, tile_columns;                /* of an image */
} trine__winograd_shape;

/* backward_weights has forward's shape. false: no 3x3 convolution without dilation and groups of stride 1 or, F(2x2) alone, of
 * stride 2, whose backward_data wants a padding of 1. */
bool trine__winograd_shape_of(const trine_conv2d *op, trine_direction direction, int mo,
                              trine__winograd_shape *shape);

#endif
