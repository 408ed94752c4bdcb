/* SPDX-License-Identifier: MIT */
/* State assertion by itself: every change that there is, under every permission; the sentences; the
 * environment. */
#include "net/blame.h"

static trine_resnet *net; /* resnet20_cifar, stirred anew for each test */

enum { FROZEN_UNIT = 1, TRAINED_UNIT = 2, NO_UPDATE_UNIT = 3 }; /* as set_policies() makes them */

static void setup(void)
{
    net = make_network("resnet20_cifar", 1);
    trine_resnet_assert_state(net, 1);
}

static void teardown(void)
{
    trine_resnet_destroy(&net);
}

static void nudge_trained(void)
{
    nudge(net->params[trine__conv_parameter(net, TRAINED_UNIT)].view);
}

static void nudge_frozen(void)
{
    nudge(net->params[trine__gamma_parameter(net, FROZEN_UNIT)].view);
}

static void nudge_updating(void)
{
    nudge(net->bns[TRAINED_UNIT].var);
}

static void count_updating(void)
{
    net->bns[TRAINED_UNIT].batches++;
}

static void nudge_eval(void)
{
    nudge(net->bns[FROZEN_UNIT].mean);
}

static void count_no_update(void)
{
    net->bns[NO_UPDATE_UNIT].batches++;
}

static void change_policy(void)
{
    net->bns[TRAINED_UNIT].policy = TRINE_BN_EVAL;
}

static void change_momentum(void)
{
    net->bns[TRAINED_UNIT].momentum = 0.5f;
}

static void change_eps(void)
{
    net->bns[TRAINED_UNIT].eps = 0.001f;
}

static void forget_statistics(void)
{
    trine__bn_set_tracked(net, TRAINED_UNIT, false);
}

static void freeze_one(void)
{
    net->params[trine__conv_parameter(net, TRAINED_UNIT)].trainable = false;
}

static void thaw_one(void)
{
    net->params[trine__gamma_parameter(net, FROZEN_UNIT)].trainable = true;
}

/* Every change there is, and which permissions allow it. */
static const struct {
    void (*change)(void);
    unsigned allowed_by;
    const char *what;
} changes[] = {
    {nudge_trained, TRINE__MAY_TRAIN, "layer1.0.conv2.weight changed"},
    {nudge_frozen, 0, "layer1.0.bn1.weight changed"},
    {nudge_updating, TRINE__MAY_UPDATE | TRINE__MAY_STATISTICS, "layer1.0.bn2's running statistics changed"},
    {count_updating, TRINE__MAY_UPDATE | TRINE__MAY_STATISTICS, "layer1.0.bn2's running statistics changed"},
    {nudge_eval, TRINE__MAY_STATISTICS, "layer1.0.bn1's running statistics changed"},
    {count_no_update, TRINE__MAY_STATISTICS, "layer1.1.bn1's running statistics changed"},
    {change_policy, 0, "layer1.0.bn2's policy changed from auto to eval"},
    {change_momentum, 0, "layer1.0.bn2's momentum changed from 0.1 to 0.5"},
    {change_eps, 0, "layer1.0.bn2's eps changed from 1e-05 to 0.001"},
    {forget_statistics, TRINE__MAY_UPDATE | TRINE__MAY_STATISTICS,
     "layer1.0.bn2's running statistics changed"},
    {freeze_one, 0, "layer1.0.conv2.weight was frozen"},
    {thaw_one, 0, "layer1.0.bn1.weight was made trainable"},
};
enum { CHANGES = sizeof changes / sizeof changes[0], PERMISSIONS = 8 };

/* A call that does this and then comes to `status`. */
static trine_status guarded(unsigned may, void (*change)(void), trine_status status)
{
    trine__guard guard;
    const trine_status begun = trine__guard_begin(&guard, net, dev.stream, "the_call", may);
    if (begun != TRINE_OK) return begun;
    if (change) change();
    return trine__guard_end(&guard, status);
}

static void set_policies(void)
{
    ASSERT_OK(trine_resnet_freeze(net, "layer1.0.conv1*,layer1.0.bn1*"));
    ASSERT_OK(trine_resnet_set_bn(net, "auto,layer1.1.bn1=no-update"));
}

START_TEST(test_changes)
{
    for (unsigned may = 0; may < PERMISSIONS; may++) {
        set_policies();
        ASSERT_OK(guarded(may, NULL, TRINE_OK));
        const trine_status status = guarded(may, changes[_i].change, TRINE_OK);
        if (may & changes[_i].allowed_by)
            ck_assert_msg(status == TRINE_OK, "permissions %u: %s", may, trine_last_error());
        else
            check_blames(status, "the_call", changes[_i].what, NULL);
        teardown();
        setup();
    }
    set_policies();
    trine_resnet_assert_state(net, 0);
    ASSERT_OK(guarded(TRINE__MAY_NOTHING, changes[_i].change, TRINE_OK));
}
END_TEST

