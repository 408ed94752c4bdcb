/* SPDX-License-Identifier: MIT */
/* Known answers of losses. */
#include "probe.h"
#include "trine/knn.h"

#include <math.h>
#include <stdbool.h>

enum { N = 8, D = 13, K = 5, COUNT = N * D };

static const trine_shape rows = {N, D, 1, 1};
static const int32_t classes[N] = {0, 1, 2, 0, 1, 2, 0, 3};

static void l2norm(probe *p)
{
    trine_l2norm *op = NULL;
    float *x = probe_draw(p, COUNT), *dy = probe_draw(p, COUNT), *y = probe_zeros(p, COUNT),
          *dx = probe_zeros(p, COUNT);
    for (int n = 0; n < N; n++) {
        double norm = 0, dot = 0;
        for (int i = n * D; i < (n + 1) * D; i++) norm += (double)x[i] * (double)x[i];
        norm = sqrt(norm);
        for (int i = n * D; i < (n + 1) * D; i++) {
            y[i] = (float)((double)x[i] / norm);
            dot += (double)y[i] * (double)dy[i];
        }
        for (int i = n * D; i < (n + 1) * D; i++)
            dx[i] = (float)(((double)dy[i] - (double)y[i] * dot) / norm);
    }
    PROBE_DO(p, trine_l2norm_create(p->context, &op));
    if (p->status == TRINE_OK) {
        const trine_tensor tx = probe_tensor(p, &rows, 1, x), tdy = probe_tensor(p, &rows, 1, dy);
        trine_tensor ty = probe_tensor(p, &rows, 1, NULL), tdx = probe_tensor(p, &rows, 1, NULL);
        trine_buffer *norms = probe_buffer(p, NULL, N * sizeof(float));
        PROBE_DO(p, trine_l2norm_forward(op, p->stream, &tx, &ty, norms));
        PROBE_DO(p, trine_l2norm_backward(op, p->stream, &ty, norms, &tdy, &tdx));
        probe_check_tensor(p, "y", &ty, y);
        probe_check_tensor(p, "dx", &tdx, dx);
    }
    trine_l2norm_destroy(&op);
    probe_report(p, "l2norm", "l2norm", 2e-6);
}

static void cross_entropy(probe *p)
{
    const trine_shape shape = {N, K, 1, 1};
    trine_cross_entropy *op = NULL;
    float *z = probe_draw(p, N * K), *dz = probe_zeros(p, N * K), want[2] = {0, 0};
    for (int n = 0; n < N; n++) {
        const float *row = z + n * K;
        double sum = 0;
        int best = 0;
        for (int k = 0; k < K; k++) {
            sum += exp((double)row[k]);
            if (row[k] > row[best]) best = k;
        }
        for (int k = 0; k < K; k++)
            dz[n * K + k] = (float)((exp((double)row[k]) / sum - (k == classes[n])) / N);
        want[0] += (float)((log(sum) - (double)row[classes[n]]) / N);
        want[1] += best == classes[n] ? 1.0f / N : 0;
    }
    PROBE_DO(p, trine_cross_entropy_create(p->context, &op));
    if (p->status == TRINE_OK) {
        const trine_tensor logits = probe_tensor(p, &shape, 1, z);
        trine_tensor gradient = probe_tensor(p, &shape, 1, NULL);
        trine_buffer *labels = probe_buffer(p, classes, sizeof classes),
                     *stats = probe_buffer(p, NULL, sizeof want);
        PROBE_DO(p, trine_cross_entropy_run(op, p->stream, &logits, labels, &gradient, stats, 0));
        probe_check_tensor(p, "gradient", &gradient, dz);
        probe_check_buffer(p, "loss and accuracy", stats, want, 2, 1);
    }
    trine_cross_entropy_destroy(&op);
    probe_report(p, "cross_entropy", "cross_entropy", 2e-6);
}

/* Loops on the host over what a loss sees, with distances and d loss / d distance of every pair. */
typedef struct mined {
    double d[N][N], g[N][N], loss;
    int terms;
} mined;

static void measure(const float *e, bool cosine, mined *m)
{
    *m = (mined){.loss = 0};
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++) {
            double sum = 0, dot = 0, aa = 0, bb = 0;
            for (int i = 0; i < D; i++) {
                const double x = (double)e[a * D + i], y = (double)e[b * D + i];
                sum += (x - y) * (x - y);
                dot += x * y;
                aa += x * x;
                bb += y * y;
            }
            m->d[a][b] = cosine ? 1 - dot / sqrt(aa * bb) : sqrt(fmax(sum, 1e-12));
        }
}

