/* SPDX-License-Identifier: MIT */
/* BatchNorm layers that lack something: running statistics (PyTorch's track_running_stats=False), gamma and
 * beta (affine=False); and eps, and counters of any size. Values beside PyTorch's: torch_batchnorm.py. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "net/networks.h"

enum { LAYERS = 19, IMAGES = 3, SIZE = 16, FEATURES = 64 };

static trine_resnet *build(bool affine, bool tracked)
{
    trine_resnet *net = NULL;
    const trine_resnet_options options = {
        .arch = "resnet20_cifar", .seed = 4, .bn_without_affine = !affine, .bn_without_statistics = !tracked};
    ASSERT_OK(trine_resnet_create(dev.context, &options, &net));
    return net;
}

static trine_bn_info layer(const trine_resnet *net, int i)
{
    trine_bn_info info;
    ASSERT_OK(trine_resnet_bn(net, i, &info));
    return info;
}

static uint64_t hash_of(const trine_resnet *net)
{
    uint64_t parameters, statistics;
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &parameters, &statistics, NULL));
    return parameters * 31 + statistics;
}

static trine_session *inference(const trine_resnet *net, int n, int size)
{
    trine_session *session = NULL;
    const trine_shape shape = {n, 3, size, size};
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &shape, &session));
    return session;
}

/* Statistics 0 and 1 for layer i. */
static void give(trine_resnet *net, int i)
{
    float mean[FEATURES] = {0}, var[FEATURES];
    for (int c = 0; c < FEATURES; c++) var[c] = 1;
    ASSERT_OK(trine_resnet_bn_write(net, dev.stream, i, mean, var, 7));
}

static trine_weights *weights_of(const trine_resnet *net)
{
    trine_weights *w = NULL;
    ASSERT_OK(trine_resnet_to_weights(net, dev.stream, 1, &w));
    return w;
}

/* How many tensors have a name with this ending. */
static int endings(const trine_weights *w, const char *ending)
{
    int count = 0;
    for (size_t i = 0; i < trine_weights_count(w); i++) {
        const char *at = strrchr(trine_weights_at(w, i)->name, '.');
        count += at && strcmp(at, ending) == 0;
    }
    return count;
}

/* A copy without one tensor, or with another content for it. */
static trine_weights *edited(const trine_weights *from, const char *name, trine_dtype dtype, const void *data)
{
    trine_weights *w = NULL;
    ASSERT_OK(trine_weights_create(&w));
    for (size_t i = 0; i < trine_weights_count(from); i++) {
        const trine_weights_tensor *t = trine_weights_at(from, i);
        const bool it = strcmp(t->name, name) == 0;
        if (!it || data)
            ASSERT_OK(
                trine_weights_add(w, t->name, it ? dtype : t->dtype, t->rank, t->dims, it ? data : t->data));
    }
    return w;
}

static void same(const double *a, const double *b, size_t count, bool want)
{
    ck_assert_int_eq(memcmp(a, b, count * sizeof *a) == 0, want);
    for (size_t i = 0; i < count; i++) ck_assert(isfinite(a[i]) && isfinite(b[i]));
}

/* Whatever the policy, either mode normalises with the batch's statistics, and nothing moves. */
START_TEST(test_untracked_passes)
{
    static const char *const policies[] = {"auto", "train", "eval", "no-update", "cumulative"};
    trine_resnet *net = build(true, false);
    test_tensor x = images(IMAGES, SIZE, 1, 0), alone = images(1, SIZE, 1, 0);
    trine_session *train = training(net, IMAGES, SIZE, TRINE_EMBED_POOL),
                  *eval = inference(net, IMAGES, SIZE);
    const uint64_t before = hash_of(net);
    double *want = forward_values(eval, &x, TRINE_EMBED_POOL);
    double *single = forward_values(eval, &alone, TRINE_EMBED_POOL);
    same(want, single, FEATURES, false); /* image 0 has other mates */
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++)
        for (int frozen = 0; frozen < 2; frozen++) {
            ASSERT_OK(trine_resnet_set_bn(net, policies[i]));
            ASSERT_OK(trine_resnet_freeze(net, frozen ? "*" : NULL));
            const trine_bn_info info = layer(net, 3);
            ck_assert(!info.tracked && info.batch_statistics && !info.updates && info.frozen == frozen);
            double *got = forward_values(train, &x, TRINE_EMBED_POOL),
                   *again = forward_values(eval, &x, TRINE_EMBED_POOL);
            same(got, want, IMAGES * FEATURES, true);
            same(again, want, IMAGES * FEATURES, true);
            free(got);
            free(again);
        }
    ck_assert_uint_eq(hash_of(net), before);
    free(want);
    free(single);
    trine_session_destroy(&train);
    trine_session_destroy(&eval);
    test_tensor_release(&x);
    test_tensor_release(&alone);
    trine_resnet_destroy(&net);
}
END_TEST

