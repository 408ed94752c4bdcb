/* SPDX-License-Identifier: MIT */
/* Kinds of runs, and saving and resuming them through files, for the suites of resumed runs. */
#ifndef TRINE_TESTS_LEARN_RESUME_RUNS_H
#define TRINE_TESTS_LEARN_RESUME_RUNS_H

#include "io/temp_files.h"
#include "learn/learn_data.h"

enum { IMAGES = CLASSES * PER_CLASS, MAX_BREAKS = 8 };

static const char net_file[] = "net.safetensors", state_file[] = "run.safetensors";

/* One kind of run. */
typedef struct plan {
    const char *name, *bn, *freeze;
    trine_objective objective;
    trine_embedding embedding;
    trine_optimizer_kind optimizer;
    float momentum;
    int nesterov;
    trine_schedule schedule;
    double lr;
    const char *lr_globs;
    int warmup;
    double clip_norm, ema;
    int accumulate;
    int array, augment, steps,
        epochs; /* augment 1: flip and crop, 2: flip, 3: all there is but crop; steps or epochs */
    trine_feature_cache cache_before, cache_after; /* the first break */
    trine_mining mining;
    int memory_size, memory_start;
    int breaks[MAX_BREAKS]; /* steps to save, destroy everything and resume at; 0 ends */
} plan;

static inline trine_trainer_options options_for(const plan *p)
{
    trine_trainer_options o = {
        .objective = p->objective,
        .embedding = p->embedding,
        .normalize = 1,
        .memory_size = p->memory_size,
        .memory_start = p->memory_start,
        .lr = p->lr,
        .lr_globs = p->lr_globs,
        .schedule = p->schedule,
        .warmup = p->warmup,
        .clip_norm = p->clip_norm,
        .classes_per_batch = 3,
        .images_per_class = 3,
        .batch = 7, /* 24 images: 7 + 7 + 7 + 3 */
        .steps = p->steps,
        .epochs = p->epochs,
        .augment = {.flip = p->augment != 0, .crop = p->augment == 1},
        .ema = p->ema,
        .accumulate = p->accumulate,
        .feature_cache = p->cache_before,
        .preprocess = {0, 0, 0, {0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}},
        .seed = 3,
        .threads = 2,
    };
    if (p->augment == 3) ASSERT_OK(trine_augment_parse("flip,rrc,jitter,erase:value=random", &o.augment));
    o.triplet = trine_triplet_desc_default(TRINE_LOSS_TRIPLET);
    o.triplet.mining = p->mining;
    o.triplet.margin = 0.5f;
    o.optimizer = trine_optimizer_desc_default(p->optimizer);
    o.optimizer.weight_decay = 1e-3f;
    if (p->optimizer == TRINE_SGD) {
        o.optimizer.momentum = p->momentum;
        o.optimizer.nesterov = p->nesterov;
    }
    return o;
}

static char root[PATH_BYTES];
static float *array;
static int array_labels[IMAGES];

/* The data and a trainer over them. */
typedef struct bench {
    trine_dataset *data;
    trine_resnet *net;
    trine_trainer *t;
} bench;

static inline trine_status open_trainer(bench *b, const trine_trainer_options *o, int with_array)
{
    const trine_shape shape = {IMAGES, 3, SIDE, SIDE};
    if (with_array)
        return trine_trainer_create_array(b->net, dev.stream, o, array, &shape, array_labels, &b->t);
    if (!b->data) ASSERT_OK(trine_dataset_open(root, NULL, &b->data));
    return trine_trainer_create(b->net, dev.stream, o, b->data, &b->t);
}

static inline void begin(bench *b, const plan *p)
{
    const trine_trainer_options o = options_for(p);
    *b = (bench){.net = make_network(CLASSES)};
    if (p->freeze) ASSERT_OK(trine_resnet_freeze(b->net, p->freeze));
    if (p->bn) ASSERT_OK(trine_resnet_set_bn(b->net, p->bn));
    ASSERT_OK(open_trainer(b, &o, p->array));
}

static inline void end(bench *b)
{
    trine_trainer_destroy(&b->t);
    trine_resnet_destroy(&b->net);
    trine_dataset_destroy(&b->data);
}

/* Network and state to their files. */
static inline void save(const bench *b)
{
    trine_weights *net = NULL, *state = NULL;
    ASSERT_OK(trine_resnet_to_weights(b->net, dev.stream, 1, &net));
    ASSERT_OK(trine_trainer_save(b->t, &state));
    ASSERT_OK(trine_weights_write(net, temp_path(net_file)));
    ASSERT_OK(trine_weights_write(state, temp_path(state_file)));
    trine_weights_destroy(&net);
    trine_weights_destroy(&state);
}

/* The network of the file, with the policies of its metadata and nothing else. */
static inline void load_network(bench *b)
{
    trine_weights *net = NULL;
    ASSERT_OK(trine_weights_read(temp_path(net_file), &net));
    ASSERT_OK(trine_resnet_from_weights(dev.context, net, NULL, &b->net));
    trine_weights_destroy(&net);
}

static inline trine_weights *load_state(void)
{
    trine_weights *state = NULL;
    ASSERT_OK(trine_weights_read(temp_path(state_file), &state));
    return state;
}

static inline void resume(bench *b, const plan *p)
{
    trine_trainer_options o = options_for(p);
    o.feature_cache = p->cache_after;
    *b = (bench){0};
    load_network(b);
    ASSERT_OK(open_trainer(b, &o, p->array));
    trine_weights *state = load_state();
    ASSERT_OK(trine_trainer_resume(b->t, state));
    trine_weights_destroy(&state);
}

static inline void setup(void)
{
    make_root(root);
    make_folders(root);
    array = make_images(IMAGES, SIDE, array_labels);
}

static inline void teardown(void)
{
    free(array);
    remove_root(root);
    if (temp_folder[0]) remove_temp((const char *const[]){net_file, state_file, NULL});
}

/* main() of a suite: the test case with its data. */
static inline TCase *resume_case(Suite *suite)
{
    TCase *tc = tcase_create("resume");
    tcase_set_timeout(tc, 600);
    tcase_add_unchecked_fixture(tc, setup, teardown);
    suite_add_tcase(suite, tc);
    return tc;
}

#endif
