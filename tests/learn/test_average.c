/* SPDX-License-Identifier: MIT */
/* The running average of weights: its kernel, what a run makes of it, and that it changes places with the values and back. */
#include <math.h>

#include "learn/learn_data.h"
#include "net/resnet_private.h"
#include "op/weight_average.h"

enum { STEPS = 4, LAYERS = 19 };

/* Against double: one rounding of the difference, one of the sum. What is equal stays equal to the last bit. */
START_TEST(kernel)
{
    static const int counts[] = {1, 7, 16, 4099, 70001};
    static float w[70001], a[70001], got[70001];
    trine__weight_average *op = NULL;
    ASSERT_OK(trine__weight_average_create(dev.context, &op));
    for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        const size_t bytes = (size_t)counts[k] * sizeof *w;
        const double decay = k % 2 ? 0.999 : 0.3;
        trine_buffer *weights = NULL, *averages = NULL;
        trine__random r = trine__random_stream(1, 2, k);
        for (int i = 0; i < counts[k]; i++) {
            w[i] = (float)trine__random_normal(&r);
            a[i] = i % 3 ? (float)trine__random_normal(&r) : w[i];
        }
        ASSERT_OK(trine_buffer_create(dev.context, bytes, &weights));
        ASSERT_OK(trine_buffer_create(dev.context, bytes + 64, &averages));
        ASSERT_OK(trine_buffer_write(dev.stream, weights, 0, w, bytes));
        ASSERT_OK(trine_buffer_write(dev.stream, averages, 0, a, bytes));
        ASSERT_OK(trine__weight_average_run(op, dev.stream, weights, averages, (size_t)counts[k], decay));
        ASSERT_OK(trine_buffer_read(dev.stream, averages, 0, got, bytes));
        for (int i = 0; i < counts[k]; i++) {
            const double want = decay * a[i] + (1 - decay) * w[i];
            ck_assert_double_eq_tol(got[i], want, 2 * 6e-8 * (fabs((double)a[i]) + fabs((double)w[i])));
            if (i % 3 == 0) ck_assert_float_eq(got[i], w[i]);
        }
        trine_buffer_release(&weights);
        trine_buffer_release(&averages);
    }
    trine__weight_average_destroy(&op);
}
END_TEST

static trine_trainer_options options_for(double ema)
{
    trine_trainer_options o = triplet_run(STEPS);
    o.ema = ema;
    return o;
}

static char root[PATH_BYTES];
static trine_dataset *data;

static void setup(void)
{
    open_folders(root, &data);
}

static void teardown(void)
{
    trine_dataset_destroy(&data);
    remove_root(root);
}

/* Parameters and statistics as they lie on the device. */
static float *values_of(const trine_resnet *net)
{
    float *v = calloc(net->flat_count + net->statistics_count, sizeof *v);
    ASSERT_OK(trine_buffer_read(dev.stream, net->parameters, 0, v, net->flat_count * sizeof *v));
    ASSERT_OK(trine_buffer_read(dev.stream, net->statistics, 0, v + net->flat_count,
                                net->statistics_count * sizeof *v));
    return v;
}