/* One image of 4x4 leaves one value per channel in the last stage. */
START_TEST(test_untracked_one_value)
{
    trine_resnet *net = build(true, false);
    test_tensor x = images(1, 4, 1, 0);
    trine_session *sessions[] = {inference(net, 1, 4), training(net, 1, 4, TRINE_EMBED_POOL)};
    const uint64_t before = hash_of(net);
    for (int i = 0; i < 2; i++) {
        ASSERT_FAILS(TRINE_ERR_SHAPE, trine_session_forward(sessions[i], &x.t));
        ck_assert_ptr_nonnull(strstr(trine_last_error(), "layer3.0.bn1"));
        ck_assert_ptr_nonnull(strstr(trine_last_error(), "recalibrate"));
        ck_assert_ptr_null(strstr(trine_last_error(), "=eval")); /* would not help */
    }
    ck_assert_uint_eq(hash_of(net), before);
    for (int i = 0; i < LAYERS; i++) give(net, i);
    ASSERT_OK(trine_session_forward(sessions[0], &x.t)); /* the remedy */
    for (int i = 0; i < 2; i++) trine_session_destroy(&sessions[i]);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

/* Written statistics make a layer like any other, for sessions that exist too; a snapshot from before takes
 * them away again. */
START_TEST(test_untracked_written)
{
    trine_resnet *net = build(true, false), *tracked = build(true, true);
    test_tensor x = images(IMAGES, SIZE, 1, 0);
    trine_session *eval = inference(net, IMAGES, SIZE), *usual = inference(tracked, IMAGES, SIZE),
                  *train = training(net, IMAGES, SIZE, TRINE_EMBED_POOL);
    trine_bn_snapshot *snapshot = NULL;
    const uint64_t before = hash_of(net);
    double *batch = forward_values(eval, &x, TRINE_EMBED_POOL),
           *running = forward_values(usual, &x, TRINE_EMBED_POOL);
    ASSERT_OK(trine_resnet_bn_snapshot(net, dev.stream, &snapshot));
    for (int i = 0; i < LAYERS; i++) {
        give(net, i);
        ck_assert_int_eq(layer(net, i).tracked, 1);
        ck_assert_int_eq(layer(net, i).batches, 7);
    }
    double *got = forward_values(eval, &x, TRINE_EMBED_POOL);
    same(got, running, IMAGES * FEATURES, true); /* the usual network has 0 and 1 too */
    free(got);
    ASSERT_OK(trine_resnet_set_bn(net, "train"));
    ASSERT_OK(trine_session_forward(train, &x.t));
    ck_assert_int_eq(layer(net, 0).batches, 8);
    ASSERT_OK(trine_resnet_bn_restore(net, dev.stream, snapshot));
    ck_assert_int_eq(layer(net, 0).tracked, 0);
    ck_assert_uint_eq(hash_of(net), before);
    got = forward_values(eval, &x, TRINE_EMBED_POOL);
    same(got, batch, IMAGES * FEATURES, true);
    free(got);
    free(batch);
    free(running);
    trine_bn_snapshot_destroy(&snapshot);
    trine_session_destroy(&eval);
    trine_session_destroy(&usual);
    trine_session_destroy(&train);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
    trine_resnet_destroy(&tracked);
}
END_TEST

/* The hash tells a layer without statistics from one that has 0 and 1. */
START_TEST(test_untracked_hash)
{
    trine_resnet *net = build(true, false), *tracked = build(true, true);
    uint64_t a[LAYERS], b[LAYERS];
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, NULL, NULL, a));
    ASSERT_OK(trine_resnet_state_hash(tracked, dev.stream, NULL, NULL, b));
    for (int i = 0; i < LAYERS; i++) ck_assert(a[i] != b[i]);
    trine_resnet_destroy(&net);
    trine_resnet_destroy(&tracked);
}
END_TEST

