/* SPDX-License-Identifier: MIT */
/* Backward passes of sessions: against finite differences, shared between sessions, cut at the first
 * trainable layer, reproducible; and the optimizer's step over what was reached. */
#include <math.h>

#include "net/networks.h"
#include "rt/context.h"
#include "support/compare.h"

/* A gradient of the loss sum(c * embedding) for n images; c is drawn per image. */
static test_tensor coefficients(const trine_session *session, int n, int first)
{
    const trine_tensor e = trine_session_embedding(session);
    const trine_shape s = {n, e.shape.c, 1, 1};
    const size_t width = (size_t)e.shape.c;
    double *all = test_zeros((size_t)n * width);
    for (int i = 0; i < n; i++) {
        double *one = test_random(width, 900 + (uint64_t)(first + i), -1, 1);
        memcpy(all + (size_t)i * width, one, width * sizeof *one);
        free(one);
    }
    const test_tensor t = test_tensor_from(s, e.cb, all);
    free(all);
    return t;
}

static void pass(trine_session *session, trine_gradients *g, int n, int size, int first)
{
    test_tensor x = images(n, size, 5, first);
    ASSERT_OK(trine_session_forward(session, &x.t));
    test_tensor c = coefficients(session, n, first);
    ASSERT_OK(trine_session_backward(session, &c.t, g));
    test_device_sync();
    test_tensor_release(&x);
    test_tensor_release(&c);
}

/* Largest difference of each parameter's gradient, relative to its largest value. */
static void assert_gradients(const trine_resnet *net, const float *got, const float *want, double bound)
{
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        const size_t count = parameter_count_of(net, i);
        double most = 0, off = 0;
        trine_parameter_info info;
        ASSERT_OK(trine_resnet_parameter(net, i, &info));
        for (size_t k = 0; k < count; k++) {
            const double difference = fabs((double)got[k] - (double)want[k]);
            ck_assert_msg(isfinite(difference), "%s: not finite", info.name);
            most = fmax(most, fabs((double)want[k]));
            off = fmax(off, difference);
        }
        ck_assert_msg(off <= bound * most, "%s: off by %.3g of %.3g", info.name, off, most);
        got += count;
        want += count;
    }
}

/* ---- finite differences ---- */

static const struct difference_case {
    const char *arch, *bn;
    int size, batch;
    trine_embedding embedding;
} difference_cases[] = {{"resnet20_cifar", "eval", 16, 2, TRINE_EMBED_FC},
                        {"resnet20_cifar", "train", 16, 4, TRINE_EMBED_FC},
                        {"resnet20_cifar", "layer2.*=eval,layer3.1.*=no-update", 16, 3, TRINE_EMBED_POOL},
                        {"resnet18", "train", 64, 2, TRINE_EMBED_POOL}};

static const char *const probed[] = {"fc.weight",
                                     "fc.bias",
                                     "layer3.1.conv2.weight",
                                     "layer3.1.bn2.weight",
                                     "layer3.0.bn1.bias",
                                     "layer2.1.conv1.weight",
                                     "layer2.0.conv1.weight",
                                     "layer2.0.bn2.bias",
                                     "layer2.0.downsample.0.weight",
                                     "layer2.0.downsample.1.weight",
                                     "layer1.0.bn1.weight",
                                     "layer1.0.conv2.weight",
                                     "bn1.bias",
                                     "bn1.weight",
                                     "conv1.weight"};
enum { PROBED = sizeof probed / sizeof probed[0] };

/* The loss with parameter i moved by step * direction. */
static double loss_at(trine_session *session, trine_resnet *net, int i, const float *base,
                      const double *direction, double step, const test_tensor *x, const double *c)
{
    const size_t count = parameter_count_of(net, i);
    float *moved = malloc(count * sizeof *moved);
    ck_assert_ptr_nonnull(moved);
    for (size_t k = 0; k < count; k++) moved[k] = (float)(base[k] + step * direction[k]);
    ASSERT_OK(trine_resnet_parameter_write(net, dev.stream, i, moved));
    free(moved);
    ASSERT_OK(trine_session_forward(session, &x->t));
    const trine_tensor e = trine_session_embedding(session);
    double *values = result_values(e), loss = 0;
    for (size_t k = 0; k < test_dense(e.shape); k++) loss += c[k] * values[k];
    free(values);
    return loss;
}

