/* SPDX-License-Identifier: MIT */
/* How well vectors retrieve: recall, R-precision, MAP@R (Musgrave, Belongie, Lim: A Metric Learning Reality
 * Check, 2020, section 3.1).
 * Distances are direct differences (for cosine: products) summed in double in the order of the dimensions,
 * every pair alike: what a plain loop in double gives, bit for bit, so that equal vectors tie exactly. The
 * vectors are copied into panels of 8, dimension by dimension, for the compiler's vectors to run across pairs
 * instead of along sums; a panel serves a block of queries while it lies in the cache. Each query's figures
 * go to its own place and are added up in order: the result does not depend on the threads. */
#include "trine/retrieval.h"

#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/memory.h"
#include "learn/threads.h"

enum { PANEL = 8, PAIR = 2, BLOCK = 16 }; /* vectors of a panel; queries at once, and of a thread's task */
enum { RECALL = 5 };                      /* recall_at_5 */

struct figures {
    double r_precision, map_at_r;
    bool recall_at_1, recall_at_5, counts;
};

struct near {
    double distance;
    size_t index;
};

struct scratch {
    double *queries;   /* [BLOCK][dim] */
    double *distances; /* [BLOCK][panels * PANEL] */
    struct near *heap; /* [count] */
};

struct measure {
    const float *data;
    const int *labels;
    int *sorted; /* [count] labels ascending */
    size_t count, panels;
    int dim;
    bool cosine;
    float *packed;           /* [panels][dim][PANEL] */
    double *norms;           /* [panels * PANEL], cosine: max(|v|, 1e-8) */
    struct figures *figures; /* [count] */
    struct scratch *scratch; /* [threads] */
    atomic_size_t next;      /* block of queries to take */
};

/* s[q][v] = sum_d (panel[d][v] - query[q][d])^2, in the order of d. */
static void panel_squared(const float *panel, const double *queries, size_t dim, double s[PAIR][PANEL])
{
    double s0[PANEL] = {0}, s1[PANEL] = {0};
    for (size_t d = 0; d < dim; d++, panel += PANEL) {
        const double q0 = queries[d], q1 = queries[dim + d];
        for (int v = 0; v < PANEL; v++) {
            const double x0 = panel[v] - q0, x1 = panel[v] - q1;
            s0[v] += x0 * x0;
            s1[v] += x1 * x1;
        }
    }
    for (int v = 0; v < PANEL; v++) {
        s[0][v] = s0[v];
        s[1][v] = s1[v];
    }
}

/* s[q][v] = sum_d panel[d][v] * query[q][d], in the order of d. */
static void panel_products(const float *panel, const double *queries, size_t dim, double s[PAIR][PANEL])
{
    double s0[PANEL] = {0}, s1[PANEL] = {0};
    for (size_t d = 0; d < dim; d++, panel += PANEL) {
        const double q0 = queries[d], q1 = queries[dim + d];
        for (int v = 0; v < PANEL; v++) {
            s0[v] += panel[v] * q0;
            s1[v] += panel[v] * q1;
        }
    }
    for (int v = 0; v < PANEL; v++) {
        s[0][v] = s0[v];
        s[1][v] = s1[v];
    }
}

/* Distances from queries [first, first + BLOCK) to all; euclidean ones squared, which rank alike. Beyond the
 * last query the block is filled with the last one again. */
static void block_distances(const struct measure *m, size_t first, struct scratch *w)
{
    const size_t dim = (size_t)m->dim, width = m->panels * PANEL;
    for (size_t q = 0; q < BLOCK; q++) {
        const size_t i = first + q < m->count ? first + q : m->count - 1;
        for (size_t d = 0; d < dim; d++) w->queries[q * dim + d] = m->data[i * dim + d];
    }
    for (size_t p = 0; p < m->panels; p++) {
        const float *panel = m->packed + p * dim * PANEL;
        for (size_t q = 0; q < BLOCK; q += PAIR) {
            double s[PAIR][PANEL];
            (m->cosine ? panel_products : panel_squared)(panel, w->queries + q * dim, dim, s);
            for (size_t k = 0; k < PAIR; k++) {
                double *row = w->distances + (q + k) * width + p * PANEL;
                const size_t i = first + q + k < m->count ? first + q + k : m->count - 1;
                for (size_t v = 0; v < PANEL; v++)
                    row[v] = m->cosine ? 1.0 - s[k][v] / (m->norms[i] * m->norms[p * PANEL + v]) : s[k][v];
            }
        }
    }
}

