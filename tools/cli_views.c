/* SPDX-License-Identifier: MIT */
/* Distances, neighbours and a map of vectors. */
#include "cli_views.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ITERATIONS = 100 };

int cli_view_open(const trine_vectors *v, size_t most, cli_view *view)
{
    const size_t count = v->count < most ? v->count : most, dim = (size_t)v->dim;
    *view = (cli_view){malloc((count * dim + 1) * sizeof(float)), malloc((count + 1) * sizeof(int)),
                       malloc((count + 1) * sizeof(int)), count, v->dim};
    if (view->rows == NULL || view->labels == NULL || view->indices == NULL) {
        cli_view_close(view);
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        const size_t from = i * v->count / count;
        const float *row = v->data + from * dim;
        double square = 0;
        for (size_t k = 0; k < dim; k++) square += (double)row[k] * (double)row[k];
        const double scale = isfinite(square) && square > 0 ? 1 / sqrt(square) : 0;
        for (size_t k = 0; k < dim; k++)
            view->rows[i * dim + k] = scale > 0 ? (float)(scale * (double)row[k]) : 0;
        view->labels[i] = v->labels[from];
        view->indices[i] = v->indices[from];
    }
    return 0;
}

void cli_view_close(cli_view *view)
{
    free(view->rows);
    free(view->labels);
    free(view->indices);
    *view = (cli_view){0};
}

static double distance(const cli_view *view, size_t a, size_t b)
{
    const size_t dim = (size_t)view->dim;
    const float *x = view->rows + a * dim, *y = view->rows + b * dim;
    float sum = 0;
    for (size_t k = 0; k < dim; k++) sum += (x[k] - y[k]) * (x[k] - y[k]);
    return sqrt((double)sum);
}

void cli_view_distances(const cli_view *view, cli_distances *out)
{
    double pairs[2] = {0, 0};
    memset(out, 0, sizeof *out);
    for (size_t a = 0; a < view->count; a++)
        for (size_t b = a + 1; b < view->count; b++) {
            const double d = distance(view, a, b);
            const int same = view->labels[a] == view->labels[b];
            const int bin = (int)fmin(CLI_VIEW_BINS - 1, d / 2 * CLI_VIEW_BINS);
            (same ? out->same : out->other)[bin]++;
            *(same ? &out->same_mean : &out->other_mean) += d;
            *(same ? &out->same_squares : &out->other_squares) += d * d;
            pairs[same]++;
        }
    for (int i = 0; i < CLI_VIEW_BINS; i++) {
        out->same[i] /= fmax(1, pairs[1]);
        out->other[i] /= fmax(1, pairs[0]);
    }
    out->same_pairs = pairs[1];
    out->other_pairs = pairs[0];
    out->same_mean /= fmax(1, pairs[1]);
    out->other_mean /= fmax(1, pairs[0]);
}

int cli_view_nearest(const cli_view *view, size_t query, int count, size_t *out)
{
    int found = 0;
    double *best = malloc(((size_t)count + 1) * sizeof *best);
    if (best == NULL) return 0;
    for (size_t i = 0; i < view->count; i++) {
        if (i == query) continue;
        const double d = distance(view, query, i);
        int place = found;
        while (place > 0 && d < best[place - 1]) place--;
        if (place >= count) continue;
        if (found < count) found++;
        for (int k = found - 1; k > place; k--) {
            best[k] = best[k - 1];
            out[k] = out[k - 1];
        }
        best[place] = d;
        out[place] = i;
    }
    free(best);
    return found;
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* scores = (rows - mean) axis, next = (rows - mean)^T scores. */
static void multiply(const cli_view *v, const double *mean, const double *axis, double *scores, double *next)
{
    const size_t dim = (size_t)v->dim;
    memset(next, 0, dim * sizeof *next);
    for (size_t i = 0; i < v->count; i++) {
        const float *row = v->rows + i * dim;
        double score = 0;
        for (size_t k = 0; k < dim; k++) score += ((double)row[k] - mean[k]) * axis[k];
        for (size_t k = 0; k < dim; k++) next[k] += score * ((double)row[k] - mean[k]);
        scores[i] = score;
    }
}

/* Power iteration: an eigenvector of the covariance that is orthogonal to `other` (may be NULL). */
static void component(const cli_view *v, const double *mean, const double *other, double *axis, double *next,
                      double *scores)
{
    const size_t dim = (size_t)v->dim;
    for (size_t k = 0; k < dim; k++)
        axis[k] = 1 + (double)(k * 7 % 11); /* any start that is not orthogonal to it */
    for (int iteration = 0; iteration <= ITERATIONS; iteration++) {
        const double along = other != NULL ? dot(axis, other, dim) : 0;
        size_t largest = 0;
        for (size_t k = 0; k < dim; k++) {
            if (other != NULL) axis[k] -= along * other[k];
            if (fabs(axis[k]) > fabs(axis[largest])) largest = k;
        }
        const double length = sqrt(dot(axis, axis, dim)) * (axis[largest] < 0 ? -1 : 1);
        for (size_t k = 0; k < dim; k++) axis[k] = length != 0 ? axis[k] / length : 0;
        multiply(v, mean, axis, scores, next);
        if (iteration < ITERATIONS) memcpy(axis, next, dim * sizeof *axis);
    }
}

int cli_view_map(const cli_view *v, double *xy, double *share)
{
    const size_t dim = (size_t)v->dim, count = v->count;
    double *memory = calloc(4 * dim + count + 1, sizeof *memory), all = 0, along = 0;
    if (memory == NULL) return -1;
    double *mean = memory, *first = mean + dim, *second = first + dim, *next = second + dim,
           *scores = next + dim;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < dim; k++) mean[k] += (double)v->rows[i * dim + k] / (double)count;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < dim; k++) all += pow((double)v->rows[i * dim + k] - mean[k], 2);
    for (int c = 0; c < 2; c++) {
        component(v, mean, c == 0 ? NULL : first, c == 0 ? first : second, next, scores);
        for (size_t i = 0; i < count; i++) xy[2 * i + (size_t)c] = scores[i];
        along += dot(scores, scores, count);
    }
    *share = all > 0 ? along / all : 0;
    free(memory);
    return 0;
}