/* Along the gradient itself, and along a random direction (signs), for one parameter tensor. Central
 * differences over a step of 3e-4 of the tensor's norm; what remains, at most 2% of the gradient's norm on
 * PoCL, is rounding of the loss (it grows with smaller steps: up to 8% at 5e-5, 3% at 2e-4, by the last bits of
 * the forward pass) and curvature and kinks of ReLU (larger ones). */
static void probe(trine_session *session, trine_resnet *net, const char *name, const trine_gradients *g,
                  const test_tensor *x, const double *c)
{
    const int i = parameter_index(net, name);
    const size_t count = parameter_count_of(net, i);
    float *base = parameter_values(net, i), *gradient = random_floats(count, 0, 0, 1);
    ASSERT_OK(trine_gradients_read(g, dev.stream, i, gradient));
    double norm = 0, length = 0;
    for (size_t k = 0; k < count; k++) {
        norm += (double)gradient[k] * gradient[k];
        length += (double)base[k] * base[k];
    }
    norm = sqrt(norm);
    ck_assert_msg(norm > 0 && isfinite(norm), "%s: gradient of norm %g", name, norm);
    double *signs = test_random(count, 31, -1, 1);
    for (int random = 0; random <= 1; random++) {
        double *direction = test_zeros(count), want = 0;
        for (size_t k = 0; k < count; k++) {
            direction[k] = random ? (signs[k] < 0 ? -1 : 1) / sqrt((double)count) : gradient[k] / norm;
            want += direction[k] * gradient[k];
        }
        const double step = 3e-4 * fmax(sqrt(length), 2);
        const double up = loss_at(session, net, i, base, direction, step, x, c),
                     down = loss_at(session, net, i, base, direction, -step, x, c),
                     got = (up - down) / (2 * step);
        ck_assert_msg(fabs(got - want) <= 0.03 * norm, "%s, %s: differences %.6g, gradient %.6g (norm %.3g)",
                      name, random ? "random direction" : "own direction", got, want, norm);
        free(direction);
    }
    ASSERT_OK(trine_resnet_parameter_write(net, dev.stream, i, base));
    free(signs);
    free(base);
    free(gradient);
}

START_TEST(test_differences)
{
    const struct difference_case *d = &difference_cases[_i];
    trine_resnet *net = make_network(d->arch, 11);
    trine_gradients *g = NULL;
    ASSERT_OK(trine_resnet_set_bn(net, d->bn));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    trine_session *session = training(net, d->batch, d->size, d->embedding);
    test_tensor x = images(d->batch, d->size, 5, 0);
    ASSERT_OK(trine_session_forward(session, &x.t));
    test_tensor dy = coefficients(session, d->batch, 0);
    double *c = test_tensor_read(&dy);
    ASSERT_OK(trine_session_backward(session, &dy.t, g));
    for (int i = 0; i < PROBED; i++) {
        trine_parameter_info info = {0};
        bool there = false;
        for (int k = 0; k < trine_resnet_parameter_count(net) && !there; k++) {
            ASSERT_OK(trine_resnet_parameter(net, k, &info));
            there = strcmp(info.name, probed[i]) == 0 && trine_gradients_reached(g, k);
        }
        if (there) probe(session, net, probed[i], g, &x, c);
    }
    free(c);
    test_tensor_release(&x);
    test_tensor_release(&dy);
    trine_session_destroy(&session);
    trine_gradients_destroy(&g);
    trine_resnet_destroy(&net);
}
END_TEST

