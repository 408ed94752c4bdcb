/* SPDX-License-Identifier: MIT */
/* What a session tells of its plan: its convolutions with shapes, work and algorithms, the scopes of its launches; and what the
 * device reaches. */
#include <math.h>

#include "net/networks.h"
#include "net/session_private.h"
#include "trine/measure.h"

START_TEST(convolutions)
{
    trine_resnet *net = make_network("resnet20_cifar", 1);
    test_tensor x = images(2, 32, 5, 0);
    trine_session *inference = NULL;
    trine_session_conv conv;
    double macs = 0;
    ASSERT_OK(trine_resnet_freeze(net, "conv1.*,bn1.*"));
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &x.t.shape, &inference));
    trine_session *train = training(net, 2, 32, TRINE_EMBED_FC);
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        ck_assert_int_eq(trine_session_convolution(inference, i, &conv), 1);
        macs += conv.macs;
        ck_assert(conv.algorithm[TRINE_FORWARD] != NULL);
        ck_assert(conv.algorithm[TRINE_BACKWARD_DATA] == NULL &&
                  conv.algorithm[TRINE_BACKWARD_WEIGHTS] == NULL);
        ck_assert_int_eq(trine_session_convolution(train, i, &conv), 1);
        ck_assert_int_eq(conv.algorithm[TRINE_BACKWARD_WEIGHTS] != NULL, i > 0); /* the stem is frozen */
        ck_assert_int_eq(conv.algorithm[TRINE_BACKWARD_DATA] != NULL, i > 1);
    }
    ck_assert_double_eq(macs + 64.0 * trine_resnet_outputs(net), trine_resnet_macs(net, 32, 32));
    ck_assert_int_eq(trine_session_convolution(inference, 0, &conv), 1);
    ck_assert_str_eq(conv.name, "conv1");
    ck_assert(conv.in_channels == 3 && conv.out_channels == 16 && conv.kernel == 3 && conv.stride == 1);
    ck_assert(conv.groups == 1 && conv.h == 32 && conv.w == 32 && conv.p == 32 && conv.q == 32);
    ck_assert_int_eq(trine_session_convolution(inference, -1, &conv), 0);
    ck_assert_int_eq(trine_session_convolution(inference, trine_resnet_bn_count(net), &conv), 0);
    trine_session_destroy(&inference);
    trine_session_destroy(&train);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

/* A part of the network leaves the other convolutions out. */
START_TEST(parts)
{
    trine_resnet *net = make_network("resnet20_cifar", 1);
    const trine_shape shape = {2, 3, 32, 32};
    trine_session *trunk = NULL;
    trine_session_conv conv;
    ASSERT_OK(trine__session_create_trunk(net, dev.stream, &shape, trine__position_after_block(0), &trunk));
    for (int i = 0; i < trine_resnet_bn_count(net); i++)
        ck_assert_int_eq(trine_session_convolution(trunk, i, &conv), i < 3);
    trine_session_destroy(&trunk);
    trine_resnet_destroy(&net);
}
END_TEST

/* Every launch of a pass has the layer it belongs to as its scope, every convolution is among them, and bytes are counted. */
START_TEST(scopes)
{
    trine_resnet *net = make_network("resnet20_cifar", 1);
    test_tensor x = images(2, 32, 5, 0);
    trine_stream *stream = NULL;
    trine_session *session = NULL;
    const trine_profile_row *rows = NULL;
    size_t count = 0;
    double bytes = 0;
    ASSERT_OK(trine_stream_create(dev.context, 1, &stream));
    ASSERT_OK(trine_session_create_inference(net, stream, &x.t.shape, &session));
    ASSERT_OK(trine_session_forward(session, &x.t));
    ASSERT_OK(trine_stream_profile(stream, &rows, &count));
    for (size_t r = 0; r < count; r++) {
        ck_assert_msg(rows[r].scope[0] != '\0', "%s has no scope", rows[r].name);
        bytes += rows[r].bytes;
    }
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_session_conv conv;
        bool found = false;
        ck_assert_int_eq(trine_session_convolution(session, i, &conv), 1);
        for (size_t r = 0; r < count; r++) found |= strcmp(rows[r].scope, conv.name) == 0;
        ck_assert_msg(found, "no launch of %s", conv.name);
    }
    ck_assert_double_gt(bytes, (double)trine_tensor_bytes(&x.t));
    trine_session_destroy(&session);
    trine_stream_destroy(&stream);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(device_speed)
{
    trine_device_speed speed = {0};
    if (test_small()) return; /* for slow implementations */
    ASSERT_OK(trine_device_measure(dev.context, dev.stream, &speed));
    ck_assert(isfinite(speed.gflops) && speed.gflops > 0);
    ck_assert(isfinite(speed.gbps) && speed.gbps > 0);
    ck_assert(isfinite(speed.launch_us) && speed.launch_us > 0);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_device_measure(dev.context, dev.stream, NULL));
}
END_TEST

