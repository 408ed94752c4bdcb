/* SPDX-License-Identifier: MIT */
/* BatchNorm policies and freezing: the language, what it resolves to, that it sticks, that it survives a
 * file. */
#include <math.h>
#include <stdio.h>

#include "net/networks.h"

static trine_resnet *net; /* resnet20_cifar, as created */

static trine_bn_info layer(const trine_resnet *of, const char *name)
{
    trine_bn_info info;
    ASSERT_OK(trine_resnet_bn(of, bn_index(of, name), &info));
    return info;
}

static void reset(void)
{
    ASSERT_OK(trine_resnet_freeze(net, NULL));
    ASSERT_OK(trine_resnet_set_bn(net, "auto:momentum=0.1"));
}

static const struct {
    const char *text;
    trine_bn_policy policy;
    int batch, updates;
} policies[] = {{"auto", TRINE_BN_AUTO, 1, 1},           {"train", TRINE_BN_TRAIN, 1, 1},
                {"torch", TRINE_BN_TRAIN, 1, 1},         {"eval", TRINE_BN_EVAL, 0, 0},
                {"no-update", TRINE_BN_NO_UPDATE, 1, 0}, {"cumulative", TRINE_BN_CUMULATIVE, 1, 1}};
enum { POLICIES = sizeof policies / sizeof policies[0] };

START_TEST(test_each)
{
    reset();
    ASSERT_OK(trine_resnet_set_bn(net, policies[_i].text));
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        ck_assert_int_eq(info.policy, policies[_i].policy);
        ck_assert_int_eq(info.batch_statistics, policies[_i].batch);
        ck_assert_int_eq(info.updates, policies[_i].updates);
        ck_assert_int_eq(info.frozen, 0);
        ck_assert_float_eq_tol(info.momentum, 0.1f, 1e-8f);
        ck_assert_float_eq_tol(info.eps, 1e-5f, 1e-12f);
    }
    ASSERT_OK(trine_resnet_freeze(net, "*")); /* a named policy does not care; auto does */
    const trine_bn_info info = layer(net, "bn1");
    ck_assert_int_eq(info.frozen, 1);
    ck_assert_int_eq(info.policy, policies[_i].policy);
    ck_assert_int_eq(info.batch_statistics, policies[_i].policy == TRINE_BN_AUTO ? 0 : policies[_i].batch);
    ck_assert_int_eq(info.updates, policies[_i].policy == TRINE_BN_AUTO ? 0 : policies[_i].updates);
}
END_TEST

START_TEST(test_last_match)
{
    reset();
    ASSERT_OK(trine_resnet_set_bn(
        net, "train,layer2.*=eval,layer2.1.bn?=no-update:momentum=0.5,,*.bn2=cumulative,"));
    ck_assert_int_eq(layer(net, "bn1").policy, TRINE_BN_TRAIN);
    ck_assert_int_eq(layer(net, "layer2.0.bn1").policy, TRINE_BN_EVAL);
    ck_assert_int_eq(layer(net, "layer2.1.bn1").policy, TRINE_BN_NO_UPDATE);
    ck_assert_int_eq(layer(net, "layer2.1.bn2").policy, TRINE_BN_CUMULATIVE);
    ck_assert_float_eq(layer(net, "layer2.1.bn2").momentum, 0.5f); /* momentum is a setting of its own */
    ck_assert_float_eq_tol(layer(net, "layer2.0.bn1").momentum, 0.1f, 1e-8f);
    ASSERT_OK(trine_resnet_set_bn(net, "layer1.*=train:momentum=0")); /* only what it names */
    ck_assert_float_eq(layer(net, "layer1.0.bn1").momentum, 0);
    ck_assert_int_eq(layer(net, "layer2.0.bn1").policy, TRINE_BN_EVAL);
    ASSERT_OK(trine_resnet_set_bn(net, "")); /* nothing */
    ASSERT_OK(trine_resnet_set_bn(net, NULL));
    ck_assert_int_eq(layer(net, "layer2.1.bn1").policy, TRINE_BN_NO_UPDATE);
}
END_TEST

