/* SPDX-License-Identifier: MIT */
/* Exact running statistics. The layers that are measured have momentum 1 for the time: after each batch their
 * running statistics are the batch's mean and unbiased variance, which are read and merged here in double. */
#include "trine/recalibrate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/glob.h"
#include "net/distance.h"
#include "net/session_private.h"

/* What a layer saw in the pass under way. */
struct seen {
    bool measured;     /* in this pass */
    double n;          /* values per channel */
    double *mean, *m2; /* [channels] m2: sum of squared deviations from the mean */
};

struct trine_recalibration {
    trine_resnet *net;
    trine_stream *stream;
    trine_recalibration_method method;
    trine_session *session;
    int layers;        /* of the network */
    bool *chosen;      /* [layers] */
    struct seen *seen; /* [layers] */
    float *values;     /* [statistics_count] the last batch's, placed as in the network */
    float *channels;   /* [2][most channels of a layer] */
    int pass, passes;
    size_t images, batches, first_images; /* of this pass; images of the first one */
    bool over;                            /* finished or failed: the network is not ours any more */
    trine_recalibration_report report;
    /* the network as it was */
    trine__bn_layer *before;
    float *statistics; /* [statistics_count] */
    trine_bn_snapshot *snapshot;
};

static void put_policies_back(trine_recalibration *r)
{
    for (int i = 0; i < r->layers; i++) {
        r->net->bns[i].policy = r->before[i].policy;
        r->net->bns[i].momentum = r->before[i].momentum;
    }
    r->net->plan_version = ++r->net->next_version;
}

/* The end, if `status` says so: the network as it was. The first failure is the one that is told. */
static trine_status settle(trine_recalibration *r, trine_status status)
{
    if (status == TRINE_OK || r->over) return status;
    char sentence[1024];
    snprintf(sentence, sizeof sentence, "%s", trine_last_error());
    r->over = true;
    put_policies_back(r);
    if (trine_resnet_bn_restore(r->net, r->stream, r->snapshot) == TRINE_OK) return status;
    return trine__fail(status, "%s", sentence);
}

static int channels_of(const trine_recalibration *r, int layer)
{
    return r->net->spec.units[layer].out_channels;
}

/* Policies of a pass, and statistics that take the first batch whatever they were (0 * infinity is NaN, and a
 * layer may have none). In the sequential method the chosen layers that come later normalise with the batch:
 * they do not matter here, but one that cannot is found now and not after many passes. */
static trine_status begin_pass(trine_recalibration *r)
{
    int chosen = 0;
    r->images = r->batches = 0;
    for (int i = 0; i < r->layers; i++) {
        const bool now = r->chosen[i] && (r->method == TRINE_RECALIBRATE_BATCH || chosen == r->pass);
        const bool later = r->chosen[i] && chosen > r->pass;
        const size_t channels = (size_t)channels_of(r, i);
        trine__bn_layer *bn = &r->net->bns[i];
        chosen += r->chosen[i];
        r->seen[i].measured = now;
        bn->policy = now ? TRINE_BN_TRAIN : later ? TRINE_BN_NO_UPDATE : TRINE_BN_EVAL;
        bn->momentum = now ? 1 : r->before[i].momentum;
        if (!now) continue;
        r->seen[i].n = 0;
        memset(r->channels, 0, channels * sizeof *r->channels);
        TRINE_TRY(trine_resnet_bn_write(r->net, r->stream, i, r->channels, r->channels, 0));
    }
    r->net->plan_version = ++r->net->next_version;
    return TRINE_OK;
}

static bool layer_matches(const void *net, const char *glob, int i)
{
    return trine__glob_match(glob, ((const trine_resnet *)net)->spec.units[i].bn);
}

static trine_status choose(trine_recalibration *r, const char *layers)
{
    char kind[128];
    const trine_resnet *net = r->net;
    const bool all = !layers || !layers[0] || layers[0] == '!';
    for (int i = 0; i < r->layers; i++) r->chosen[i] = all;
    snprintf(kind, sizeof kind, "BatchNorm layer of %s (names are such as %s)", net->spec.variant->name,
             net->spec.units[1].bn);
    const trine__glob_items items = {r->layers, layer_matches, net, kind};
    TRINE_TRY(trine__glob_list("recalibrate", layers, &items, r->chosen));
    int count = 0;
    for (int i = 0; i < r->layers; i++) count += r->chosen[i];
    TRINE_CHECK(count > 0, TRINE_ERR_ARG, "recalibrate: '%s' leaves no layer to recalibrate", layers);
    r->report.layer_count = count;
    r->passes = r->method == TRINE_RECALIBRATE_BATCH ? 1 : count;
    return TRINE_OK;
}