/* $TRINE_ALGORITHMS, first match first; without it, preference. */
START_TEST(algorithms_in_order)
{
    trine_conv2d_desc desc = trine_conv2d_desc_default(32, 32, 3);
    char *const kept = dev.context->algorithms;
    static char plain_first[] = "conv2d_plain,*", filtering[] = "conv2d_winograd2,conv2d_*";
    static const struct {
        char *list;
        const char *want;
    } cases[] = {{plain_first, "conv2d_plain"}, {filtering, "conv2d_winograd2"}};
    desc.pad_h = desc.pad_w = 1;
    desc.in_cb = desc.out_cb = 16;
    for (size_t i = 0; i < TRINE_COUNTOF(cases); i++) {
        trine_conv2d *op = NULL;
        dev.context->algorithms = cases[i].list;
        ASSERT_OK(trine_conv2d_create(dev.context, &desc, 8, 8, 1u << TRINE_FORWARD, &op));
        ck_assert_str_eq(trine_conv2d_algorithm(op, TRINE_FORWARD), cases[i].want);
        trine_conv2d_destroy(&op);
    }
    dev.context->algorithms = kept;
}
END_TEST

/* A workspace for a batch serves every smaller one, however those are cut. */
START_TEST(workspaces_serve_smaller_batches)
{
    static const struct {
        int channels, size;
    } cases[] = {{16, 32}, {64, 56}, {256, 14}, {512, 7}};
    for (size_t i = 0; i < TRINE_COUNTOF(cases); i++) {
        trine_conv2d_desc desc = trine_conv2d_desc_default(cases[i].channels, cases[i].channels, 3);
        trine_conv2d *probe = NULL;
        const char *names[16];
        desc.pad_h = desc.pad_w = 1;
        desc.in_cb = desc.out_cb = 16;
        for (int d = 0; d <= TRINE_BACKWARD_WEIGHTS; d++) {
            const trine_direction direction = (trine_direction)d;
            desc.algorithm = NULL;
            ASSERT_OK(trine_conv2d_create(dev.context, &desc, cases[i].size, cases[i].size, 1u << d, &probe));
            const size_t count = trine_conv2d_algorithms(probe, direction, names, TRINE_COUNTOF(names));
            trine_conv2d_destroy(&probe);
            for (size_t a = 0; a < count && a < TRINE_COUNTOF(names); a++) {
                trine_conv2d *op = NULL;
                desc.algorithm = names[a];
                ASSERT_OK(
                    trine_conv2d_create(dev.context, &desc, cases[i].size, cases[i].size, 1u << d, &op));
                for (int n = 1; n < 40; n++)
                    ck_assert_msg(trine_conv2d_workspace_bytes(op, direction, n) <=
                                      trine_conv2d_workspace_bytes(op, direction, n + 1),
                                  "%s, %d channels: a batch of %d takes more than one of %d", names[a],
                                  cases[i].channels, n, n + 1);
                trine_conv2d_destroy(&op);
            }
        }
    }
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("session_info");
    TCase *tc = tcase_create("session_info");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, convolutions);
    tcase_add_test(tc, parts);
    tcase_add_test(tc, scopes);
    tcase_add_test(tc, device_speed);
    tcase_add_test(tc, algorithms_in_order);
    tcase_add_test(tc, workspaces_serve_smaller_batches);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
