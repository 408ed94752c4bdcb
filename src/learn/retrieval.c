/* SPDX-License-Identifier: MIT */
/* How well vectors retrieve: recall, R-precision, MAP@R (Musgrave, Belongie, Lim: A Metric Learning Reality
 * Check, 2020, section 3.1), mean average precision.
 * All of them follow from the ranks of a query's positives, and those from counting the negatives that are nearer than each: no
 * ranking is sorted, only the positives. Distances come from the device in single precision, with a bound on their error
 * (trine_knn_error()). A negative whose distance is too near to a positive's to tell is measured again in double, and then so are the
 * query's positives: the figures are those of distances in double, bit for bit.
 * Each query's figures go to its own place and are added up in order: the result does not depend on the threads. */
#include "trine/retrieval.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/memory.h"
#include "learn/exact.h"
#include "learn/scan.h"
#include "learn/threads.h"

enum { RECALL = 5 };  /* recall_at_5 */
enum { BUCKETS = 4 }; /* for each positive */

struct figures {
    double r_precision, map_at_r, map;
    size_t first; /* rank of the first positive, from 1; 0: no query */
};

/* A thread's arrays, as long as there are vectors, or members of the largest class. */
struct scratch {
    trine__near *positives, *exact; /* [largest] in single and in double precision */
    double *keys;           /* [largest + 1] distances of the positives in single precision, and infinity */
    int *buckets;           /* [BUCKETS * largest + 1] see fill_buckets() */
    size_t *before;         /* [largest + 1] negatives by the number of positives that are nearer */
    int *unclear, *members; /* [count], [largest] */
    double *distances;      /* [count] */
};

struct measure {
    const float *data;
    const int *labels;
    int *order; /* [count] vectors by label, then by index */
    size_t count, largest;
    trine__exact exact;
    trine__scan scan;
    struct figures *figures; /* [count] */
    struct scratch *scratch; /* [threads] */
    size_t first;            /* of the block at hand */
    int block;               /* its queries */
    atomic_int next;         /* of its queries */
};

/* A query's class. */
struct class_range {
    size_t begin, end;
};

