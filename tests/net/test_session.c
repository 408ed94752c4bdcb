/* SPDX-License-Identifier: MIT */
/* Forward passes of sessions: modes, what moves the running statistics and what must not, batches, planning
 * anew. */
#include <math.h>

#include "net/networks.h"
#include "support/compare.h"

static const struct network {
    const char *arch;
    int size, batch;
} networks[] = {{"resnet20_cifar", 32, 3}, {"resnet18", 64, 2}};
enum { NETWORKS = sizeof networks / sizeof networks[0], MAX_LAYERS = 64 };

/* 20 layers, each a sum of up to 4608 products whose errors are independent: 20 * sqrt(4608) * 2^-24 = 8e-5
 * of the largest value; a wrong fold of BatchNorm is off by 1e-1. */
static void assert_close(const char *what, const double *got, const double *want, size_t count)
{
    test_compare(what, got, want, test_vector(count), 8e-5 * test_max_abs(want, count));
}

START_TEST(test_eval_is_inference)
{
    const struct network *c = &networks[_i];
    trine_resnet *net = make_network(c->arch, 1);
    test_tensor x = images(c->batch, c->size, 5, 0);
    trine_session *inference = NULL, *forward_only = NULL;
    ASSERT_OK(trine_resnet_set_bn(net, "eval"));
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &x.t.shape, &inference));
    ASSERT_OK(trine_session_create_training(net, dev.stream, &x.t.shape, TRINE_EMBED_FC, 0, &forward_only));
    trine_session *train = training(net, c->batch, c->size, TRINE_EMBED_FC);
    for (int which = TRINE_EMBED_POOL; which <= TRINE_EMBED_FC; which++) {
        const trine_embedding e = (trine_embedding)which;
        const size_t count = (size_t)(c->batch * (e == TRINE_EMBED_FC ? trine_resnet_outputs(net)
                                                                      : trine_resnet_features(net)));
        double *want = forward_values(inference, &x, e), *a = forward_values(train, &x, e),
               *b = forward_values(forward_only, &x, e);
        ck_assert(test_max_abs(want, count) > 1e-3);
        assert_close("with backward", a, want, count);
        assert_close("forward only", b, want, count);
        free(want);
        free(a);
        free(b);
    }
    ck_assert_uint_lt(trine_session_bytes(forward_only), trine_session_bytes(train));
    trine_session_destroy(&inference);
    trine_session_destroy(&forward_only);
    trine_session_destroy(&train);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

typedef struct state {
    uint64_t parameters, statistics, layers[MAX_LAYERS];
    int64_t batches[MAX_LAYERS];
} state;

static state state_of(const trine_resnet *net)
{
    state s = {0};
    ck_assert_int_le(trine_resnet_bn_count(net), MAX_LAYERS);
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &s.parameters, &s.statistics, s.layers));
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        s.batches[i] = info.batches;
    }
    return s;
}

static void assert_still(const state *a, const state *b)
{
    ck_assert_uint_eq(a->parameters, b->parameters);
    ck_assert_uint_eq(a->statistics, b->statistics);
    ck_assert_mem_eq(a, b, sizeof *a);
}

START_TEST(test_inference_moves_nothing)
{
    const struct network *c = &networks[_i];
    trine_resnet *net = make_network(c->arch, 2);
    test_tensor x = images(c->batch, c->size, 5, 0);
    trine_session *session = NULL;
    ASSERT_OK(trine_resnet_set_bn(net, "train")); /* a policy is of no concern to inference */
    const state before = state_of(net);
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &x.t.shape, &session));
    for (int i = 0; i < 2; i++) ASSERT_OK(trine_session_forward(session, &x.t));
    const state after = state_of(net);
    assert_still(&before, &after);
    trine_session_destroy(&session);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

