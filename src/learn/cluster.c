/* SPDX-License-Identifier: MIT */
/* k-means, whose assignments are nearest neighbours among the centres on the device, and mutual information. */
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "learn/scan.h"
#include "learn/threads.h"
#include "trine/retrieval.h"

enum { ITERATIONS = 100, MOST_PLUS_PLUS = 1024, CHUNK = 256 };
enum { PURPOSE = 0x6d65616e }; /* of the random numbers */

struct means {
    const float *data; /* [count][dim] */
    size_t count, dim;
    int clusters;
    float *centres;           /* [clusters][dim] */
    double *sums;             /* [clusters][dim] */
    size_t *members;          /* [clusters] */
    float *distances;         /* [count] squared, to the nearest centre */
    int32_t *nearest;         /* [count] */
    const float *last_centre; /* of k-means++, with the vectors that threads take */
    atomic_size_t next;
};

static const float *vector(const struct means *m, size_t i)
{
    return m->data + i * m->dim;
}

/* distances[i] = min(distances[i], |x_i - the last centre|^2) */
static void shorten(void *user, int number)
{
    struct means *m = user;
    (void)number;
    for (;;) {
        const size_t first = atomic_fetch_add(&m->next, CHUNK);
        if (first >= m->count) return;
        for (size_t i = first; i < first + CHUNK && i < m->count; i++) {
            const float *x = vector(m, i);
            double sum[2] = {0, 0};
            for (size_t d = 0; d + 1 < m->dim; d += 2)
                for (size_t k = 0; k < 2; k++) {
                    const double difference = (double)x[d + k] - m->last_centre[d + k];
                    sum[k] += difference * difference;
                }
            if (m->dim % 2) sum[0] += pow((double)x[m->dim - 1] - m->last_centre[m->dim - 1], 2);
            const double all = sum[0] + sum[1];
            if (all < m->distances[i]) m->distances[i] = (float)fmin(all, FLT_MAX);
        }
    }
}

/* A vector drawn with odds by its squared distance to the centres so far; any where all are 0. */
static size_t draw_by_distance(const struct means *m, trine__random *random)
{
    double sum = 0;
    for (size_t i = 0; i < m->count; i++) sum += m->distances[i];
    double at = trine__random_unit(random) * sum;
    if (!(sum > 0)) return (size_t)trine__random_below(random, m->count);
    size_t last = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (!(m->distances[i] > 0)) continue;
        last = i;
        if (at < m->distances[i]) return i;
        at -= m->distances[i];
    }
    return last; /* by rounding */
}

static void first_centres(struct means *m, uint64_t seed, int threads)
{
    trine__random random = trine__random_stream(seed, PURPOSE, 0);
    const size_t row = m->dim * sizeof(float);
    if (m->clusters >
        MOST_PLUS_PLUS) { /* without putting back: Floyd's way needs a set, a shuffle's beginning does not */
        for (size_t i = 0; i < m->count; i++) m->nearest[i] = (int32_t)i;
        for (size_t k = 0; k < (size_t)m->clusters; k++) {
            const size_t other = k + (size_t)trine__random_below(&random, m->count - k);
            const int32_t keep = m->nearest[k];
            m->nearest[k] = m->nearest[other];
            m->nearest[other] = keep;
            memcpy(m->centres + k * m->dim, vector(m, (size_t)m->nearest[k]), row);
        }
        return;
    }
    for (size_t i = 0; i < m->count; i++) m->distances[i] = FLT_MAX;
    size_t drawn = (size_t)trine__random_below(&random, m->count);
    for (int k = 0; k < m->clusters; k++) {
        if (k > 0) drawn = draw_by_distance(m, &random);
        memcpy(m->centres + (size_t)k * m->dim, vector(m, drawn), row);
        m->last_centre = vector(m, drawn);
        atomic_store(&m->next, 0);
        trine__parallel(threads, shorten, m);
    }
}

