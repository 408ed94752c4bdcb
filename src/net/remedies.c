/* SPDX-License-Identifier: MIT */
/* Remedies: what is said to stop BatchNorm's drift, each tried on the same images from the same state. The
 * network is put back after each one. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/distance.h"
#include "net/session_private.h"
#include "net/state_guard.h"
#include "trine/drift.h"

/* What a remedy does beside its policy. */
enum kind {
    PLAIN,
    FROZEN,     /* no parameter trains */
    ONE,        /* every image in a batch of its own */
    MANY,       /* all images, and never an image alone */
    REESTIMATE, /* after the passes: statistics from nothing, over the same batch */
    RESTORE     /* after the passes: statistics put back */
};

struct row {
    const char *name, *bn; /* NULL: the chosen layers */
    enum kind kind;
};

static const struct row rows[] = {
    {"nothing", "train", PLAIN},          {"freeze parameters", "train", FROZEN},
    {"momentum 0", "no-update", PLAIN},   {"eval all", "eval", PLAIN},
    {"eval chosen layers", NULL, PLAIN},  {"cumulative", "cumulative", PLAIN},
    {"batch of one", "train", ONE},       {"batch of many", "train", MANY},
    {"re-estimate", "train", REESTIMATE}, {"snapshot and restore", "train", RESTORE},
};

static const double output_tolerance = 1e-4, gradient_tolerance = 1e-3; /* shares of the norm */
static const double share_enough = 0.9; /* of the change, for the chosen layers */

struct remedies {
    trine_resnet *net;
    trine_stream *stream;
    trine_embedding embedding;
    int passes, images, many, dim; /* many: images, at least 2 */
    size_t each;                   /* floats of an image */
    trine_session *training, *inference;
    trine_gradients *gradients;
    trine_tensor x, batch, d_embedding; /* the images; what a pass takes; the loss's gradient */
    float *all, *other;           /* [many]: the images; the same with image 0's mates at half contrast */
    float *start, *now, *again;   /* [many][dim] */
    float *weights;               /* [many][dim] of the loss; 0 for what is not among the images */
    float *of_eval, *of_training; /* gradients, [flat_count] */
    float *before, *after;        /* [statistics_count] */
    char *chosen;
    /* the network as it was */
    trine_bn_snapshot *snapshot, *end; /* before; after the passes of "nothing" */
    trine__bn_layer *layers;
    bool *trainable;
    trine_remedies result;
};

static trine_status allocate_floats(size_t count, float **out)
{
    void *memory;
    TRINE_TRY(trine__calloc(count, sizeof **out, &memory));
    *out = memory;
    return TRINE_OK;
}

/* Is a within `tolerance` of b's norm? NaN is not. */
static bool near(const float *a, const float *b, size_t count, double tolerance)
{
    return trine__distance(a, b, count) <= tolerance * trine__norm(b, count);
}

static void set_trainable(struct remedies *r, const bool *each, bool all)
{
    for (int i = 0; i < r->net->parameter_count; i++) r->net->params[i].trainable = each ? each[i] : all;
    r->net->plan_version = ++r->net->next_version;
}

/* Policies, freezing, statistics and counters as they were. */
static trine_status put_back(struct remedies *r)
{
    for (int i = 0; i < r->net->spec.unit_count; i++) {
        r->net->bns[i].policy = r->layers[i].policy;
        r->net->bns[i].momentum = r->layers[i].momentum;
    }
    set_trainable(r, r->trainable, false);
    return trine_resnet_bn_restore(r->net, r->stream, r->snapshot);
}

static trine_status remember(struct remedies *r)
{
    void *memory;
    const size_t units = (size_t)r->net->spec.unit_count, count = (size_t)r->net->parameter_count;
    TRINE_TRY(trine__calloc(units, sizeof *r->layers, &memory));
    r->layers = memory;
    memcpy(r->layers, r->net->bns, units * sizeof *r->layers);
    TRINE_TRY(trine__calloc(count, sizeof *r->trainable, &memory));
    r->trainable = memory;
    for (size_t i = 0; i < count; i++) r->trainable[i] = r->net->params[i].trainable;
    return trine_resnet_bn_snapshot(r->net, r->stream, &r->snapshot); /* last: put_back() needs all three */
}

