/* SPDX-License-Identifier: MIT */
#include "ref/ref_loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double dot(const double *a, const double *b, int d)
{
    double sum = 0;
    for (int c = 0; c < d; c++) sum += a[c] * b[c];
    return sum;
}

void ref_l2norm_forward(const double *x, int n, int d, double *y, double *norms)
{
    for (int i = 0; i < n; i++) {
        norms[i] = sqrt(dot(x + i * d, x + i * d, d));
        for (int c = 0; c < d; c++) y[i * d + c] = x[i * d + c] / fmax(norms[i], 1e-12);
    }
}

void ref_l2norm_backward(const double *x, const double *dy, int n, int d, double *dx)
{
    for (int i = 0; i < n; i++) {
        const double *xi = x + i * d, *gi = dy + i * d;
        const double norm = sqrt(dot(xi, xi, d)), along = dot(xi, gi, d);
        for (int c = 0; c < d; c++)
            dx[i * d + c] =
                norm < 1e-12 ? gi[c] / 1e-12 : gi[c] / norm - xi[c] * along / (norm * norm * norm);
    }
}

void ref_cross_entropy(const double *z, const int32_t *labels, int n, int k, double stats[2], double *dz)
{
    stats[0] = stats[1] = 0;
    for (int i = 0; i < n; i++) {
        const double *row = z + (size_t)i * (size_t)k;
        int best = 0;
        for (int c = 1; c < k; c++)
            if (row[c] > row[best]) best = c;
        double sum = 0;
        for (int c = 0; c < k; c++) sum += exp(row[c] - row[best]);
        stats[0] += (log(sum) - (row[labels[i]] - row[best])) / n;
        stats[1] += (best == labels[i]) / (double)n;
        for (int c = 0; dz && c < k; c++)
            dz[(size_t)i * (size_t)k + (size_t)c] = (exp(row[c] - row[best]) / sum - (c == labels[i])) / n;
    }
}

static double distance(int kind, const double *a, const double *b, int d)
{
    if (kind == 2) {
        const double na = fmax(sqrt(dot(a, a, d)), 1e-8), nb = fmax(sqrt(dot(b, b, d)), 1e-8);
        return 1 - dot(a, b, d) / (na * nb);
    }
    double sum = 0;
    for (int c = 0; c < d; c++) sum += (a[c] - b[c]) * (a[c] - b[c]);
    return kind == 0 ? sqrt(fmax(sum, 1e-12)) : sum;
}

typedef struct work {
    const double *e;
    int d, kind;
    double scale; /* 1 / terms of the mean */
    ref_triplet_result *out;
} work;

/* Add factor * d distance(i, j) / d e[i] to the gradient of row i. */
static void add_one(const work *w, int i, int j, double factor)
{
    const double *a = w->e + i * w->d, *b = w->e + j * w->d;
    const double length = sqrt(dot(a, a, w->d)), na = fmax(length, 1e-8),
                 nb = fmax(sqrt(dot(b, b, w->d)), 1e-8);
    const double d = w->kind == 2 ? 0 : distance(w->kind, a, b, w->d), cosine = dot(a, b, w->d) / (na * nb);
    const double limit = 1e-6;
    for (int c = 0; c < w->d; c++) {
        double value, magnitude;
        if (w->kind == 0) {
            value = d > limit ? (a[c] - b[c]) / d : 0;
            magnitude = fabs(value);
        } else if (w->kind == 1) {
            value = 2 * (a[c] - b[c]);
            magnitude = fabs(value);
        } else {
            const double turn = length >= 1e-8 ? cosine * a[c] / (na * na) : 0;
            value = turn - b[c] / (na * nb);
            magnitude = fabs(turn) + fabs(b[c]) / (na * nb);
        }
        w->out->unit = fmax(w->out->unit, magnitude);
        w->out->gradient[i * w->d + c] += factor * value;
        w->out->magnitude[i * w->d + c] += fabs(factor) * magnitude;
    }
}

