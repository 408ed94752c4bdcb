/* SPDX-License-Identifier: MIT */
#include "ref/ref_knn.h"

#include <math.h>
#include <stdlib.h>

double ref_knn_distance(const double *a, const double *b, int dim, int distance)
{
    double square = 0, ab = 0, aa = 0, bb = 0;
    for (int d = 0; d < dim; d++) {
        square += (a[d] - b[d]) * (a[d] - b[d]);
        ab += a[d] * b[d];
        aa += a[d] * a[d];
        bb += b[d] * b[d];
    }
    if (distance == 3) return -ab;
    return distance < 2 ? square : 1 - ab / (fmax(sqrt(aa), 1e-8) * fmax(sqrt(bb), 1e-8));
}

struct place {
    double distance;
    int index;
};

static int compare(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

int ref_knn_order(const double *row, int count, int self, int *order)
{
    struct place *places = calloc((size_t)count, sizeof *places);
    int n = 0;
    for (int j = 0; j < count; j++)
        if (j != self) places[n++] = (struct place){row[j], j};
    qsort(places, (size_t)n, sizeof *places, compare);
    for (int i = 0; i < n; i++) order[i] = places[i].index;
    free(places);
    return n;
}
