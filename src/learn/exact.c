/* SPDX-License-Identifier: MIT */
#include "learn/exact.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

enum { CHAINS = 4 }; /* sums at once: each is a chain of additions */

double trine__exact_norm(const float *x, size_t dim)
{
    double square = 0;
    for (size_t d = 0; d < dim; d++) square += (double)x[d] * x[d];
    return sqrt(square);
}

trine_status trine__exact_init(trine__exact *e, const float *base, size_t count, int dim,
                               trine_distance distance)
{
    void *p;
    TRINE_TRY(trine__calloc(count, sizeof(double), &p));
    *e = (trine__exact){base, count, (size_t)dim, distance, p, 0};
    for (size_t i = 0; i < count; i++) {
        e->norms[i] = trine__exact_norm(base + i * e->dim, e->dim);
        if (e->norms[i] > e->longest) e->longest = e->norms[i];
    }
    return TRINE_OK;
}

void trine__exact_release(trine__exact *e)
{
    free(e->norms);
    *e = (trine__exact){0};
}

static void squared(const float *q, const float *const b[CHAINS], size_t dim, double s[CHAINS])
{
    double sum[CHAINS] = {0};
    for (size_t d = 0; d < dim; d++)
        for (int i = 0; i < CHAINS; i++) {
            const double x = (double)b[i][d] - q[d];
            sum[i] += x * x;
        }
    for (int i = 0; i < CHAINS; i++) s[i] = sum[i];
}

static void products(const float *q, const float *const b[CHAINS], size_t dim, double s[CHAINS])
{
    double sum[CHAINS] = {0};
    for (size_t d = 0; d < dim; d++)
        for (int i = 0; i < CHAINS; i++) sum[i] += (double)b[i][d] * q[d];
    for (int i = 0; i < CHAINS; i++) s[i] = sum[i];
}

void trine__exact_distances(const trine__exact *e, const float *query, double norm, const int *at,
                            size_t count, double *out)
{
    const bool differences = e->distance == TRINE_EUCLIDEAN || e->distance == TRINE_SQUARED;
    for (size_t first = 0; first < count; first += CHAINS) {
        const float *b[CHAINS];
        double s[CHAINS];
        for (size_t i = 0; i < CHAINS; i++)
            b[i] = e->base + (size_t)at[first + i < count ? first + i : first] * e->dim;
        (differences ? squared : products)(query, b, e->dim, s);
        for (size_t i = 0; i < CHAINS && first + i < count; i++) {
            const double length = e->norms[at[first + i]];
            double d = differences ? s[i] : -s[i];
            if (e->distance == TRINE_COSINE) d = 1.0 - s[i] / (fmax(norm, 1e-8) * fmax(length, 1e-8));
            out[first + i] = d == d ? d : INFINITY;
        }
    }
}

int trine__near_compare(const void *a, const void *b)
{
    const trine__near *x = a, *y = b;
    return trine__nearer(x, y) ? -1 : trine__nearer(y, x);
}
