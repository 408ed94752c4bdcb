/* SPDX-License-Identifier: MIT */
/* Drift: the same batch through the network in training mode again and again, and in evaluation mode after
 * each pass. Which layers are to blame is measured, not guessed: each layer's statistics are put back alone
 * and the embeddings taken again. */
#include "trine/drift.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/distance.h"
#include "net/session_private.h"
#include "net/state_guard.h"

/* Running statistics of one layer on the host. */
struct statistics {
    float *mean, *var; /* [channels] */
    int64_t batches;
};

struct drift {
    trine_resnet *net;
    trine_stream *stream;
    trine_embedding embedding;
    trine_tensor x;
    trine_session *training, *inference;
    int images, dim, outputs, layers;
    float *first, *last, *now; /* [images][dim]: of row 0, of the last row, of the moment */
    float *logits;             /* [images][outputs] */
    struct statistics batch;   /* of one layer, whichever: room for the widest */
    struct statistics *before, *after;
    trine_drift_report report;
};

static trine_status allocate_floats(size_t count, float **out)
{
    void *memory;
    TRINE_TRY(trine__calloc(count, sizeof **out, &memory));
    *out = memory;
    return TRINE_OK;
}

static trine_status allocate_statistics(const struct drift *d, struct statistics **out)
{
    void *memory;
    TRINE_TRY(trine__calloc((size_t)d->layers, sizeof **out, &memory));
    *out = memory;
    for (int i = 0; i < d->layers; i++) {
        const size_t channels = (size_t)d->net->spec.units[i].out_channels;
        TRINE_TRY(allocate_floats(channels, &(*out)[i].mean));
        TRINE_TRY(allocate_floats(channels, &(*out)[i].var));
    }
    return TRINE_OK;
}

static void free_statistics(const struct drift *d, struct statistics *s)
{
    for (int i = 0; s && i < d->layers; i++) {
        free(s[i].mean);
        free(s[i].var);
    }
    free(s);
}

static trine_status prepare(struct drift *d, const float *x, const trine_shape *shape, int passes)
{
    void *memory;
    d->images = shape->n;
    d->outputs = trine_resnet_outputs(d->net);
    d->dim = d->embedding == TRINE_EMBED_FC ? d->outputs : trine_resnet_features(d->net);
    d->layers = trine_resnet_bn_count(d->net);
    TRINE_TRY(trine_session_create_inference(d->net, d->stream, shape, &d->inference));
    TRINE_TRY(trine_session_create_training(d->net, d->stream, shape, d->embedding, 0, &d->training));
    TRINE_TRY(trine_tensor_create(d->net->context, shape, 1, &d->x));
    TRINE_TRY(trine_tensor_upload(d->stream, x, &d->x));
    const size_t floats = (size_t)d->images * (size_t)d->dim;
    TRINE_TRY(allocate_floats(floats, &d->first));
    TRINE_TRY(allocate_floats(floats, &d->last));
    TRINE_TRY(allocate_floats(floats, &d->now));
    TRINE_TRY(allocate_floats((size_t)d->images * (size_t)d->outputs, &d->logits));
    int widest = 1;
    for (int i = 0; i < d->layers; i++) {
        const int channels = d->net->spec.units[i].out_channels;
        if (channels > widest) widest = channels;
    }
    TRINE_TRY(allocate_floats((size_t)widest, &d->batch.mean));
    TRINE_TRY(allocate_floats((size_t)widest, &d->batch.var));
    TRINE_TRY(allocate_statistics(d, &d->before));
    TRINE_TRY(allocate_statistics(d, &d->after));
    TRINE_TRY(trine__calloc((size_t)passes + 1, sizeof *d->report.rows, &memory));
    d->report.rows = memory;
    TRINE_TRY(trine__calloc((size_t)d->layers, sizeof *d->report.layers, &memory));
    d->report.layers = memory;
    d->report.layer_count = d->layers;
    return TRINE_OK;
}

static void release(struct drift *d)
{
    trine_session_destroy(&d->training);
    trine_session_destroy(&d->inference);
    trine_buffer_release(&d->x.buffer);
    free(d->first);
    free(d->last);
    free(d->now);
    free(d->logits);
    free(d->batch.mean);
    free(d->batch.var);
    free_statistics(d, d->before);
    free_statistics(d, d->after);
    trine_drift_report_free(&d->report);
}

static trine_status read_statistics(const struct drift *d, struct statistics *s)
{
    for (int i = 0; i < d->layers; i++) {
        TRINE_TRY(trine_resnet_bn_read(d->net, d->stream, i, s[i].mean, s[i].var));
        s[i].batches = d->net->bns[i].batches;
    }
    return TRINE_OK;
}

/* Embeddings (and logits) in evaluation mode. */
static trine_status evaluate(const struct drift *d, float *embeddings, float *logits)
{
    TRINE_TRY(trine_session_forward(d->inference, &d->x));
    const trine_tensor features = trine_session_features(d->inference),
                       z = trine_session_logits(d->inference);
    if (logits) TRINE_TRY(trine_tensor_download(d->stream, &z, logits));
    return trine_tensor_download(d->stream, d->embedding == TRINE_EMBED_FC ? &z : &features, embeddings);
}