/* The batches: a single image gets its mirror image as company. */
static void fill_batches(struct remedies *r, const float *x, const trine_shape *shape)
{
    const size_t w = (size_t)shape->w, floats = (size_t)r->images * r->each;
    memcpy(r->all, x, floats * sizeof *x);
    for (size_t i = floats; i < (size_t)r->many * r->each; i++) {
        const size_t at = i - floats;
        r->all[i] = x[at - at % w + (w - 1 - at % w)];
    }
    for (size_t i = 0; i < (size_t)r->many * r->each; i++)
        r->other[i] = i < r->each ? r->all[i] : 0.5f * r->all[i];
    for (size_t i = 0; i < (size_t)r->images * (size_t)r->dim; i++)
        r->weights[i] = (float)((double)(i * 7919 % 101) / 50 - 1);
}

static trine_status prepare(struct remedies *r, const float *x, const trine_shape *shape)
{
    void *memory;
    trine_shape many = *shape;
    r->images = shape->n;
    many.n = r->many = shape->n > 1 ? shape->n : 2;
    r->dim = r->embedding == TRINE_EMBED_FC ? trine_resnet_outputs(r->net) : trine_resnet_features(r->net);
    TRINE_TRY(trine_session_create_inference(r->net, r->stream, shape, &r->inference));
    r->each =
        (size_t)shape->c * (size_t)shape->h * (size_t)shape->w; /* the session has looked at the shape */
    TRINE_TRY(remember(r));
    set_trainable(r, NULL, true);
    TRINE_TRY(trine_session_create_training(r->net, r->stream, &many, r->embedding, 1, &r->training));
    TRINE_TRY(trine_gradients_create(r->net, r->stream, &r->gradients));
    TRINE_TRY(trine_tensor_create(r->net->context, shape, 1, &r->x));
    TRINE_TRY(trine_tensor_upload(r->stream, x, &r->x));
    TRINE_TRY(trine_tensor_create(r->net->context, &many, 1, &r->batch));
    const trine_tensor e = trine_session_embedding(r->training);
    const trine_shape d_shape = {r->many, r->dim, 1, 1};
    TRINE_TRY(trine_tensor_create(r->net->context, &d_shape, e.cb, &r->d_embedding));
    const size_t floats = (size_t)r->many * r->each, outputs = (size_t)r->many * (size_t)r->dim;
    float **const arrays[] = {&r->start, &r->now, &r->again, &r->weights};
    for (size_t i = 0; i < TRINE_COUNTOF(arrays); i++) TRINE_TRY(allocate_floats(outputs, arrays[i]));
    TRINE_TRY(allocate_floats(floats, &r->all));
    TRINE_TRY(allocate_floats(floats, &r->other));
    TRINE_TRY(allocate_floats(r->net->flat_count, &r->of_eval));
    TRINE_TRY(allocate_floats(r->net->flat_count, &r->of_training));
    TRINE_TRY(allocate_floats(r->net->statistics_count, &r->before));
    TRINE_TRY(allocate_floats(r->net->statistics_count, &r->after));
    TRINE_TRY(trine__calloc(TRINE_COUNTOF(rows), sizeof *r->result.items, &memory));
    r->result.items = memory;
    r->result.count = (int)TRINE_COUNTOF(rows);
    fill_batches(r, x, shape);
    return TRINE_OK;
}

static void release(struct remedies *r)
{
    trine_session_destroy(&r->training);
    trine_session_destroy(&r->inference);
    trine_gradients_destroy(&r->gradients);
    trine_buffer_release(&r->x.buffer);
    trine_buffer_release(&r->batch.buffer);
    trine_buffer_release(&r->d_embedding.buffer);
    float *const arrays[] = {r->all,     r->other,   r->start,       r->now,    r->again,
                             r->weights, r->of_eval, r->of_training, r->before, r->after};
    for (size_t i = 0; i < TRINE_COUNTOF(arrays); i++) free(arrays[i]);
    free(r->chosen);
    trine_bn_snapshot_destroy(&r->snapshot);
    trine_bn_snapshot_destroy(&r->end);
    free(r->layers);
    free(r->trainable);
    trine_remedies_free(&r->result);
}