static trine_status allocate_floats(size_t count, float **out)
{
    void *memory;
    TRINE_TRY(trine__calloc(count, sizeof **out, &memory));
    *out = memory;
    return TRINE_OK;
}

static trine_status allocate_seen(size_t channels, struct seen *s)
{
    void *memory;
    TRINE_TRY(trine__calloc(channels, sizeof *s->mean, &memory));
    s->mean = memory;
    TRINE_TRY(trine__calloc(channels, sizeof *s->m2, &memory));
    s->m2 = memory;
    return TRINE_OK;
}

static trine_status prepare(trine_recalibration *r, const char *layers)
{
    const size_t count = (size_t)r->layers, floats = r->net->statistics_count;
    size_t most = 1;
    void *memory;
    TRINE_TRY(trine__calloc(count, sizeof *r->chosen, &memory));
    r->chosen = memory;
    TRINE_TRY(choose(r, layers));
    TRINE_TRY(trine__calloc((size_t)r->report.layer_count, sizeof *r->report.layers, &memory));
    r->report.layers = memory;
    TRINE_TRY(trine__calloc(count, sizeof *r->seen, &memory));
    r->seen = memory;
    for (int i = 0; i < r->layers; i++) {
        const size_t channels = (size_t)channels_of(r, i);
        if (channels > most) most = channels;
        if (r->chosen[i]) TRINE_TRY(allocate_seen(channels, &r->seen[i]));
    }
    TRINE_TRY(allocate_floats(2 * most, &r->channels));
    TRINE_TRY(allocate_floats(floats, &r->values));
    TRINE_TRY(allocate_floats(floats, &r->statistics));
    TRINE_TRY(trine__calloc(count, sizeof *r->before, &memory));
    r->before = memory;
    memcpy(r->before, r->net->bns, count * sizeof *r->before);
    TRINE_TRY(trine_buffer_read(r->stream, r->net->statistics, 0, r->statistics, floats * sizeof(float)));
    return trine_resnet_bn_snapshot(r->net, r->stream, &r->snapshot); /* last: settle() needs all of it */
}

trine_status trine_recalibration_create(trine_resnet *net, trine_stream *stream, const trine_shape *shape,
                                        const char *layers, trine_recalibration_method method,
                                        trine_recalibration **out)
{
    TRINE_CHECK(net && stream && shape && out, TRINE_ERR_ARG,
                "recalibrate: network, stream, shape or result is missing");
    TRINE_CHECK(method == TRINE_RECALIBRATE_BATCH || method == TRINE_RECALIBRATE_SEQUENTIAL, TRINE_ERR_ARG,
                "recalibrate: unknown method %d", (int)method);
    void *memory;
    trine_status status;
    TRINE_TRY(trine__calloc(1, sizeof(trine_recalibration), &memory));
    trine_recalibration *r = memory;
    r->net = net;
    r->stream = stream;
    r->method = method;
    r->layers = net->spec.unit_count;
    TRINE_TRY_GOTO(prepare(r, layers));
    TRINE_TRY_GOTO(begin_pass(r));
    TRINE_TRY_GOTO(trine_session_create_training(net, stream, shape, TRINE_EMBED_POOL, 0, &r->session));
    *out = r;
    return TRINE_OK;
cleanup:
    if (r->snapshot) settle(r, status);
    trine_recalibration_destroy(&r);
    return status;
}

int trine_recalibration_passes(const trine_recalibration *r)
{
    return r->passes;
}

/* Chan et al. 1979, for each channel:
 *   d = mean_b - mean   mean += d*n_b/(n + n_b)   m2 += m2_b + d^2*n*n_b/(n + n_b) */
static void merge(struct seen *s, double n, const float *mean, const float *var, int channels)
{
    const double all = s->n + n;
    for (int c = 0; c < channels; c++) {
        const double m2 = (double)var[c] * (n - 1);
        if (s->n == 0) {
            s->mean[c] = mean[c];
            s->m2[c] = m2;
            continue;
        }
        const double d = mean[c] - s->mean[c];
        s->mean[c] += d * n / all;
        s->m2[c] += m2 + d * d * s->n * n / all;
    }
    s->n = all;
}