/* 1 for equal vectors, also for two of length 0. */
static double cosine(const float *a, const float *b, size_t count)
{
    if (memcmp(a, b, count * sizeof *a) == 0) return 1;
    double product = 0;
    for (size_t i = 0; i < count; i++) product += (double)a[i] * b[i];
    const double norms = trine__norm(a, count) * trine__norm(b, count);
    return norms > 0 ? product / norms : 0;
}

static trine_status add_row(struct drift *d, int step)
{
    trine_drift_row row = {.step = step};
    const size_t dim = (size_t)d->dim, outputs = (size_t)d->outputs;
    TRINE_TRY(evaluate(d, d->last, d->logits));
    if (step == 0) memcpy(d->first, d->last, (size_t)d->images * dim * sizeof *d->first);
    row.embedding_norm = trine__mean_norm(d->last, (size_t)d->images, dim);
    row.logit_norm = trine__mean_norm(d->logits, (size_t)d->images, outputs);
    for (size_t i = 0; i < (size_t)d->images; i++)
        row.cosine += cosine(d->last + i * dim, d->first + i * dim, dim) / d->images;
    d->report.rows[d->report.row_count++] = row;
    return TRINE_OK;
}

static bool uses_batch(const struct drift *d, int i)
{
    return trine__bn_resolve(d->net, i).batch;
}

/* What layer i saw in the last training-mode pass: mean and unbiased variance of its batch. The session keeps
 * 1/sqrt(var + eps), which gives the variance back but for rounding of eps' size. */
static trine_status read_batch(struct drift *d, int i)
{
    const trine__session_unit *u = &d->training->units[i];
    const size_t channels = (size_t)d->net->spec.units[i].out_channels, bytes = channels * sizeof(float);
    const trine_shape *shape = &d->training->values[u->y].tensor.shape;
    const double count = (double)d->images * shape->h * shape->w, eps = d->net->bns[i].eps;
    TRINE_TRY(trine_buffer_read(d->stream, u->saved.mean, 0, d->batch.mean, bytes));
    TRINE_TRY(trine_buffer_read(d->stream, u->saved.rstd, 0, d->batch.var, bytes));
    for (size_t c = 0; c < channels; c++) {
        const double rstd = d->batch.var[c], biased = 1 / (rstd * rstd) - eps;
        d->batch.var[c] = (float)(biased < 0 ? 0 : biased * count / (count - 1));
    }
    return TRINE_OK;
}

/* Further passes, by the law of drift.h, until `left` of the way is `goal` or less; NaN: never. */
static double passes_to(const struct drift *d, int i, double left, double goal)
{
    static const double rounding = 1e-3; /* of a pass: float32's, in what is left */
    const trine__bn_mode mode = trine__bn_resolve(d->net, i);
    const double a = d->net->bns[i].momentum, n = (double)d->after[i].batches;
    if (!mode.update || isnan(left)) return NAN;
    if (left <= goal) return 0;
    if (!mode.cumulative && a <= 0) return NAN;
    const double passes = mode.cumulative ? n * (left / goal - 1) : a < 1 ? log(goal / left) / log1p(-a) : 1;
    return fmax(1, ceil(passes - rounding));
}

/* How far the running statistics are from the batch's, which the training session has left from its last
 * pass: they are those of every pass. */
static trine_status measure_distances(struct drift *d)
{
    for (int i = 0; i < d->layers; i++) {
        trine_drift_layer *layer = &d->report.layers[i];
        const struct statistics *b = &d->before[i], *a = &d->after[i], *batch = &d->batch;
        const size_t channels = (size_t)d->net->spec.units[i].out_channels;
        layer->mean_remaining = layer->passes_to_1_percent = NAN;
        if (!uses_batch(d, i) || !d->net->bns[i].tracked) continue;
        TRINE_TRY(read_batch(d, i));
        const double start = trine__distance(batch->mean, b->mean, channels),
                     now = trine__distance(batch->mean, a->mean, channels);
        layer->mean_distance_before = trine__mean_moved(batch->mean, b->mean, b->var, channels);
        layer->var_distance_before = trine__var_moved(batch->var, b->var, channels);
        layer->mean_distance = trine__mean_moved(batch->mean, a->mean, a->var, channels);
        layer->var_distance = trine__var_moved(batch->var, a->var, channels);
        /* a running average in float32 stops within some units in the last place */
        const double resolution = 8 * FLT_EPSILON * trine__norm(batch->mean, channels);
        layer->mean_remaining = start <= resolution ? 0 : now / start;
        layer->passes_to_1_percent = passes_to(d, i, layer->mean_remaining, 0.01);
    }
    return TRINE_OK;
}