/* Every vector to its nearest centre; *moved: how many changed. */
static trine_status assign(struct means *m, trine__scan *scan, int *assignment, size_t *moved)
{
    *moved = 0;
    for (size_t first = 0; first < m->count; first += (size_t)scan->queries) {
        const size_t left = m->count - first;
        const int n = left < (size_t)scan->queries ? (int)left : scan->queries;
        TRINE_TRY(
            trine__scan_nearest(scan, vector(m, first), n, -1, m->distances + first, m->nearest + first));
    }
    for (size_t i = 0; i < m->count; i++) {
        const int to = m->nearest[i] < 0 ? 0 : m->nearest[i]; /* -1: every distance overflows */
        *moved += assignment[i] != to;
        assignment[i] = to;
    }
    return TRINE_OK;
}

static void add(const struct means *m, int cluster, size_t i, double sign)
{
    double *sum = m->sums + (size_t)cluster * m->dim;
    const float *x = vector(m, i);
    for (size_t d = 0; d < m->dim; d++) sum[d] += sign * x[d];
}

/* Give clusters without vectors one each: the farthest from its centre that does not leave its own empty. */
static size_t fill_empty(struct means *m, int *assignment)
{
    size_t filled = 0;
    for (int k = 0; k < m->clusters; k++) {
        if (m->members[k] > 0) continue;
        size_t farthest = m->count;
        for (size_t i = 0; i < m->count; i++)
            if (m->members[assignment[i]] > 1 &&
                (farthest == m->count || m->distances[i] > m->distances[farthest]))
                farthest = i;
        add(m, assignment[farthest], farthest, -1);
        m->members[assignment[farthest]]--;
        assignment[farthest] = k;
        m->distances[farthest] = 0;
        add(m, k, farthest, 1);
        m->members[k] = 1;
        filled++;
    }
    return filled;
}

/* Centres become the means of their vectors. Returns how many vectors were moved for it. */
static size_t move_centres(struct means *m, int *assignment)
{
    memset(m->sums, 0, (size_t)m->clusters * m->dim * sizeof *m->sums);
    memset(m->members, 0, (size_t)m->clusters * sizeof *m->members);
    for (size_t i = 0; i < m->count; i++) {
        m->members[assignment[i]]++;
        add(m, assignment[i], i, 1);
    }
    const size_t filled = fill_empty(m, assignment);
    for (size_t k = 0; k < (size_t)m->clusters; k++)
        for (size_t d = 0; d < m->dim; d++)
            m->centres[k * m->dim + d] = (float)(m->sums[k * m->dim + d] / (double)m->members[k]);
    return filled;
}

static trine_status allocate(struct means *m)
{
    const struct {
        void **array;
        size_t count, size;
    } arrays[] = {{(void **)&m->centres, (size_t)m->clusters * m->dim, sizeof *m->centres},
                  {(void **)&m->sums, (size_t)m->clusters * m->dim, sizeof *m->sums},
                  {(void **)&m->members, (size_t)m->clusters, sizeof *m->members},
                  {(void **)&m->distances, m->count, sizeof *m->distances},
                  {(void **)&m->nearest, m->count, sizeof *m->nearest}};
    for (size_t i = 0; i < TRINE_COUNTOF(arrays); i++)
        TRINE_TRY(trine__calloc(arrays[i].count, arrays[i].size, arrays[i].array));
    return TRINE_OK;
}

static trine_status check(const float *data, size_t count, int dim, const trine_cluster_options *o)
{
    TRINE_CHECK(dim >= 1 && o->iterations >= 0 && o->threads >= 0, TRINE_ERR_ARG,
                "cluster: vectors of %d values, %d iterations, %d threads", dim, o->iterations, o->threads);
    TRINE_CHECK(o->clusters >= 1 && (size_t)o->clusters <= count, TRINE_ERR_ARG,
                "cluster: %d clusters of %zu vectors, expected 1 to as many", o->clusters, count);
    for (size_t i = 0; i < count * (size_t)dim; i++)
        TRINE_CHECK(isfinite(data[i]), TRINE_ERR_DATA, "cluster: vector %zu has a value that is not finite",
                    i / (size_t)dim);
    return TRINE_OK;
}