/* Files: what is not there is not written, and comes back so; half of it is neither written nor read. */
START_TEST(test_files)
{
    const bool affine = (_i & 1) == 0, tracked = (_i & 2) == 0;
    trine_resnet *net = build(affine, tracked), *back = NULL;
    ASSERT_OK(trine_resnet_set_bn(net, "cumulative:eps=0.001"));
    trine_weights *w = weights_of(net);
    ck_assert_int_eq(endings(w, ".running_mean"), tracked ? LAYERS : 0);
    ck_assert_int_eq(endings(w, ".running_var"), tracked ? LAYERS : 0);
    ck_assert_int_eq(endings(w, ".num_batches_tracked"), tracked ? LAYERS : 0);
    ck_assert_int_eq(endings(w, ".weight"), LAYERS + 1 + (affine ? LAYERS : 0));
    ck_assert_int_eq(endings(w, ".bias"), 1 + (affine ? LAYERS : 0));
    ASSERT_OK(trine_resnet_from_weights(dev.context, w, NULL, &back));
    ck_assert_uint_eq(hash_of(back), hash_of(net));
    ck_assert_int_eq(trine_resnet_parameter_count(back), 2 + LAYERS * (affine ? 3 : 1));
    for (int i = 0; i < LAYERS; i++) {
        const trine_bn_info info = layer(back, i);
        ck_assert_int_eq(info.tracked, tracked);
        ck_assert_int_eq(info.policy, TRINE_BN_CUMULATIVE);
        ck_assert_float_eq(info.eps, 0.001f); /* to the bit */
    }
    trine_resnet_destroy(&back);
    static const char *const parts[] = {"layer2.0.bn2.weight", "layer2.0.bn2.bias",
                                        "layer2.0.bn2.running_mean", "layer2.0.bn2.running_var"};
    for (size_t i = 0; i < 4; i++) {
        if (!(i < 2 ? affine : tracked)) continue;
        trine_weights *bad = edited(w, parts[i], TRINE_F32, NULL);
        ASSERT_FAILS(TRINE_ERR_WEIGHTS, trine_resnet_from_weights(dev.context, bad, NULL, &back));
        ck_assert_ptr_nonnull(strstr(trine_last_error(), parts[i]));
        trine_weights_destroy(&bad);
    }
    trine_weights_destroy(&w);
    if (!tracked) { /* some layers with, some without */
        give(net, 2);
        ASSERT_FAILS(TRINE_ERR_STATE, trine_resnet_to_weights(net, dev.stream, 1, &w));
        ck_assert_ptr_nonnull(strstr(trine_last_error(), "layer1.0.bn2"));
        ck_assert_ptr_null(w);
    }
    trine_resnet_destroy(&net);
}
END_TEST

