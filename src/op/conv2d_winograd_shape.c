/* SPDX-License-Identifier: MIT */
#include "op/conv2d_winograd_shape.h"

/* Around the output's gradient; with a stride its tiles begin where those of the input do. */
static int back_pad(int pad, bool strided)
{
    return strided ? 0 : 2 - pad;
}

bool trine__winograd_shape_of(const trine_conv2d *op, trine_direction direction, int mo,
                              trine__winograd_shape *shape)
{
    const trine_conv2d_desc *d = &op->desc;
    const bool back = direction == TRINE_BACKWARD_DATA;
    const bool strided = d->stride_h == 2;
    const int side = strided ? 5 : mo + 2;
    if (d->kernel_h != 3 || d->kernel_w != 3 || d->stride_h != d->stride_w || d->stride_h > 2) return false;
    if (d->dilation_h != 1 || d->dilation_w != 1 || d->groups != 1) return false;
    if (strided && (mo != 2 || (back && (d->pad_h != 1 || d->pad_w != 1)))) return false;
    *shape = (trine__winograd_shape){.mo = strided && back ? 2 * mo : mo,
                                     .stride = d->stride_h,
                                     .planes = side * side,
                                     .in_channels = back ? d->out_channels : d->in_channels,
                                     .out_channels = back ? d->in_channels : d->out_channels,
                                     .in_h = back ? op->p : op->h,
                                     .in_w = back ? op->q : op->w,
                                     .out_h = back ? op->h : op->p,
                                     .out_w = back ? op->w : op->q,
                                     .pad_h = back ? back_pad(d->pad_h, strided) : d->pad_h,
                                     .pad_w = back ? back_pad(d->pad_w, strided) : d->pad_w};
    shape->tile_rows = trine__ceil_div(shape->out_h, shape->mo);
    shape->tile_columns = trine__ceil_div(shape->out_w, shape->mo);
    return true;
}