static void add_pair(const work *w, int i, int j, double factor)
{
    add_one(w, i, j, factor);
    add_one(w, j, i, factor);
}

/* One term of the loss, counted in stats; with w its gradient. */
static void add_term(const ref_triplet_desc *desc, const double *dist, int n, int a, int p, int neg,
                     double tolerance, ref_triplet_result *out, const work *w)
{
    const double d_ap = dist[a * n + p], d_an = dist[a * n + neg];
    const double x = d_ap - d_an + (desc->soft ? 0 : desc->margin);
    const double value = desc->soft ? (x > 30 ? x : log1p(exp(x))) : fmax(x, 0);
    if (w) {
        const double slope = desc->soft ? 1 / (1 + exp(-x)) : x > 0;
        if (slope == 0) return;
        add_pair(w, a, p, slope * w->scale);
        add_pair(w, a, neg, -slope * w->scale);
        return;
    }
    if (!desc->soft && x != 0 && fabs(x) < tolerance) out->doubtful++;
    out->stats[0] += value;
    out->stats[1] += desc->soft || x > 0;
    out->stats[2] += 1;
    out->stats[3] += d_ap;
    out->stats[4] += d_an;
}

/* The best of the candidates of anchor a: same label or not, farther than `above` only, farthest or closest;
 * -1: none. */
static int pick(const double *dist, const int32_t *labels, int n, int a, int same, double above, int farthest,
                double tolerance, long *doubtful)
{
    int best = -1;
    for (int j = 0; j < n; j++) {
        const double v = dist[a * n + j];
        if (j == a || (labels[j] == labels[a]) != same || !(v > above)) continue;
        if (best < 0 || (farthest ? v > dist[a * n + best] : v < dist[a * n + best])) best = j;
    }
    for (int j = 0; j < n && best >= 0; j++) {
        const double v = dist[a * n + j], gap = fabs(v - dist[a * n + best]);
        if (j == a || (labels[j] == labels[a]) != same) continue;
        if (v > above && gap > 0 && gap < tolerance) ++*doubtful;
        if (v != above && fabs(v - above) < tolerance) ++*doubtful;
    }
    return best;
}

/* All terms of the loss, for the statistics (w NULL) or for the gradient. */
static void enumerate(const ref_triplet_desc *desc, const double *dist, const int32_t *labels, int n,
                      double tolerance, ref_triplet_result *out, const work *w)
{
    for (int a = 0; a < n; a++) {
        long ignored = 0, *doubtful = w ? &ignored : &out->doubtful;
        if (desc->mining == 0) {
            const int p = pick(dist, labels, n, a, 1, -1, 1, tolerance, doubtful);
            const int neg = pick(dist, labels, n, a, 0, -1, 0, tolerance, doubtful);
            if (p >= 0 && neg >= 0) add_term(desc, dist, n, a, p, neg, tolerance, out, w);
            continue;
        }
        for (int p = 0; p < n; p++) {
            if (p == a || labels[p] != labels[a]) continue;
            if (desc->mining == 2) {
                int neg = pick(dist, labels, n, a, 0, dist[a * n + p], 0, tolerance, doubtful);
                if (neg < 0) neg = pick(dist, labels, n, a, 0, -1, 1, tolerance, doubtful);
                if (neg >= 0) add_term(desc, dist, n, a, p, neg, tolerance, out, w);
                continue;
            }
            for (int neg = 0; neg < n; neg++)
                if (labels[neg] != labels[a]) add_term(desc, dist, n, a, p, neg, tolerance, out, w);
        }
    }
}