trine_status trine_cluster(trine_stream *stream, const float *data, size_t count, int dim,
                           const trine_cluster_options *options, int *assignment)
{
    TRINE_CHECK(stream && data && options && assignment, TRINE_ERR_ARG,
                "cluster: stream, vectors, options or result is missing");
    TRINE_TRY(check(data, count, dim, options));
    struct means m = {.data = data, .count = count, .dim = (size_t)dim, .clusters = options->clusters};
    trine__scan scan = {0};
    float *scaled = NULL;
    trine_status status;
    if (options->normalize) {
        void *p;
        TRINE_TRY_GOTO(trine__calloc(count * m.dim, sizeof *scaled, &p));
        m.data = scaled = memcpy(p, data, count * m.dim * sizeof *scaled);
        trine_vectors_normalize(scaled, count, dim);
    }
    TRINE_TRY_GOTO(allocate(&m));
    first_centres(&m, options->seed, trine__threads(options->threads));
    TRINE_TRY_GOTO(
        trine__scan_create(stream, m.centres, (size_t)m.clusters, dim, TRINE_SQUARED, 1, count, &scan));
    for (size_t i = 0; i < count; i++) assignment[i] = -1;
    const int most = options->iterations > 0 ? options->iterations : ITERATIONS;
    for (int iteration = 0; iteration < most; iteration++) {
        size_t moved;
        TRINE_TRY_GOTO(assign(&m, &scan, assignment, &moved));
        if (moved + move_centres(&m, assignment) == 0) break;
    }
cleanup:
    trine__scan_release(&scan);
    free(scaled);
    void *const arrays[] = {m.centres, m.sums, m.members, m.distances, m.nearest};
    for (size_t i = 0; i < TRINE_COUNTOF(arrays); i++) free(arrays[i]);
    return status;
}

struct pair {
    int a, b;
};

static int compare_pairs(const void *x, const void *y)
{
    const struct pair *p = x, *q = y;
    if (p->a != q->a) return p->a < q->a ? -1 : 1;
    return (p->b > q->b) - (p->b < q->b);
}

static int compare_second(const void *x, const void *y)
{
    const struct pair *p = x, *q = y;
    return (p->b > q->b) - (p->b < q->b);
}

/* Entropy of the runs of equal items in a sorted list: of both labels, of a (`which` 1) or of b (2). */
static double entropy(const struct pair *pairs, size_t count, int which)
{
    double sum = 0;
    for (size_t begin = 0, end; begin < count; begin = end) {
        for (end = begin + 1; end < count; end++)
            if ((which != 2 && pairs[end].a != pairs[begin].a) ||
                (which != 1 && pairs[end].b != pairs[begin].b))
                break;
        const double share = (double)(end - begin) / (double)count;
        sum -= share * log(share);
    }
    return sum;
}

trine_status trine_mutual_information(const int *a, const int *b, size_t count, double *out)
{
    TRINE_CHECK(a && b && out, TRINE_ERR_ARG, "mutual information: labels or result is missing");
    TRINE_CHECK(count >= 1, TRINE_ERR_DATA, "mutual information: no labels");
    void *memory;
    TRINE_TRY(trine__calloc(count, sizeof(struct pair), &memory));
    struct pair *pairs = memory;
    for (size_t i = 0; i < count; i++) pairs[i] = (struct pair){a[i], b[i]};
    qsort(pairs, count, sizeof *pairs, compare_pairs);
    const double both = entropy(pairs, count, 0), first = entropy(pairs, count, 1);
    qsort(pairs, count, sizeof *pairs, compare_second);
    const double second = entropy(pairs, count, 2), information = fmax(first + second - both, 0);
    free(pairs);
    *out = first + second > 0 ? information / ((first + second) / 2) : 1;
    return TRINE_OK;
}
