/* SPDX-License-Identifier: MIT */
/* The tiles of conv2d_gemm: which there are, which of them suits a problem, and the work-groups that make it. */
#ifndef TRINE_OP_CONV2D_GEMM_TILES_H
#define TRINE_OP_CONV2D_GEMM_TILES_H

#include "op/conv2d_private.h"

/* A work-group of side x side work-items makes side*tm x side*tn results (cl/conv2d_gemm.clh). `speed`: of a device full of such groups,
 * as a share of the first tile's: an estimate from what it reads for each product, which no GPU has confirmed yet. */
typedef struct trine__tile {
    int side, tm, tn;
    double speed;
} trine__tile;

/* The first TRINE__UNTUNED_TILES are chosen from by size; all of them are variants, tile i number i + 1. */
enum { TRINE__TILES = 3, TRINE__UNTUNED_TILES = 2, TRINE__SMALLEST_TILE = 1 };
extern const trine__tile trine__tiles[TRINE__TILES];
extern const char *const trine__tile_variants[TRINE__TILES + 1];

/* Whether the device has local memory and work-items enough. */
bool trine__tile_runs(const trine__caps *caps, const trine__tile *t);
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
