/* SPDX-License-Identifier: MIT */
/* What the suites of net share: networks whose BatchNorm layers are not the identity, images, results as
 * doubles. */
#ifndef TRINE_TESTS_NET_NETWORKS_H
#define TRINE_TESTS_NET_NETWORKS_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "support/check_main.h"
#include "support/device.h"
#include "trine/session.h"

/* Floats of parameter i. */
static inline size_t parameter_count_of(const trine_resnet *net, int i)
{
    trine_parameter_info info;
    ASSERT_OK(trine_resnet_parameter(net, i, &info));
    size_t count = 1;
    for (int d = 0; d < info.rank; d++) count *= (size_t)info.dims[d];
    return count;
}

static inline int parameter_index(const trine_resnet *net, const char *name)
{
    trine_parameter_info info;
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        ASSERT_OK(trine_resnet_parameter(net, i, &info));
        if (strcmp(info.name, name) == 0) return i;
    }
    ck_abort_msg("no parameter %s", name);
}

static inline int bn_index(const trine_resnet *net, const char *name)
{
    trine_bn_info info;
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        if (strcmp(info.name, name) == 0) return i;
    }
    ck_abort_msg("no BatchNorm layer %s", name);
}

static inline float *random_floats(size_t count, uint64_t seed, double low, double high)
{
    double *values = test_random(count, seed, low, high);
    float *floats = malloc(count * sizeof *floats);
    ck_assert_ptr_nonnull(floats);
    for (size_t i = 0; i < count; i++) floats[i] = (float)values[i];
    free(values);
    return floats;
}

/* Values of parameter i; free(). */
static inline float *parameter_values(const trine_resnet *net, int i)
{
    float *values = malloc(parameter_count_of(net, i) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    ASSERT_OK(trine_resnet_parameter_read(net, dev.stream, i, values));
    return values;
}

/* gamma 0.5 to 1.5, beta -0.3 to 0.3, running mean -0.3 to 0.3, running variance 0.5 to 1.5. */
static inline void stir(trine_resnet *net, uint64_t seed)
{
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        trine_parameter_info info;
        ASSERT_OK(trine_resnet_parameter(net, i, &info));
        if (info.rank != 1 || strncmp(info.name, "fc.", 3) == 0) continue;
        const bool gamma = strcmp(strrchr(info.name, '.'), ".weight") == 0;
        float *values =
            random_floats((size_t)info.dims[0], seed + (uint64_t)i, gamma ? 0.5 : -0.3, gamma ? 1.5 : 0.3);
        ASSERT_OK(trine_resnet_parameter_write(net, dev.stream, i, values));
        free(values);
    }
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        float *mean = random_floats((size_t)info.channels, seed + 1000 + (uint64_t)i, -0.3, 0.3);
        float *var = random_floats((size_t)info.channels, seed + 2000 + (uint64_t)i, 0.5, 1.5);
        ASSERT_OK(trine_resnet_bn_write(net, dev.stream, i, mean, var, 0));
        free(mean);
        free(var);
    }
}

static inline trine_resnet *make_network(const char *arch, uint64_t seed)
{
    trine_resnet *net = NULL;
    const trine_resnet_options options = {.arch = arch, .classes = 10, .seed = seed};
    ASSERT_OK(trine_resnet_create(dev.context, &options, &net));
    stir(net, seed);
    return net;
}

/* n images of 3 channels, each from a seed of its own: images(2, s, 0) are the first two of images(5, s, 0). */
static inline test_tensor images(int n, int size, uint64_t seed, int first)
{
    const trine_shape s = {n, 3, size, size};
    const size_t each = 3 * (size_t)size * (size_t)size;
    double *all = test_zeros((size_t)n * each);
    for (int i = 0; i < n; i++) {
        double *one = test_random(each, seed + (uint64_t)(first + i), -2, 2);
        memcpy(all + (size_t)i * each, one, each * sizeof *one);
        free(one);
    }
    const test_tensor t = test_tensor_from(s, 1, all);
    free(all);
    return t;
}

/* Dense values of a result; free(). */
static inline double *result_values(trine_tensor t)
{
    const size_t count = test_dense(t.shape);
    float *floats = malloc(count * sizeof *floats);
    double *values = test_zeros(count);
    ck_assert_ptr_nonnull(floats);
    ASSERT_OK(trine_tensor_download(dev.stream, &t, floats));
    for (size_t i = 0; i < count; i++) values[i] = floats[i];
    free(floats);
    return values;
}

/* One forward pass; dense features or logits. */
static inline double *forward_values(trine_session *session, const test_tensor *x, trine_embedding which)
{
    ASSERT_OK(trine_session_forward(session, &x->t));
    return result_values(which == TRINE_EMBED_FC ? trine_session_logits(session)
                                                 : trine_session_features(session));
}

static inline trine_session *training(trine_resnet *net, int n, int size, trine_embedding embedding)
{
    trine_session *session = NULL;
    const trine_shape shape = {n, 3, size, size};
    ASSERT_OK(trine_session_create_training(net, dev.stream, &shape, embedding, 1, &session));
    return session;
}

/* Gradients of all parameters, one after the other, unreached ones 0; free(). */
static inline float *all_gradients(const trine_resnet *net, const trine_gradients *g, size_t *count)
{
    *count = 0;
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) *count += parameter_count_of(net, i);
    float *all = calloc(*count, sizeof *all), *at = all;
    ck_assert_ptr_nonnull(all);
    for (int i = 0; i < trine_resnet_parameter_count(net); at += parameter_count_of(net, i++))
        if (trine_gradients_reached(g, i)) ASSERT_OK(trine_gradients_read(g, dev.stream, i, at));
    return all;
}

#endif