/* ---- one buffer, several sessions ---- */

/* Three passes before the first backward, added up, are the batch of all images where BatchNorm has running
 * statistics. */
START_TEST(test_three_sessions)
{
    trine_resnet *net = make_network("resnet20_cifar", 12);
    trine_gradients *shared = NULL, *whole = NULL;
    ASSERT_OK(trine_resnet_set_bn(net, "eval"));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &shared));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &whole));
    trine_session *three[3], *one = training(net, 6, 32, TRINE_EMBED_FC);
    test_tensor x[3], c[3];
    for (int i = 0; i < 3; i++) {
        three[i] = training(net, 2, 32, TRINE_EMBED_FC);
        x[i] = images(2, 32, 5, 2 * i);
        ASSERT_OK(trine_session_forward(three[i], &x[i].t));
        c[i] = coefficients(three[i], 2, 2 * i);
    }
    for (int i = 2; i >= 0; i--) ASSERT_OK(trine_session_backward(three[i], &c[i].t, shared));
    pass(one, whole, 6, 32, 0);
    size_t count;
    float *got = all_gradients(net, shared, &count), *want = all_gradients(net, whole, &count);
    assert_gradients(net, got, want, 1e-4);
    free(got);
    free(want);
    for (int i = 0; i < 3; i++) {
        trine_session_destroy(&three[i]);
        test_tensor_release(&x[i]);
        test_tensor_release(&c[i]);
    }
    trine_session_destroy(&one);
    trine_gradients_destroy(&shared);
    trine_gradients_destroy(&whole);
    trine_resnet_destroy(&net);
}
END_TEST

/* A second pass doubles; after a clear the next one overwrites, to the bit. */
START_TEST(test_clear)
{
    trine_resnet *net = make_network("resnet20_cifar", 13);
    trine_gradients *g = NULL;
    ASSERT_OK(trine_resnet_set_bn(net, "no-update"));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    trine_session *session = training(net, 2, 16, TRINE_EMBED_FC);
    size_t count;
    pass(session, g, 2, 16, 0);
    float *once = all_gradients(net, g, &count), *doubled = all_gradients(net, g, &count);
    for (size_t i = 0; i < count; i++) doubled[i] *= 2;
    pass(session, g, 2, 16, 0);
    float *twice = all_gradients(net, g, &count);
    assert_gradients(net, twice, doubled, 1e-5);
    trine_gradients_clear(g);
    for (int i = 0; i < trine_resnet_parameter_count(net); i++)
        ck_assert_int_eq(trine_gradients_reached(g, i), 0);
    pass(session, g, 2, 16, 0);
    float *again = all_gradients(net, g, &count);
    ck_assert_msg(memcmp(again, once, count * sizeof *once) == 0, "old gradients shine through a clear");
    float *const arrays[] = {once, doubled, twice, again};
    for (size_t i = 0; i < 4; i++) free(arrays[i]);
    trine_session_destroy(&session);
    trine_gradients_destroy(&g);
    trine_resnet_destroy(&net);
}
END_TEST

/* Everything again from the seed: networks, sessions, two steps of statistics, gradients. */
START_TEST(test_reproducible)
{
    float *runs[2];
    uint64_t statistics[2];
    size_t count = 0;
    for (int run = 0; run < 2; run++) {
        trine_resnet *net = make_network("resnet20_cifar", 14);
        trine_gradients *g = NULL;
        ASSERT_OK(trine_resnet_set_bn(net, "train"));
        ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
        trine_session *session = training(net, 4, 32, TRINE_EMBED_FC);
        pass(session, g, 4, 32, 0);
        pass(session, g, 3, 32, 4);
        runs[run] = all_gradients(net, g, &count);
        ASSERT_OK(trine_resnet_state_hash(net, dev.stream, NULL, &statistics[run], NULL));
        trine_session_destroy(&session);
        trine_gradients_destroy(&g);
        trine_resnet_destroy(&net);
    }
    ck_assert_msg(memcmp(runs[0], runs[1], count * sizeof(float)) == 0, "two runs differ");
    ck_assert_uint_eq(statistics[0], statistics[1]);
    free(runs[0]);
    free(runs[1]);
}
END_TEST

