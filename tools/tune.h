/* SPDX-License-Identifier: MIT */
/* trine tune: what its parent process and its children share. The parent never calls OpenCL. */
#ifndef TRINE_TOOLS_TUNE_H
#define TRINE_TOOLS_TUNE_H

#include "cli_common.h"

/* What every candidate is compared with, and not a candidate itself. */
#define TUNE_REFERENCE "conv2d_plain"

/* A convolution of the network in one direction, or its fully connected layer. */
typedef struct tune_problem {
    trine_conv2d_desc desc;
    int linear; /* the layer, as a convolution of images of one pixel */
    int h, w;
    trine_direction direction;
    int uses; /* of it in the network */
} tune_problem;

/* One implementation of a problem. */
typedef struct tune_candidate {
    const tune_problem *problem;
    const char *algorithm;
    int with_weights; /* the time includes preparing the weights, which training does at every step */
} tune_candidate;

/* A child's work: {"scope", "device", "problems": [{"uses", "default", "algorithms", and what tune_read() takes}]}. */
int tune_list(cli_run *run, void *user);
/* A row of the list. */
tune_problem tune_read(const cJSON *row);
/* A child's work; `user` is a tune_candidate. Compares with TUNE_REFERENCE first, then {"ms"}; CLI_CHECK and "error" if it is wrong. */
int tune_measure(cli_run *run, void *user);

#endif
