/* SPDX-License-Identifier: MIT */
#include "ref/ref_triplet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct work {
    const trine_triplet_desc *o;
    const double *x;
    const int32_t *labels;
    int n, m, d;
    double *dist; /* [m][m] */
    double *g;    /* [m][m]: d loss / d dist, of the loss's sum */
    double loss, active, terms, d_ap, d_an;
} work;

static double dot(const double *a, const double *b, int d)
{
    double sum = 0;
    for (int c = 0; c < d; c++) sum += a[c] * b[c];
    return sum;
}

static double distance(int kind, const double *a, const double *b, int d)
{
    double sum = 0;
    if (kind == TRINE_COSINE)
        return 1 - dot(a, b, d) / (fmax(sqrt(dot(a, a, d)), 1e-8) * fmax(sqrt(dot(b, b, d)), 1e-8));
    for (int c = 0; c < d; c++) sum += (a[c] - b[c]) * (a[c] - b[c]);
    return kind == TRINE_EUCLIDEAN ? sqrt(fmax(sum, 1e-12)) : sum;
}

static double at(const work *w, int i, int j)
{
    return w->dist[i * w->m + j];
}

static int is_positive(const work *w, int a, int j)
{
    return j != a && w->labels[j] == w->labels[a];
}

static int is_negative(const work *w, int a, int j)
{
    return w->labels[j] != w->labels[a];
}

static int count(const work *w, int a, int (*is)(const work *, int, int))
{
    int sum = 0;
    for (int j = 0; j < w->m; j++) sum += is(w, a, j);
    return sum;
}

/* The closest (sign 1) or farthest (-1) of one kind; -1: there is none. */
static int best(const work *w, int a, int (*is)(const work *, int, int), double sign)
{
    int found = -1;
    for (int j = 0; j < w->m; j++)
        if (is(w, a, j) && (found < 0 || sign * at(w, a, j) < sign * at(w, a, found))) found = j;
    return found;
}

static int semi_hard(const work *w, int a, int p)
{
    const double low = w->o->window_lower, high = w->o->window_upper;
    int found = -1;
    for (int j = 0; j < w->m; j++) {
        const double x = at(w, a, j) - at(w, a, p);
        if (!is_negative(w, a, j) || !(x > low) || (high > low && !(x < high))) continue;
        if (found < 0 || at(w, a, j) < at(w, a, found)) found = j;
    }
    return found >= 0 || high > low ? found : best(w, a, is_negative, -1);
}

/* SplitMix64's finaliser (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int drawn(const work *w, int a, int p, uint64_t step)
{
    const trine_triplet_desc *o = w->o;
    const uint64_t golden = 0x9e3779b97f4a7c15u;
    const uint64_t key = mix(mix(mix(mix(o->seed + golden) + 0x64726177) + step) + golden);
    const uint64_t bits = mix(key + golden * ((((uint64_t)a << 32) | (uint64_t)p) + 1));
    double *weights = calloc((size_t)w->m, sizeof *weights), total = 0, before = 0;
    int last = -1;
    if (!weights) abort();
    for (int pass = 0; pass < 2 && total == 0; pass++)
        for (int j = 0; j < w->m; j++) {
            if (!is_negative(w, a, j)) continue;
            double v = at(w, a, j);
            if (o->distance != TRINE_EUCLIDEAN) v = sqrt(fmax(v * (o->distance == TRINE_COSINE ? 2 : 1), 0));
            const double x = fmax(v, o->weight_lower);
            weights[j] = pass                  ? 1
                         : v < o->weight_upper ? pow(x, 2 - w->d) * pow(1 - x * x / 4, (3 - w->d) / 2.0)
                                               : 0;
            total += weights[j];
        }
    const double target = (double)(bits >> 40) * 0x1p-24 * total;
    for (int j = 0; j < w->m && before <= target; j++) {
        if (weights[j] == 0) continue;
        before += weights[j];
        last = j;
    }
    free(weights);
    return last;
}

static double smooth(double x) /* log(1 + exp(x)) */
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static void add_triplet(work *w, int a, int p, int n)
{
    const trine_triplet_desc *o = w->o;
    const double t = o->temperature > 0 ? o->temperature : 1, d_pn = o->swap ? at(w, p, n) : INFINITY,
                 d_an = fmin(at(w, a, n), d_pn), x = at(w, a, p) - d_an + (o->soft ? 0 : o->margin);
    const double slope = o->soft ? 1 / (1 + exp(-x / t)) : x > 0, share = at(w, a, n) < d_pn    ? 1
                                                                          : at(w, a, n) == d_pn ? 0.5
                                                                                                : 0;
    w->loss += o->soft ? t * smooth(x / t) : fmax(x, 0);
    w->active += o->soft || x > 0;
    w->terms++;
    w->d_ap += at(w, a, p);
    w->d_an += d_an;
    w->g[a * w->m + p] += slope;
    w->g[a * w->m + n] -= slope * share;
    w->g[p * w->m + n] -= slope * (1 - share);
}

