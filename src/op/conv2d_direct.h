/* SPDX-License-Identifier: MIT */
/* The direct convolution's plan, which its directions share: conv2d_direct.c has forward and backward_data,
 * conv2d_direct_gradient.c has backward_weights; conv2d_direct_grouped.c launches kernels of its own for groups within a block. */
#ifndef TRINE_OP_CONV2D_DIRECT_H
#define TRINE_OP_CONV2D_DIRECT_H

#include "op/conv2d_arrange.h"
#include "op/conv2d_taps.h"

enum {
    TRINE__DIRECT_PHASES = 16,
    TRINE__DIRECT_TAPS = 256,
    TRINE__DIRECT_PIXELS_PER_ITEM = 64,
    TRINE__DIRECT_ITEMS_PER_UNIT = 8
};

/* Channels as one direction's packed product sees them (cl/conv2d_packing.clh). */
typedef struct trine__direct_sides {
    int out_channels, in_channels, out_per_group, in_per_group;
    int merge, groups;      /* merged groups */
    int group_kb, group_in; /* blocks of KV*CB and CBI in a merged group */
    int kv, cb, cbi;
    bool
        grouped; /* groups within a block, or as wide: images are read as they are, no weights between groups */
    int block_in; /* channels of a block of weights: cbi, or those of a group */
    int out_blocks, in_blocks;
} trine__direct_sides;

typedef struct trine__direct_tap {
    int32_t x, w; /* floats from a pixel, from a block's weights */
} trine__direct_tap;

/* What a kernel of forward or backward_data does beside: bits. */
enum { TRINE__DIRECT_SUMS = 1, TRINE__DIRECT_MADE = 2, TRINE__DIRECT_KERNELS = 4 };

typedef struct trine__direct {
    trine__kernel *more
        [TRINE__DIRECT_KERNELS]; /* `kernel` that also does what the index says, as far as it is wanted; [0] is not used */
    trine__kernel *kernel, *pack; /* `pack`: conv2d_unpack or conv2d_add_splits for backward_weights; NULL:
                                     weights are read as they are */
    trine__kernel *arrange;       /* NULL: images are read as they are */
    trine_buffer *table;          /* of taps */
    trine__direct_sides side;
    trine__arrangement in; /* of x, or dy for backward_data */
    bool merged_rows;      /* NCHW: the taps of a row are a pixel's values */
    size_t packed_count;   /* floats */
    int tile, step;        /* TW; IS and ST */
    trine__direct_tap taps[TRINE__DIRECT_TAPS];
    int tap_count, phase_count, phase_stride;
    trine__phase phases[TRINE__DIRECT_PHASES];
} trine__direct;

/* Vector registers that one pixel's accumulators take. */
int trine__direct_registers(const trine_context *ctx, const trine__direct_sides *s);

/* Are the caller's weights laid out as the packed product with blocks of kb filters? */
bool trine__direct_in_place(const trine_conv2d *op, const trine__direct *s, int kb);

/* s->pack, with the packing's description in the order of conv2d_pack's and conv2d_unpack's arguments behind `args[2]`, then `more`. */
trine_status trine__direct_launch_packing(trine_conv2d *op, trine_stream *stream, const trine__direct *s,
                                          trine__arg *args, const int *more, size_t more_count,
                                          const char *label);

/* backward_weights: kernels (`values`: of a pixel); floats of the partial sums, behind which the arranged images lie; launches. */
trine_status trine__direct_gradient_create(trine_conv2d *op, trine__direct *s, int values);
size_t trine__direct_partial_count(const trine_conv2d *op, const trine__direct *s, int n);
trine_status trine__direct_gradient_enqueue(trine_conv2d *op, trine_stream *stream, const trine__direct *s,
                                            const trine__conv2d_call *call);

/* side.grouped: does conv2d_grouped take the kernel? Its kernel; forward or backward_data; the filter gradient's partial sums. */
bool trine__grouped_supports(const trine_conv2d_desc *desc);
trine_status trine__grouped_create(trine_conv2d *op, trine_direction direction, trine__direct *s);
trine_status trine__grouped_enqueue(trine_conv2d *op, trine_stream *stream, const trine__direct *s,
                                    const trine__conv2d_call *call);
trine_status trine__grouped_launch_gradient(trine_stream *stream, const trine__direct *s,
                                            const trine_conv2d *op, const trine__conv2d_call *call,
                                            trine_buffer *to, int splits, int beta);

#endif
