/* SPDX-License-Identifier: MIT */
/* Where a trainer's batches come from: a data set through sampler, loader and feed, or one array that was
 * uploaded once. */
#include <limits.h>
#include <stdlib.h>

#include "base/hash.h"
#include "learn/threads.h"
#include "learn/trainer_private.h"
#include "net/session_private.h"

size_t trine__trainer_first_batch(const trine_trainer *t, int step)
{
    const size_t n = (size_t)t->accumulate, steps = (size_t)t->epoch_steps, at = (size_t)step;
    if (t->options.objective != TRINE_OBJECTIVE_CLASSIFY) return at * n;
    return at / steps * t->epoch_batches + at % steps * n; /* an epoch's last step takes what is left of it */
}

/* The loader's plan: the sampler's batches, as many as the steps have. */
static void plan(void *user, size_t batch, trine__loader_row *rows, int capacity, int *count)
{
    const trine_trainer *t = user;
    (void)capacity;
    *count = batch < trine__trainer_first_batch(t, t->steps)
                 ? trine__sampler_batch(t->sampler, batch, t->indices)
                 : 0;
    for (int i = 0; i < *count; i++) rows[i].index = t->indices[i];
}

/* @param epoch batches */
static trine_status count_steps(trine_trainer *t, size_t epoch)
{
    const trine_trainer_options *o = &t->options;
    t->epoch_batches = epoch;
    epoch = (epoch + (size_t)t->accumulate - 1) / (size_t)t->accumulate;
    TRINE_CHECK(epoch <= INT_MAX && (o->steps > 0 || epoch <= INT_MAX / (size_t)o->epochs), TRINE_ERR_ARG,
                "trainer: %d epochs of %zu steps are more than %d steps", o->epochs, epoch, INT_MAX);
    t->epoch_steps = (int)epoch;
    t->steps = o->steps > 0 ? o->steps : o->epochs * (int)epoch;
    return TRINE_OK;
}

/* Labels must be outputs of fc when classifying. */
static trine_status check_label(const trine_trainer *t, int label, const char *what, size_t i)
{
    const int outputs = trine_resnet_outputs(t->net);
    TRINE_CHECK(t->options.objective != TRINE_OBJECTIVE_CLASSIFY || (label >= 0 && label < outputs),
                TRINE_ERR_DATA, "%s%zu has class number %d, but fc has %d outputs, for classes 0 to %d", what,
                i, label, outputs, outputs - 1);
    return TRINE_OK;
}

static trine_status check_labels(const trine_trainer *t)
{
    const size_t count = trine_dataset_count(t->data);
    for (size_t i = 0; i < count; i++) {
        const trine_status status = check_label(t, trine_dataset_label(t->data, i), "image ", i);
        if (status != TRINE_OK) return trine__fail_context(status, "%s", trine_dataset_name(t->data, i));
    }
    return TRINE_OK;
}

/* user: the trainer */
static trine_status open_sampler(const void *user, trine__sampler **out)
{
    const trine_trainer *t = user;
    const trine_trainer_options *o = &t->options;
    const size_t count = trine_dataset_count(t->data);
    if (o->objective == TRINE_OBJECTIVE_CLASSIFY)
        return trine__sampler_create_epochs(count, o->batch, o->seed, out);
    void *memory;
    TRINE_TRY(trine__calloc(count, sizeof(int), &memory));
    int *labels = memory;
    for (size_t i = 0; i < count; i++) labels[i] = trine_dataset_label(t->data, i);
    const trine_status status =
        trine__sampler_create_classes(labels, count, o->classes_per_batch, o->images_per_class, o->seed, out);
    free(labels);
    return status;
}

enum { IMAGE_CACHE_BYTES = 64 << 20 }; /* some thousand images of 150x150 */