/* Policy by policy, with and without a backward pass. */
START_TEST(test_policies_move)
{
    static const struct {
        const char *spec;
        bool moves;
    } policies[] = {{"train", true}, {"torch", true},      {"auto", true},
                    {"eval", false}, {"no-update", false}, {"cumulative", true}};
    trine_resnet *net = make_network("resnet20_cifar", 3);
    test_tensor x = images(2, 32, 5, 0);
    const int layers = trine_resnet_bn_count(net);
    for (size_t p = 0; p < sizeof policies / sizeof policies[0]; p++)
        for (int backward = 0; backward <= 1; backward++) {
            trine_session *session = NULL;
            ASSERT_OK(trine_resnet_set_bn(net, policies[p].spec));
            ASSERT_OK(trine_session_create_training(net, dev.stream, &x.t.shape, TRINE_EMBED_POOL, backward,
                                                    &session));
            const state before = state_of(net);
            ASSERT_OK(trine_session_forward(session, &x.t));
            const state after = state_of(net);
            if (!policies[p].moves) assert_still(&before, &after);
            for (int i = 0; i < layers; i++) {
                ck_assert_msg((before.layers[i] != after.layers[i]) == policies[p].moves, "%s: layer %d",
                              policies[p].spec, i);
                ck_assert_int_eq(after.batches[i] - before.batches[i], policies[p].moves);
                float *mean = random_floats(512, 0, 0, 1), *var = random_floats(512, 0, 0, 1);
                ASSERT_OK(trine_resnet_bn_read(net, dev.stream, i, mean, var));
                for (int k = 0; k < 16; k++) ck_assert(isfinite(mean[k]) && var[k] >= 0);
                free(mean);
                free(var);
            }
            ck_assert_uint_eq(before.parameters, after.parameters);
            trine_session_destroy(&session);
        }
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

/* Running mean and variance of every layer, one after the other. */
static double *statistics_of(const trine_resnet *net, size_t *count)
{
    double *all = test_zeros(MAX_LAYERS * 2 * 64), *at = all;
    float mean[64], var[64];
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        ck_assert_int_le(info.channels, 64);
        ASSERT_OK(trine_resnet_bn_read(net, dev.stream, i, mean, var));
        for (int c = 0; c < info.channels; c++) *at++ = mean[c];
        for (int c = 0; c < info.channels; c++) *at++ = var[c];
    }
    *count = (size_t)(at - all);
    return all;
}

static double *statistics_after(trine_resnet *net, trine_session *session, const test_tensor *x,
                                size_t *count)
{
    ASSERT_OK(trine_session_forward(session, &x->t));
    return statistics_of(net, count);
}

/* Momentum 1 leaves the batch's own statistics behind: from those of three batches the means that cumulative
 * (after three batches) and momentum 0.25 (after one) must give. */