/* One pass whose effect on the network is undone: for the batch statistics where no pass was asked for. */
static trine_status look_only(struct drift *d)
{
    trine_bn_snapshot *snapshot = NULL;
    bool batch = false;
    for (int i = 0; i < d->layers; i++) batch |= uses_batch(d, i);
    if (!batch) return TRINE_OK;
    TRINE_TRY(trine_resnet_bn_snapshot(d->net, d->stream, &snapshot));
    trine_status status = trine_session_forward(d->training, &d->x);
    const trine_status restored = trine_resnet_bn_restore(d->net, d->stream, snapshot);
    if (status == TRINE_OK) status = restored;
    trine_bn_snapshot_destroy(&snapshot);
    return status;
}

static trine_status write_statistics(const struct drift *d, int i, const struct statistics *s)
{
    return trine_resnet_bn_write(d->net, d->stream, i, s[i].mean, s[i].var, s[i].batches);
}

static bool moved(const struct drift *d, int i)
{
    const size_t bytes = (size_t)d->net->spec.units[i].out_channels * sizeof(float);
    return memcmp(d->before[i].mean, d->after[i].mean, bytes) != 0 ||
           memcmp(d->before[i].var, d->after[i].var, bytes) != 0;
}

/* False once statistics have overflowed: the embeddings are NaN then, and there is nothing to share out. */
static bool finite_statistics(const struct drift *d)
{
    for (int i = 0; i < d->layers; i++) {
        for (int c = 0; c < d->net->spec.units[i].out_channels; c++)
            if (!isfinite(d->after[i].mean[c]) || !isfinite(d->after[i].var[c])) return false;
    }
    return true;
}

/* Put each layer's statistics back alone and see how much of the change goes. */
static trine_status measure_shares(struct drift *d)
{
    double sum = 0;
    if (!finite_statistics(d)) return TRINE_OK;
    for (int i = 0; i < d->layers; i++) {
        if (!moved(d, i)) continue;
        TRINE_TRY(write_statistics(d, i, d->before));
        const trine_status status = evaluate(d, d->now, NULL);
        TRINE_TRY(write_statistics(d, i, d->after));
        TRINE_TRY(status);
        d->report.layers[i].share = trine__distance(d->now, d->last, (size_t)d->images * (size_t)d->dim);
        sum += d->report.layers[i].share;
    }
    for (int i = 0; sum != 0 && i < d->layers; i++) d->report.layers[i].share /= sum;
    return TRINE_OK;
}

static trine_status measure_layers(struct drift *d)
{
    TRINE_TRY(read_statistics(d, d->after));
    TRINE_TRY(measure_distances(d));
    for (int i = 0; i < d->layers; i++) {
        trine_drift_layer *layer = &d->report.layers[i];
        const struct statistics *b = &d->before[i], *a = &d->after[i];
        const size_t channels = (size_t)d->net->spec.units[i].out_channels;
        snprintf(layer->name, sizeof layer->name, "%s", d->net->spec.units[i].bn);
        snprintf(layer->policy, sizeof layer->policy, "%s",
                 trine__bn_mode_name(trine__bn_resolve(d->net, i)));
        layer->mean_moved = trine__mean_moved(a->mean, b->mean, b->var, channels);
        layer->var_moved = trine__var_moved(a->var, b->var, channels);
    }
    return measure_shares(d);
}

static trine_status run(trine_resnet *net, trine_stream *stream, const float *x, const trine_shape *shape,
                        trine_embedding embedding, int passes, trine_drift_report *out)
{
    TRINE_CHECK(passes >= 0, TRINE_ERR_ARG, "drift: %d passes, expected 0 or more", passes);
    TRINE_CHECK(embedding == TRINE_EMBED_POOL || embedding == TRINE_EMBED_FC, TRINE_ERR_ARG,
                "drift: unknown embedding %d", (int)embedding);
    struct drift d = {.net = net, .stream = stream, .embedding = embedding};
    trine_status status;
    TRINE_TRY_GOTO(prepare(&d, x, shape, passes));
    TRINE_TRY_GOTO(read_statistics(&d, d.before));
    TRINE_TRY_GOTO(add_row(&d, 0));
    for (int pass = 1; pass <= passes; pass++) {
        TRINE_TRY_GOTO(trine_session_forward(d.training, &d.x));
        TRINE_TRY_GOTO(add_row(&d, pass));
    }
    if (passes == 0) TRINE_TRY_GOTO(look_only(&d));
    TRINE_TRY_GOTO(measure_layers(&d));
    *out = d.report;
    d.report = (trine_drift_report){0};
cleanup:
    release(&d);
    return status;
}

trine_status trine_drift_run(trine_resnet *net, trine_stream *stream, const float *x,
                             const trine_shape *shape, trine_embedding embedding, int passes,
                             trine_drift_report *out)
{
    TRINE_CHECK(net && stream && x && shape && out, TRINE_ERR_ARG,
                "drift: network, stream, images, shape or result is missing");
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_drift_run", TRINE__MAY_UPDATE));
    trine_drift_report report = {0};
    const trine_status status =
        trine__guard_end(&guard, run(net, stream, x, shape, embedding, passes, &report));
    if (status == TRINE_OK)
        *out = report;
    else
        trine_drift_report_free(&report);
    return status;
}

void trine_drift_report_free(trine_drift_report *report)
{
    if (!report) return;
    free(report->rows);
    free(report->layers);
    *report = (trine_drift_report){0};
}
