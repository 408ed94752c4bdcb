/* SPDX-License-Identifier: MIT */
/* Images to vectors in evaluation mode. Uploads, forward passes and read-back overlap: vectors are read
 * without waiting and collected when their staging memory comes round again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learn/batches.h"
#include "learn/exact.h"
#include "net/state_guard.h"
#include "trine/retrieval.h"

enum { DEFAULT_BATCH = 32, STAGES = 2, MAX_BLOCK = 16 }; /* channels of the widest layout block */

/* Vectors on their way back. */
struct stage {
    trine__event read;
    float *host; /* [batch][dim rounded up to the layout's block] */
    size_t first, stride;
    int count;
};

struct embedder {
    const trine_embed_options *options;
    trine_stream *stream;
    trine_session *session;
    trine__batches *batches;
    struct stage stages[STAGES];
    size_t pushed; /* batches */
    trine_vectors v;
};

static trine_status check_options(const trine_embed_options *o)
{
    TRINE_CHECK(o->batch >= 0, TRINE_ERR_ARG, "embed: batches of %d images, expected at least 1", o->batch);
    TRINE_CHECK(o->threads >= 0, TRINE_ERR_ARG, "embed: %d threads, expected 0 or more", o->threads);
    TRINE_CHECK(o->embedding == TRINE_EMBED_POOL || o->embedding == TRINE_EMBED_FC, TRINE_ERR_ARG,
                "embed: unknown embedding %d", (int)o->embedding);
    return TRINE_OK;
}

static void release(struct embedder *e)
{
    if (e->stream) trine_stream_sync(e->stream); /* reads into the stages */
    for (int i = 0; i < STAGES; i++) {
        trine__event_release(&e->stages[i].read);
        free(e->stages[i].host);
    }
    trine__batches_destroy(&e->batches);
    trine_session_destroy(&e->session);
    trine_vectors_free(&e->v);
}

/* Everything for e->batches. */
static trine_status prepare(struct embedder *e, const trine_resnet *net, bool labels)
{
    void *p;
    const trine__batches *b = e->batches;
    e->v.dim =
        e->options->embedding == TRINE_EMBED_FC ? trine_resnet_outputs(net) : trine_resnet_features(net);
    const size_t dim = (size_t)e->v.dim, stride = trine__round_up(dim, MAX_BLOCK);
    size_t floats;
    TRINE_CHECK(trine__mul_size(b->all, dim, &floats), TRINE_ERR_NOMEM,
                "%zu vectors of %zu values exceed the address space", b->all, dim);
    TRINE_TRY(trine_session_create_inference(net, e->stream, &b->shape, &e->session));
    for (int i = 0; i < STAGES; i++) {
        TRINE_TRY(trine__calloc((size_t)b->shape.n * stride, sizeof(float), &p));
        e->stages[i].host = p;
    }
    TRINE_TRY(trine__calloc(floats, sizeof *e->v.data, &p));
    e->v.data = p;
    TRINE_TRY(trine__calloc(b->all, sizeof *e->v.indices, &p));
    e->v.indices = p;
    if (!labels) return TRINE_OK;
    TRINE_TRY(trine__calloc(b->all, sizeof *e->v.labels, &p));
    e->v.labels = p;
    return TRINE_OK;
}

void trine_vectors_normalize(float *data, size_t count, int dim)
{
    for (size_t i = 0; i < count; i++) {
        float *x = data + i * (size_t)dim;
        const double length = fmax(trine__exact_norm(x, (size_t)dim), 1e-12);
        for (int d = 0; d < dim; d++) x[d] = (float)(x[d] / length);
    }
}

/* Wait for a stage's vectors and put them in their place. */
static trine_status collect(struct embedder *e, struct stage *stage)
{
    const size_t dim = (size_t)e->v.dim;
    TRINE_TRY(trine__event_wait(&stage->read));
    for (int i = 0; i < stage->count; i++) {
        float *row = e->v.data + (stage->first + (size_t)i) * dim;
        memcpy(row, stage->host + (size_t)i * stage->stride, dim * sizeof *row);
        if (e->options->normalize) trine_vectors_normalize(row, 1, e->v.dim);
    }
    stage->count = 0;
    return TRINE_OK;
}

