/* SPDX-License-Identifier: MIT */
/* The tiles of conv2d_gemm: which there are, which of them suits a problem, and the work-groups that make it. */
#ifndef TRINE_OP_CONV2D_GEMM_TILES_H
#define TRINE_OP_CONV2D_GEMM_TILES_H

#include "op/conv2d_private.h"

/* How the work-items of a tile come by the weights. */
typedef enum trine__exchange {
    TRINE__BY_LOCAL_MEMORY, /* cl/conv2d_gemm.clh */
    TRINE__BY_SUB_GROUPS    /* cl/conv2d_gemm_subgroups.cl */
} trine__exchange;

/* A work-group of side x side work-items makes side*tm x side*tn results, by sub-groups one of side x 1 makes tm x side*tn.
 * `speed`: of a device full of such groups, as a share of the first tile's: an estimate from what it reads for each product, which no GPU
 * has confirmed yet. */
typedef struct trine__tile {
    int side, tm, tn;
    double speed;
    trine__exchange exchange;
} trine__tile;

/* The first TRINE__UNTUNED_TILES are chosen from by size; all of them are variants, tile i number i + 1. */
enum { TRINE__TILES = 4, TRINE__UNTUNED_TILES = 2, TRINE__SMALLEST_TILE = 1 };
extern const trine__tile trine__tiles[TRINE__TILES];
extern const char *const trine__tile_variants[TRINE__TILES + 1];

/* Whether the device has local memory, work-items and sub-groups for it. */
bool trine__tile_runs(const trine__caps *caps, const trine__tile *t);
/* The kernel that makes it, and options for its shape. @param sources of a block of packed weights */
const char *trine__tile_kernel(const trine__tile *t, trine_direction direction);
typedef struct trine__tile_options {
    char text[96];
} trine__tile_options;
trine__tile_options trine__tile_shape(const trine__caps *caps, const trine__tile *t, int sources);
/* The kernel with `options`. TRINE_ERR_BUILD also where its sub-groups turn out not to be as it needs them. */
trine_status trine__tile_create(trine_context *context, const trine__tile *t, trine_direction direction,
                                const char *options, trine__kernel **out);
/* Whether a kernel of sub-groups can be made: tried once for a context. True for all others. */
bool trine__tile_builds(trine_context *context, const trine__tile *t, const char *options);
/* Work-groups for results x columns. */
size_t trine__tile_count(const trine__tile *t, int results, size_t columns);
trine__grid trine__tile_grid(const trine__tile *t, size_t columns, int results, size_t z);
/* The tile with the least time of those that have a kernel, for `groups` products of results x columns. `splits`: the reduction is cut
 * until the device is busy. */
int trine__tile_choose(const trine__caps *caps, trine__kernel *const kernels[TRINE__TILES], int results,
                       size_t columns, int groups, bool splits);

/* Work-groups that keep a compute unit busy. */
enum { TRINE__GROUPS_PER_UNIT = 4 };

#endif