/* de = the gradient of the loss's mean; returns the mean. */
static float finish(const mined *m, const float *e, bool cosine, float *de)
{
    double norms[N];
    for (int a = 0; a < N; a++) {
        double sum = 0;
        for (int i = 0; i < D; i++) sum += pow((double)e[a * D + i], 2);
        norms[a] = sqrt(sum);
    }
    for (int a = 0; a < N; a++)
        for (int i = 0; i < D; i++) {
            double sum = 0;
            for (int b = 0; b < N; b++) {
                const double x = (double)e[a * D + i], y = (double)e[b * D + i], g = m->g[a][b] + m->g[b][a];
                if (a == b || m->terms == 0) continue;
                sum += g / m->terms *
                       (cosine ? (1 - m->d[a][b]) * x / (norms[a] * norms[a]) - y / (norms[a] * norms[b])
                               : (x - y) / m->d[a][b]);
            }
            de[a * D + i] = (float)sum;
        }
    return m->terms ? (float)(m->loss / m->terms) : 0;
}

static bool positive(int a, int b)
{
    return a != b && classes[a] == classes[b];
}

static bool negative(int a, int b)
{
    return classes[a] != classes[b];
}

/* The closest (sign 1) or farthest (-1) positive or negative of a, -1: none. */
static int extreme(const mined *m, int a, bool (*is)(int, int), double sign)
{
    int best = -1;
    for (int b = 0; b < N; b++)
        if (is(a, b) && (best < 0 || sign * m->d[a][b] < sign * m->d[a][best])) best = b;
    return best;
}

static void add_triplet(mined *m, int a, int p, int n, double margin)
{
    const double x = m->d[a][p] - m->d[a][n] + margin;
    m->terms++;
    if (x <= 0) return;
    m->loss += x;
    m->g[a][p] += 1;
    m->g[a][n] -= 1;
}

static void batch_hard(mined *m, int a)
{
    const int p = extreme(m, a, positive, -1), n = extreme(m, a, negative, 1);
    if (p >= 0 && n >= 0) add_triplet(m, a, p, n, 0.2);
}

static void easy_positive(mined *m, int a)
{
    const int p = extreme(m, a, positive, 1), n = extreme(m, a, negative, 1);
    if (p >= 0 && n >= 0) add_triplet(m, a, p, n, 0.2);
}

/* The closest negative farther than the positive, else the farthest. */
static void semi_hard(mined *m, int a)
{
    for (int p = 0; p < N; p++) {
        int n = -1;
        if (!positive(a, p)) continue;
        for (int b = 0; b < N; b++)
            if (negative(a, b) && m->d[a][b] > m->d[a][p] && (n < 0 || m->d[a][b] < m->d[a][n])) n = b;
        add_triplet(m, a, p, n >= 0 ? n : extreme(m, a, negative, -1), 0.2);
    }
}

/* All triplets with the closest half of the negatives; the mean counts those with positive loss. */
static void hardest_half(mined *m, int a)
{
    int negatives = 0;
    for (int n = 0; n < N; n++) negatives += negative(a, n);
    for (int p = 0; p < N; p++)
        for (int n = 0; n < N && positive(a, p); n++) {
            int closer = 0;
            for (int b = 0; b < N; b++) closer += negative(a, b) && m->d[a][b] < m->d[a][n];
            if (negative(a, n) && 2 * closer < negatives && m->d[a][p] - m->d[a][n] + 0.2 > 0)
                add_triplet(m, a, p, n, 0.2);
        }
}

static void nt_xent(mined *m, int a)
{
    const double t = 0.1;
    for (int p = 0; p < N; p++) {
        double sum = 1;
        if (!positive(a, p)) continue;
        for (int n = 0; n < N; n++) sum += negative(a, n) ? exp((m->d[a][p] - m->d[a][n]) / t) : 0;
        for (int n = 0; n < N; n++) {
            const double share = negative(a, n) ? exp((m->d[a][p] - m->d[a][n]) / t) / sum : 0;
            m->g[a][p] += share / t;
            m->g[a][n] -= share / t;
        }
        m->loss += log(sum);
        m->terms++;
    }
}