/* Step by step beside an average on the host in double. The run itself is that of one without, to the last bit. */
START_TEST(averages_of_a_run)
{
    const double decay = 0.7;
    trine_trainer_options o = options_for(0);
    trine_resnet *net = make_network(CLASSES);
    const size_t count = net->flat_count + net->statistics_count;
    double *want = calloc(count, sizeof *want);
    trine_trainer *t = NULL;
    float *v = values_of(net);
    for (size_t i = 0; i < count; i++) want[i] = v[i];
    ASSERT_OK(trine_trainer_create(net, dev.stream, &o, data, &t));
    for (int step = 1; step <= STEPS; step++) {
        free(v);
        ASSERT_OK(trine_trainer_run_to(t, step, NULL, NULL));
        v = values_of(net);
        for (size_t i = 0; i < count; i++) want[i] = decay * want[i] + (1 - decay) * v[i];
    }
    trine_trainer_destroy(&t);
    trine_resnet *averaged = make_network(CLASSES);
    o = options_for(decay);
    ASSERT_OK(trine_trainer_create(averaged, dev.stream, &o, data, &t));
    ASSERT_OK(trine_trainer_run(t, NULL, NULL));
    float *got = values_of(averaged);
    ck_assert_mem_eq(got, v, count * sizeof *got);
    free(got);
    ASSERT_OK(trine_trainer_exchange_average(t));
    got = values_of(averaged);
    double most = 0;
    for (size_t i = 0; i < count; i++) {
        ck_assert_double_eq_tol(got[i], want[i],
                                STEPS * 2 * 6e-8 * (fabs(want[i]) + fabs((double)v[i])) + 1e-12);
        most = fmax(most, fabs(want[i] - v[i]));
    }
    ck_assert_double_gt(most, 1e-4);
    for (int i = 0; i < LAYERS; i++) { /* the counters are the run's */
        trine_bn_info info;
        ASSERT_OK(trine_resnet_bn(averaged, i, &info));
        ck_assert_int_eq(info.batches, STEPS);
    }
    free(got);
    free(v);
    free(want);
    trine_trainer_destroy(&t);
    trine_resnet_destroy(&net);
    trine_resnet_destroy(&averaged);
}
END_TEST

/* What does not train is the same after an exchange, and a frozen trunk is not evaluated anew; the values come back; in between there is
 * nothing to run or save. */
START_TEST(exchanges)
{
    trine_trainer_options o = options_for(0.9);
    trine_resnet *net = make_network(CLASSES);
    trine_trainer *t = NULL;
    trine_weights *state = NULL;
    uint64_t values[2], before[2], after[2];
    uint64_t *parameters = calloc(2 * (size_t)net->parameter_count, sizeof *parameters);
    trine_resnet_assert_state(net, 1);
    ASSERT_OK(trine_resnet_freeze(net, "*,!layer3.*"));
    ASSERT_OK(trine_trainer_create(net, dev.stream, &o, data, &t));
    ASSERT_OK(trine_trainer_run_to(t, 2, NULL, NULL));
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &before[0], &before[1], NULL));
    ASSERT_OK(trine_resnet_parameter_hashes(net, dev.stream, parameters));
    const uint64_t version =
        trine_resnet_parameter_count(net) ? net->params[net->parameter_count - 1].version : 0;
    ASSERT_OK(trine_trainer_exchange_average(t));
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &values[0], &values[1], NULL));
    ck_assert(values[0] != before[0] && values[1] != before[1]);
    ASSERT_OK(trine_resnet_parameter_hashes(net, dev.stream, parameters + net->parameter_count));
    for (int i = 0; i < net->parameter_count; i++)
        ck_assert((parameters[i] == parameters[i + net->parameter_count]) != net->params[i].trainable);
    ck_assert_uint_eq(net->params[net->parameter_count - 1].version, version);
    ASSERT_FAILS(TRINE_ERR_STATE, trine_trainer_run(t, NULL, NULL));
    ck_assert(strstr(trine_last_error(), "the network holds the averages") != NULL);
    ASSERT_FAILS(TRINE_ERR_STATE, trine_trainer_save(t, &state));
    ASSERT_OK(trine_trainer_exchange_average(t));
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &after[0], &after[1], NULL));
    ck_assert(after[0] == before[0] && after[1] == before[1]);
    ASSERT_OK(trine_trainer_run(t, NULL, NULL));
    free(parameters);
    trine_trainer_destroy(&t);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(bad_decays_are_refused)
{
    static const double bad[] = {-0.1, 1, NAN};
    trine_resnet *net = make_network(CLASSES);
    for (int i = 0; i < 3; i++) {
        trine_trainer *t = NULL;
        const trine_trainer_options o = options_for(bad[i]);
        ASSERT_FAILS(TRINE_ERR_ARG, trine_trainer_create(net, dev.stream, &o, data, &t));
        ck_assert(strstr(trine_last_error(), "a running average of decay") != NULL);
    }
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("average");
    TCase *tc = tcase_create("average");
    tcase_set_timeout(tc, 600);
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_test(tc, kernel);
    tcase_add_test(tc, averages_of_a_run);
    tcase_add_test(tc, exchanges);
    tcase_add_test(tc, bad_decays_are_refused);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