/* ---- where the pass stops ---- */

static const struct stop_case {
    const char *freeze;
    trine_embedding embedding;
    const char *reached; /* beginnings of the names that are reached, space-separated */
} stop_cases[] = {
    {NULL, TRINE_EMBED_FC, "fc. conv1. bn1. layer"},
    {NULL, TRINE_EMBED_POOL, "conv1. bn1. layer"},
    {"conv1*,bn1*", TRINE_EMBED_FC, "fc. layer"},
    {"conv1*,bn1*,layer1.*,layer2.*", TRINE_EMBED_POOL, "layer3. layer4."},
    {"*,!fc.*", TRINE_EMBED_FC, "fc."},
    {"*,!layer2.1.*", TRINE_EMBED_FC, "layer2.1."},
    {"*,!conv1.weight", TRINE_EMBED_POOL, "conv1."},
    {"*,!*.downsample.*", TRINE_EMBED_POOL, "layer2.0.downsample layer3.0.downsample layer4.0.downsample"},
    {"*conv*,*downsample.0*", TRINE_EMBED_POOL,
     "bn1. layer1.0.bn layer1.1.bn layer2.0.bn layer2.1.bn "
     "layer3.0.bn layer3.1.bn layer4.0.bn layer4.1.bn "
     "layer2.0.downsample.1 layer3.0.downsample.1 "
     "layer4.0.downsample.1"}};

static bool listed(const char *list, const char *name)
{
    while (*list) {
        const size_t length = strcspn(list, " ");
        if (strncmp(list, name, length) == 0) return true;
        list += length + (list[length] == ' ');
    }
    return false;
}

/* What is reached, and that its gradient is the one of the network in which everything trains (same
 * statistics). */