/* One training-mode pass over `host`, in as many batches as the kind says. @param out embeddings, or NULL
 * @param backward also add the loss's gradients */
static trine_status pass(struct remedies *r, enum kind kind, const float *host, float *out, bool backward)
{
    const int images = kind == MANY ? r->many : r->images, step = kind == ONE ? 1 : images;
    for (int i = 0; i < images; i += step) {
        r->batch.shape.n = r->d_embedding.shape.n = step;
        TRINE_TRY(trine_tensor_upload(r->stream, host + (size_t)i * r->each, &r->batch));
        TRINE_TRY(trine_session_forward(r->training, &r->batch));
        const trine_tensor e = trine_session_embedding(r->training);
        if (out) TRINE_TRY(trine_tensor_download(r->stream, &e, out + (size_t)i * (size_t)r->dim));
        if (!backward) continue;
        TRINE_TRY(trine_tensor_upload(r->stream, r->weights + (size_t)i * (size_t)r->dim, &r->d_embedding));
        TRINE_TRY(trine_session_backward(r->training, &r->d_embedding, r->gradients));
    }
    return TRINE_OK;
}

/* Embeddings of the images in evaluation mode; the mean of their norms. */
static trine_status evaluate(struct remedies *r, float *out, double *mean_norm)
{
    TRINE_TRY(trine_session_forward(r->inference, &r->x));
    const trine_tensor features = trine_session_features(r->inference),
                       logits = trine_session_logits(r->inference);
    TRINE_TRY(trine_tensor_download(r->stream, r->embedding == TRINE_EMBED_FC ? &logits : &features, out));
    *mean_norm = trine__mean_norm(out, (size_t)r->images, (size_t)r->dim);
    return TRINE_OK;
}

/* Gradients of all parameters, whether they train or not; 0 where the loss does not reach. */
static trine_status gradients(struct remedies *r, enum kind kind, float *out)
{
    set_trainable(r, NULL, true);
    trine_gradients_clear(r->gradients);
    TRINE_TRY(pass(r, kind, r->all, NULL, true));
    for (int i = 0; i < r->net->parameter_count; i++)
        if (trine_gradients_reached(r->gradients, i))
            TRINE_TRY(trine_gradients_read(r->gradients, r->stream, i, out + r->net->params[i].offset));
    return TRINE_OK;
}

/* The three properties that hold or do not before anything has moved. */
static trine_status compare(struct remedies *r, const struct row *row, trine_remedy *out)
{
    const size_t dim = (size_t)r->dim;
    const enum kind with_mates = row->kind == ONE ? ONE : MANY;
    const bool mates_are_new = with_mates == MANY && row->kind != MANY && r->many > r->images;
    set_trainable(r, NULL, row->kind != FROZEN);
    TRINE_TRY(pass(r, row->kind, r->all, r->now, false));
    out->train_equals_eval = near(r->now, r->start, (size_t)r->images * dim, output_tolerance);
    TRINE_TRY(trine_resnet_bn_restore(r->net, r->stream, r->snapshot));
    if (mates_are_new) TRINE_TRY(pass(r, with_mates, r->all, r->now, false));
    TRINE_TRY(trine_resnet_bn_restore(r->net, r->stream, r->snapshot));
    TRINE_TRY(pass(r, with_mates, r->other, r->again, false));
    out->depends_on_batch = !near(r->again, r->now, dim, output_tolerance);
    TRINE_TRY(trine_resnet_bn_restore(r->net, r->stream, r->snapshot));
    TRINE_TRY(gradients(r, row->kind, r->of_training));
    out->gradient_matches_eval = near(r->of_training, r->of_eval, r->net->flat_count, gradient_tolerance);
    return trine_resnet_bn_restore(r->net, r->stream, r->snapshot);
}