/* j is among the `most` closest negatives of a. */
static int among(const work *w, int a, int j, int most)
{
    int closer = 0;
    for (int k = 0; k < w->m; k++)
        closer +=
            is_negative(w, a, k) && (at(w, a, k) < at(w, a, j) || (at(w, a, k) == at(w, a, j) && k < j));
    return closer < most;
}

static void triplets_of(work *w, int a, uint64_t step)
{
    const trine_triplet_desc *o = w->o;
    const int negatives = count(w, a, is_negative);
    int most = negatives;
    if (negatives == 0) return;
    if (o->mining == TRINE_BATCH_HARD || o->mining == TRINE_EASY_POSITIVE) {
        const int hard = o->mining == TRINE_BATCH_HARD, p = best(w, a, is_positive, hard ? -1 : 1);
        if (p < 0) return;
        const int n = hard || o->negative == TRINE_HARDEST_NEGATIVE ? best(w, a, is_negative, 1)
                      : o->negative == TRINE_SEMI_HARD_NEGATIVE     ? semi_hard(w, a, p)
                                                                    : best(w, a, is_negative, -1);
        if (n >= 0) add_triplet(w, a, p, n);
        return;
    }
    if (o->mining == TRINE_HARDEST_FRACTION)
        most = (int)fmax(1, ceil((double)(o->fraction * (float)negatives)));
    for (int p = 0; p < w->m; p++) {
        if (!is_positive(w, a, p)) continue;
        if (o->mining == TRINE_SEMI_HARD || o->mining == TRINE_DISTANCE_WEIGHTED) {
            const int n = o->mining == TRINE_SEMI_HARD ? semi_hard(w, a, p) : drawn(w, a, p, step);
            if (n >= 0) add_triplet(w, a, p, n);
            continue;
        }
        for (int n = 0; n < w->m; n++)
            if (is_negative(w, a, n) && among(w, a, n, most)) add_triplet(w, a, p, n);
    }
}

/* log(1 + sum exp(f)) for the pairs of an anchor. */
static void pairs_of(work *w, int a)
{
    const trine_triplet_desc *o = w->o;
    const double tangent = tan((double)o->angle * acos(-1) / 180), t2 = tangent * tangent, t = o->temperature;
    const int negatives = count(w, a, is_negative);
    for (int p = 0; p < w->m && negatives > 0; p++) {
        if (!is_positive(w, a, p)) continue;
        double sum = 1, far = 0;
        int violated = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int n = 0; n < w->m; n++) {
                if (!is_negative(w, a, n)) continue;
                const double f = o->loss == TRINE_LOSS_ANGULAR ? 4 * t2 * (2 - at(w, a, n) - at(w, p, n)) -
                                                                     2 * (1 + t2) * (1 - at(w, a, p))
                                                               : (at(w, a, p) - at(w, a, n)) / t;
                if (pass == 0) {
                    sum += exp(f);
                    far += at(w, a, n);
                    violated |= f > 0;
                    continue;
                }
                const double s = exp(f) / sum;
                w->g[a * w->m + n] -= s * (o->loss == TRINE_LOSS_ANGULAR ? 4 * t2 : 1 / t);
                w->g[a * w->m + p] += s * (o->loss == TRINE_LOSS_ANGULAR ? 2 * (1 + t2) : 1 / t);
                if (o->loss == TRINE_LOSS_ANGULAR) w->g[p * w->m + n] -= s * 4 * t2;
            }
        w->loss += log(sum);
        w->active += violated;
        w->terms++;
        w->d_ap += at(w, a, p);
        w->d_an += far / negatives;
    }
}