START_TEST(test_stops)
{
    const struct stop_case *s = &stop_cases[_i];
    trine_resnet *net = make_network("resnet18", 15);
    trine_gradients *g = NULL, *all = NULL;
    ASSERT_OK(trine_resnet_set_bn(net, "no-update"));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &all));
    trine_session *session = training(net, 2, 64, s->embedding);
    const size_t full_bytes = trine_session_bytes(session);
    pass(session, all, 2, 64, 0);
    ASSERT_OK(trine_resnet_freeze(net, s->freeze));
    pass(session, g, 2, 64, 0);
    ck_assert_int_eq(trine_session_trains(session), 1);
    if (s->freeze) ck_assert_uint_lt(trine_session_bytes(session), full_bytes);
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        trine_parameter_info info;
        ASSERT_OK(trine_resnet_parameter(net, i, &info));
        ck_assert_msg(trine_gradients_reached(g, i) == listed(s->reached, info.name), "%s: reached %d",
                      info.name, trine_gradients_reached(g, i));
        if (!trine_gradients_reached(g, i)) continue;
        const size_t count = parameter_count_of(net, i);
        float *got = random_floats(count, 0, 0, 1), *want = random_floats(count, 0, 0, 1);
        double most = 0, off = 0;
        ASSERT_OK(trine_gradients_read(g, dev.stream, i, got));
        ASSERT_OK(trine_gradients_read(all, dev.stream, i, want));
        for (size_t k = 0; k < count; k++) {
            most = fmax(most, fabs((double)want[k]));
            const double difference = fabs((double)got[k] - (double)want[k]);
            off = difference <= off ? off : difference;
        }
        ck_assert_msg(off <= 1e-4 * most, "%s: off by %g of %g", info.name, off, most);
        free(got);
        free(want);
    }
    trine_session_destroy(&session);
    trine_gradients_destroy(&g);
    trine_gradients_destroy(&all);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(test_states)
{
    trine_resnet *net = make_network("resnet20_cifar", 16), *other = make_network("resnet32_cifar", 16);
    trine_gradients *g = NULL, *foreign = NULL, *wider = NULL;
    trine_resnet *wide = NULL;
    const trine_resnet_options wide_options = {.arch = "resnet20_cifar", .classes = 100};
    ASSERT_OK(trine_resnet_create(dev.context, &wide_options, &wide));
    ASSERT_OK(trine_gradients_create(wide, dev.stream, &wider));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    ASSERT_OK(trine_gradients_create(other, dev.stream, &foreign));
    trine_session *session = training(net, 2, 16, TRINE_EMBED_POOL), *forward_only = NULL;
    test_tensor x = images(2, 16, 5, 0), c = coefficients(session, 2, 0), one = coefficients(session, 1, 0);
    ASSERT_FAILS(TRINE_ERR_STATE, trine_session_backward(session, &c.t, g)); /* no forward pass yet */
    ASSERT_OK(trine_session_forward(session, &x.t));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_session_backward(session, &one.t, g));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_session_backward(session, &c.t, foreign));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_session_backward(session, &c.t, wider)); /* as many, but larger */
    ASSERT_OK(trine_session_backward(session, &c.t, g));
    ASSERT_FAILS(TRINE_ERR_STATE, trine_session_backward(session, &c.t, g)); /* its values are gone */
    ASSERT_OK(trine_session_forward(session, &x.t));
    ASSERT_OK(trine_resnet_set_bn(net, "eval"));
    ASSERT_FAILS(TRINE_ERR_STATE,
                 trine_session_backward(session, &c.t, g)); /* the policy changed in between */
    ASSERT_OK(trine_session_create_training(net, dev.stream, &x.t.shape, TRINE_EMBED_POOL, 0, &forward_only));
    ASSERT_OK(trine_session_forward(forward_only, &x.t));
    ASSERT_FAILS(TRINE_ERR_STATE, trine_session_backward(forward_only, &c.t, g));
    trine_gradients_clear(g);
    ASSERT_OK(trine_resnet_freeze(net, "*,!fc.*")); /* fc is no part of the pooled features */
    ASSERT_OK(trine_session_forward(session, &x.t));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_session_backward(session, &c.t, g));
    ck_assert_int_eq(trine_session_trains(session), 0);
    for (int i = 0; i < trine_resnet_parameter_count(net); i++)
        ck_assert_int_eq(trine_gradients_reached(g, i), 0);
    ck_assert_int_eq(trine_gradients_reached(g, -1), 0);
    ck_assert_int_eq(trine_gradients_reached(g, 1000), 0);
    trine_session_destroy(&session);
    trine_session_destroy(&forward_only);
    test_tensor_release(&x);
    test_tensor_release(&c);
    test_tensor_release(&one);
    trine_gradients_destroy(&g);
    trine_gradients_destroy(&foreign);
    trine_gradients_destroy(&wider);
    trine_resnet_destroy(&wide);
    trine_resnet_destroy(&net);
    trine_resnet_destroy(&other);
}
END_TEST

/* No memory for a new plan: an error, at every try, and all is well once there is memory. */
START_TEST(test_replan_fails)
{
    trine_resnet *net = make_network("resnet20_cifar", 18);
    trine_gradients *g = NULL;
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    trine_session *session = training(net, 2, 16, TRINE_EMBED_POOL);
    test_tensor x = images(2, 16, 5, 0), c = coefficients(session, 2, 0);
    ASSERT_OK(trine_session_forward(session, &x.t));
    ASSERT_OK(trine_resnet_set_bn(net, "eval"));
    const size_t most = dev.context->caps.max_allocation;
    dev.context->caps.max_allocation = 4096;
    for (int i = 0; i < 2; i++) {
        const trine_status status = trine_session_forward(session, &x.t);
        ck_assert_ptr_null(trine_session_embedding(session).buffer);
        const trine_status backward = trine_session_backward(session, &c.t, g);
        dev.context->caps.max_allocation = i ? most : 4096;
        ck_assert_int_eq(status, TRINE_ERR_NOMEM);
        ck_assert_int_eq(backward, TRINE_ERR_STATE);
    }
    ASSERT_OK(trine_session_forward(session, &x.t));
    ASSERT_OK(trine_session_backward(session, &c.t, g));
    trine_session_destroy(&session);
    test_tensor_release(&x);
    test_tensor_release(&c);
    trine_gradients_destroy(&g);
    trine_resnet_destroy(&net);
}
END_TEST