/* Without gamma and beta everything is as with gamma 1 and beta 0, to the bit. */
START_TEST(test_affine_free_values)
{
    static const char *const policies[] = {"train", "eval"};
    trine_resnet *net = build(false, true), *usual = build(true, true);
    ASSERT_OK(trine_resnet_set_bn(net, policies[_i]));
    ASSERT_OK(trine_resnet_set_bn(usual, policies[_i]));
    ASSERT_OK(trine_resnet_freeze(usual, "*.bn?.*,bn1.*")); /* named policies do not care */
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        trine_parameter_info info;
        ASSERT_OK(trine_resnet_parameter(net, i, &info));
        ck_assert_ptr_null(strstr(info.name, "bn"));
        float *values = parameter_values(usual, parameter_index(usual, info.name));
        ASSERT_OK(trine_resnet_parameter_write(net, dev.stream, i, values));
        free(values);
    }
    test_tensor x = images(IMAGES, SIZE, 1, 0);
    trine_resnet *nets[] = {net, usual};
    double *outputs[2], *evaluated[2];
    float *updated[2];
    for (int k = 0; k < 2; k++) {
        trine_session *train = training(nets[k], IMAGES, SIZE, TRINE_EMBED_POOL),
                      *eval = inference(nets[k], IMAGES, SIZE);
        trine_gradients *g = NULL;
        trine_optimizer *sgd = NULL;
        const trine_optimizer_desc desc = trine_optimizer_desc_default(TRINE_SGD);
        ASSERT_OK(trine_gradients_create(nets[k], dev.stream, &g));
        ASSERT_OK(trine_optimizer_create(dev.context, &desc, trine_resnet_flat_count(nets[k]), &sgd));
        outputs[k] = forward_values(train, &x, TRINE_EMBED_POOL);
        trine_tensor e = trine_session_embedding(train), d = e;
        ASSERT_OK(trine_tensor_create(dev.context, &e.shape, e.cb, &d));
        float *direction = random_floats(IMAGES * FEATURES, 9, -1, 1);
        ASSERT_OK(trine_tensor_upload(dev.stream, direction, &d));
        ASSERT_OK(trine_session_backward(train, &d, g));
        ASSERT_OK(trine_resnet_step(nets[k], dev.stream, sgd, g, 0.01f));
        updated[k] = parameter_values(nets[k], parameter_index(nets[k], "conv1.weight"));
        evaluated[k] = forward_values(eval, &x, TRINE_EMBED_FC);
        free(direction);
        trine_buffer_release(&d.buffer);
        trine_optimizer_destroy(&sgd);
        trine_gradients_destroy(&g);
        trine_session_destroy(&train);
        trine_session_destroy(&eval);
    }
    same(outputs[0], outputs[1], IMAGES * FEATURES, true);
    same(evaluated[0], evaluated[1], IMAGES * 10, true);
    ck_assert_mem_eq(updated[0], updated[1], 16 * 3 * 9 * sizeof(float));
    for (int k = 0; k < 2; k++) {
        free(outputs[k]);
        free(evaluated[k]);
        free(updated[k]);
        trine_resnet_destroy(&nets[k]);
    }
    test_tensor_release(&x);
}
END_TEST

/* A layer without parameters is frozen when the convolution before it is; no glob finds what is not there. */
START_TEST(test_affine_free_freeze)
{
    trine_resnet *net = build(false, true);
    ck_assert_int_eq(layer(net, 0).frozen, 0);
    ASSERT_OK(trine_resnet_freeze(net, "conv1.weight"));
    ck_assert(layer(net, 0).frozen && !layer(net, 0).batch_statistics && !layer(net, 0).updates);
    ck_assert(!layer(net, 1).frozen && layer(net, 1).updates);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_freeze(net, "*.bn1.weight"));
    trine_resnet_destroy(&net);
}
END_TEST

/* y depends on var + eps only: another eps is another variance. Sessions that exist take it. */
START_TEST(test_eps)
{
    trine_resnet *net = make_network("resnet20_cifar", 6);
    test_tensor x = images(IMAGES, SIZE, 1, 0);
    trine_session *eval = inference(net, IMAGES, SIZE);
    double *plain = forward_values(eval, &x, TRINE_EMBED_POOL);
    ASSERT_OK(trine_resnet_set_bn(net, "layer2.*=eval:eps=0.5:momentum=0.25"));
    double *got = forward_values(eval, &x, TRINE_EMBED_POOL);
    same(got, plain, IMAGES * FEATURES, false);
    ASSERT_OK(trine_resnet_set_bn(net, "layer2.*=eval:momentum=0.75:eps=0.00001"));
    for (int i = 0; i < LAYERS; i++) {
        const trine_bn_info info = layer(net, i);
        const bool chosen = strncmp(info.name, "layer2.", 7) == 0;
        ck_assert_float_eq(info.momentum, chosen ? 0.75f : 0.1f);
        ck_assert_float_eq(info.eps, 1e-5f);
        float mean[FEATURES], var[FEATURES];
        ASSERT_OK(trine_resnet_bn_read(net, dev.stream, i, mean, var));
        for (int c = 0; c < info.channels && chosen; c++) var[c] = (float)((double)var[c] + 0.5 - 1e-5);
        ASSERT_OK(trine_resnet_bn_write(net, dev.stream, i, mean, var, 0));
    }
    double *want = forward_values(eval, &x, TRINE_EMBED_POOL);
    const double largest = test_max_abs(want, IMAGES * FEATURES);
    for (int i = 0; i < IMAGES * FEATURES; i++) /* 6 layers, each variance rounded once more */
        ck_assert_double_le(fabs(got[i] - want[i]), 64 * 6e-8 * largest);
    ASSERT_OK(trine_resnet_set_bn(net, "train")); /* stays where it is not named */
    ck_assert_float_eq(layer(net, 8).momentum, 0.75f);
    free(plain);
    free(got);
    free(want);
    trine_session_destroy(&eval);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

/* Metadata of a version that knew no eps. */
START_TEST(test_metadata_without_eps)
{
    trine_resnet *net = build(true, true), *back = NULL;
    trine_weights *w = weights_of(net);
    ASSERT_OK(trine_weights_set_metadata(w, "bn", "{\"bn1\":{\"policy\":\"eval\",\"momentum\":0.25}}"));
    ASSERT_OK(trine_resnet_from_weights(dev.context, w, NULL, &back));
    ck_assert_int_eq(layer(back, 0).policy, TRINE_BN_EVAL);
    ck_assert_float_eq(layer(back, 0).eps, 1e-5f);
    trine_resnet_destroy(&back);
    static const char *const bad[] = {"0", "-1", "\"x\"", "1e99"};
    for (size_t i = 0; i < 4; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"bn1\":{\"policy\":\"eval\",\"momentum\":0.25,\"eps\":%s}}", bad[i]);
        ASSERT_OK(trine_weights_set_metadata(w, "bn", text));
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine_resnet_from_weights(dev.context, w, NULL, &back));
    }
    trine_weights_destroy(&w);
    trine_resnet_destroy(&net);
}
END_TEST

