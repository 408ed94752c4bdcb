/* SPDX-License-Identifier: MIT */
/* Sessions in half precision: near those in single precision, in less memory; what a precision may and may not be mixed with. */
#include <math.h>

#include "net/networks.h"
#include "net/session_private.h"

enum { BATCH = 4 };

static const struct half_case {
    const char *arch, *bn, *freeze; /* NULL: nothing frozen */
    int size;
    trine_embedding embedding;
} cases[] = {
    {"resnet18", "train", NULL, 64, TRINE_EMBED_FC},
    {"resnet20_cifar", "eval", NULL, 32, TRINE_EMBED_POOL},            /* shortcut option A */
    {"resnet18", "eval", "*bn*,*downsample.1*", 64, TRINE_EMBED_POOL}, /* everything fused */
    {"resnext50_32x4d", "eval", "conv1*,bn1*,layer1*", 64, TRINE_EMBED_FC},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* |a - b| / |a| */
static double distance(const double *a, const double *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += a[i] * a[i];
    }
    return sqrt(difference / norm);
}

/* What a pass gives in one precision. */
typedef struct outcome {
    double *embedding, **gradients; /* [parameters], NULL: not reached */
    size_t bytes;
} outcome;

static outcome pass(trine_resnet *net, const struct half_case *c, trine_session *s, trine_gradients *g)
{
    outcome out = {.bytes = trine_session_bytes(s)};
    const int count = trine_resnet_parameter_count(net);
    double *along = NULL;
    test_tensor x = images(BATCH, c->size, 5, 0);
    out.embedding = forward_values(s, &x, c->embedding);
    const trine_tensor e = trine_session_embedding(s);
    ck_assert_int_eq(e.dtype, TRINE_F32);
    test_tensor d = test_tensor_random(e.shape, e.cb, 6, -1e-4, 1e-4,
                                       &along); /* small, as gradients of a mean loss are */
    ASSERT_OK(trine_session_backward(s, &d.t, g));
    out.gradients = calloc((size_t)count, sizeof *out.gradients);
    for (int i = 0; i < count; i++) {
        if (!trine_gradients_reached(g, i)) continue;
        const size_t n = parameter_count_of(net, i);
        float *values = malloc(n * sizeof *values);
        ck_assert_ptr_nonnull(values);
        ASSERT_OK(trine_gradients_read(g, dev.stream, i, values));
        out.gradients[i] = test_zeros(n);
        for (size_t k = 0; k < n; k++) out.gradients[i][k] = values[k];
        free(values);
    }
    test_tensor_release(&x);
    test_tensor_release(&d);
    free(along);
    return out;
}

START_TEST(test_near)
{
    const struct half_case *c = &cases[_i];
    if (test_small() && strcmp(c->arch, "resnet20_cifar") != 0) return;
    trine_resnet *net = make_network(c->arch, 3);
    trine_gradients *g = NULL;
    ASSERT_OK(trine_resnet_set_bn(net, c->bn));
    if (c->freeze) ASSERT_OK(trine_resnet_freeze(net, c->freeze));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    trine_session *s = training(net, BATCH, c->size, c->embedding);
    outcome single = pass(net, c, s, g);
    const size_t width = (size_t)BATCH * (size_t)trine_session_embedding(s).shape.c;
    trine_gradients_clear(g);
    ASSERT_OK(trine_resnet_set_precision(net, TRINE_F16)); /* the session plans anew */
    outcome half = pass(net, c, s, g);
    half.bytes = trine_session_bytes(s);
    ck_assert_double_lt(distance(single.embedding, half.embedding, width), 5e-3);
    ck_assert_double_gt(distance(single.embedding, half.embedding, width),
                        1e-6); /* it is another precision */
    double worst = 0;
    int reached = 0;
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        ck_assert_int_eq(single.gradients[i] != NULL, half.gradients[i] != NULL);
        if (!half.gradients[i]) continue;
        worst = fmax(worst, distance(single.gradients[i], half.gradients[i], parameter_count_of(net, i)));
        reached++;
        free(single.gradients[i]);
        free(half.gradients[i]);
    }
    ck_assert_int_gt(reached, 2);
    ck_assert_msg(worst < 0.25, "gradients differ by %g", worst); /* ReLUs whose input is next to 0 */
    if (!c->freeze) ck_assert_uint_lt(half.bytes, single.bytes);
    free(single.gradients);
    free(half.gradients);
    free(single.embedding);
    free(half.embedding);
    trine_session_destroy(&s);
    trine_gradients_destroy(&g);
    trine_resnet_destroy(&net);
}
END_TEST