/* Statistics from nothing: counters at 0, then a cumulative average over the batch, which replaces them. */
static trine_status reestimate(struct remedies *r)
{
    for (int i = 0; i < r->net->spec.unit_count; i++) r->net->bns[i].batches = 0;
    TRINE_TRY(trine_resnet_set_bn(r->net, "cumulative"));
    return pass(r, PLAIN, r->all, NULL, false);
}

/* Are the passes those of "nothing", which the drift report has made already: training mode in every layer,
 * parameters that train, the same batches? */
static bool passes_are_known(const struct remedies *r, const struct row *row)
{
    const bool same_batches = row->kind == ONE    ? r->images == 1
                              : row->kind == MANY ? r->many == r->images
                                                  : true;
    return row->bn && strcmp(row->bn, rows[0].bn) == 0 && row->kind != FROZEN && same_batches;
}

/* Norms before any pass and after each; the network is then as the passes leave it. */
static trine_status make_passes(struct remedies *r, const struct row *row, trine_remedy *out)
{
    set_trainable(r, NULL, row->kind != FROZEN);
    if (passes_are_known(r, row)) {
        const trine_drift_report *known = &r->result.drift;
        for (int i = 0; i < known->row_count; i++)
            out->norms[out->norm_count++] = known->rows[i].embedding_norm;
        return trine_resnet_bn_restore(r->net, r->stream, r->end);
    }
    TRINE_TRY(evaluate(r, r->now, &out->norms[out->norm_count++]));
    for (int i = 0; i < r->passes; i++) {
        TRINE_TRY(pass(r, row->kind, r->all, NULL, false));
        TRINE_TRY(evaluate(r, r->now, &out->norms[out->norm_count++]));
    }
    return TRINE_OK;
}

/* The passes, and what is done after them. */
static trine_status run_passes(struct remedies *r, const struct row *row, trine_remedy *out)
{
    const size_t bytes = r->net->statistics_count * sizeof(float);
    TRINE_TRY(make_passes(r, row, out));
    if (row->kind == REESTIMATE) TRINE_TRY(reestimate(r));
    if (row->kind == RESTORE) TRINE_TRY(trine_resnet_bn_restore(r->net, r->stream, r->snapshot));
    if (row->kind == REESTIMATE || row->kind == RESTORE)
        TRINE_TRY(evaluate(r, r->now, &out->norms[out->norm_count++]));
    const double first = out->norms[0], change = out->norms[out->norm_count - 1] - first;
    out->drift = change == 0 ? 0 : fabs(change) / first;
    TRINE_TRY(trine_buffer_read(r->stream, r->net->statistics, 0, r->after, bytes));
    out->statistics_move = memcmp(r->before, r->after, bytes) != 0;
    return TRINE_OK;
}

static trine_status try_remedy(struct remedies *r, const struct row *row, trine_remedy *out)
{
    void *memory;
    const char *bn = row->bn ? row->bn : r->chosen;
    snprintf(out->name, sizeof out->name, "%s", row->name);
    TRINE_TRY(trine__strdup(bn, &out->bn));
    TRINE_TRY(trine__calloc((size_t)r->passes + 2, sizeof *out->norms, &memory));
    out->norms = memory;
    out->possible = 1;
    TRINE_TRY(trine_resnet_set_bn(r->net, bn));
    trine_status status = compare(r, row, out);
    if (status == TRINE_OK) status = run_passes(r, row, out);
    if (status == TRINE_ERR_SHAPE && row->kind == ONE) { /* one value per channel, which a batch avoids */
        out->possible = out->norm_count = 0;
        out->drift = NAN;
        status = TRINE_OK;
    }
    TRINE_TRY(status);
    return put_back(r);
}