static bool farther(const struct near *a, const struct near *b)
{
    return a->distance > b->distance || (a->distance == b->distance && a->index > b->index);
}

/* Let the heap's item `at` sink to its place; the farthest is on top. */
static void sink(struct near *heap, size_t count, size_t at)
{
    const struct near item = heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && farther(&heap[child + 1], &heap[child])) child++;
        if (!farther(&heap[child], &item)) break;
        heap[at] = heap[child];
    }
    heap[at] = item;
}

/* The `want` nearest to query i, nearest first, ties by lowest index; NaN is farthest of all. */
static void nearest(const double *distances, size_t count, size_t i, size_t want, struct near *heap)
{
    size_t held = 0;
    for (size_t j = 0; j < count; j++) {
        if (j == i) continue;
        const double d = distances[j] == distances[j] ? distances[j] : INFINITY;
        if (held < want) {
            heap[held++] = (struct near){d, j};
            if (held == want)
                for (size_t at = want / 2; at-- > 0;) sink(heap, want, at);
        } else if (d < heap[0].distance) { /* j ascends: an equal one ranks behind those held */
            heap[0] = (struct near){d, j};
            sink(heap, want, 0);
        }
    }
    for (size_t left = held; left > 1; left--) {
        const struct near top = heap[0];
        heap[0] = heap[left - 1];
        sink(heap, left - 1, 0);
        heap[left - 1] = top;
    }
}

/* Number of `sorted` below `label` (or at most it). */
static size_t rank_of(const int *sorted, size_t count, int label, bool inclusive)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (sorted[middle] < label || (inclusive && sorted[middle] == label))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void query_figures(const struct measure *m, size_t i, const double *distances, struct near *heap)
{
    const int label = m->labels[i];
    const size_t positives =
        rank_of(m->sorted, m->count, label, true) - rank_of(m->sorted, m->count, label, false) - 1;
    if (positives == 0) return;
    struct figures f = {.counts = true};
    size_t want = positives > RECALL ? positives : RECALL;
    if (want > m->count - 1) want = m->count - 1;
    nearest(distances, m->count, i, want, heap);
    size_t found = 0;
    double precisions = 0;
    for (size_t rank = 0; rank < want; rank++) {
        if (m->labels[heap[rank].index] != label) continue;
        f.recall_at_1 |= rank < 1;
        f.recall_at_5 |= rank < RECALL;
        if (rank >= positives) continue;
        found++;
        precisions += (double)found / (double)(rank + 1);
    }
    f.r_precision = (double)found / (double)positives;
    f.map_at_r = precisions / (double)positives;
    m->figures[i] = f;
}

static void work(void *user, int number)
{
    struct measure *m = user;
    struct scratch *w = &m->scratch[number];
    for (;;) {
        const size_t first = atomic_fetch_add(&m->next, 1) * BLOCK;
        if (first >= m->count) return;
        block_distances(m, first, w);
        for (size_t q = 0; q < BLOCK && first + q < m->count; q++)
            query_figures(m, first + q, w->distances + q * m->panels * PANEL, w->heap);
    }
}