static trine_status add(trine_recalibration *r, const trine_tensor *x)
{
    const trine_resnet *net = r->net;
    TRINE_TRY(trine__session_update(r->session, x));
    TRINE_TRY(
        trine_buffer_read(r->stream, net->statistics, 0, r->values, net->statistics_count * sizeof(float)));
    for (int i = 0; i < r->layers; i++) {
        if (!r->seen[i].measured) continue;
        const trine_shape *y = &r->session->values[r->session->units[i].y].tensor.shape;
        merge(&r->seen[i], (double)x->shape.n * y->h * y->w, r->values + net->bns[i].mean_offset,
              r->values + net->bns[i].var_offset, channels_of(r, i));
    }
    r->images += (size_t)x->shape.n;
    r->batches++;
    return TRINE_OK;
}

trine_status trine_recalibration_add(trine_recalibration *r, const trine_tensor *x)
{
    TRINE_CHECK(!r->over && r->pass < r->passes, TRINE_ERR_STATE, "recalibrate: no pass is under way");
    return settle(r, add(r, x));
}

/* New statistics of a layer, and how far they are from the old ones. */
static trine_status write_layer(trine_recalibration *r, int layer, trine_recalibrated_layer *out)
{
    const struct seen *s = &r->seen[layer];
    const trine__bn_layer *bn = &r->before[layer];
    const int channels = channels_of(r, layer);
    float *mean = r->channels, *var = r->channels + channels;
    for (int c = 0; c < channels; c++) {
        mean[c] = (float)s->mean[c];
        var[c] = (float)(s->m2[c] / (s->n - 1));
        TRINE_CHECK(isfinite(mean[c]) && isfinite(var[c]), TRINE_ERR_DATA,
                    "%s: over these images channel %d has mean %g and variance %g",
                    r->net->spec.units[layer].bn, c, s->mean[c], s->m2[c] / (s->n - 1));
    }
    snprintf(out->name, sizeof out->name, "%s", r->net->spec.units[layer].bn);
    out->mean_moved = trine__mean_moved(mean, r->statistics + bn->mean_offset, r->statistics + bn->var_offset,
                                        (size_t)channels);
    out->var_moved = trine__var_moved(var, r->statistics + bn->var_offset, (size_t)channels);
    return trine_resnet_bn_write(r->net, r->stream, layer, mean, var, (int64_t)r->batches);
}

static trine_status end_pass(trine_recalibration *r)
{
    TRINE_CHECK(r->images > 0, TRINE_ERR_DATA, "recalibrate: no images");
    if (r->pass == 0) r->first_images = r->images;
    TRINE_CHECK(r->images == r->first_images, TRINE_ERR_DATA,
                "recalibrate: %zu images in pass %d, %zu in the first", r->images, r->pass + 1,
                r->first_images);
    int chosen = 0;
    for (int i = 0; i < r->layers; i++) {
        if (r->seen[i].measured) TRINE_TRY(write_layer(r, i, &r->report.layers[chosen]));
        chosen += r->chosen[i];
    }
    return ++r->pass < r->passes ? begin_pass(r) : TRINE_OK;
}

trine_status trine_recalibration_end_pass(trine_recalibration *r)
{
    TRINE_CHECK(!r->over && r->pass < r->passes, TRINE_ERR_STATE, "recalibrate: no pass is under way");
    return settle(r, end_pass(r));
}

trine_status trine_recalibration_finish(trine_recalibration *r, trine_recalibration_report *report)
{
    TRINE_CHECK(!r->over, TRINE_ERR_STATE, "recalibrate: it has ended already");
    TRINE_CHECK(r->pass == r->passes, TRINE_ERR_STATE, "recalibrate: %d of %d passes are missing",
                r->passes - r->pass, r->passes);
    put_policies_back(r);
    r->over = true;
    r->report.images = r->images;
    r->report.batches = r->batches;
    if (!report) return TRINE_OK;
    *report = r->report;
    r->report = (trine_recalibration_report){0};
    return TRINE_OK;
}

void trine_recalibration_destroy(trine_recalibration **recalibration)
{
    if (!recalibration || !*recalibration) return;
    trine_recalibration *r = *recalibration;
    if (r->snapshot) settle(r, TRINE_ERR_STATE);
    trine_session_destroy(&r->session);
    for (int i = 0; r->seen && i < r->layers; i++) {
        free(r->seen[i].mean);
        free(r->seen[i].m2);
    }
    free(r->seen);
    free(r->chosen);
    free(r->values);
    free(r->channels);
    free(r->before);
    free(r->statistics);
    trine_bn_snapshot_destroy(&r->snapshot);
    trine_recalibration_report_free(&r->report);
    free(r);
    *recalibration = NULL;
}

void trine_recalibration_report_free(trine_recalibration_report *report)
{
    if (!report) return;
    free(report->layers);
    *report = (trine_recalibration_report){0};
}
