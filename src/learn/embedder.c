/* SPDX-License-Identifier: MIT */
/* Images to vectors in evaluation mode. Uploads, forward passes and read-back overlap: vectors are read
 * without waiting and collected when their staging memory comes round again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/loader.h"
#include "learn/feed.h"
#include "learn/threads.h"
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
    trine__feed *feed;
    trine__loader *loader;
    trine_shape shape; /* largest batch */
    struct stage stages[STAGES];
    size_t pushed, all, seen; /* batches; images in all, and seen */
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
    trine__loader_destroy(&e->loader);
    trine__feed_destroy(&e->feed);
    trine_session_destroy(&e->session);
    trine_vectors_free(&e->v);
}

/* Everything for batches of e->shape and e->all images. */
static trine_status prepare(struct embedder *e, const trine_resnet *net, bool labels)
{
    void *p;
    e->v.dim =
        e->options->embedding == TRINE_EMBED_FC ? trine_resnet_outputs(net) : trine_resnet_features(net);
    const size_t dim = (size_t)e->v.dim, stride = trine__round_up(dim, MAX_BLOCK);
    size_t floats;
    TRINE_CHECK(trine__mul_size(e->all, dim, &floats), TRINE_ERR_NOMEM,
                "%zu vectors of %zu values exceed the address space", e->all, dim);
    TRINE_TRY(trine_session_create_inference(net, e->stream, &e->shape, &e->session));
    TRINE_TRY(trine__feed_create(e->stream, &e->shape, &e->feed));
    for (int i = 0; i < STAGES; i++) {
        TRINE_TRY(trine__calloc((size_t)e->shape.n * stride, sizeof(float), &p));
        e->stages[i].host = p;
    }
    TRINE_TRY(trine__calloc(floats, sizeof *e->v.data, &p));
    e->v.data = p;
    TRINE_TRY(trine__calloc(e->all, sizeof *e->v.indices, &p));
    e->v.indices = p;
    if (!labels) return TRINE_OK;
    TRINE_TRY(trine__calloc(e->all, sizeof *e->v.labels, &p));
    e->v.labels = p;
    return TRINE_OK;
}

/* y = x / max(|x|, 1e-12), torch.nn.functional.normalize; the norm in double. */
static void normalise(float *x, size_t dim)
{
    double square = 0;
    for (size_t d = 0; d < dim; d++) square += (double)x[d] * x[d];
    const double norm = fmax(sqrt(square), 1e-12);
    for (size_t d = 0; d < dim; d++) x[d] = (float)(x[d] / norm);
}

/* Wait for a stage's vectors and put them in their place. */
static trine_status collect(struct embedder *e, struct stage *stage)
{
    const size_t dim = (size_t)e->v.dim;
    TRINE_TRY(trine__event_wait(&stage->read));
    for (int i = 0; i < stage->count; i++) {
        float *row = e->v.data + (stage->first + (size_t)i) * dim;
        memcpy(row, stage->host + (size_t)i * stage->stride, dim * sizeof *row);
        if (e->options->normalize) normalise(row, dim);
    }
    stage->count = 0;
    return TRINE_OK;
}

/* One batch through the network; `rows` of it are ok. */
static trine_status push(struct embedder *e, const float *x, const bool *ok, int count, int rows)
{
    trine__feed_slot *slot;
    struct stage *stage = &e->stages[e->pushed++ % STAGES];
    TRINE_TRY(trine__feed_push(e->feed, x, NULL, ok, count, &slot));
    TRINE_TRY(trine_session_forward(e->session, &slot->x));
    TRINE_TRY(trine__feed_used(e->feed, slot));
    TRINE_TRY(collect(e, stage));
    const trine_tensor y = e->options->embedding == TRINE_EMBED_FC ? trine_session_logits(e->session)
                                                                   : trine_session_features(e->session);
    stage->first = e->v.count;
    stage->count = rows;
    stage->stride = trine__round_up((size_t)y.shape.c, (size_t)y.cb); /* of one pixel: blocks in a row */
    TRINE_TRY(trine__stream_read_nocopy(e->stream, y.buffer, 0, stage->host,
                                        (size_t)rows * stage->stride * sizeof(float), &stage->read));
    e->v.count += (size_t)rows;
    return TRINE_OK;
}

static void tell(struct embedder *e, int count)
{
    e->seen += (size_t)count;
    if (e->options->progress) e->options->progress(e->options->progress_user, e->seen, e->all);
}

static trine_status finish(struct embedder *e, trine_vectors *out)
{
    for (int i = 0; i < STAGES; i++) TRINE_TRY(collect(e, &e->stages[(e->pushed + (size_t)i) % STAGES]));
    *out = e->v;
    e->v = (trine_vectors){0};
    return TRINE_OK;
}

