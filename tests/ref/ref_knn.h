/* SPDX-License-Identifier: MIT */
/* Nearest neighbours in double: every distance by a plain loop, every list by sorting. */
#ifndef TRINE_TESTS_REF_KNN_H
#define TRINE_TESTS_REF_KNN_H

/* distance 0 euclidean, 1 squared, 2 cosine, 3 negative product; euclidean distances squared, as trine/knn.h has them. */
double ref_knn_distance(const double *a, const double *b, int dim, int distance);
/* The order of `row` [count], nearest first, ties by lowest index: order [count] written, without `self` (-1: none). Returns its length. */
int ref_knn_order(const double *row, int count, int self, int *order);

#endif
