/* SPDX-License-Identifier: MIT */
/* Recalibration over a data set or an array: runs through the images as often as the method wants, and looks at
 * the first batch before and after. */
#include <stdlib.h>

#include "learn/batches.h"
#include "net/distance.h"
#include "net/state_guard.h"
#include "trine/recalibrate.h"

enum { DEFAULT_BATCH = 64 };

struct job {
    trine_resnet *net;
    trine_stream *stream;
    const trine_recalibrate_options *options;
    trine__batches *batches;
    trine_recalibration *recalibration;
    int pass, passes;
    bool looking; /* at the first batch: no progress */
};

static trine_status check_options(const trine_recalibrate_options *o)
{
    TRINE_CHECK(o->batch >= 0, TRINE_ERR_ARG, "recalibrate: batches of %d images, expected at least 1",
                o->batch);
    TRINE_CHECK(o->threads >= 0, TRINE_ERR_ARG, "recalibrate: %d threads, expected 0 or more", o->threads);
    TRINE_CHECK(o->embedding == TRINE_EMBED_POOL || o->embedding == TRINE_EMBED_FC, TRINE_ERR_ARG,
                "recalibrate: unknown embedding %d", (int)o->embedding);
    return TRINE_OK;
}

/* Progress of one run, told as part of all of them; user: struct job. */
static void on_progress(void *user, size_t done, size_t all)
{
    const struct job *j = user;
    const trine_recalibrate_options *o = j->options;
    if (o->progress && !j->looking)
        o->progress(o->progress_user, (size_t)j->pass * all + done, (size_t)j->passes * all);
}

static trine_status embed_norm(struct job *j, trine_session *session, const trine_tensor *x, double *out)
{
    void *memory;
    TRINE_TRY(trine_session_forward(session, x));
    const trine_tensor y = j->options->embedding == TRINE_EMBED_FC ? trine_session_logits(session)
                                                                   : trine_session_features(session);
    const size_t rows = (size_t)y.shape.n, dim = (size_t)y.shape.c;
    TRINE_TRY(trine__calloc(rows * dim, sizeof(float), &memory));
    const trine_status status = trine_tensor_download(j->stream, &y, memory);
    if (status == TRINE_OK) *out = trine__mean_norm(memory, rows, dim);
    free(memory);
    return status;
}

/* Mean norm of the first batch's embeddings with the running statistics of the moment. */
static trine_status first_norm(struct job *j, double *out)
{
    trine_session *session = NULL;
    trine_tensor x;
    trine_status status;
    j->looking = true;
    TRINE_TRY_GOTO(trine_session_create_inference(j->net, j->stream, &j->batches->shape, &session));
    TRINE_TRY_GOTO(trine__batches_rewind(j->batches, false));
    TRINE_TRY_GOTO(trine__batches_next(j->batches, &x));
    TRINE_TRY_GOTO(embed_norm(j, session, &x, out));
    TRINE_TRY_GOTO(trine__batches_used(j->batches));
cleanup:
    trine_session_destroy(&session);
    j->looking = false;
    return status;
}

static trine_status run_pass(struct job *j)
{
    trine_tensor x;
    TRINE_TRY(trine__batches_rewind(j->batches, j->pass == 0));
    for (;;) {
        TRINE_TRY(trine__batches_next(j->batches, &x));
        if (j->batches->rows == 0) break;
        TRINE_TRY(trine_recalibration_add(j->recalibration, &x));
        TRINE_TRY(trine__batches_used(j->batches));
    }
    return trine_recalibration_end_pass(j->recalibration);
}

/* Nothing may fail between finish and success: the norm after is taken before it. */
static trine_status recalibrate(struct job *j, const trine__batches_options *source,
                                trine_recalibration_report *report)
{
    const trine_recalibrate_options *o = j->options;
    double before = 0, after = 0;
    TRINE_TRY(trine__batches_create(j->stream, source, &j->batches));
    if (report) TRINE_TRY(first_norm(j, &before));
    TRINE_TRY(trine_recalibration_create(j->net, j->stream, &j->batches->shape, o->layers, o->method,
                                         &j->recalibration));
    j->passes = trine_recalibration_passes(j->recalibration);
    for (; j->pass < j->passes; j->pass++) TRINE_TRY(run_pass(j));
    if (report) TRINE_TRY(first_norm(j, &after));
    TRINE_TRY(trine_recalibration_finish(j->recalibration, report));
    if (!report) return TRINE_OK;
    report->bad = j->batches->bad;
    report->norm_before = before;
    report->norm_after = after;
    return TRINE_OK;
}

static trine_status run(trine_resnet *net, trine_stream *stream, const trine_recalibrate_options *options,
                        trine__batches_options *source, const char *call, trine_recalibration_report *report)
{
    struct job j = {.net = net, .stream = stream, .options = options};
    trine__guard guard;
    trine_recalibration_report made = {0};
    TRINE_TRY(check_options(options));
    source->batch = options->batch ? options->batch : DEFAULT_BATCH;
    source->even = true;
    source->progress = on_progress;
    source->progress_user = &j;
    TRINE_TRY(trine__guard_begin(&guard, net, stream, call, TRINE__MAY_STATISTICS));
    trine_status status = recalibrate(&j, source, report ? &made : NULL);
    trine_recalibration_destroy(&j.recalibration); /* puts back what did not succeed */
    trine__batches_destroy(&j.batches);
    status = trine__guard_end(&guard, status);
    if (status == TRINE_OK && report)
        *report = made;
    else
        trine_recalibration_report_free(&made);
    return status;
}

trine_status trine_recalibrate_dataset(trine_resnet *net, trine_stream *stream, const trine_dataset *data,
                                       const trine_recalibrate_options *options,
                                       trine_recalibration_report *report)
{
    TRINE_CHECK(net && stream && data && options, TRINE_ERR_ARG,
                "recalibrate: network, stream, data set or options is missing");
    TRINE_CHECK(trine_resnet_in_channels(net) == 3, TRINE_ERR_DATA,
                "recalibrate: the images have 3 channels, the network takes %d",
                trine_resnet_in_channels(net));
    trine__batches_options source = {.data = data,
                                     .preprocess = options->preprocess,
                                     .threads = options->threads,
                                     .skip_bad = options->skip_bad != 0,
                                     .log = options->log,
                                     .log_user = options->log_user};
    return run(net, stream, options, &source, "trine_recalibrate_dataset", report);
}

trine_status trine_recalibrate_array(trine_resnet *net, trine_stream *stream, const float *x,
                                     const trine_shape *shape, const trine_recalibrate_options *options,
                                     trine_recalibration_report *report)
{
    TRINE_CHECK(net && stream && x && shape && options, TRINE_ERR_ARG,
                "recalibrate: network, stream, array, shape or options is missing");
    TRINE_CHECK(shape->n >= 1, TRINE_ERR_SHAPE, "recalibrate: %d images, expected at least 1", shape->n);
    trine__batches_options source = {.array = x, .shape = *shape};
    return run(net, stream, options, &source, "trine_recalibrate_array", report);
}
