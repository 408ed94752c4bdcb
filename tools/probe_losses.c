/* SPDX-License-Identifier: MIT */
/* Known answers of losses and optimizers, and a whole small network. */
#include "probe.h"
#include "trine/knn.h"

#include <math.h>
#include <string.h>

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

static double distance(const float *e, int a, int b)
{
    double sum = 0;
    for (int i = 0; i < D; i++) sum += pow((double)e[a * D + i] - (double)e[b * D + i], 2);
    return sqrt(fmax(sum, 1e-12));
}

/* d (distance of a and b) times scale, added to the gradient of both. */
static void add_gradient(const float *e, int a, int b, double scale, float *de)
{
    const double d = distance(e, a, b);
    for (int i = 0; i < D; i++) {
        const float part = (float)(scale * ((double)e[a * D + i] - (double)e[b * D + i]) / d);
        de[a * D + i] += part;
        de[b * D + i] -= part;
    }
}

/* Batch-hard with margin 0.2: loss, and its gradient added to de. */
static double batch_hard(const float *e, float *de)
{
    int positive[N], negative[N], anchors = 0;
    double loss = 0;
    for (int a = 0; a < N; a++) {
        positive[a] = negative[a] = -1;
        for (int b = 0; b < N; b++) {
            int *hardest = classes[a] == classes[b] ? &positive[a] : &negative[a];
            const double sign = classes[a] == classes[b] ? 1 : -1;
            if (b != a && (*hardest < 0 || sign * distance(e, a, b) > sign * distance(e, a, *hardest)))
                *hardest = b;
        }
        anchors += positive[a] >= 0 && negative[a] >= 0;
    }
    for (int a = 0; a < N; a++) {
        if (positive[a] < 0 || negative[a] < 0) continue;
        const double value = distance(e, a, positive[a]) - distance(e, a, negative[a]) + 0.2;
        if (value <= 0) continue;
        loss += value / anchors;
        add_gradient(e, a, positive[a], 1.0 / anchors, de);
        add_gradient(e, a, negative[a], -1.0 / anchors, de);
    }
    return loss;
}

static void triplet(probe *p)
{
    const trine_triplet_desc desc = {.mining = TRINE_BATCH_HARD, .distance = TRINE_EUCLIDEAN, .margin = 0.2f};
    trine_triplet *op = NULL;
    float *e = probe_draw(p, COUNT), *de = probe_zeros(p, COUNT);
    const float loss = (float)batch_hard(e, de);
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
    probe_report(p, "triplet batch-hard", "triplet", 5e-6);
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
    triplet(p);
}

/* Two steps with one gradient. */
static void optimizer(probe *p, const char *name, trine_optimizer_kind kind)
{
    const double lr = 0.05, decay = 0.01, momentum = 0.9;
    trine_optimizer_desc desc = trine_optimizer_desc_default(kind);
    trine_optimizer *op = NULL;
    float *w = probe_draw(p, COUNT), *g = probe_draw(p, COUNT), *want = probe_zeros(p, COUNT);
    desc.momentum = kind == TRINE_SGD ? (float)momentum : 0;
    desc.weight_decay = (float)decay;
    for (int i = 0; i < COUNT; i++) {
        double x = (double)w[i], m = 0, v = 0;
        for (int step = 1; step <= 2; step++) {
            const double gradient = (double)g[i] + (kind == TRINE_ADAMW ? 0 : decay * x);
            if (kind == TRINE_SGD) {
                m = step == 1 ? gradient : momentum * m + gradient;
                x -= lr * m;
                continue;
            }
            if (kind == TRINE_ADAMW) x -= lr * decay * x;
            m = 0.9 * m + 0.1 * gradient;
            v = 0.999 * v + 0.001 * gradient * gradient;
            x -= lr * m / (1 - pow(0.9, step)) / (sqrt(v / (1 - pow(0.999, step))) + 1e-8);
        }
        want[i] = (float)x;
    }
    PROBE_DO(p, trine_optimizer_create(p->context, &desc, COUNT, &op));
    trine_buffer *tw = probe_buffer(p, w, COUNT * sizeof *w), *tg = probe_buffer(p, g, COUNT * sizeof *g);
    for (int step = 0; step < 2 && p->status == TRINE_OK; step++) {
        trine_optimizer_advance(op);
        PROBE_DO(p, trine_optimizer_step(op, p->stream, tw, tg, 0, COUNT, (float)lr));
    }
    probe_check_buffer(p, "parameter", tw, want, COUNT, 1);
    trine_optimizer_destroy(&op);
    probe_report(p, name, "optimizer", 5e-6);
}

void probe_optimizers(probe *p)
{
    optimizer(p, "optimizer sgd", TRINE_SGD);
    optimizer(p, "optimizer adam", TRINE_ADAM);
    optimizer(p, "optimizer adamw", TRINE_ADAMW);
}

/* Inference twice over the same images: the same bits, and a network that did not change. */
void probe_network(probe *p)
{
    const trine_resnet_options options = {.arch = "resnet20_cifar", .seed = 1};
    const trine_shape shape = {2, 3, 32, 32};
    trine_resnet *net = NULL;
    trine_session *session = NULL;
    uint64_t before = 0, after = 1, statistics_before = 0, statistics_after = 1;
    float first[20] = {0}, second[20] = {0};
    static const float zeros[20];
    const float *x = probe_draw(p, 2 * 3 * 32 * 32);
    PROBE_DO(p, trine_resnet_create(p->context, &options, &net));
    PROBE_DO(p, trine_session_create_inference(net, p->stream, &shape, &session));
    const trine_tensor images = probe_tensor(p, &shape, 1, x);
    PROBE_DO(p, trine_resnet_state_hash(net, p->stream, &before, &statistics_before, NULL));
    for (int i = 0; i < 2 && p->status == TRINE_OK; i++) {
        PROBE_DO(p, trine_session_forward(session, &images));
        const trine_tensor logits = trine_session_logits(session);
        PROBE_DO(p, trine_tensor_download(p->stream, &logits, i == 0 ? first : second));
    }
    PROBE_DO(p, trine_resnet_state_hash(net, p->stream, &after, &statistics_after, NULL));
    const float moved = before != after || statistics_before != statistics_after, still = 0;
    probe_check(p, "second logits", second, first, 20, 1);
    for (int i = 0; i < 20; i++) first[i] -= first[i]; /* 0, or NaN */
    probe_check(p, "finite logits", first, zeros, 20, 1);
    probe_check(p, "state moved", &moved, &still, 1, 1);
    trine_session_destroy(&session);
    trine_resnet_destroy(&net);
    probe_report(p, "resnet20_cifar: twice the same, nothing moved", "resnet20_cifar", 0);
}