static int compare_ints(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static void pack(struct measure *m)
{
    const size_t dim = (size_t)m->dim;
    for (size_t i = 0; i < m->panels * PANEL; i++) {
        const float *v = m->data + (i < m->count ? i : m->count - 1) * dim;
        float *panel = m->packed + i / PANEL * dim * PANEL + i % PANEL;
        double square = 0;
        for (size_t d = 0; d < dim; d++) {
            panel[d * PANEL] = v[d];
            square += (double)v[d] * v[d];
        }
        if (m->cosine) m->norms[i] = fmax(sqrt(square), 1e-8);
    }
}

static trine_status prepare(struct measure *m, int threads)
{
    const size_t dim = (size_t)m->dim, width = m->panels * PANEL;
    void *p;
    size_t floats;
    TRINE_CHECK(trine__mul_size(width, dim * sizeof(double), &floats), TRINE_ERR_NOMEM,
                "retrieval: %zu vectors of %zu values exceed the address space", m->count, dim);
    TRINE_TRY(trine__calloc(m->count, sizeof *m->sorted, &p));
    m->sorted = p;
    TRINE_TRY(trine__calloc(width * dim, sizeof *m->packed, &p));
    m->packed = p;
    TRINE_TRY(trine__calloc(width, sizeof *m->norms, &p));
    m->norms = p;
    TRINE_TRY(trine__calloc(m->count, sizeof *m->figures, &p));
    m->figures = p;
    TRINE_TRY(trine__calloc((size_t)threads, sizeof *m->scratch, &p));
    m->scratch = p;
    for (int t = 0; t < threads; t++) {
        TRINE_TRY(trine__calloc(BLOCK * dim, sizeof(double), &p));
        m->scratch[t].queries = p;
        TRINE_TRY(trine__calloc(BLOCK * width, sizeof(double), &p));
        m->scratch[t].distances = p;
        TRINE_TRY(trine__calloc(m->count, sizeof(struct near), &p));
        m->scratch[t].heap = p;
    }
    for (size_t i = 0; i < m->count; i++) m->sorted[i] = m->labels[i];
    qsort(m->sorted, m->count, sizeof *m->sorted, compare_ints);
    pack(m);
    return TRINE_OK;
}

static void release(struct measure *m, int threads)
{
    for (int t = 0; m->scratch && t < threads; t++) {
        free(m->scratch[t].queries);
        free(m->scratch[t].distances);
        free(m->scratch[t].heap);
    }
    free(m->scratch);
    free(m->figures);
    free(m->norms);
    free(m->packed);
    free(m->sorted);
}

/* Means over the queries, in their order. */
static trine_retrieval summarise(const struct measure *m)
{
    trine_retrieval r = {.count = m->count};
    size_t at_1 = 0, at_5 = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct figures *f = &m->figures[i];
        r.queries += f->counts;
        at_1 += f->recall_at_1;
        at_5 += f->recall_at_5;
        r.r_precision += f->r_precision;
        r.map_at_r += f->map_at_r;
    }
    if (r.queries == 0) return r;
    const double queries = (double)r.queries;
    r.recall_at_1 = (double)at_1 / queries;
    r.recall_at_5 = (double)at_5 / queries;
    r.r_precision /= queries;
    r.map_at_r /= queries;
    return r;
}

trine_status trine_retrieval_measure(const float *data, const int *labels, size_t count, int dim,
                                     trine_distance distance, int threads, trine_retrieval *out)
{
    TRINE_CHECK(data && labels && out, TRINE_ERR_ARG, "retrieval: vectors, labels or result is missing");
    TRINE_CHECK(dim >= 1, TRINE_ERR_ARG, "retrieval: vectors of %d values, expected at least 1", dim);
    TRINE_CHECK((unsigned)distance <= TRINE_COSINE, TRINE_ERR_ARG, "retrieval: unknown distance %d",
                (int)distance);
    TRINE_CHECK(threads >= 0, TRINE_ERR_ARG, "retrieval: %d threads, expected 0 or more", threads);
    TRINE_CHECK(count >= 2, TRINE_ERR_DATA, "retrieval: %zu vectors: no query has a positive", count);
    struct measure m = {.data = data, .labels = labels, .count = count, .dim = dim};
    m.panels = (count + PANEL - 1) / PANEL;
    m.cosine = distance == TRINE_COSINE;
    const size_t blocks = (count + BLOCK - 1) / BLOCK;
    threads = trine__threads(threads);
    if ((size_t)threads > blocks) threads = (int)blocks;
    trine_status status;
    TRINE_TRY_GOTO(prepare(&m, threads));
    trine__parallel(threads, work, &m);
    const trine_retrieval result = summarise(&m);
    TRINE_CHECK_GOTO(result.queries > 0, TRINE_ERR_DATA,
                     "retrieval: none of the %zu vectors shares its label with another: no query has a "
                     "positive",
                     count);
    *out = result;
cleanup:
    release(&m, threads);
    return status;
}
