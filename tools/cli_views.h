/* SPDX-License-Identifier: MIT */
/* Ways to look at the vectors of a data set. */
#ifndef TRINE_TOOLS_CLI_VIEWS_H
#define TRINE_TOOLS_CLI_VIEWS_H

#include "trine/retrieval.h"

enum { CLI_VIEW_BINS = 40 };

/* Up to `most` vectors, evenly spread over the set and scaled to length 1. */
typedef struct cli_view {
    float *rows;  /* [count][dim] */
    int *labels;  /* [count] */
    int *indices; /* [count] image numbers */
    size_t count;
    int dim;
} cli_view;

/* @return 0, or -1: out of memory */
int cli_view_open(const trine_vectors *vectors, size_t most, cli_view *view);
void cli_view_close(cli_view *view);

/* Shares of the distances |a-b|, from 0 to 2, between vectors of one class and of two. */
typedef struct cli_distances {
    double same[CLI_VIEW_BINS], other[CLI_VIEW_BINS];
    double same_mean, other_mean;
    double same_pairs, other_pairs, same_squares, other_squares; /* how many, and sums of their squares */
} cli_distances;
void cli_view_distances(const cli_view *view, cli_distances *out);

/* The `count` nearest others of row `query`, nearest first, ties by lowest row. @param out [count] @return how many there are */
int cli_view_nearest(const cli_view *view, size_t query, int count, size_t *out);

/* Coordinates along the two principal components, each with its largest entry positive (Jolliffe 2002).
 * @param xy [count][2] written  @param share of the variance along both @return 0, or -1: out of memory */
int cli_view_map(const cli_view *view, double *xy, double *share);

#endif