START_TEST(test_bad)
{
    char long_item[300] = "train:momentum=0.2"; /* its first 255 characters would be a good one */
    memset(long_item + strlen(long_item), '1', sizeof long_item - 1 - strlen(long_item));
    const char *const bad[] = {"trian",
                               "Train",
                               "trainx",
                               "train:",
                               "train:momentum",
                               "train:momentum=",
                               "train:momentum=x",
                               "train:momentum=1.5",
                               "train:momentum=-0.1",
                               "train:momentum=nan",
                               "train:momentum=0.1x",
                               "train:eps=0",
                               "train:eps=-1e-5",
                               "train:eps=nan",
                               "train:eps=inf",
                               "train:eps=1e-60",
                               "train:eps=",
                               "train:eps=1e-3:",
                               "train:momentum=0.2:eps=1e-3:x=1",
                               "layer9.*=eval",
                               "layer[12=eval",
                               "=eval",
                               "layer1.*=",
                               "eval,layer9.*=train",
                               "layer1.0.conv1=eval",
                               long_item};
    reset();
    ASSERT_OK(trine_resnet_set_bn(net, "no-update:momentum=0.3"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const trine_status status = trine_resnet_set_bn(net, bad[i]);
        ck_assert_msg(status == TRINE_ERR_ARG, "'%s' gives '%s'", bad[i], trine_status_text(status));
        for (int k = 0; k < trine_resnet_bn_count(net);
             k++) { /* nothing was applied, not even the good part */
            trine_bn_info info;
            ASSERT_OK(trine_resnet_bn(net, k, &info));
            ck_assert_int_eq(info.policy, TRINE_BN_NO_UPDATE);
            ck_assert_float_eq_tol(info.momentum, 0.3f, 1e-7f);
        }
    }
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_set_bn(net, "layer9.*=eval"));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "layer9.*"));
    trine_bn_info info;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_bn(net, -1, &info));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_bn(net, trine_resnet_bn_count(net), &info));
}
END_TEST

static int trainable(const char *name)
{
    trine_parameter_info info;
    ASSERT_OK(trine_resnet_parameter(net, parameter_index(net, name), &info));
    return info.trainable;
}

START_TEST(test_freeze)
{
    reset();
    ASSERT_OK(trine_resnet_freeze(net, "layer1.*,layer2.*,!layer2.2.*,layer2.2.conv1.weight"));
    ck_assert_int_eq(trainable("layer1.0.conv1.weight"), 0);
    ck_assert_int_eq(trainable("layer2.1.bn2.bias"), 0);
    ck_assert_int_eq(trainable("layer2.2.conv2.weight"), 1);
    ck_assert_int_eq(trainable("layer2.2.conv1.weight"), 0);
    ck_assert_int_eq(trainable("fc.weight"), 1);
    ASSERT_OK(trine_resnet_freeze(net, "fc.*")); /* anew, not in addition */
    ck_assert_int_eq(trainable("layer1.0.conv1.weight"), 1);
    ck_assert_int_eq(trainable("fc.weight"), 0);
    ASSERT_OK(trine_resnet_freeze(net, "linear.weight")); /* the other usual name of fc */
    ck_assert_int_eq(trainable("fc.weight"), 0);
    ck_assert_int_eq(trainable("fc.bias"), 1);
    static const char *const bad[] = {"layer9.*", "[", "fc.*,nothing", "!nothing", "!", "layer1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_freeze(net, bad[i]));
        ck_assert_int_eq(trainable("fc.weight"), 0); /* as it was */
        ck_assert_int_eq(trainable("fc.bias"), 1);
    }
    ASSERT_OK(trine_resnet_freeze(net, ""));
    ck_assert_int_eq(trainable("fc.weight"), 1);
}
END_TEST

/* "auto" follows gamma and beta: frozen only where neither trains, whatever the convolution does; and it
 * follows later changes, while a policy that was set stays. */
START_TEST(test_auto)
{
    reset();
    ASSERT_OK(trine_resnet_set_bn(net, "layer3.*=train"));
    ASSERT_OK(trine_resnet_freeze(net, "layer1.0.bn1.weight,layer1.1.conv1.weight,layer1.2.bn2.*,layer3.*"));
    ck_assert_int_eq(layer(net, "layer1.0.bn1").updates, 1);
    ck_assert_int_eq(layer(net, "layer1.1.bn1").updates, 1);
    ck_assert_int_eq(layer(net, "layer1.2.bn2").updates, 0);
    ck_assert_int_eq(layer(net, "layer1.2.bn2").batch_statistics, 0);
    ck_assert_int_eq(layer(net, "layer1.2.bn2").policy, TRINE_BN_AUTO); /* as set */
    ck_assert_int_eq(layer(net, "layer3.0.bn1").frozen, 1);
    ck_assert_int_eq(layer(net, "layer3.0.bn1").updates, 1); /* asked for */
    ASSERT_OK(trine_resnet_freeze(net, NULL));
    ck_assert_int_eq(layer(net, "layer1.2.bn2").updates, 1);
    ck_assert_int_eq(layer(net, "layer3.0.bn1").policy, TRINE_BN_TRAIN);
}
END_TEST