/* First place in m->order of a label, or of those above it. */
static size_t place_of(const struct measure *m, int label, bool above)
{
    size_t low = 0, high = m->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int there = m->labels[m->order[middle]];
        if (there < label || (above && there == label))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A distance of the device as a number that can be compared: what is no number is farthest. */
static double key_of(float v)
{
    return v <= FLT_MAX ? (v >= -FLT_MAX ? v : -FLT_MAX) : FLT_MAX;
}

static float distance_to(const struct measure *m, int query, int j)
{
    int count;
    return trine__scan_row(&m->scan, m->block, query, j / m->scan.tile, &count)[j % m->scan.tile];
}

/* How many of the positives, nearest first, are nearer than `than`. */
static inline size_t count_nearer(const trine__near *positives, size_t count, trine__near than)
{
    size_t low = 0;
    while (count > 0) { /* no branch on what is compared */
        const size_t half = count / 2, right = trine__nearer(&positives[low + half], &than);
        low = right ? low + half + 1 : low;
        count = right ? count - half - 1 : half;
    }
    return low;
}

/* Half the width of what a device's distance leaves open, the other distance's error included. */
static double slack_of(double relative, double absolute, double distance)
{
    return 2.1 * (relative * fabs(distance) + absolute);
}

/* Where a distance lies between the first positive's and the last one's. */
struct range {
    double first, scale;
    int last;
};

static inline int bucket_of(const struct range *r, double distance)
{
    const double at = (distance - r->first) * r->scale;
    return at > 0 ? (at < r->last ? (int)at : r->last) : 0;
}

/* buckets[b]: how many positives are in buckets before b. Those are nearer than whatever is in b, because bucket_of() does not fall. */
static struct range fill_buckets(const struct scratch *w, size_t positives)
{
    const double width = w->keys[positives - 1] - w->keys[0];
    const int count = BUCKETS * (int)positives;
    const struct range r = {w->keys[0], width > 0 ? count / width : 0, count - 1};
    for (int b = 0; b <= count; b++) w->buckets[b] = 0;
    for (size_t p = 0; p < positives; p++) w->buckets[bucket_of(&r, w->keys[p]) + 1]++;
    for (int b = 1; b <= count; b++) w->buckets[b] += w->buckets[b - 1];
    return r;
}

/* Negatives of query q go to w->before, or to w->unclear where single precision does not tell. Returns how many of those. */
static size_t count_negatives(const struct measure *m, int q, size_t positives, struct scratch *w)
{
    const int label = m->labels[m->first + (size_t)q];
    double relative, absolute;
    size_t unclear = 0;
    trine_knn_error(m->scan.op, m->exact.norms[m->first + (size_t)q], m->exact.longest, &relative, &absolute);
    for (size_t p = 0; p < positives; p++) w->keys[p] = w->positives[p].distance;
    w->keys[positives] = INFINITY;
    const struct range range = fill_buckets(w, positives);
    const double last = w->keys[positives - 1], limit = last + slack_of(relative, absolute, last);
    for (int t = 0; t < m->scan.tiles; t++) {
        int count;
        const float *row = trine__scan_row(&m->scan, m->block, q, t, &count);
        const int *labels = m->labels + (size_t)t * (size_t)m->scan.tile;
        for (int j = 0; j < count; j++) {
            const double d = key_of(row[j]);
            if (d > limit || labels[j] == label) continue;
            const double slack = slack_of(relative, absolute, d);
            int nearer = w->buckets[bucket_of(&range, d - slack)];
            while (w->keys[nearer] < d - slack) nearer++;
            if (w->keys[nearer] <= d + slack)
                w->unclear[unclear++] = t * m->scan.tile + j;
            else
                w->before[nearer]++;
        }
    }
    return unclear;
}

/* The same for the unclear ones, in double. */
static void count_unclear(const struct measure *m, int q, size_t positives, size_t unclear, struct scratch *w)
{
    const size_t i = m->first + (size_t)q;
    const float *query = m->data + i * m->exact.dim;
    for (size_t p = 0; p < positives; p++) w->members[p] = w->positives[p].index;
    trine__exact_distances(&m->exact, query, m->exact.norms[i], w->members, positives, w->distances);
    for (size_t p = 0; p < positives; p++) w->exact[p] = (trine__near){w->distances[p], w->members[p]};
    qsort(w->exact, positives, sizeof *w->exact, trine__near_compare);
    trine__exact_distances(&m->exact, query, m->exact.norms[i], w->unclear, unclear, w->distances);
    for (size_t u = 0; u < unclear; u++) {
        const trine__near negative = {w->distances[u], w->unclear[u]};
        w->before[count_nearer(w->exact, positives, negative)]++;
    }
}

static void query_figures(struct measure *m, int q, struct scratch *w)
{
    const size_t i = m->first + (size_t)q;
    const struct class_range range = {place_of(m, m->labels[i], false), place_of(m, m->labels[i], true)};
    const size_t positives = range.end - range.begin - 1;
    if (positives == 0) return;
    size_t p = 0;
    for (size_t at = range.begin; at < range.end; at++)
        if ((size_t)m->order[at] != i)
            w->positives[p++] = (trine__near){key_of(distance_to(m, q, m->order[at])), m->order[at]};
    qsort(w->positives, positives, sizeof *w->positives, trine__near_compare);
    for (p = 0; p <= positives; p++) w->before[p] = 0;
    const size_t unclear = count_negatives(m, q, positives, w);
    if (unclear > 0) count_unclear(m, q, positives, unclear, w);
    struct figures f = {0};
    size_t negatives = 0, within = 0;
    double precisions = 0, all = 0;
    for (p = 0; p < positives; p++) {
        negatives += w->before[p];
        const size_t rank = negatives + p + 1;
        const double precision = (double)(p + 1) / (double)rank;
        if (p == 0) f.first = rank;
        if (rank <= positives) {
            within++;
            precisions += precision;
        }
        all += precision;
    }
    f.r_precision = (double)within / (double)positives;
    f.map_at_r = precisions / (double)positives;
    f.map = all / (double)positives;
    m->figures[i] = f;
}

static void work(void *user, int number)
{
    struct measure *m = user;
    for (;;) {
        const int q = atomic_fetch_add(&m->next, 1);
        if (q >= m->block) return;
        query_figures(m, q, &m->scratch[number]);
    }
}

struct labelled {
    int label, index;
};

static int compare_labelled(const void *a, const void *b)
{
    const struct labelled *x = a, *y = b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static trine_status fail_alone(size_t count)
{
    return trine__fail(TRINE_ERR_DATA,
                       "retrieval: %zu vector%s, each the only one of its class: expected two of a class at "
                       "least, as no query has a positive otherwise",
                       count, count == 1 ? "" : "s");
}

static trine_status sort_labels(struct measure *m)
{
    void *p;
    TRINE_TRY(trine__calloc(m->count, sizeof *m->order, &p));
    m->order = p;
    TRINE_TRY(trine__calloc(m->count, sizeof(struct labelled), &p));
    struct labelled *list = p;
    for (size_t i = 0; i < m->count; i++) list[i] = (struct labelled){m->labels[i], (int)i};
    qsort(list, m->count, sizeof *list, compare_labelled);
    size_t begin = 0;
    for (size_t i = 0; i < m->count; i++) {
        m->order[i] = list[i].index;
        if (list[i].label != list[begin].label) begin = i;
        if (i - begin + 1 > m->largest) m->largest = i - begin + 1;
    }
    free(list);
    return m->largest > 1 ? TRINE_OK : fail_alone(m->count);
}

static trine_status prepare_thread(const struct measure *m, struct scratch *w)
{
    const struct {
        void **array;
        size_t count, size;
    } arrays[] = {{(void **)&w->positives, m->largest, sizeof *w->positives},
                  {(void **)&w->exact, m->largest, sizeof *w->exact},
                  {(void **)&w->keys, m->largest + 1, sizeof *w->keys},
                  {(void **)&w->buckets, BUCKETS * m->largest + 1, sizeof *w->buckets},
                  {(void **)&w->before, m->largest + 1, sizeof *w->before},
                  {(void **)&w->members, m->largest, sizeof *w->members},
                  {(void **)&w->unclear, m->count, sizeof *w->unclear},
                  {(void **)&w->distances, m->count, sizeof *w->distances}};
    for (size_t i = 0; i < TRINE_COUNTOF(arrays); i++)
        TRINE_TRY(trine__calloc(arrays[i].count, arrays[i].size, arrays[i].array));
    return TRINE_OK;
}

static trine_status prepare(struct measure *m, trine_stream *stream, int dim, trine_distance distance,
                            int threads)
{
    void *p;
    TRINE_TRY(sort_labels(m));
    TRINE_TRY(trine__exact_init(&m->exact, m->data, m->count, dim, distance));
    TRINE_TRY(trine__scan_create(stream, m->data, m->count, dim, distance, 0, m->count, &m->scan));
    TRINE_TRY(trine__calloc(m->count, sizeof *m->figures, &p));
    m->figures = p;
    TRINE_TRY(trine__calloc((size_t)threads, sizeof *m->scratch, &p));
    m->scratch = p;
    for (int t = 0; t < threads; t++) TRINE_TRY(prepare_thread(m, &m->scratch[t]));
    return TRINE_OK;
}

static void release(struct measure *m, int threads)
{
    for (int t = 0; m->scratch && t < threads; t++) {
        const struct scratch *w = &m->scratch[t];
        void *const arrays[] = {w->positives, w->exact,   w->keys,    w->buckets,
                                w->before,    w->members, w->unclear, w->distances};
        for (size_t i = 0; i < TRINE_COUNTOF(arrays); i++) free(arrays[i]);
    }
    free(m->scratch);
    free(m->figures);
    free(m->order);
    trine__exact_release(&m->exact);
    trine__scan_release(&m->scan);
}

static trine_status rank_all(struct measure *m, const trine_retrieval_options *o, int threads)
{
    for (m->first = 0; m->first < m->count; m->first += (size_t)m->block) {
        const size_t left = m->count - m->first;
        m->block = left < (size_t)m->scan.queries ? (int)left : m->scan.queries;
        TRINE_TRY(trine__scan_rows(&m->scan, m->data + m->first * m->exact.dim, m->block));
        atomic_store(&m->next, 0);
        trine__parallel(threads, work, m);
        if (o->progress) o->progress(o->progress_user, m->first + (size_t)m->block, m->count);
    }
    return TRINE_OK;
}

/* Sums over queries, in order, become means. */
static void summarise(const struct measure *m, const trine_retrieval_options *o, trine_retrieval *r)
{
    for (size_t i = 0; i < m->count; i++) {
        const struct figures *f = &m->figures[i];
        if (f->first == 0) continue;
        r->queries++;
        r->recall_at_1 += f->first <= 1;
        r->recall_at_5 += f->first <= RECALL;
        for (int k = 0; k < o->k_count; k++) r->recall[k] += f->first <= (size_t)o->ks[k];
        r->r_precision += f->r_precision;
        r->map_at_r += f->map_at_r;
        r->map += f->map;
    }
    double *const means[] = {&r->recall_at_1, &r->recall_at_5, &r->r_precision, &r->map_at_r, &r->map};
    for (size_t i = 0; i < TRINE_COUNTOF(means); i++) *means[i] /= (double)r->queries;
    for (int k = 0; k < o->k_count; k++) r->recall[k] /= (double)r->queries;
}

static trine_status add_classes(const struct measure *m, trine_retrieval *r)
{
    size_t classes = 1;
    void *p;
    for (size_t at = 1; at < m->count; at++)
        classes += m->labels[m->order[at]] != m->labels[m->order[at - 1]];
    TRINE_TRY(trine__calloc(classes, sizeof *r->classes, &p));
    r->classes = p;
    for (size_t at = 0; at < m->count; at++) {
        const struct figures *f = &m->figures[m->order[at]];
        const int label = m->labels[m->order[at]];
        if (at == 0 || label != m->labels[m->order[at - 1]]) r->classes[r->class_count++].label = label;
        trine_retrieval_class *c = &r->classes[r->class_count - 1];
        c->count++;
        c->queries += f->first > 0;
        c->recall_at_1 += f->first == 1;
        c->r_precision += f->r_precision;
        c->map_at_r += f->map_at_r;
        c->map += f->map;
    }
    for (size_t k = 0; k < r->class_count; k++) {
        trine_retrieval_class *c = &r->classes[k];
        double *const means[] = {&c->recall_at_1, &c->r_precision, &c->map_at_r, &c->map};
        for (size_t i = 0; c->queries > 0 && i < TRINE_COUNTOF(means); i++) *means[i] /= (double)c->queries;
    }
    return TRINE_OK;
}

static trine_status check_options(const trine_retrieval_options *o, int dim)
{
    TRINE_CHECK(dim >= 1, TRINE_ERR_ARG, "retrieval: vectors of %d values, expected at least 1", dim);
    TRINE_CHECK((unsigned)o->distance <= TRINE_DOT, TRINE_ERR_ARG, "retrieval: unknown distance %d",
                (int)o->distance);
    TRINE_CHECK(o->threads >= 0, TRINE_ERR_ARG, "retrieval: %d threads, expected 0 or more", o->threads);
    TRINE_CHECK(o->k_count >= 0 && o->k_count <= TRINE_RECALLS && (o->ks || o->k_count == 0), TRINE_ERR_ARG,
                "retrieval: recall at %d numbers, expected 0 to %d", o->k_count, TRINE_RECALLS);
    for (int k = 0; k < o->k_count; k++)
        TRINE_CHECK(o->ks[k] >= 1, TRINE_ERR_ARG, "retrieval: recall at %d, expected at least 1", o->ks[k]);
    return TRINE_OK;
}

trine_status trine_retrieval_measure(trine_stream *stream, const float *data, const int *labels, size_t count,
                                     int dim, const trine_retrieval_options *options, trine_retrieval *out)
{
    TRINE_CHECK(stream && data && labels && options && out, TRINE_ERR_ARG,
                "retrieval: stream, vectors, labels, options or result is missing");
    TRINE_TRY(check_options(options, dim));
    if (count < 2) return fail_alone(count);
    struct measure m = {.data = data, .labels = labels, .count = count};
    trine_retrieval result = {.count = count};
    const int threads = trine__threads(options->threads);
    trine_status status;
    TRINE_TRY_GOTO(prepare(&m, stream, dim, options->distance, threads));
    TRINE_TRY_GOTO(rank_all(&m, options, threads));
    summarise(&m, options, &result);
    if (options->per_class) TRINE_TRY_GOTO(add_classes(&m, &result));
    *out = result;
cleanup:
    release(&m, threads);
    return status;
}

void trine_retrieval_free(trine_retrieval *figures)
{
    if (!figures) return;
    free(figures->classes);
    *figures = (trine_retrieval){0};
}
