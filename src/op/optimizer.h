/* SPDX-License-Identifier: MIT */
/* The optimizer's state: what a run that is resumed needs beside the parameters. */
#ifndef TRINE_OP_OPTIMIZER_H
#define TRINE_OP_OPTIMIZER_H

#include <stdint.h>

#include "rt/launch.h"
#include "trine/optimizer.h"

/* Number of state buffers: 0 (SGD without momentum), 1 (SGD: momentum_buffer) or 2 (Adam: exp_avg,
 * exp_avg_sq). */
int trine__optimizer_state_count(const trine_optimizer *op);
/* PyTorch's name of state buffer i ("exp_avg"); NULL outside. */
const char *trine__optimizer_state_name(const trine_optimizer *op, int i);
/* Copy state buffer i (create's count floats) to or from the host. Waits. TRINE_ERR_ARG: no such buffer. */
trine_status trine__optimizer_state_export(const trine_optimizer *op, trine_stream *stream, int i,
                                           float *host);
trine_status trine__optimizer_state_import(trine_optimizer *op, trine_stream *stream, int i,
                                           const float *host);
/* Steps counted by trine_optimizer_advance(). */
uint64_t trine__optimizer_steps(const trine_optimizer *op);
void trine__optimizer_set_steps(trine_optimizer *op, uint64_t steps);

/* Steps that each of a network's parameter tensors has taken: PyTorch counts Adam's per parameter, so that
 * one that is reached late starts from 1. Made zero at the first call; belongs to the optimizer. @param
 * floats of the network's flat buffer TRINE_ERR_ARG: the optimizer was made for another number of floats */
trine_status trine__optimizer_counts(trine_optimizer *op, size_t tensors, size_t floats, uint64_t **out);
/* How kernels share out `count` neighbours of flat buffers: floats of a vector, vectors of a work-item. */
typedef struct trine__flat_grid {
    int vector, chunk;
    trine__grid grid;
} trine__flat_grid;
trine__flat_grid trine__flat_grid_of(const trine__caps *caps, size_t count);

/* trine_optimizer_step() as the range's step `number` (from 1). @param scaling trine__loss_scale_buffer() of checked gradients: the step
 * divides by the scale, or does nothing; NULL: gradients are as they are */
trine_status trine__optimizer_step_number(trine_optimizer *op, trine_stream *stream, trine_buffer *parameters,
                                          const trine_buffer *gradients, const trine_buffer *scaling,
                                          size_t first, size_t count, float lr, uint64_t number);

#endif