/* A trunk's output in single precision goes on in a tail: the same bits as in one session. */
START_TEST(test_trunk_and_tail)
{
    if (test_small()) return;
    trine_resnet *net = make_network("resnet18", 3);
    trine_session *whole = NULL, *trunk = NULL, *tail = NULL;
    const trine_shape shape = {BATCH, 3, 64, 64};
    test_tensor x = images(BATCH, 64, 5, 0);
    ASSERT_OK(trine_resnet_set_precision(net, TRINE_F16));
    ASSERT_OK(trine_resnet_set_bn(net, "eval"));
    whole = training(net, BATCH, 64, TRINE_EMBED_POOL);
    double *want = forward_values(whole, &x, TRINE_EMBED_POOL);
    for (int position = TRINE__AT_STEM; position <= trine__position_features(net); position += 3) {
        ASSERT_OK(trine__session_create_trunk(net, dev.stream, &shape, position, &trunk));
        ASSERT_OK(trine_session_forward(trunk, &x.t));
        const trine_tensor middle = trine__session_output(trunk);
        ck_assert_int_eq(middle.dtype, TRINE_F32);
        ASSERT_OK(trine__session_create_tail(net, dev.stream, &middle.shape, TRINE_EMBED_POOL,
                                             TRINE_BACKWARD_NONE, position, &tail));
        ASSERT_OK(trine_session_forward(tail, &middle));
        double *got = result_values(trine_session_features(tail));
        const double apart = distance(want, got, (size_t)BATCH * 512);
        ck_assert_msg(apart < 5e-3, "from position %d on %g apart", position, apart); /* folded or not */
        free(got);
        trine_session_destroy(&trunk);
        trine_session_destroy(&tail);
    }
    test_tensor_release(&x);
    free(want);
    trine_session_destroy(&whole);
    trine_resnet_destroy(&net);
}
END_TEST