/* p - lr * (g + decay * p) where reached and trainable; every other byte as it was, decay or not. */
START_TEST(test_step)
{
    const float lr = 0.25f, decay = 0.125f;
    trine_resnet *net = make_network("resnet20_cifar", 17);
    trine_gradients *g = NULL;
    trine_optimizer *optimizer = NULL;
    trine_optimizer_desc desc = trine_optimizer_desc_default(TRINE_SGD);
    desc.weight_decay = decay;
    ASSERT_OK(trine_resnet_freeze(net, "layer2.0.conv2.weight,layer1.*.bias"));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    ASSERT_OK(trine_optimizer_create(dev.context, &desc, trine_resnet_flat_count(net), &optimizer));
    trine_session *session = training(net, 2, 16, TRINE_EMBED_POOL); /* fc is not reached */
    const int count = trine_resnet_parameter_count(net);
    float **before = calloc((size_t)count, sizeof *before);
    ck_assert_ptr_nonnull(before);
    for (int i = 0; i < count; i++) before[i] = parameter_values(net, i);
    pass(session, g, 2, 16, 0);
    ASSERT_OK(trine_resnet_step(net, dev.stream, optimizer, g, lr));
    for (int i = 0; i < count; i++) {
        const size_t n = parameter_count_of(net, i);
        float *after = parameter_values(net, i), *gradient = random_floats(n, 0, 0, 1);
        trine_parameter_info info;
        ASSERT_OK(trine_resnet_parameter(net, i, &info));
        ASSERT_OK(trine_gradients_read(g, dev.stream, i, gradient));
        if (!info.trainable || !trine_gradients_reached(g, i))
            ck_assert_msg(memcmp(before[i], after, n * sizeof *after) == 0, "%s moved", info.name);
        else
            for (size_t k = 0; k < n; k++) {
                const double p = before[i][k], d = gradient[k], want = p - lr * (d + decay * p);
                ck_assert_msg(fabs(after[k] - want) <= 3e-7 * (fabs(p) + fabs(d)),
                              "%s[%zu] is %.9g, want %.9g", info.name, k, (double)after[k], want);
            }
        ck_assert_int_eq(trine_gradients_reached(g, i), strncmp(info.name, "fc.", 3) != 0 &&
                                                            strcmp(info.name, "layer2.0.conv2.weight") != 0);
        free(after);
        free(gradient);
        free(before[i]);
    }
    free(before);
    trine_session_destroy(&session);
    trine_optimizer_destroy(&optimizer);
    trine_gradients_destroy(&g);
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("session_gradients");
    TCase *tc = tcase_create("session_gradients");
    tcase_set_timeout(tc, 0);
    const int differences = (int)(sizeof difference_cases / sizeof difference_cases[0]),
              stops = (int)(sizeof stop_cases / sizeof stop_cases[0]);
    tcase_add_loop_test(tc, test_differences, 0, test_small() ? 1 : differences);
    tcase_add_test(tc, test_three_sessions);
    tcase_add_test(tc, test_clear);
    tcase_add_test(tc, test_reproducible);
    if (!test_small()) tcase_add_loop_test(tc, test_stops, 0, stops); /* resnet18: much for an interpreter */
    tcase_add_test(tc, test_states);
    tcase_add_test(tc, test_replan_fails);
    tcase_add_test(tc, test_step);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