static void multi_similarity_of(work *w, int a)
{
    const trine_triplet_desc *o = w->o;
    const int p = best(w, a, is_positive, -1), n = best(w, a, is_negative, 1);
    double sum_p = 1, sum_n = 1, d_ap = 0, d_an = 0;
    int positives = 0, negatives = 0;
    w->terms++;
    if (p < 0 || n < 0) return;
    for (int pass = 0; pass < 2; pass++)
        for (int j = 0; j < w->m; j++) {
            const double s = 1 - at(w, a, j), up = exp(-o->alpha * (s - o->base)),
                         down = exp(o->beta * (s - o->base));
            if (is_positive(w, a, j) && s < 1 - at(w, a, n) + o->epsilon) {
                sum_p += pass ? 0 : up;
                d_ap += at(w, a, j);
                positives++;
                if (pass) w->g[a * w->m + j] += up / sum_p;
            }
            if (is_negative(w, a, j) && s > 1 - at(w, a, p) - o->epsilon) {
                sum_n += pass ? 0 : down;
                d_an += at(w, a, j);
                negatives++;
                if (pass) w->g[a * w->m + j] -= down / sum_n;
            }
        }
    w->loss += log(sum_p) / o->alpha + log(sum_n) / o->beta;
    w->active += positives > 0;
    w->d_ap += positives ? d_ap / positives : 0;
    w->d_an += negatives ? d_an / negatives : 0;
}

/* factor * d dist(i, j) / d row i. */
static void add_gradient(const work *w, int i, int j, double factor, ref_mined *out)
{
    const double *a = w->x + i * w->d, *b = w->x + j * w->d, value = at(w, i, j);
    const double length = sqrt(dot(a, a, w->d)), na = fmax(length, 1e-8),
                 nb = fmax(sqrt(dot(b, b, w->d)), 1e-8);
    for (int c = 0; c < w->d; c++) {
        double x = 2 * (a[c] - b[c]), size = fabs(x);
        if (w->o->distance == TRINE_EUCLIDEAN) size = fabs(x = value > 1e-6 ? (a[c] - b[c]) / value : 0);
        if (w->o->distance == TRINE_COSINE) {
            const double turn = length >= 1e-8 ? (1 - value) * a[c] / (na * na) : 0;
            x = turn - b[c] / (na * nb);
            size = fabs(turn) + fabs(b[c]) / (na * nb);
        }
        out->gradient[i * w->d + c] += factor * x;
        out->magnitude[i * w->d + c] += fabs(factor) * size;
    }
}

ref_mined ref_triplet_mined(const trine_triplet_desc *desc, const double *candidates, const int32_t *labels,
                            int n, int m, int d, uint64_t step)
{
    const size_t square = (size_t)m * (size_t)m, rows = (size_t)n * (size_t)d;
    work w = {.o = desc, .x = candidates, .labels = labels, .n = n, .m = m, .d = d};
    ref_mined out = {.gradient = calloc(rows, sizeof(double)), .magnitude = calloc(rows, sizeof(double))};
    w.dist = calloc(square, sizeof *w.dist);
    w.g = calloc(square, sizeof *w.g);
    if (!out.gradient || !out.magnitude || !w.dist || !w.g) abort();
    for (int i = 0; i < m; i++)
        for (int j = 0; j < m; j++) {
            w.dist[i * m + j] = distance((int)desc->distance, candidates + i * d, candidates + j * d, d);
            if (i != j) out.largest = fmax(out.largest, at(&w, i, j));
        }
    for (int a = 0; a < n; a++) {
        if (desc->loss == TRINE_LOSS_TRIPLET)
            triplets_of(&w, a, step);
        else if (desc->loss == TRINE_LOSS_MULTI_SIMILARITY)
            multi_similarity_of(&w, a);
        else
            pairs_of(&w, a);
    }
    const int all = desc->loss == TRINE_LOSS_TRIPLET &&
                    (desc->mining == TRINE_BATCH_ALL || desc->mining == TRINE_HARDEST_FRACTION);
    const double over = all ? w.active : w.terms,
                 pairs = desc->loss == TRINE_LOSS_MULTI_SIMILARITY ? w.active : w.terms;
    out.stats[0] = over > 0 ? w.loss / over : 0;
    out.stats[1] = w.active;
    out.stats[2] = w.terms;
    out.stats[3] = pairs > 0 ? w.d_ap / pairs : 0;
    out.stats[4] = pairs > 0 ? w.d_an / pairs : 0;
    out.stats[6] = desc->loss == TRINE_LOSS_NT_XENT || (desc->loss == TRINE_LOSS_TRIPLET && desc->soft)
                       ? desc->temperature
                       : 0;
    for (int i = 0; i < n; i++) out.stats[5] += sqrt(dot(candidates + i * d, candidates + i * d, d)) / n;
    for (int i = 0; i < n && over > 0; i++)
        for (int j = 0; j < m; j++)
            if (i != j) add_gradient(&w, i, j, (w.g[i * m + j] + w.g[j * m + i]) / over, &out);
    free(w.dist);
    free(w.g);
    return out;
}

void ref_mined_free(ref_mined *r)
{
    free(r->gradient);
    free(r->magnitude);
    memset(r, 0, sizeof *r);
}
