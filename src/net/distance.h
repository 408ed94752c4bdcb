/* SPDX-License-Identifier: MIT */
/* Lengths and distances of float vectors, in double, and how far running statistics have moved. */
#ifndef TRINE_NET_DISTANCE_H
#define TRINE_NET_DISTANCE_H

#include <stddef.h>

double trine__norm(const float *v, size_t count);
double trine__distance(const float *a, const float *b, size_t count);
/* Mean over the rows of [rows][count] of their norms. */
double trine__mean_norm(const float *v, size_t rows, size_t count);

/* |mean - from|_2 / |sqrt(from_var)|_2 and |var - from_var|_2 / |from_var|_2, as trine_drift_layer has them. 0 where
 * nothing moved, whatever the denominator. */
double trine__mean_moved(const float *mean, const float *from, const float *from_var, size_t channels);
double trine__var_moved(const float *var, const float *from_var, size_t channels);

#endif