/* A step whose gradients overflow changes nothing but the scale. */
START_TEST(test_overflow)
{
    trine_resnet *net = make_network("resnet20_cifar", 3);
    trine_gradients *g = NULL;
    trine_optimizer *sgd = NULL;
    trine_optimizer_desc desc = trine_optimizer_desc_default(TRINE_SGD);
    desc.weight_decay = 0.1f;
    test_tensor x = images(BATCH, 32, 5, 0);
    uint64_t before, after, skipped, statistics;
    float scale, smaller;
    ASSERT_OK(trine_resnet_set_bn(net, "eval"));
    ASSERT_OK(trine_resnet_set_precision(net, TRINE_F16));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    ASSERT_OK(trine_optimizer_create(dev.context, &desc, trine_resnet_flat_count(net), &sgd));
    trine_session *s = training(net, BATCH, 32, TRINE_EMBED_POOL);
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &before, &statistics, NULL));
    ASSERT_OK(trine_gradients_scale(g, dev.stream, &scale, &skipped));
    ck_assert_uint_eq(skipped, 0);
    const float sizes[] = {1e9f, 1e-3f};
    for (int i = 0; i < 2; i++) { /* one that overflows, one that does not */
        ASSERT_OK(trine_session_forward(s, &x.t));
        const trine_tensor e = trine_session_embedding(s);
        double *along = NULL;
        test_tensor d = test_tensor_random(e.shape, e.cb, 6, -(double)sizes[i], (double)sizes[i], &along);
        trine_gradients_clear(g);
        ASSERT_OK(trine_session_backward(s, &d.t, g));
        ASSERT_OK(trine_resnet_step(net, dev.stream, sgd, g, 0.1f));
        ASSERT_OK(trine_gradients_scale(g, dev.stream, &smaller, &skipped));
        ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &after, &statistics, NULL));
        ck_assert_float_eq(smaller, scale / 2);
        ck_assert_uint_eq(skipped, 1);
        ck_assert_int_eq(after == before, i == 0);
        test_tensor_release(&d);
        free(along);
    }
    test_tensor_release(&x);
    trine_session_destroy(&s);
    trine_optimizer_destroy(&sgd);
    trine_gradients_destroy(&g);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(test_refused)
{
    trine_resnet *net = make_network("resnet20_cifar", 3);
    trine_gradients *g = NULL;
    double *along = NULL;
    test_tensor x = images(BATCH, 32, 5, 0), x_half = test_tensor_create_half(x.t.shape, 1);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_set_precision(net, TRINE_BF16));
    ck_assert_int_eq(trine_resnet_precision(net), TRINE_F32);
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    trine_session *s = training(net, BATCH, 32, TRINE_EMBED_POOL);
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_session_forward(s, &x_half.t));
    ASSERT_OK(trine_session_forward(s, &x.t));
    const trine_tensor e = trine_session_embedding(s);
    test_tensor d = test_tensor_random(e.shape, e.cb, 6, -1, 1, &along);
    ASSERT_OK(trine_session_backward(s, &d.t, g));
    ASSERT_OK(trine_resnet_set_precision(net, TRINE_F16));
    ASSERT_OK(trine_session_forward(s, &x.t));
    ASSERT_FAILS(TRINE_ERR_STATE, trine_session_backward(s, &d.t, g));
    trine_gradients_clear(g);
    ASSERT_OK(trine_session_backward(s, &d.t, g));
    test_tensor_release(&x);
    test_tensor_release(&x_half);
    test_tensor_release(&d);
    free(along);
    trine_session_destroy(&s);
    trine_gradients_destroy(&g);
    trine_resnet_destroy(&net);
}
END_TEST

/* TF32 is another precision where matrix units are chosen for it, and only as long as it is allowed; elsewhere permission changes nothing. */
START_TEST(test_tf32)
{
    const char *algorithms = getenv("TRINE_ALGORITHMS");
    const bool units =
        algorithms && strstr(algorithms, "conv2d_mma") && dev.context->caps.matrix_unit == TRINE__MMA;
    trine_resnet *net = make_network("resnet20_cifar", 3);
    test_tensor x = images(BATCH, 32, 5, 0);
    trine_session *s = training(net, BATCH, 32, TRINE_EMBED_POOL);
    double *values[3];
    ASSERT_OK(trine_resnet_set_bn(net, "eval"));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_allow_tf32(net, 2));
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(trine_resnet_allow_tf32(net, i == 1));
        ck_assert_int_eq(trine_resnet_allows_tf32(net), i == 1);
        values[i] = forward_values(s, &x, TRINE_EMBED_POOL);
    }
    const size_t count = (size_t)BATCH * (size_t)trine_session_embedding(s).shape.c;
    const double allowed = distance(values[0], values[1], count);
    ck_assert_msg(units ? allowed > 1e-6 && allowed < 5e-3 : allowed == 0, "TF32 changes %g", allowed);
    ck_assert(distance(values[0], values[2], count) == 0);
    for (int i = 0; i < 3; i++) free(values[i]);
    test_tensor_release(&x);
    trine_session_destroy(&s);
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("session in half precision");
    TCase *tc = tcase_create("session in half precision");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_near, 0, CASES);
    tcase_add_test(tc, test_trunk_and_tail);
    tcase_add_test(tc, test_overflow);
    tcase_add_test(tc, test_refused);
    tcase_add_test(tc, test_tf32);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