static void angular(mined *m, int a) /* 45 degrees: tan is 1 */
{
    for (int p = 0; p < N; p++) {
        double sum = 1;
        if (!positive(a, p)) continue;
        for (int pass = 0; pass < 2; pass++)
            for (int n = 0; n < N; n++) {
                const double f = 4 * (2 - m->d[a][n] - m->d[p][n]) - 4 * (1 - m->d[a][p]);
                if (!negative(a, n)) continue;
                sum += pass ? 0 : exp(f);
                m->g[a][n] -= pass ? 4 * exp(f) / sum : 0;
                m->g[p][n] -= pass ? 4 * exp(f) / sum : 0;
                m->g[a][p] += pass ? 4 * exp(f) / sum : 0;
            }
        m->loss += log(sum);
        m->terms++;
    }
}

static void multi_similarity(mined *m, int a)
{
    const int p = extreme(m, a, positive, -1), n = extreme(m, a, negative, 1);
    double sums[2] = {1, 1};
    m->terms++;
    for (int pass = 0; pass < 2 && p >= 0 && n >= 0; pass++)
        for (int b = 0; b < N; b++) {
            const double s = 1 - m->d[a][b];
            if (positive(a, b) && m->d[a][b] > m->d[a][n] - 0.1) {
                sums[0] += pass ? 0 : exp(-2 * (s - 0.5));
                m->g[a][b] += pass ? exp(-2 * (s - 0.5)) / sums[0] : 0;
            }
            if (negative(a, b) && m->d[a][b] < m->d[a][p] + 0.1) {
                sums[1] += pass ? 0 : exp(50 * (s - 0.5));
                m->g[a][b] -= pass ? exp(50 * (s - 0.5)) / sums[1] : 0;
            }
        }
    m->loss += log(sums[0]) / 2 + log(sums[1]) / 50;
}

static const struct mined_case {
    const char *name;
    trine_triplet_loss loss;
    trine_mining mining;
    void (*host)(mined *m, int anchor);
    double bound;
} mined_cases[] = {
    {"triplet batch-hard", TRINE_LOSS_TRIPLET, TRINE_BATCH_HARD, batch_hard, 5e-6},
    {"triplet semi-hard", TRINE_LOSS_TRIPLET, TRINE_SEMI_HARD, semi_hard, 5e-6},
    {"triplet easy-positive", TRINE_LOSS_TRIPLET, TRINE_EASY_POSITIVE, easy_positive, 5e-6},
    {"triplet hardest-fraction", TRINE_LOSS_TRIPLET, TRINE_HARDEST_FRACTION, hardest_half, 5e-6},
    {"angular", TRINE_LOSS_ANGULAR, TRINE_BATCH_HARD, angular, 1e-5},
    {"multi-similarity", TRINE_LOSS_MULTI_SIMILARITY, TRINE_BATCH_HARD, multi_similarity, 2e-5},
    {"nt-xent", TRINE_LOSS_NT_XENT, TRINE_BATCH_HARD, nt_xent, 1e-5},
};

/* The second half of the batch is in a memory of the same embeddings: whatever is drawn, the statistics must count all pairs. */
static void triplet_memory(probe *p)
{
    trine_triplet_desc desc = trine_triplet_desc_default(TRINE_LOSS_TRIPLET);
    trine_triplet *op = NULL;
    trine_triplet_memory *memory = NULL;
    const float *e = probe_draw(p, COUNT);
    float want[2] = {0, 0};
    desc.mining = TRINE_DISTANCE_WEIGHTED;
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++)
            want[0] += (classes[a] == classes[b]) + positive(a, b); /* pairs: remembered, in the batch */
    PROBE_DO(p, trine_triplet_create(p->context, &desc, &op));
    PROBE_DO(p, trine_triplet_memory_create(p->context, N, D, 1, &memory));
    PROBE_DO(p, trine_triplet_set_memory(op, memory));
    if (p->status == TRINE_OK) {
        const trine_tensor te = probe_tensor(p, &rows, 1, e);
        trine_buffer *labels = probe_buffer(p, classes, sizeof classes);
        trine_buffer *stats = probe_buffer(p, NULL, TRINE_TRIPLET_STATS * sizeof(float));
        trine_buffer *workspace = probe_buffer(p, NULL, trine_triplet_workspace_bytes(op, N));
        float got[TRINE_TRIPLET_STATS] = {0};
        PROBE_DO(p, trine_triplet_memory_add(memory, p->stream, &te, labels));
        PROBE_DO(p, trine_triplet_run(op, p->stream, &te, labels, NULL, stats, 0, workspace));
        PROBE_DO(p, trine_buffer_read(p->stream, stats, 0, got, sizeof got));
        probe_check(p, "pairs", &got[2], want, 1, 1);
    }
    trine_triplet_destroy(&op);
    trine_triplet_memory_destroy(&memory);
    probe_report(p, "triplet distance-weighted with a memory", "triplet_memory", 0);
}