START_TEST(test_factors)
{
    enum { BATCHES = 3 };
    trine_resnet *net = make_network("resnet20_cifar", 4);
    trine_session *session = training(net, 2, 16, TRINE_EMBED_POOL);
    test_tensor x[BATCHES];
    double *own[BATCHES];
    size_t count = 0;
    trine_bn_snapshot *snapshot = NULL;
    double *start = statistics_of(net, &count);
    ASSERT_OK(trine_resnet_bn_snapshot(net, dev.stream, &snapshot));
    ASSERT_OK(trine_resnet_set_bn(net, "train:momentum=1"));
    for (int b = 0; b < BATCHES; b++) {
        x[b] = images(2, 16, 50, 2 * b);
        own[b] = statistics_after(net, session, &x[b], &count);
    }
    double *want = test_zeros(count);
    ASSERT_OK(trine_resnet_bn_restore(net, dev.stream, snapshot));
    ASSERT_OK(trine_resnet_set_bn(net, "cumulative"));
    for (int b = 0; b < BATCHES; b++) {
        for (size_t i = 0; i < count; i++) want[i] += (own[b][i] - want[i]) / (b + 1);
        double *got = statistics_after(net, session, &x[b], &count);
        test_compare("cumulative", got, want, test_vector(count), 1e-6 * test_max_abs(want, count));
        free(got);
    }
    ASSERT_OK(trine_resnet_bn_restore(net, dev.stream, snapshot));
    ASSERT_OK(trine_resnet_set_bn(net, "train:momentum=0.25"));
    for (size_t i = 0; i < count; i++) want[i] = 0.75 * start[i] + 0.25 * own[0][i];
    double *got = statistics_after(net, session, &x[0], &count);
    test_compare("momentum 0.25", got, want, test_vector(count), 1e-6 * test_max_abs(want, count));
    free(got);
    free(want);
    free(start);
    for (int b = 0; b < BATCHES; b++) {
        free(own[b]);
        test_tensor_release(&x[b]);
    }
    trine_bn_snapshot_destroy(&snapshot);
    trine_session_destroy(&session);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(test_frozen_stay)
{
    trine_resnet *net = make_network("resnet20_cifar", 5);
    ASSERT_OK(trine_resnet_freeze(net, "conv1*,bn1*,layer1.*,layer2.0.*"));
    test_tensor x = images(2, 32, 5, 0);
    trine_session *session = training(net, 2, 32, TRINE_EMBED_POOL);
    const state before = state_of(net);
    ASSERT_OK(trine_session_forward(session, &x.t));
    const state after = state_of(net);
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        const bool frozen = strncmp(info.name, "bn1", 3) == 0 || strncmp(info.name, "layer1.", 7) == 0 ||
                            strncmp(info.name, "layer2.0.", 9) == 0;
        ck_assert_msg((before.layers[i] == after.layers[i]) == frozen, "%s", info.name);
        ck_assert_int_eq(after.batches[i] - before.batches[i], !frozen);
        ck_assert_int_eq(info.frozen, frozen);
    }
    trine_session_destroy(&session);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(test_one_image)
{
    trine_resnet *small = make_network("resnet20_cifar", 6), *large = make_network("resnet18", 6);
    test_tensor x = images(1, 32, 5, 0), two = images(2, 32, 5, 0);
    ASSERT_OK(trine_resnet_set_bn(small, "train"));
    ASSERT_OK(trine_resnet_set_bn(large, "train"));
    trine_session *session = training(small, 1, 32, TRINE_EMBED_POOL);
    ASSERT_OK(trine_session_forward(session, &x.t));
    trine_session_destroy(&session);
    session = training(large, 2, 32, TRINE_EMBED_POOL);
    const state before = state_of(large);
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_session_forward(session, &x.t));
    ck_assert_msg(strncmp(trine_last_error(), "layer4.0.bn1: ", 14) == 0, "%s", trine_last_error());
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "layer4.0.bn1=eval"));
    const state after = state_of(large);
    assert_still(&before, &after);
    ASSERT_OK(trine_session_forward(session, &two.t)); /* two values are enough */
    ASSERT_OK(trine_resnet_set_bn(large, "layer4.*=eval"));
    ASSERT_OK(trine_session_forward(session, &x.t));
    trine_session_destroy(&session);
    test_tensor_release(&x);
    test_tensor_release(&two);
    trine_resnet_destroy(&small);
    trine_resnet_destroy(&large);
}
END_TEST

