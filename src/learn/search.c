/* SPDX-License-Identifier: MIT */
/* Exact search: candidates from the device in single precision, their order in double. The candidates are a few more than asked for: if
 * the last one's distance, less the bound on its error, is beyond the k-th in double, then so is everything that is no candidate. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "learn/exact.h"
#include "learn/scan.h"
#include "trine/index.h"

enum { SPARE = 12 }; /* candidates beyond k */

struct search {
    trine__exact exact;
    trine__scan scan;
    int k, candidates;
    float *found;      /* [queries of a block][candidates] */
    int32_t *at;       /* the same */
    int *members;      /* [count] */
    double *lengths;   /* [count] distances in double */
    trine__near *near; /* [count] */
};

static double shown(trine_distance distance, double d)
{
    return distance == TRINE_EUCLIDEAN ? sqrt(d) : d;
}

/* Distances in double to the `count` members, sorted. */
static void order_members(struct search *s, const float *query, double norm, size_t count)
{
    trine__exact_distances(&s->exact, query, norm, s->members, count, s->lengths);
    for (size_t i = 0; i < count; i++) s->near[i] = (trine__near){s->lengths[i], s->members[i]};
    qsort(s->near, count, sizeof *s->near, trine__near_compare);
}

/* Query q of a block: its list in s->near; returns how long it is. */
static size_t order_query(struct search *s, const float *query, int q, int self)
{
    const size_t others = s->exact.count - (self >= 0);
    const size_t want = (size_t)s->k < others ? (size_t)s->k : others;
    const double norm = trine__exact_norm(query, s->exact.dim);
    size_t count = 0;
    for (int c = 0; c < s->candidates; c++) {
        const int32_t at = s->at[(size_t)q * (size_t)s->candidates + (size_t)c];
        if (at >= 0) s->members[count++] = at;
    }
    order_members(s, query, norm, count);
    if (count == others) return want;
    double relative, absolute;
    const double last = s->found[(size_t)q * (size_t)s->candidates + (size_t)s->candidates - 1];
    trine_knn_error(s->scan.op, norm, s->exact.longest, &relative, &absolute);
    const double beyond = last - 1.05 * (relative * fabs(last) + absolute);
    if (count == (size_t)s->candidates && count > want && s->near[want - 1].distance < beyond) return want;
    count = 0;
    for (size_t i = 0; i < s->exact.count; i++)
        if ((int)i != self) s->members[count++] = (int)i;
    order_members(s, query, norm, count);
    return want;
}

static trine_status prepare(struct search *s, size_t count)
{
    void *p;
    const size_t lists = (size_t)s->scan.queries * (size_t)s->candidates;
    TRINE_TRY(trine__calloc(lists, sizeof *s->found, &p));
    s->found = p;
    TRINE_TRY(trine__calloc(lists, sizeof *s->at, &p));
    s->at = p;
    TRINE_TRY(trine__calloc(count, sizeof *s->members, &p));
    s->members = p;
    TRINE_TRY(trine__calloc(count, sizeof *s->lengths, &p));
    s->lengths = p;
    TRINE_TRY(trine__calloc(count, sizeof *s->near, &p));
    s->near = p;
    return TRINE_OK;
}

static void release(struct search *s)
{
    void *const arrays[] = {s->found, s->at, s->members, s->lengths, s->near};
    for (size_t i = 0; i < TRINE_COUNTOF(arrays); i++) free(arrays[i]);
    trine__exact_release(&s->exact);
    trine__scan_release(&s->scan);
}

static trine_status search_all(struct search *s, const float *queries, size_t query_count, int self,
                               int32_t *indices, double *distances)
{
    for (size_t first = 0; first < query_count; first += (size_t)s->scan.queries) {
        const size_t left = query_count - first;
        const int n = left < (size_t)s->scan.queries ? (int)left : s->scan.queries;
        const float *block = queries + first * s->exact.dim;
        TRINE_TRY(
            trine__scan_nearest(&s->scan, block, n, self < 0 ? -1 : self + (int)first, s->found, s->at));
        for (int q = 0; q < n; q++) {
            const size_t list = (first + (size_t)q) * (size_t)s->k;
            const size_t there =
                order_query(s, block + (size_t)q * s->exact.dim, q, self < 0 ? -1 : self + (int)first + q);
            for (size_t r = 0; r < (size_t)s->k; r++) {
                indices[list + r] = r < there ? s->near[r].index : -1;
                distances[list + r] = r < there ? shown(s->exact.distance, s->near[r].distance) : INFINITY;
            }
        }
    }
    return TRINE_OK;
}

static trine_status check(const void *a, const void *b, const void *c, const void *d, size_t count, int dim,
                          trine_distance distance)
{
    TRINE_CHECK(a && b && c && d, TRINE_ERR_ARG, "search: stream, vectors or result is missing");
    TRINE_CHECK(dim >= 1, TRINE_ERR_ARG, "search: vectors of %d values, expected at least 1", dim);
    TRINE_CHECK((unsigned)distance <= TRINE_DOT, TRINE_ERR_ARG, "search: unknown distance %d", (int)distance);
    TRINE_CHECK(count >= 1, TRINE_ERR_DATA, "search: there are no vectors");
    return TRINE_OK;
}