/* The batch at hand through the network. */
static trine_status push(struct embedder *e, const trine_tensor *x)
{
    const trine__batches *b = e->batches;
    const size_t rows = (size_t)b->rows;
    struct stage *stage = &e->stages[e->pushed++ % STAGES];
    TRINE_TRY(trine_session_forward(e->session, x));
    TRINE_TRY(trine__batches_used(e->batches));
    TRINE_TRY(collect(e, stage));
    const trine_tensor y = e->options->embedding == TRINE_EMBED_FC ? trine_session_logits(e->session)
                                                                   : trine_session_features(e->session);
    memcpy(e->v.indices + e->v.count, b->indices, rows * sizeof *b->indices);
    if (e->v.labels) memcpy(e->v.labels + e->v.count, b->labels, rows * sizeof *b->labels);
    stage->first = e->v.count;
    stage->count = b->rows;
    stage->stride = trine__round_up((size_t)y.shape.c, (size_t)y.cb); /* of one pixel: blocks in a row */
    TRINE_TRY(trine__stream_read_nocopy(e->stream, y.buffer, 0, stage->host,
                                        rows * stage->stride * sizeof(float), &stage->read));
    e->v.count += rows;
    return TRINE_OK;
}

static trine_status embed_batches(struct embedder *e, trine_vectors *out)
{
    trine_tensor x;
    TRINE_TRY(trine__batches_rewind(e->batches, true));
    for (;;) {
        TRINE_TRY(trine__batches_next(e->batches, &x));
        if (e->batches->rows == 0) break;
        TRINE_TRY(push(e, &x));
    }
    e->v.bad = e->batches->bad;
    for (int i = 0; i < STAGES; i++) TRINE_TRY(collect(e, &e->stages[(e->pushed + (size_t)i) % STAGES]));
    *out = e->v;
    e->v = (trine_vectors){0};
    return TRINE_OK;
}

static trine_status embed(const trine_resnet *net, trine_stream *stream, const trine_embed_options *options,
                          trine__batches_options *source, trine_vectors *out)
{
    struct embedder e = {.options = options, .stream = stream};
    trine_status status;
    TRINE_TRY_GOTO(check_options(options));
    source->batch = options->batch ? options->batch : DEFAULT_BATCH;
    source->progress = options->progress;
    source->progress_user = options->progress_user;
    TRINE_TRY_GOTO(trine__batches_create(stream, source, &e.batches));
    TRINE_TRY_GOTO(prepare(&e, net, source->data != NULL));
    TRINE_TRY_GOTO(embed_batches(&e, out));
cleanup:
    release(&e);
    return status;
}

static trine_status embed_dataset(const trine_resnet *net, trine_stream *stream, const trine_dataset *data,
                                  const trine_embed_options *options, trine_vectors *out)
{
    TRINE_CHECK(trine_resnet_in_channels(net) == 3, TRINE_ERR_DATA,
                "embed: the images have 3 channels, the network takes %d", trine_resnet_in_channels(net));
    trine__batches_options source = {.data = data,
                                     .preprocess = options->preprocess,
                                     .threads = options->threads,
                                     .skip_bad = options->skip_bad != 0,
                                     .log = options->log,
                                     .log_user = options->log_user};
    return embed(net, stream, options, &source, out);
}

static trine_status embed_array(const trine_resnet *net, trine_stream *stream, const float *x,
                                const trine_shape *shape, const trine_embed_options *options,
                                trine_vectors *out)
{
    TRINE_CHECK(shape->n >= 1, TRINE_ERR_SHAPE, "embed: %d images, expected at least 1", shape->n);
    trine__batches_options source = {.array = x, .shape = *shape};
    return embed(net, stream, options, &source, out);
}

/* The end of a guarded call: vectors go out only if nothing moved. */
static trine_status hand_over(trine_status status, trine_vectors *v, trine_vectors *out)
{
    if (status == TRINE_OK)
        *out = *v;
    else
        trine_vectors_free(v);
    return status;
}

trine_status trine_embed_dataset(const trine_resnet *net, trine_stream *stream, const trine_dataset *data,
                                 const trine_embed_options *options, trine_vectors *out)
{
    TRINE_CHECK(net && stream && data && options && out, TRINE_ERR_ARG,
                "embed: network, stream, data set, options or result is missing");
    trine__guard guard;
    trine_vectors v = {0};
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_embed_dataset", TRINE__MAY_NOTHING));
    return hand_over(trine__guard_end(&guard, embed_dataset(net, stream, data, options, &v)), &v, out);
}

trine_status trine_embed_array(const trine_resnet *net, trine_stream *stream, const float *x,
                               const trine_shape *shape, const trine_embed_options *options,
                               trine_vectors *out)
{
    TRINE_CHECK(net && stream && x && shape && options && out, TRINE_ERR_ARG,
                "embed: network, stream, array, shape, options or result is missing");
    trine__guard guard;
    trine_vectors v = {0};
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_embed_array", TRINE__MAY_NOTHING));
    return hand_over(trine__guard_end(&guard, embed_array(net, stream, x, shape, options, &v)), &v, out);
}

void trine_vectors_free(trine_vectors *vectors)
{
    if (!vectors) return;
    free(vectors->data);
    free(vectors->labels);
    free(vectors->indices);
    *vectors = (trine_vectors){0};
}