static trine__loader_options loader_options(trine_trainer *t)
{
    const trine_trainer_options *o = &t->options;
    return (trine__loader_options){
        .dataset = t->data,
        .preprocess = o->preprocess,
        .augment = o->augment,
        .seed = o->seed,
        .batch_capacity = t->shape.n,
        .first_batch = trine__trainer_first_batch(t, t->step),
        .threads = trine__threads(o->threads),
        .cache_bytes = IMAGE_CACHE_BYTES,
        .on_bad = o->fail_bad ? TRINE__BAD_FAIL : TRINE__BAD_SUBSTITUTE,
        .plan = plan,
        .plan_user = t,
        .log = o->log,
        .log_user = o->log_user,
    };
}

trine_status trine__trainer_open_data(trine_trainer *t)
{
    const trine_trainer_options *o = &t->options;
    TRINE_CHECK(trine_resnet_in_channels(t->net) == 3, TRINE_ERR_DATA,
                "trainer: the images have 3 channels, the network takes %d",
                trine_resnet_in_channels(t->net));
    if (o->objective == TRINE_OBJECTIVE_CLASSIFY) TRINE_TRY(check_labels(t));
    TRINE_TRY(open_sampler(t, &t->sampler));
    TRINE_TRY(count_steps(t, trine__sampler_epoch(t->sampler)));
    t->shape.n = trine__sampler_capacity(t->sampler);
    t->shape.c = 3;
    void *memory;
    TRINE_TRY(trine__calloc((size_t)t->shape.n, sizeof *t->indices, &memory));
    t->indices = memory;
    return trine__feed_image_size(t->data, &o->preprocess, !o->fail_bad, &t->shape.h, &t->shape.w);
}

trine_status trine__trainer_open_array(trine_trainer *t, const float *x, const trine_shape *shape,
                                       const int *labels)
{
    TRINE_CHECK(shape->n >= 1 && shape->c >= 1 && shape->h >= 1 && shape->w >= 1, TRINE_ERR_SHAPE,
                "trainer: array [%d,%d,%d,%d], expected sizes of at least 1", shape->n, shape->c, shape->h,
                shape->w);
    const size_t n = (size_t)shape->n;
    for (size_t i = 0; i < n; i++) TRINE_TRY(check_label(t, labels[i], "row ", i));
    TRINE_TRY(count_steps(t, 1));
    t->shape = *shape;
    TRINE_TRY(trine_tensor_create(t->stream->context, shape, 1, &t->fixed_x));
    TRINE_TRY(trine_tensor_upload(t->stream, x, &t->fixed_x));
    void *memory;
    TRINE_TRY(trine__calloc(n, sizeof(int32_t), &memory));
    int32_t *words = memory;
    for (size_t i = 0; i < n; i++) words[i] = labels[i];
    t->fixed_hash = trine__hash(x, n * (size_t)shape->c * (size_t)shape->h * (size_t)shape->w * sizeof *x,
                                trine__hash(words, n * sizeof *words, 0));
    const trine_status status =
        trine__buffer_from_host(t->stream->context, words, n * sizeof *words, &t->fixed_labels);
    free(words);
    return status;
}

/* The frozen part runs apart if something behind it trains. */
static int trunk_position(const trine_trainer *t)
{
    const int position = trine__frozen_position(t->net);
    if (position < trine__position_features(t->net)) return position;
    const bool fc = t->net->params[TRINE__FC_WEIGHT].trainable || t->net->params[TRINE__FC_BIAS].trainable;
    return fc && trine__trainer_embedding(t) == TRINE_EMBED_FC ? position : TRINE__AT_IMAGES;
}

static trine_status open_trunk(trine_trainer *t)
{
    const trine_trainer_options *o = &t->options;
    const trine__trunk_options options = {.net = t->net,
                                          .stream = t->stream,
                                          .position = t->position,
                                          .images = t->shape,
                                          .cache = o->feature_cache,
                                          .memory_bytes = o->feature_memory,
                                          .batches = trine__trainer_first_batch(t, t->steps),
                                          .loader = loader_options(t),
                                          .open_sampler = open_sampler,
                                          .sampler_user = t};
    TRINE_TRY(trine__trunk_create(&options, &t->trunk));
    if (t->data) return TRINE_OK;
    TRINE_TRY(trine__trunk_tensor(t->trunk, &t->fixed_features));
    return trine__trunk_run(t->trunk, &t->fixed_x, &t->fixed_features);
}

