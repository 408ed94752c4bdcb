/* SPDX-License-Identifier: MIT */
/* A small network and small data for the device suites of training and embedding. */
#ifndef TRINE_TESTS_LEARN_DATA_H
#define TRINE_TESTS_LEARN_DATA_H

#include "base/random.h"
#include "io/image_files.h"
#include "support/check_main.h"
#include "support/device.h"
#include "trine/trainer.h"

enum { CLASSES = 4, PER_CLASS = 6, SIDE = 32 };

static inline trine_resnet *make_network(int classes)
{
    trine_resnet *net = NULL;
    const trine_resnet_options options = {.arch = "resnet20_cifar", .classes = classes, .seed = 11};
    ASSERT_OK(trine_resnet_create(dev.context, &options, &net));
    return net;
}

/* `count` images of CLASSES patterns in turn under noise. x [count][3][side][side], free() it */
static inline float *make_images(int count, int side, int *labels)
{
    const int pixels = 3 * side * side;
    float *x = calloc((size_t)count * (size_t)pixels, sizeof *x);
    for (int i = 0; i < count; i++) {
        labels[i] = i % CLASSES;
        trine__random pattern = trine__random_stream(5, 1, (uint64_t)labels[i]),
                      noise = trine__random_stream(5, 2, (uint64_t)i);
        for (int p = 0; p < pixels; p++)
            x[i * pixels + p] = (float)(0.4 * trine__random_normal(&pattern) + trine__random_normal(&noise));
    }
    return x;
}

/* CLASSES folders of PER_CLASS images of SIDE x SIDE. */
static inline void make_folders(const char *root)
{
    for (int c = 0; c < CLASSES; c++) {
        char name[32];
        snprintf(name, sizeof name, "%c", 'a' + c);
        make_folder(root, name);
        for (int i = 0; i < PER_CLASS; i++) {
            snprintf(name, sizeof name, "%c/%02d.ppm", 'a' + c, i);
            write_ppm(root, name, SIDE, SIDE, 64 * c + 5 * i);
        }
    }
}

static inline void open_folders(char root[PATH_BYTES], trine_dataset **data)
{
    make_root(root);
    make_folders(root);
    ASSERT_OK(trine_dataset_open(root, NULL, data));
}

/* Batch-hard triplets of 3 classes x 3 images by SGD with momentum. */
static inline trine_trainer_options triplet_run(int steps)
{
    trine_trainer_options o = {
        .normalize = 1,
        .triplet = {.mining = TRINE_BATCH_HARD, .margin = 0.5f},
        .lr = 0.05,
        .classes_per_batch = 3,
        .images_per_class = 3,
        .steps = steps,
        .preprocess = {0, 0, 0, {0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}},
        .seed = 3,
        .threads = 2,
    };
    o.optimizer = trine_optimizer_desc_default(TRINE_SGD);
    o.optimizer.momentum = 0.9f;
    return o;
}

static inline uint64_t parameters_hash(const trine_resnet *net)
{
    uint64_t hash = 0;
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &hash, NULL, NULL));
    return hash;
}

static inline uint64_t statistics_hash(const trine_resnet *net)
{
    uint64_t hash = 0;
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, NULL, &hash, NULL));
    return hash;
}

#endif