static void nudge_three(void)
{
    nudge_frozen();
    nudge_trained();
    nudge_eval();
}

/* Whole sentences. */
START_TEST(test_sentences)
{
    static const struct {
        unsigned may;
        void (*change)(void);
        trine_status status;
        const char *sentence;
    } rows[] = {
        {TRINE__MAY_NOTHING, nudge_trained, TRINE_OK,
         "the_call: layer1.0.conv2.weight changed, which this call does not do (state assertion)"},
        {TRINE__MAY_TRAIN, nudge_frozen, TRINE_OK,
         "the_call: layer1.0.bn1.weight changed, and it is frozen (state assertion)"},
        {TRINE__MAY_TRAIN, nudge_updating, TRINE_OK,
         "the_call: layer1.0.bn2's running statistics changed, which this call does not do (state "
         "assertion)"},
        {TRINE__MAY_UPDATE, nudge_eval, TRINE_OK,
         "the_call: layer1.0.bn1's running statistics changed, and its policy (eval) does not update them "
         "(state assertion)"},
        {TRINE__MAY_UPDATE, count_no_update, TRINE_OK,
         "the_call: layer1.1.bn1's running statistics changed (batches tracked: 1, were 0), and its policy "
         "(no-update) does not update them (state assertion)"},
        {TRINE__MAY_NOTHING, nudge_three, TRINE_OK,
         "the_call: layer1.0.bn1's running statistics changed, which this call does not do (state assertion; "
         "2 "
         "more moved)"},
        {TRINE__MAY_NOTHING, nudge_frozen, TRINE_ERR_SHAPE,
         "the_call: layer1.0.bn1.weight changed, which this call does not do (state assertion), and the call "
         "failed: no room"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        set_policies();
        trine__fail(rows[i].status, "no room");
        ck_assert_int_eq(guarded(rows[i].may, rows[i].change, rows[i].status), TRINE_ERR_CHECK);
        ck_assert_str_eq(trine_last_error(), rows[i].sentence);
        teardown();
        setup();
    }
    set_policies();
    trine__fail(TRINE_ERR_SHAPE, "no room"); /* a failure that moves nothing stays what it is */
    ck_assert_int_eq(guarded(TRINE__MAY_NOTHING, NULL, TRINE_ERR_SHAPE), TRINE_ERR_SHAPE);
    ck_assert_str_eq(trine_last_error(), "no room");
    trine__fail(TRINE_ERR_CHECK, "inner: told"); /* and what a guard within has said is not said again */
    ck_assert_int_eq(guarded(TRINE__MAY_NOTHING, nudge_frozen, TRINE_ERR_CHECK), TRINE_ERR_CHECK);
    ck_assert_str_eq(trine_last_error(), "inner: told");
}
END_TEST

/* The variable is read when a network is made. */
START_TEST(test_environment)
{
    static const struct {
        const char *value;
        trine_status status;
        bool on;
    } rows[] = {{NULL, TRINE_OK, false}, {"", TRINE_OK, false},         {"0", TRINE_OK, false},
                {"1", TRINE_OK, true},   {"yes", TRINE_ERR_ARG, false}, {"01", TRINE_ERR_ARG, false}};
    const char *outside = getenv("TRINE_ASSERT_STATE");
    char *kept = outside ? strdup(outside) : NULL;
    trine_weights *weights = NULL;
    ASSERT_OK(trine_resnet_to_weights(net, dev.stream, 1, &weights));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const trine_resnet_options options = {.arch = "resnet20_cifar"};
        trine_resnet *made[2] = {NULL, NULL};
        if (rows[i].value)
            setenv("TRINE_ASSERT_STATE", rows[i].value, 1);
        else
            unsetenv("TRINE_ASSERT_STATE");
        ck_assert_int_eq(trine_resnet_create(dev.context, &options, &made[0]), rows[i].status);
        ck_assert_int_eq(trine_resnet_from_weights(dev.context, weights, NULL, &made[1]), rows[i].status);
        if (rows[i].status != TRINE_OK) ck_assert_ptr_nonnull(strstr(trine_last_error(), rows[i].value));
        for (int k = 0; k < 2; k++) {
            ck_assert_int_eq(made[k] != NULL, rows[i].status == TRINE_OK);
            if (made[k]) ck_assert_int_eq(made[k]->assert_state, rows[i].on);
            trine_resnet_destroy(&made[k]);
        }
    }
    if (kept)
        setenv("TRINE_ASSERT_STATE", kept, 1);
    else
        unsetenv("TRINE_ASSERT_STATE");
    free(kept);
    trine_weights_destroy(&weights);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("state_guard");
    TCase *tc = tcase_create("state_guard");
    tcase_set_timeout(tc, 0);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_changes, 0, CHANGES);
    tcase_add_test(tc, test_sentences);
    tcase_add_test(tc, test_environment);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