/* The fewest layers that have most of the shares, and at least half of the layers, as a policy. */
static trine_status choose(struct remedies *r, const trine_drift_report *report)
{
    void *memory;
    size_t bytes = sizeof "train";
    const int count = report->layer_count;
    for (int i = 0; i < count; i++) bytes += strlen(report->layers[i].name) + sizeof ",=eval";
    TRINE_TRY(trine__calloc(bytes, 1, &memory));
    r->chosen = memory;
    TRINE_TRY(trine__calloc((size_t)count, sizeof(bool), &memory));
    bool *taken = memory;
    double sum = 0;
    for (int k = 0; k < count && (k < (count + 1) / 2 || sum < share_enough); k++) {
        int best = -1;
        for (int i = 0; i < count; i++)
            if (!taken[i] && (best < 0 || report->layers[i].share > report->layers[best].share)) best = i;
        if (k >= (count + 1) / 2 && report->layers[best].share == 0) break;
        taken[best] = true;
        sum += report->layers[best].share;
    }
    size_t used = (size_t)snprintf(r->chosen, bytes, "train");
    for (int i = 0; i < count; i++)
        if (taken[i])
            used += (size_t)snprintf(r->chosen + used, bytes - used, ",%s=eval", report->layers[i].name);
    free(taken);
    return TRINE_OK;
}

/* What everything is compared with: evaluation before any pass, and the passes of "nothing", which also tell
 * which layers are to blame for the drift. */
static trine_status measure_start(struct remedies *r, const float *x, const trine_shape *shape)
{
    double unused;
    TRINE_TRY(trine_buffer_read(r->stream, r->net->statistics, 0, r->before,
                                r->net->statistics_count * sizeof(float)));
    TRINE_TRY(evaluate(r, r->start, &unused));
    TRINE_TRY(trine_resnet_set_bn(r->net, "eval"));
    TRINE_TRY(gradients(r, PLAIN, r->of_eval));
    TRINE_TRY(trine_resnet_set_bn(r->net, rows[0].bn));
    TRINE_TRY(trine_drift_run(r->net, r->stream, x, shape, r->embedding, r->passes, &r->result.drift));
    TRINE_TRY(trine_resnet_bn_snapshot(r->net, r->stream, &r->end));
    TRINE_TRY(choose(r, &r->result.drift));
    return put_back(r);
}

static trine_status run(trine_resnet *net, trine_stream *stream, const float *x, const trine_shape *shape,
                        trine_embedding embedding, int passes, trine_remedies *out)
{
    TRINE_CHECK(passes >= 0 && passes <= INT_MAX - 2, TRINE_ERR_ARG,
                "remedies: %d passes, expected 0 or more", passes);
    TRINE_CHECK(embedding == TRINE_EMBED_POOL || embedding == TRINE_EMBED_FC, TRINE_ERR_ARG,
                "remedies: unknown embedding %d", (int)embedding);
    struct remedies r = {.net = net, .stream = stream, .embedding = embedding, .passes = passes};
    trine_status status;
    TRINE_TRY_GOTO(prepare(&r, x, shape));
    TRINE_TRY_GOTO(measure_start(&r, x, shape));
    for (int i = 0; i < r.result.count; i++) TRINE_TRY_GOTO(try_remedy(&r, &rows[i], &r.result.items[i]));
    *out = r.result;
    r.result = (trine_remedies){0};
cleanup:
    if (status != TRINE_OK && r.snapshot) put_back(&r);
    release(&r);
    return status;
}

trine_status trine_remedies_run(trine_resnet *net, trine_stream *stream, const float *x,
                                const trine_shape *shape, trine_embedding embedding, int passes,
                                trine_remedies *out)
{
    TRINE_CHECK(net && stream && x && shape && out, TRINE_ERR_ARG,
                "remedies: network, stream, images, shape or result is missing");
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_remedies_run", TRINE__MAY_NOTHING));
    trine_remedies remedies = {0};
    const trine_status status =
        trine__guard_end(&guard, run(net, stream, x, shape, embedding, passes, &remedies));
    if (status == TRINE_OK)
        *out = remedies;
    else
        trine_remedies_free(&remedies);
    return status;
}

void trine_remedies_free(trine_remedies *remedies)
{
    if (!remedies) return;
    for (int i = 0; remedies->items && i < remedies->count; i++) {
        free(remedies->items[i].bn);
        free(remedies->items[i].norms);
    }
    free(remedies->items);
    trine_drift_report_free(&remedies->drift);
    *remedies = (trine_remedies){0};
}