/* The whole data set in its order; user: struct embedder. */
static void plan(void *user, size_t batch, trine__loader_row *rows, int capacity, int *count)
{
    const struct embedder *e = user;
    const size_t first = batch * (size_t)capacity;
    *count = 0;
    while (*count < capacity && first + (size_t)*count < e->all) {
        rows[*count].index = (int)(first + (size_t)*count);
        ++*count;
    }
}

static trine_status create_loader(struct embedder *e, const trine_dataset *data)
{
    const trine_embed_options *o = e->options;
    const trine__loader_options options = {.dataset = data,
                                           .preprocess = o->preprocess,
                                           .batch_capacity = e->shape.n,
                                           .threads = trine__threads(o->threads),
                                           .on_bad = o->skip_bad ? TRINE__BAD_SKIP : TRINE__BAD_FAIL,
                                           .plan = plan,
                                           .plan_user = e,
                                           .log = o->log,
                                           .log_user = o->log_user};
    return trine__loader_create(&options, &e->loader);
}

static trine_status embed_batches(struct embedder *e, const trine_dataset *data)
{
    for (;;) {
        trine__batch b;
        TRINE_TRY(trine__loader_next(e->loader, &b));
        if (b.count == 0) break;
        const size_t first = e->v.count;
        int rows = 0;
        for (int i = 0; i < b.count; i++) {
            if (!b.ok[i]) continue;
            TRINE_CHECK(b.height == e->shape.h && b.width == e->shape.w, TRINE_ERR_DATA,
                        "%s: is %dx%d pixels after preprocessing, but images before it are %dx%d",
                        trine_dataset_name(data, (size_t)b.indices[i]), b.width, b.height, e->shape.w,
                        e->shape.h);
            e->v.labels[first + (size_t)rows] = b.labels[i];
            e->v.indices[first + (size_t)rows++] = b.indices[i];
        }
        if (rows) TRINE_TRY(push(e, b.x, b.ok, b.count, rows));
        tell(e, b.count);
    }
    e->v.bad = trine__loader_bad_count(e->loader);
    TRINE_CHECK(e->v.count > 0, TRINE_ERR_DATA, "none of the %zu images can be read, %s first", e->all,
                trine_dataset_name(data, 0));
    return TRINE_OK;
}

static trine_status embed_dataset(const trine_resnet *net, trine_stream *stream, const trine_dataset *data,
                                  const trine_embed_options *options, trine_vectors *out)
{
    TRINE_TRY(check_options(options));
    struct embedder e = {.options = options, .stream = stream, .all = trine_dataset_count(data)};
    e.shape.n = options->batch ? options->batch : DEFAULT_BATCH;
    if ((size_t)e.shape.n > e.all) e.shape.n = (int)e.all;
    e.shape.c = 3;
    TRINE_CHECK(trine_resnet_in_channels(net) == 3, TRINE_ERR_DATA,
                "embed: the images have 3 channels, the network takes %d", trine_resnet_in_channels(net));
    trine_status status;
    TRINE_TRY_GOTO(create_loader(&e, data));
    TRINE_TRY_GOTO(
        trine__feed_image_size(data, &options->preprocess, options->skip_bad != 0, &e.shape.h, &e.shape.w));
    TRINE_TRY_GOTO(prepare(&e, net, true));
    TRINE_TRY_GOTO(embed_batches(&e, data));
    TRINE_TRY_GOTO(finish(&e, out));
cleanup:
    release(&e);
    return status;
}

static trine_status embed_array(const trine_resnet *net, trine_stream *stream, const float *x,
                                const trine_shape *shape, const trine_embed_options *options,
                                trine_vectors *out)
{
    TRINE_TRY(check_options(options));
    TRINE_CHECK(shape->n >= 1, TRINE_ERR_SHAPE, "embed: %d images, expected at least 1", shape->n);
    struct embedder e = {.options = options, .stream = stream, .all = (size_t)shape->n, .shape = *shape};
    e.shape.n = options->batch ? options->batch : DEFAULT_BATCH;
    if (e.shape.n > shape->n) e.shape.n = shape->n;
    trine_status status;
    TRINE_TRY_GOTO(prepare(&e, net, false));
    const size_t row = (size_t)shape->c * (size_t)shape->h * (size_t)shape->w;
    for (int first = 0; first < shape->n; first += e.shape.n) {
        const int rows = shape->n - first < e.shape.n ? shape->n - first : e.shape.n;
        for (int i = first; i < first + rows; i++) e.v.indices[i] = i;
        TRINE_TRY_GOTO(push(&e, x + (size_t)first * row, NULL, rows, rows));
        tell(&e, rows);
    }
    TRINE_TRY_GOTO(finish(&e, out));
cleanup:
    release(&e);
    return status;
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