static const struct {
    trine_dtype dtype;
    int64_t integer;
    double real;
    int64_t want; /* -1: refused */
} counters[] = {{TRINE_I64, INT64_C(16777217), 0, INT64_C(16777217)},
                {TRINE_I64, INT64_C(9007199254740993), 0, INT64_C(9007199254740993)},
                {TRINE_I64, INT64_MAX, 0, INT64_MAX},
                {TRINE_I64, -1, 0, -1},
                {TRINE_F64, 0, 12, 12},
                {TRINE_F64, 0, -1, -1},
                {TRINE_F64, 0, NAN, -1},
                {TRINE_F64, 0, 1e300, -1}};
enum { COUNTERS = sizeof counters / sizeof counters[0] };

/* Counters come from a file exactly, go up by one with a pass, and stop where there is nothing above. */
START_TEST(test_counters)
{
    trine_resnet *net = build(true, true), *back = NULL;
    trine_weights *plain = weights_of(net);
    const void *data = counters[_i].dtype == TRINE_I64 ? (const void *)&counters[_i].integer
                                                       : (const void *)&counters[_i].real;
    trine_weights *w = edited(plain, "bn1.num_batches_tracked", counters[_i].dtype, data);
    const int64_t want = counters[_i].want;
    if (want < 0) {
        ASSERT_FAILS(TRINE_ERR_WEIGHTS, trine_resnet_from_weights(dev.context, w, NULL, &back));
        ck_assert_ptr_nonnull(strstr(trine_last_error(), "bn1"));
    } else {
        ASSERT_OK(trine_resnet_from_weights(dev.context, w, NULL, &back));
        ck_assert_int_eq(layer(back, 0).batches, want);
        ASSERT_OK(trine_resnet_set_bn(back, "cumulative"));
        test_tensor x = images(IMAGES, SIZE, 1, 0);
        trine_session *train = training(back, IMAGES, SIZE, TRINE_EMBED_POOL);
        ASSERT_OK(trine_session_forward(train, &x.t));
        ck_assert_int_eq(layer(back, 0).batches, want < INT64_MAX ? want + 1 : INT64_MAX);
        trine_session_destroy(&train);
        test_tensor_release(&x);
    }
    trine_resnet_destroy(&back);
    trine_weights_destroy(&w);
    trine_weights_destroy(&plain);
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("bn_semantics");
    TCase *tc = tcase_create("bn_semantics");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, test_untracked_passes);
    tcase_add_test(tc, test_untracked_one_value);
    tcase_add_test(tc, test_untracked_written);
    tcase_add_test(tc, test_untracked_hash);
    tcase_add_loop_test(tc, test_files, 0, 4);
    tcase_add_loop_test(tc, test_affine_free_values, 0, 2);
    tcase_add_test(tc, test_affine_free_freeze);
    tcase_add_test(tc, test_eps);
    tcase_add_test(tc, test_metadata_without_eps);
    tcase_add_loop_test(tc, test_counters, 0, COUNTERS);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