ref_triplet_result ref_triplet(const ref_triplet_desc *desc, const double *e, const int32_t *labels, int n,
                               int d, double tolerance)
{
    ref_triplet_result out = {.gradient = calloc((size_t)n * (size_t)d, sizeof(double)),
                              .magnitude = calloc((size_t)n * (size_t)d, sizeof(double))};
    double *dist = calloc((size_t)n * (size_t)n, sizeof *dist);
    if (!out.gradient || !out.magnitude || !dist) abort();
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            dist[i * n + j] = distance(desc->distance, e + i * d, e + j * d, d);
            if (i != j) out.largest = fmax(out.largest, dist[i * n + j]);
        }
    tolerance *= 1 + out.largest;
    enumerate(desc, dist, labels, n, tolerance, &out, NULL);
    const double terms = out.stats[2], over = desc->mining == 1 ? out.stats[1] : terms;
    out.stats[0] = over > 0 ? out.stats[0] / over : 0;
    out.stats[3] = terms > 0 ? out.stats[3] / terms : 0;
    out.stats[4] = terms > 0 ? out.stats[4] / terms : 0;
    for (int i = 0; i < n; i++) out.stats[5] += sqrt(dot(e + i * d, e + i * d, d)) / n;
    const work w = {e, d, desc->distance, over > 0 ? 1 / over : 0, &out};
    enumerate(desc, dist, labels, n, tolerance, &out, &w);
    free(dist);
    return out;
}

void ref_triplet_free(ref_triplet_result *r)
{
    free(r->gradient);
    free(r->magnitude);
    memset(r, 0, sizeof *r);
}

static double norm_p(const double *x, const double *y, int d, double eps, double p)
{
    double sum = 0;
    for (int c = 0; c < d; c++) {
        const double v = fabs(x[c] - y[c] + eps);
        sum = isinf(p) ? fmax(sum, v) : sum + pow(v, p);
    }
    return isinf(p) ? sum : pow(sum, 1 / p);
}

/* gx += factor * d norm / d x, gy -= the same. */
static void add_norm_gradient(const ref_margin_desc *m, const double *x, const double *y, int d, double norm,
                              double factor, double *gx, double *gy)
{
    int ties = 0;
    for (int c = 0; c < d; c++) ties += fabs(x[c] - y[c] + m->eps) == norm;
    for (int c = 0; c < d; c++) {
        const double v = x[c] - y[c] + m->eps, sign = (v > 0) - (v < 0);
        double slope;
        if (v == 0 || norm == 0)
            slope = 0;
        else if (isinf(m->p))
            slope = fabs(v) == norm ? sign / ties : 0;
        else
            slope = sign * pow(fabs(v), m->p - 1) / pow(norm, m->p - 1);
        gx[c] += factor * slope;
        gy[c] -= factor * slope;
    }
}

double ref_triplet_margin(const ref_margin_desc *m, const double *a, const double *pos, const double *neg,
                          int n, int d, double *loss, double *da, double *dp, double *dn)
{
    const double scale = m->reduction == 1 ? 1.0 / n : 1.0;
    double total = 0;
    for (int i = 0; i < n; i++) {
        const int at = i * d;
        for (int c = 0; c < d; c++) da[at + c] = dp[at + c] = dn[at + c] = 0;
        const double d_ap = norm_p(a + at, pos + at, d, m->eps, m->p),
                     d_an = norm_p(a + at, neg + at, d, m->eps, m->p);
        const double d_pn = m->swap ? norm_p(pos + at, neg + at, d, m->eps, m->p) : INFINITY;
        const double v = m->margin + d_ap - fmin(d_an, d_pn);
        loss[i] = v > 0 ? v : 0;
        total += loss[i] * scale;
        if (v < 0) continue;
        const double share = d_an < d_pn ? 1 : d_an == d_pn ? 0.5 : 0;
        add_norm_gradient(m, a + at, pos + at, d, d_ap, scale, da + at, dp + at);
        add_norm_gradient(m, a + at, neg + at, d, d_an, -scale * share, da + at, dn + at);
        if (share < 1)
            add_norm_gradient(m, pos + at, neg + at, d, d_pn, -scale * (1 - share), dp + at, dn + at);
    }
    return m->reduction ? total : 0;
}
