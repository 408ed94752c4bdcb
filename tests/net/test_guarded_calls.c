/* SPDX-License-Identifier: MIT */
/* State assertion in the calls of net: each is made to change what it must not, through the insides of network
 * and session since no public call does so, and fails with the right name; without the assertion it does not
 * notice. */
#include "net/blame.h"
#include "net/session_private.h"

static trine_resnet *net; /* resnet20_cifar, stirred anew for each test */

enum { SIDE = 16, BATCH = 2 };
enum { UNIT = 1, OTHER_UNIT = 2 }; /* layer1.0.conv1 with bn1, and conv2 with bn2: alike in size */

static void setup(void)
{
    net = make_network("resnet20_cifar", 1);
    trine_resnet_assert_state(net, 1);
}

static void teardown(void)
{
    trine_resnet_destroy(&net);
}

static trine_session *inference(void)
{
    trine_session *session = NULL;
    const trine_shape shape = {BATCH, 3, SIDE, SIDE};
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &shape, &session));
    return session;
}

/* Run it with the assertion on, when it must blame, and off, when it must not notice. */
static void check_both(trine_status (*run)(void *), void *with, const char *call, const char *what,
                       const char *why)
{
    check_blames(run(with), call, what, why);
    trine_resnet_assert_state(net, 0);
    ASSERT_OK(run(with));
    trine_resnet_assert_state(net, 1);
}

struct pass {
    trine_session *session;
    test_tensor x;
};

static trine_status run_forward(void *with)
{
    struct pass *p = with;
    return trine_session_forward(p->session, &p->x.t);
}

/* An inference session that folds its scale right into the running mean. */
START_TEST(test_forward_inference)
{
    struct pass p = {inference(), images(BATCH, SIDE, 1, 0)};
    trine__session_unit *u = &p.session->units[UNIT];
    trine_buffer *scale = u->scale;
    ASSERT_OK(run_forward(&p));
    u->scale = net->bns[UNIT].mean;
    u->folded_version = 0;
    check_blames(run_forward(&p), "trine_session_forward", "layer1.0.bn1's running statistics changed",
                 "which this call does not do");
    trine_resnet_assert_state(net, 0);
    u->folded_version = 0;
    ASSERT_OK(run_forward(&p));
    u->scale = scale;
    trine_session_destroy(&p.session);
    test_tensor_release(&p.x);
}
END_TEST

/* A training session that updates a layer whose policy says no. */
START_TEST(test_forward_training)
{
    static const char *const policies[] = {"no-update", "eval"};
    char why[64];
    snprintf(why, sizeof why, "and its policy (%s) does not update them", policies[_i]);
    ASSERT_OK(trine_resnet_set_bn(net, "train,layer2.*=no-update"));
    struct pass p = {training(net, BATCH, SIDE, TRINE_EMBED_POOL), images(BATCH, SIDE, 1, 0)};
    ASSERT_OK(run_forward(&p));                                                  /* layers that may move do */
    if (_i == 1) net->bns[bn_index(net, "layer2.1.bn1")].policy = TRINE_BN_EVAL; /* unknown to the session */
    trine__session_unit *u = &p.session->units[bn_index(net, "layer2.1.bn1")];
    ck_assert(!u->fused && !u->mode.update);
    u->mode.update = true;
    check_both(run_forward, &p, "trine_session_forward", "layer2.1.bn1's running statistics changed (batches",
               why);
    trine_session_destroy(&p.session);
    test_tensor_release(&p.x);
}
END_TEST

struct backward {
    struct pass pass;
    trine_tensor d;
    trine_gradients *gradients;
};

static trine_status run_backward(void *with)
{
    struct backward *b = with;
    ASSERT_OK(run_forward(&b->pass));
    return trine_session_backward(b->pass.session, &b->d, b->gradients);
}

/* A gradient that is written over its parameter. */
START_TEST(test_backward)
{
    struct backward b = {.pass = {training(net, BATCH, SIDE, TRINE_EMBED_FC), images(BATCH, SIDE, 1, 0)}};
    const int outputs = trine_resnet_outputs(net);
    float *values = random_floats((size_t)(BATCH * outputs), 3, 1, 2);
    ASSERT_OK(trine_tensor_create(dev.context, &(trine_shape){BATCH, outputs, 1, 1}, 1, &b.d));
    ASSERT_OK(trine_tensor_upload(dev.stream, values, &b.d));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &b.gradients));
    ASSERT_OK(run_backward(&b));
    trine_buffer *view = b.gradients->view[TRINE__FC_BIAS];
    b.gradients->view[TRINE__FC_BIAS] = net->params[TRINE__FC_BIAS].view;
    check_both(run_backward, &b, "trine_session_backward", "fc.bias changed", "which this call does not do");
    b.gradients->view[TRINE__FC_BIAS] = view;
    free(values);
    trine_buffer_release(&b.d.buffer);
    trine_gradients_destroy(&b.gradients);
    trine_session_destroy(&b.pass.session);
    test_tensor_release(&b.pass.x);
}
END_TEST

struct step {
    trine_optimizer *optimizer;
    trine_gradients *gradients;
};

static trine_status run_step(void *with)
{
    struct step *s = with;
    return trine_resnet_step(net, dev.stream, s->optimizer, s->gradients, 0.5f);
}