trine_status trine_search(trine_stream *stream, const float *base, size_t count, int dim,
                          trine_distance distance, const float *queries, size_t query_count, int k, int self,
                          int32_t *indices, double *distances)
{
    TRINE_TRY(check(stream, base, indices, distances, count, dim, distance));
    TRINE_CHECK(queries || query_count == 0, TRINE_ERR_ARG, "search: queries are missing");
    TRINE_CHECK(k >= 1 && k <= INT_MAX - SPARE, TRINE_ERR_ARG, "search: the %d nearest, expected at least 1",
                k);
    TRINE_CHECK(self >= -1 && (self < 0 || (size_t)self + query_count <= count), TRINE_ERR_ARG,
                "search: queries from vector %d on, of %zu", self, count);
    struct search s = {.k = k};
    trine_status status;
    s.candidates = (size_t)k + SPARE < count ? k + SPARE : (int)count;
    TRINE_TRY_GOTO(trine__exact_init(&s.exact, base, count, dim, distance));
    TRINE_TRY_GOTO(
        trine__scan_create(stream, base, count, dim, distance, s.candidates, query_count, &s.scan));
    TRINE_TRY_GOTO(prepare(&s, count));
    status = search_all(&s, queries, query_count, self, indices, distances);
cleanup:
    release(&s);
    return status;
}

/* Pairs within a distance: whole rows come from the device. */
struct pairs {
    trine__exact exact;
    trine__scan scan;
    double threshold;
    size_t first; /* of the block's queries */
    int block;
    int *members;
    double *lengths;
    trine_pair *list;
    size_t count, capacity;
};

/* The later vectors that single precision does not exclude; returns how many. */
static size_t find_members(struct pairs *p, int q)
{
    const size_t i = p->first + (size_t)q;
    double relative, absolute;
    size_t members = 0;
    trine_knn_error(p->scan.op, p->exact.norms[i], p->exact.longest, &relative, &absolute);
    const double key = p->exact.distance == TRINE_EUCLIDEAN ? p->threshold * p->threshold : p->threshold;
    const double limit = key + 1.05 * (relative * fabs(key) + absolute) + 1e-12 * fabs(key);
    for (int t = (int)(i / (size_t)p->scan.tile); t < p->scan.tiles; t++) {
        int count;
        const float *row = trine__scan_row(&p->scan, p->block, q, t, &count);
        for (int j = 0; j < count; j++) {
            const size_t at = (size_t)t * (size_t)p->scan.tile + (size_t)j;
            if (row[j] <= limit && at > i) p->members[members++] = (int)at;
        }
    }
    return members;
}

static trine_status add_pairs(struct pairs *p, int q)
{
    const size_t i = p->first + (size_t)q, members = find_members(p, q);
    trine__exact_distances(&p->exact, p->exact.base + i * p->exact.dim, p->exact.norms[i], p->members,
                           members, p->lengths);
    for (size_t m = 0; m < members; m++) {
        const double d = shown(p->exact.distance, p->lengths[m]);
        if (!(d <= p->threshold)) continue;
        void *list = p->list;
        TRINE_TRY(trine__reserve(&list, &p->capacity, p->count + 1, sizeof *p->list));
        p->list = list;
        p->list[p->count++] = (trine_pair){(int)i, p->members[m], d};
    }
    return TRINE_OK;
}

static trine_status find_pairs(struct pairs *p)
{
    void *memory;
    TRINE_TRY(trine__calloc(p->exact.count, sizeof *p->members, &memory));
    p->members = memory;
    TRINE_TRY(trine__calloc(p->exact.count, sizeof *p->lengths, &memory));
    p->lengths = memory;
    for (p->first = 0; p->first < p->exact.count; p->first += (size_t)p->block) {
        const size_t left = p->exact.count - p->first;
        p->block = left < (size_t)p->scan.queries ? (int)left : p->scan.queries;
        TRINE_TRY(trine__scan_rows(&p->scan, p->exact.base + p->first * p->exact.dim, p->block));
        for (int q = 0; q < p->block; q++) TRINE_TRY(add_pairs(p, q));
    }
    return TRINE_OK;
}

trine_status trine_pairs_within(trine_stream *stream, const float *base, size_t count, int dim,
                                trine_distance distance, double threshold, trine_pair **pairs,
                                size_t *pair_count)
{
    TRINE_TRY(check(stream, base, pairs, pair_count, count, dim, distance));
    TRINE_CHECK(isfinite(threshold), TRINE_ERR_ARG, "search: a distance of %g, expected a number", threshold);
    struct pairs p = {.threshold = threshold};
    trine_status status;
    TRINE_TRY_GOTO(trine__exact_init(&p.exact, base, count, dim, distance));
    TRINE_TRY_GOTO(trine__scan_create(stream, base, count, dim, distance, 0, count, &p.scan));
    TRINE_TRY_GOTO(find_pairs(&p));
    *pairs = p.list;
    *pair_count = p.count;
    p.list = NULL;
cleanup:
    free(p.list);
    free(p.members);
    free(p.lengths);
    trine__exact_release(&p.exact);
    trine__scan_release(&p.scan);
    return status;
}