/* A session planned for five images runs two as one planned for two does, and five again. */
START_TEST(test_smaller_batch)
{
    trine_resnet *net = make_network("resnet20_cifar", 7);
    ASSERT_OK(trine_resnet_set_bn(net, _i ? "no-update" : "eval"));
    test_tensor five = images(5, 32, 5, 0), two = images(2, 32, 5, 0);
    trine_session *wide = training(net, 5, 32, TRINE_EMBED_FC),
                  *narrow = training(net, 2, 32, TRINE_EMBED_FC);
    double *all = forward_values(wide, &five, TRINE_EMBED_FC),
           *want = forward_values(narrow, &two, TRINE_EMBED_FC),
           *got = forward_values(wide, &two, TRINE_EMBED_FC);
    ck_assert_int_eq(trine_session_logits(wide).shape.n, 2);
    assert_close("two of five", got, want, 20);
    if (_i == 0) assert_close("the first two", all, want, 20);
    double *again = forward_values(wide, &five, TRINE_EMBED_FC);
    test_compare_exact("five again", again, all, test_vector(50));
    free(all);
    free(want);
    free(got);
    free(again);
    trine_session_destroy(&wide);
    trine_session_destroy(&narrow);
    test_tensor_release(&five);
    test_tensor_release(&two);
    trine_resnet_destroy(&net);
}
END_TEST

/* A session follows changes of policies, parameters and statistics as if it had been made after them. */
START_TEST(test_follows_changes)
{
    static const char *const specs[] = {"no-update", "eval", "layer2.*=no-update", "no-update", "eval"};
    trine_resnet *net = make_network("resnet20_cifar", 8);
    test_tensor x = images(2, 32, 5, 0);
    trine_session *old = training(net, 2, 32, TRINE_EMBED_FC), *inference = NULL;
    double *last = test_zeros(20);
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &x.t.shape, &inference));
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        ASSERT_OK(trine_resnet_set_bn(net, specs[i]));
        stir(net, 80 + i); /* the versions of packed and folded weights */
        trine_session *fresh = training(net, 2, 32, TRINE_EMBED_FC), *fresh_inference = NULL;
        ASSERT_OK(trine_session_create_inference(net, dev.stream, &x.t.shape, &fresh_inference));
        double *got = forward_values(old, &x, TRINE_EMBED_FC),
               *want = forward_values(fresh, &x, TRINE_EMBED_FC);
        test_compare_exact(specs[i], got, want, test_vector(20));
        ck_assert(memcmp(got, last, 20 * sizeof *got) != 0);
        memcpy(last, got, 20 * sizeof *got);
        free(got);
        free(want);
        got = forward_values(inference, &x, TRINE_EMBED_FC);
        want = forward_values(fresh_inference, &x, TRINE_EMBED_FC);
        test_compare_exact("inference", got, want, test_vector(20));
        free(got);
        free(want);
        trine_session_destroy(&fresh);
        trine_session_destroy(&fresh_inference);
    }
    free(last);
    trine_session_destroy(&old);
    trine_session_destroy(&inference);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

static void scale_parameter(trine_resnet *net, const char *name)
{
    const int i = parameter_index(net, name);
    float *values = parameter_values(net, i);
    for (size_t k = 0; k < parameter_count_of(net, i); k++) values[k] = 0.5f * values[k] + 0.125f;
    ASSERT_OK(trine_resnet_parameter_write(net, dev.stream, i, values));
    free(values);
}

/* One value at a time moves under sessions that stay planned: packed weights, folded BatchNorm and fc follow,
 * in a training session under `eval`, under `no-update`, and in inference. */