/* A step that runs on beyond its parameter, into one that is frozen (0) or that no gradient reached (1). */
START_TEST(test_step)
{
    const int conv = trine__conv_parameter(net, UNIT), gamma = conv + 1;
    struct step s = {NULL, NULL};
    trine_optimizer_desc desc = trine_optimizer_desc_default(TRINE_SGD);
    desc.weight_decay = 0.1f; /* moves everything that is not 0, whatever its gradient */
    ASSERT_OK(trine_optimizer_create(dev.context, &desc, trine_resnet_flat_count(net), &s.optimizer));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &s.gradients));
    for (int i = 0; i < s.gradients->count; i++) s.gradients->reached[i] = true;
    if (_i == 0)
        ASSERT_OK(trine_resnet_freeze(net, "layer1.0.bn1*"));
    else
        s.gradients->reached[gamma] = s.gradients->reached[gamma + 1] = false;
    ASSERT_OK(run_step(&s));
    trine__parameter *p = &net->params[conv];
    const size_t stored = p->stored;
    p->stored = net->params[gamma].offset + net->params[gamma].count - p->offset;
    check_both(run_step, &s, "trine_resnet_step", "layer1.0.bn1.weight changed",
               _i == 0 ? "and it is frozen" : "and no gradient reached it");
    p->stored = stored;
    trine_gradients_destroy(&s.gradients);
    trine_optimizer_destroy(&s.optimizer);
}
END_TEST

static trine_status write_bn(void *with)
{
    float mean[64], var[64];
    const float *add = with;
    const int other = OTHER_UNIT;
    ASSERT_OK(trine_resnet_bn_read(net, dev.stream, other, mean, var));
    mean[0] += *add;
    return trine_resnet_bn_write(net, dev.stream, UNIT, mean, var, 0);
}

static trine_status write_parameter(void *with)
{
    const float *add = with;
    float *values = parameter_values(net, trine__gamma_parameter(net, UNIT));
    values[0] += *add;
    const trine_status status =
        trine_resnet_parameter_write(net, dev.stream, trine__gamma_parameter(net, UNIT), values);
    free(values);
    return status;
}

/* Writes that land in another layer. */
START_TEST(test_writes)
{
    float add = 1;
    ASSERT_OK(write_bn(&add));
    ASSERT_OK(write_parameter(&add));
    trine_buffer *mean = net->bns[UNIT].mean;
    net->bns[UNIT].mean = net->bns[OTHER_UNIT].mean;
    check_both(write_bn, &add, "trine_resnet_bn_write", "layer1.0.bn2's running statistics changed", NULL);
    net->bns[UNIT].mean = mean;
    trine__parameter *p = &net->params[trine__gamma_parameter(net, UNIT)];
    trine_buffer *view = p->view;
    p->view = net->params[trine__gamma_parameter(net, OTHER_UNIT)].view;
    check_both(write_parameter, &add, "trine_resnet_parameter_write", "layer1.0.bn2.weight changed", NULL);
    p->view = view;
}
END_TEST

static trine_status restore(void *with)
{
    return trine_resnet_bn_restore(net, dev.stream, with);
}

/* Statistics that are restored into the parameters. */
START_TEST(test_restore)
{
    trine_bn_snapshot *snapshot = NULL;
    ASSERT_OK(trine_resnet_bn_snapshot(net, dev.stream, &snapshot));
    for (int i = 0; i < trine_resnet_bn_count(net); i++) nudge(net->bns[i].mean);
    ASSERT_OK(restore(snapshot)); /* all of them may move */
    trine_buffer *statistics = net->statistics;
    net->statistics = net->parameters;
    check_blames(restore(snapshot), "trine_resnet_bn_restore", "changed", "which this call does not do");
    trine_resnet_assert_state(net, 0);
    ASSERT_OK(restore(snapshot));
    net->statistics = statistics;
    trine_bn_snapshot_destroy(&snapshot);
}
END_TEST

/* Calls that cannot be made to move anything from outside: that they look at the state is seen by making it
 * unreadable. */
START_TEST(test_unreadable)
{
    const trine_shape shape = {BATCH, 3, SIDE, SIDE};
    for (int on = 0; on <= 1; on++) {
        trine_session *session = NULL;
        trine_weights *weights = NULL;
        const trine_status want = on ? TRINE_ERR_ARG : TRINE_OK;
        trine_resnet_assert_state(net, on);
        net->statistics_count += 1; /* beyond the buffer */
        ck_assert_int_eq(trine_session_create_inference(net, dev.stream, &shape, &session), want);
        trine_session_destroy(&session);
        ck_assert_int_eq(
            trine_session_create_training(net, dev.stream, &shape, TRINE_EMBED_POOL, 0, &session), want);
        trine_session_destroy(&session);
        ck_assert_int_eq(trine_resnet_to_weights(net, dev.stream, 1, &weights), want);
        ck_assert_int_eq(weights != NULL, !on);
        trine_weights_destroy(&weights);
        net->statistics_count -= 1;
    }
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("guarded_calls");
    TCase *tc = tcase_create("guarded_calls");
    tcase_set_timeout(tc, 0);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_forward_inference);
    tcase_add_loop_test(tc, test_forward_training, 0, 2);
    tcase_add_test(tc, test_backward);
    tcase_add_loop_test(tc, test_step, 0, 2);
    tcase_add_test(tc, test_writes);
    tcase_add_test(tc, test_restore);
    tcase_add_test(tc, test_unreadable);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