static void triplet(probe *p, const struct mined_case *c)
{
    const bool cosine = c->loss != TRINE_LOSS_TRIPLET;
    trine_triplet_desc desc = trine_triplet_desc_default(c->loss);
    trine_triplet *op = NULL;
    mined m;
    float *e = probe_draw(p, COUNT), *de = probe_zeros(p, COUNT);
    desc.mining = c->mining;
    desc.fraction = 0.5f;
    measure(e, cosine, &m);
    for (int a = 0; a < N; a++) c->host(&m, a);
    const float loss = finish(&m, e, cosine, de);
    PROBE_DO(p, trine_triplet_create(p->context, &desc, &op));
    if (p->status == TRINE_OK) {
        const trine_tensor te = probe_tensor(p, &rows, 1, e);
        trine_tensor gradient = probe_tensor(p, &rows, 1, NULL);
        trine_buffer *labels = probe_buffer(p, classes, sizeof classes);
        trine_buffer *stats = probe_buffer(p, NULL, TRINE_TRIPLET_STATS * sizeof(float));
        trine_buffer *workspace = probe_buffer(p, NULL, trine_triplet_workspace_bytes(op, N));
        PROBE_DO(p, trine_triplet_run(op, p->stream, &te, labels, &gradient, stats, 0, workspace));
        probe_check_tensor(p, "gradient", &gradient, de);
        probe_check_buffer(p, "loss", stats, &loss, 1, 1);
    }
    trine_triplet_destroy(&op);
    probe_report(p, c->name, "triplet", c->bound);
}

/* The nearest two of every row among all rows but itself, in two tiles. */
static void knn(probe *p)
{
    enum { K2 = 2, FIRST = 5 };
    trine_knn *op = NULL;
    float *x = probe_draw(p, COUNT), *want = probe_zeros(p, N * K2), *which = probe_zeros(p, N * K2);
    int32_t got[N * K2] = {0};
    for (int a = 0; a < N; a++)
        for (int r = 0; r < K2; r++) {
            int best = -1;
            double least = 0;
            for (int b = 0; b < N; b++) {
                double d = 0;
                for (int i = 0; i < D; i++) d += pow((double)x[a * D + i] - (double)x[b * D + i], 2);
                if (b == a || (r > 0 && b == (int)which[a * K2])) continue;
                if (best < 0 || d < least) best = b, least = d;
            }
            which[a * K2 + r] = (float)best;
            want[a * K2 + r] = (float)least;
        }
    PROBE_DO(p, trine_knn_create(p->context, D, TRINE_SQUARED, &op));
    if (p->status == TRINE_OK) {
        trine_buffer *queries = probe_buffer(p, x, COUNT * sizeof *x);
        trine_buffer *work = probe_buffer(p, NULL, trine_knn_workspace_bytes(op, N, N));
        trine_buffer *tile = probe_buffer(p, NULL, (size_t)(N * trine_knn_stride(op, N)) * sizeof(float));
        trine_buffer *best = probe_buffer(p, NULL, N * K2 * sizeof(float)),
                     *at = probe_buffer(p, NULL, sizeof got);
        for (int first = 0; first < N; first += FIRST) {
            const int count = first == 0 ? FIRST : N - FIRST;
            trine_buffer *base = probe_buffer(p, x + first * D, (size_t)(count * D) * sizeof *x);
            PROBE_DO(p, trine_knn_distances(op, p->stream, queries, N, base, count, work, tile));
            PROBE_DO(p, trine_knn_select(op, p->stream, tile, N, count, first, 0, first == 0, K2, best, at));
        }
        probe_check_buffer(p, "distance", best, want, N * K2, D);
        PROBE_DO(p, trine_buffer_read(p->stream, at, 0, got, sizeof got));
        for (int i = 0; i < N * K2; i++) want[i] = (float)got[i];
        probe_check(p, "neighbour", want, which, N * K2, 1);
    }
    trine_knn_destroy(&op);
    probe_report(p, "nearest neighbours", "knn", 5e-6);
}

void probe_losses(probe *p)
{
    knn(p);
    l2norm(p);
    cross_entropy(p);
    for (size_t i = 0; i < CLI_COUNTOF(mined_cases); i++) triplet(p, &mined_cases[i]);
    triplet_memory(p);
}
