/* SPDX-License-Identifier: MIT */
/* The variants as a table, and the layers that a row unrolls to. A new variant is a row. */
#ifndef TRINE_NET_RESNET_SPEC_H
#define TRINE_NET_RESNET_SPEC_H

#include "base/memory.h"

enum { TRINE__MAX_STAGES = 4, TRINE__NAME_BYTES = 64 };

typedef struct trine__variant {
    const char *name;
    int expansion; /* 1: basic blocks (two 3x3), 4: bottlenecks (1x1, 3x3, 1x1) */
    int stages;    /* 4, or 3 for images of 32 x 32 */
    int blocks[TRINE__MAX_STAGES];
    int width;                   /* channels of the first stage's blocks */
    int groups, width_per_group; /* bottleneck's 3x3: groups, and width factor over 64 */
    int stride_in_3x3;           /* torchvision's v1.5; 0 would be the paper's stride in the first 1x1 */
    int projection;   /* 1: 1x1 convolution on shortcuts that change shape (option B); 0: zero padding (option
                         A) */
    int small_images; /* 1: 3x3 stem of stride 1, no pooling */
    int classes;
} trine__variant;

extern const trine__variant trine__variants[];
extern const int trine__variant_count;
const trine__variant *trine__variant_find(const char *name); /* NULL: unknown */

/* One convolution and the BatchNorm behind it. */
typedef struct trine__unit {
    char conv[TRINE__NAME_BYTES], bn[TRINE__NAME_BYTES]; /* canonical names */
    int in_channels, out_channels, kernel, stride, pad, groups;
} trine__unit;

/* A residual block: units[first .. first + count) in a row, and the shortcut. */
typedef struct trine__block {
    int first, count;
    int projection; /* unit of the shortcut's convolution, or -1 */
    int stride;     /* of the block */
    int in_channels, out_channels;
} trine__block;

/* A variant unrolled. Unit 0 is the stem. */
typedef struct trine__spec {
    const trine__variant *variant;
    int in_channels, outputs, features, stem_pool;
    int unit_count, block_count;
    trine__unit *units;
    trine__block *blocks;
} trine__spec;

/* @param outputs of fc */
trine_status trine__spec_create(const trine__variant *variant, int in_channels, int outputs, int small_stem,
                                trine__spec *out);
void trine__spec_free(trine__spec *spec);

#endif