/* Passes in either mode, sessions, writes of statistics and a snapshot leave policies and momentum alone. */
START_TEST(test_sticky)
{
    reset();
    ASSERT_OK(trine_resnet_set_bn(net, "no-update:momentum=0.25,layer2.*=eval,layer3.*=cumulative"));
    const int count = trine_resnet_bn_count(net);
    trine_bn_info *before = calloc((size_t)count, sizeof *before);
    ck_assert_ptr_nonnull(before);
    for (int i = 0; i < count; i++) ASSERT_OK(trine_resnet_bn(net, i, &before[i]));
    test_tensor x = images(2, 16, 1, 0);
    trine_session *inference = NULL, *train = training(net, 2, 16, TRINE_EMBED_POOL);
    trine_bn_snapshot *snapshot = NULL;
    ASSERT_OK(trine_resnet_bn_snapshot(net, dev.stream, &snapshot));
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &x.t.shape, &inference));
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(trine_session_forward(train, &x.t));
        ASSERT_OK(trine_session_forward(inference, &x.t));
    }
    ASSERT_OK(trine_resnet_bn_restore(net, dev.stream, snapshot));
    for (int i = 0; i < count; i++) {
        trine_bn_info after;
        ASSERT_OK(trine_resnet_bn(net, i, &after));
        ck_assert_int_eq(after.policy, before[i].policy);
        ck_assert_float_eq(after.momentum, before[i].momentum);
        ck_assert_int_eq(after.batches, before[i].batches);
    }
    free(before);
    trine_bn_snapshot_destroy(&snapshot);
    trine_session_destroy(&train);
    trine_session_destroy(&inference);
    test_tensor_release(&x);
}
END_TEST

START_TEST(test_metadata)
{
    reset();
    ASSERT_OK(trine_resnet_set_bn(net, "train:momentum=0.1,layer1.*=eval:momentum=0.3,layer2.*=no-update,"
                                       "layer3.0.*=cumulative,layer3.1.bn1=auto:momentum=1"));
    ASSERT_OK(trine_resnet_freeze(net, "conv1*,layer1.*,!layer1.2.*"));
    trine_weights *weights = NULL;
    trine_resnet *back = NULL;
    ASSERT_OK(trine_resnet_to_weights(net, dev.stream, 1, &weights));
    ASSERT_OK(trine_resnet_from_weights(dev.context, weights, NULL, &back));
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info a, b;
        ASSERT_OK(trine_resnet_bn(net, i, &a));
        ASSERT_OK(trine_resnet_bn(back, i, &b));
        ck_assert_int_eq(a.policy, b.policy);
        ck_assert_float_eq(a.momentum, b.momentum); /* to the bit */
        ck_assert_int_eq(a.frozen, b.frozen);
        ck_assert_int_eq(a.updates, b.updates);
    }
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        trine_parameter_info a, b;
        ASSERT_OK(trine_resnet_parameter(net, i, &a));
        ASSERT_OK(trine_resnet_parameter(back, i, &b));
        ck_assert_int_eq(a.trainable, b.trainable);
    }
    trine_resnet_destroy(&back);
    static const char *const bad[] = {"nonsense",
                                      "[1]",
                                      "{\"bn1\":{}}",
                                      "{\"bn1\":{\"policy\":\"eval\"}}",
                                      "{\"bn1\":{\"policy\":\"x\",\"momentum\":0.1}}",
                                      "{\"other\":{\"policy\":\"eval\",\"momentum\":0.1}}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ASSERT_OK(trine_weights_set_metadata(weights, "bn", bad[i]));
        const trine_status status = trine_resnet_from_weights(dev.context, weights, NULL, &back);
        ck_assert_msg(status == TRINE_ERR_FORMAT, "'%s' gives '%s'", bad[i], trine_status_text(status));
        ck_assert_ptr_null(back);
    }
    ASSERT_OK(trine_weights_set_metadata(weights, "bn", NULL));
    ASSERT_OK(trine_weights_set_metadata(weights, "freeze", NULL));
    ASSERT_OK(trine_resnet_from_weights(dev.context, weights, NULL, &back)); /* a plain torchvision file */
    ck_assert_int_eq(layer(back, "layer1.0.bn1").policy, TRINE_BN_AUTO);
    ck_assert_int_eq(layer(back, "layer1.0.bn1").frozen, 0);
    trine_resnet_destroy(&back);
    trine_weights_destroy(&weights);
}
END_TEST

static void setup(void)
{
    net = make_network("resnet20_cifar", 1);
}

static void teardown(void)
{
    trine_resnet_destroy(&net);
}

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("bn_policy");
    TCase *tc = tcase_create("bn_policy");
    tcase_set_timeout(tc, 0);
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_each, 0, POLICIES);
    tcase_add_test(tc, test_last_match);
    tcase_add_test(tc, test_bad);
    tcase_add_test(tc, test_freeze);
    tcase_add_test(tc, test_auto);
    tcase_add_test(tc, test_sticky);
    tcase_add_test(tc, test_metadata);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