trine_status trine__trainer_open_source(trine_trainer *t)
{
    const trine_embedding embedding = trine__trainer_embedding(t);
    const int backward = t->options.checkpoint_activations ? TRINE_BACKWARD_CHECKPOINT : TRINE_BACKWARD_KEEP;
    t->position = trunk_position(t);
    t->trunk_version = trine__version_before(t->net, t->position);
    if (t->position > TRINE__AT_IMAGES) {
        TRINE_TRY(open_trunk(t));
        const trine_shape shape = trine__trunk_shape(t->trunk);
        return trine__session_create_tail(t->net, t->stream, &shape, embedding, backward, t->position,
                                          &t->session);
    }
    if (t->data) TRINE_TRY(trine__feed_create(t->stream, &t->shape, 1, &t->feed));
    return trine_session_create_training(t->net, t->stream, &t->shape, embedding, backward, &t->session);
}

void trine__trainer_close_source(trine_trainer *t)
{
    trine__trunk_destroy(&t->trunk);
    trine__loader_destroy(&t->loader);
    trine__feed_destroy(&t->feed);
    trine_session_destroy(&t->session);
    trine_buffer_release(&t->fixed_features.buffer);
}

trine_status trine__trainer_reopen_source(trine_trainer *t)
{
    TRINE_TRY(trine_stream_sync(t->stream));
    trine__trainer_close_source(t);
    return trine__trainer_open_source(t);
}

trine_status trine__trainer_refresh_source(trine_trainer *t)
{
    if (t->position == trunk_position(t) && t->trunk_version == trine__version_before(t->net, t->position))
        return TRINE_OK;
    return trine__trainer_reopen_source(t);
}

static trine_status check_batch(const trine_trainer *t, const trine__batch *b)
{
    int rows = 0, first = -1;
    for (int i = 0; i < b->count; i++) {
        rows += b->ok[i];
        if (first < 0 && b->ok[i]) first = i;
    }
    TRINE_CHECK(rows > 0, TRINE_ERR_DATA, "batch %zu: none of its %d images can be read", t->batch + 1,
                b->count);
    TRINE_CHECK(b->height == t->shape.h && b->width == t->shape.w, TRINE_ERR_DATA,
                "%s: is %dx%d pixels after preprocessing, but other images are %dx%d",
                trine_dataset_name(t->data, (size_t)b->indices[first]), b->width, b->height, t->shape.w,
                t->shape.h);
    return TRINE_OK;
}

/* The array's images, or what the trunk makes of them. */
static trine_status next_of_array(trine_trainer *t, trine_tensor *x, const trine_buffer **labels)
{
    *x = t->trunk ? t->fixed_features : t->fixed_x;
    *labels = t->fixed_labels;
    return t->trunk && t->options.feature_cache == TRINE_FEATURES_OFF
               ? trine__trunk_run(t->trunk, &t->fixed_x, &t->fixed_features)
               : TRINE_OK;
}

trine_status trine__trainer_next(trine_trainer *t, trine_tensor *x, const trine_buffer **labels,
                                 trine__feed_slot **slot)
{
    *slot = NULL;
    if (!t->data) return next_of_array(t, x, labels);
    if (t->trunk) return trine__trunk_next(t->trunk, t->batch, x, labels, slot);
    if (!t->loader) {
        const trine__loader_options options = loader_options(t);
        TRINE_TRY(trine__loader_create(&options, &t->loader));
    }
    trine__batch b;
    TRINE_TRY(trine__loader_next(t->loader, &b));
    TRINE_TRY(check_batch(t, &b));
    TRINE_TRY(trine__feed_push(t->feed, b.x, b.labels, b.ok, b.count, slot));
    *x = (*slot)->x;
    *labels = (*slot)->labels;
    return TRINE_OK;
}

trine_status trine__trainer_used(trine_trainer *t, trine__feed_slot *slot)
{
    if (!slot) return TRINE_OK;
    return t->trunk ? trine__trunk_used(t->trunk, slot) : trine__feed_used(t->feed, slot);
}