START_TEST(test_follows_values)
{
    static const char *const moved[] = {"conv1.weight",        "layer2.0.conv1.weight",
                                        "layer1.0.bn1.weight", "layer3.2.bn2.bias",
                                        "fc.weight",           "fc.bias",
                                        "statistics",          "a pass"};
    trine_resnet *net = make_network("resnet20_cifar", 10);
    ASSERT_OK(trine_resnet_set_bn(net, _i ? "train:momentum=0.5" : "eval"));
    test_tensor x = images(2, 16, 5, 0);
    trine_session *old = training(net, 2, 16, TRINE_EMBED_FC), *inference = NULL;
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &x.t.shape, &inference));
    double *last = forward_values(inference, &x, TRINE_EMBED_FC);
    free(forward_values(old, &x, TRINE_EMBED_FC));
    for (size_t i = 0; i < sizeof moved / sizeof moved[0]; i++) {
        trine_session *fresh = NULL, *fresh_inference = NULL;
        if (strcmp(moved[i], "statistics") == 0) {
            float mean[16], var[16];
            ASSERT_OK(trine_resnet_bn_read(net, dev.stream, 1, mean, var));
            for (int c = 0; c < 16; c++) var[c] *= 3;
            ASSERT_OK(trine_resnet_bn_write(net, dev.stream, 1, mean, var, 5));
        } else if (strcmp(moved[i], "a pass") == 0) {
            if (_i == 0) break; /* moves nothing under eval */
            ASSERT_OK(trine_session_forward(old, &x.t));
        } else {
            scale_parameter(net, moved[i]);
        }
        ASSERT_OK(trine_session_create_inference(net, dev.stream, &x.t.shape, &fresh_inference));
        fresh = training(net, 2, 16, TRINE_EMBED_FC);
        double *got = forward_values(inference, &x, TRINE_EMBED_FC),
               *want = forward_values(fresh_inference, &x, TRINE_EMBED_FC);
        test_compare_exact(moved[i], got, want, test_vector(20));
        ck_assert_msg(memcmp(got, last, 20 * sizeof *got) != 0, "%s: no effect", moved[i]);
        free(got);
        free(want);
        got = forward_values(old, &x, TRINE_EMBED_FC);
        want = forward_values(fresh, &x, TRINE_EMBED_FC);
        test_compare_exact(moved[i], got, want, test_vector(20));
        free(got);
        free(want);
        free(last);
        last =
            forward_values(inference, &x, TRINE_EMBED_FC); /* with the statistics that these passes moved */
        trine_session_destroy(&fresh);
        trine_session_destroy(&fresh_inference);
    }
    free(last);
    trine_session_destroy(&old);
    trine_session_destroy(&inference);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(test_arguments)
{
    trine_resnet *net = make_network("resnet20_cifar", 9);
    trine_session *session = NULL;
    const trine_shape grey = {1, 1, 32, 32}, none = {0, 3, 32, 32}, flat = {1, 3, 0, 32};
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_session_create_inference(net, dev.stream, &grey, &session));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_session_create_inference(net, dev.stream, &none, &session));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_session_create_inference(net, dev.stream, &flat, &session));
    ck_assert_ptr_null(session);
    session = training(net, 2, 32, TRINE_EMBED_POOL);
    test_tensor three = images(3, 32, 5, 0), other = images(2, 31, 5, 0), two = images(2, 32, 5, 0);
    trine_tensor blocked = two.t;
    blocked.cb = 4;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_session_forward(session, &three.t));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_session_forward(session, &other.t));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_session_forward(session, &blocked));
    ASSERT_OK(trine_session_forward(session, &two.t));
    ck_assert_ptr_null(trine_session_logits(session).buffer); /* not computed */
    ck_assert_ptr_nonnull(trine_session_embedding(session).buffer);
    trine_session_destroy(&session);
    ck_assert_ptr_null(session);
    trine_session_destroy(&session);
    test_tensor_release(&three);
    test_tensor_release(&other);
    test_tensor_release(&two);
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("session");
    TCase *tc = tcase_create("session");
    tcase_set_timeout(tc, 0);
    const int few = test_small() ? 1 : NETWORKS; /* resnet18 is much for an interpreter */
    tcase_add_loop_test(tc, test_eval_is_inference, 0, few);
    tcase_add_loop_test(tc, test_inference_moves_nothing, 0, few);
    tcase_add_test(tc, test_policies_move);
    tcase_add_test(tc, test_factors);
    tcase_add_test(tc, test_frozen_stay);
    if (!test_small()) tcase_add_test(tc, test_one_image);
    tcase_add_loop_test(tc, test_smaller_batch, 0, 2);
    tcase_add_test(tc, test_follows_changes);
    tcase_add_loop_test(tc, test_follows_values, 0, 2);
    tcase_add_test(tc, test_arguments);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
