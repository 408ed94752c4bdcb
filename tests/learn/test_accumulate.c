/* SPDX-License-Identifier: MIT */
/* Steps of several batches against the batches one by one: the mean gradient, running statistics that move with every batch, records,
 * epochs, and overflows in half precision. */
#include <math.h>

#include "learn/learn_data.h"
#include "net/resnet_private.h"
#include "net/session_private.h"

enum { IMAGES = CLASSES * PER_CLASS, RECORDS = 16 };

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

static trine_trainer_options options_for(trine_objective objective, int accumulate, int steps)
{
    trine_trainer_options o = triplet_run(steps);
    o.objective = objective;
    o.triplet.mining = TRINE_BATCH_ALL;
    o.accumulate = accumulate;
    o.images_per_class = 2;
    o.batch = 5;
    o.augment = (trine_augment){.flip = 1, .crop = 1};
    o.optimizer.momentum = 0;
    return o;
}

static float *values_of(const trine_resnet *net)
{
    float *v = calloc(net->flat_count, sizeof *v);
    ASSERT_OK(trine_buffer_read(dev.stream, net->parameters, 0, v, net->flat_count * sizeof *v));
    return v;
}

typedef struct records {
    trine_step_record r[RECORDS];
    int count;
} records;

static int keep(void *user, const trine_step_record *record, int steps)
{
    records *k = user;
    (void)steps;
    ck_assert_int_lt(k->count, RECORDS);
    k->r[k->count++] = *record;
    return 0;
}

/* A step of three batches moves parameters as far as the mean of three steps of one batch, each from the same values; the statistics, which
 * see nothing of the gradients, are the same to the last bit. */
static void compare(trine_objective objective)
{
    enum { BATCHES = 3 };
    trine_trainer_options o = options_for(objective, 1, BATCHES);
    trine_resnet *single = make_network(CLASSES), *net = make_network(CLASSES);
    trine_trainer *t = NULL;
    records one = {.count = 0}, all = {.count = 0};
    const size_t count = net->flat_count;
    float *begin = values_of(net);
    double *want = calloc(count, sizeof *want);
    ASSERT_OK(trine_trainer_create(single, dev.stream, &o, data, &t));
    for (int i = 0; i < BATCHES; i++) {
        ASSERT_OK(trine_trainer_run_to(t, i + 1, keep, &one));
        float *v = values_of(single);
        for (size_t k = 0; k < count; k++) want[k] += ((double)v[k] - begin[k]) / BATCHES;
        free(v);
        ASSERT_OK(trine_buffer_write(dev.stream, single->parameters, 0, begin, count * sizeof *begin));
        for (int p = 0; p < single->parameter_count; p++)
            single->params[p].version = single->values_version = ++single->next_version;
    }
    trine_trainer_destroy(&t);
    o.accumulate = BATCHES;
    o.steps = 1;
    ASSERT_OK(trine_trainer_create(net, dev.stream, &o, data, &t));
    ASSERT_OK(trine_trainer_run(t, keep, &all));
    trine_trainer_destroy(&t);
    float *v = values_of(net);
    double most = 0, error = 0;
    for (size_t k = 0; k < count; k++) {
        most = fmax(most, fabs(want[k]));
        error = fmax(error, fabs((double)v[k] - begin[k] - want[k]) - 4 * 6e-8 * fabs((double)begin[k]));
    }
    ck_assert_msg(most > 1e-4 && error <= 1e-5 * most, "moved by %g, wrong by %g", most, error);
    ck_assert_uint_eq(statistics_hash(net), statistics_hash(single));
    double loss = 0, norm = 0, accuracy = 0;
    for (int i = 0; i < BATCHES; i++) {
        loss += one.r[i].loss / BATCHES;
        norm += one.r[i].embedding_norm / BATCHES;
        accuracy += one.r[i].accuracy / BATCHES;
    }
    ck_assert_int_eq(all.count, 1);
    ck_assert_double_eq_tol(all.r[0].loss, loss, 1e-6 * loss + 1e-12);
    ck_assert_double_eq_tol(all.r[0].embedding_norm, norm, 1e-6 * norm + 1e-12);
    ck_assert_double_eq_tol(all.r[0].accuracy, accuracy, 1e-6);
    free(begin);
    free(want);
    free(v);
    trine_resnet_destroy(&single);
    trine_resnet_destroy(&net);
}

START_TEST(mean_of_batches)
{
    compare(TRINE_OBJECTIVE_TRIPLET);
    compare(TRINE_OBJECTIVE_CLASSIFY);
}
END_TEST

/* 24 images in batches of 5: 5 a pass, of which the last has 4; by threes 2 steps, the second of 2 batches. Schedules count steps. */
START_TEST(epochs)
{
    trine_trainer_options o = options_for(TRINE_OBJECTIVE_CLASSIFY, 3, 0);
    trine_resnet *net = make_network(CLASSES);
    trine_trainer *t = NULL;
    records r = {.count = 0};
    o.epochs = 3;
    o.schedule = TRINE_SCHEDULE_COSINE;
    ASSERT_OK(trine_trainer_create(net, dev.stream, &o, data, &t));
    ck_assert_int_eq(trine_trainer_steps(t), 6);
    ck_assert_int_eq(trine_trainer_epoch_steps(t), 2);
    ASSERT_OK(trine_trainer_run(t, keep, &r));
    ck_assert_int_eq(r.count, 6);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(r.r[i].epoch, i / 2 + 1);
        ck_assert_double_eq_tol(r.r[i].lr, trine_schedule_lr(o.schedule, o.lr, i, 6), 1e-15);
    }
    trine_bn_info info;
    ASSERT_OK(trine_resnet_bn(net, 0, &info));
    ck_assert_int_eq(info.batches, 15);
    trine_trainer_destroy(&t);
    trine_resnet_destroy(&net);
}
END_TEST

/* A frozen trunk gives the same run whether its features are kept or not; clipping to a norm beyond all gradients changes no bit. */
START_TEST(same_bits)
{
    uint64_t hash[4];
    for (int i = 0; i < 4; i++) {
        trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 2, 3);
        trine_resnet *net = make_network(CLASSES);
        trine_trainer *t = NULL;
        o.augment.crop = 0;
        o.feature_cache = i == 0 ? TRINE_FEATURES_MEMORY : TRINE_FEATURES_OFF;
        o.clip_norm = i == 2 ? 1e6 : 0;
        o.accumulate = i == 3 ? 1 : 2;
        ASSERT_OK(trine_resnet_freeze(net, "*,!layer3.*"));
        ASSERT_OK(trine_trainer_create(net, dev.stream, &o, data, &t));
        ASSERT_OK(trine_trainer_run(t, NULL, NULL));
        hash[i] = parameters_hash(net) ^ statistics_hash(net);
        trine_trainer_destroy(&t);
        trine_resnet_destroy(&net);
    }
    ck_assert(hash[0] == hash[1] && hash[1] == hash[2] && hash[2] != hash[3]);
}
END_TEST

/* Half precision: a gradient that overflows in one of two passes, the first or the second, leaves the whole step out. */
START_TEST(overflow_in_one_batch)
{
    for (int bad = -1; bad < 2; bad++) {
        trine_resnet *net = make_network(CLASSES);
        trine_gradients *g = NULL;
        trine_optimizer *op = NULL;
        trine_session *s = NULL;
        int labels[4];
        float *x = make_images(4, SIDE, labels), d[4 * CLASSES], scale;
        const trine_optimizer_desc desc = trine_optimizer_desc_default(TRINE_SGD);
        const trine__step_options options = {.batches = 2};
        const trine_shape shape = {4, 3, SIDE, SIDE};
        trine_tensor tx, td;
        uint64_t skipped;
        ASSERT_OK(trine_resnet_set_precision(net, TRINE_F16));
        ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
        ASSERT_OK(trine_optimizer_create(dev.context, &desc, trine_resnet_flat_count(net), &op));
        ASSERT_OK(trine_session_create_training(net, dev.stream, &shape, TRINE_EMBED_FC, 1, &s));
        ASSERT_OK(trine_tensor_create(dev.context, &shape, 1, &tx));
        ASSERT_OK(trine_tensor_upload(dev.stream, x, &tx));
        ASSERT_OK(trine_tensor_create(dev.context, &(trine_shape){4, CLASSES, 1, 1}, 1, &td));
        const uint64_t before = parameters_hash(net);
        trine_gradients_clear(g);
        for (int pass = 0; pass < 2; pass++) {
            for (int i = 0; i < 4 * CLASSES; i++) d[i] = pass == bad ? 1e6f : 1e-2f * (float)(i % 3 - 1);
            ASSERT_OK(trine_tensor_upload(dev.stream, d, &td));
            ASSERT_OK(trine_session_forward(s, &tx));
            ASSERT_OK(trine_session_backward(s, &td, g));
        }
        ASSERT_OK(trine__resnet_step_with(net, dev.stream, op, g, 0.1f, &options));
        ASSERT_OK(trine_gradients_scale(g, dev.stream, &scale, &skipped));
        ck_assert((parameters_hash(net) == before) == (bad >= 0));
        ck_assert_uint_eq(skipped, bad >= 0);
        free(x);
        trine_buffer_release(&tx.buffer);
        trine_buffer_release(&td.buffer);
        trine_session_destroy(&s);
        trine_optimizer_destroy(&op);
        trine_gradients_destroy(&g);
        trine_resnet_destroy(&net);
    }
}
END_TEST

START_TEST(bad_counts_are_refused)
{
    trine_resnet *net = make_network(CLASSES);
    trine_trainer *t = NULL;
    trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, -1, 1);
    const trine_shape shape = {IMAGES, 3, SIDE, SIDE};
    int labels[IMAGES];
    float *x = make_images(IMAGES, SIDE, labels);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_trainer_create(net, dev.stream, &o, data, &t));
    o.accumulate = 2;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_trainer_create_array(net, dev.stream, &o, x, &shape, labels, &t));
    ck_assert(strstr(trine_last_error(), "2 batches a step, but all of an array is one batch") != NULL);
    o.accumulate = 1;
    o.augment.hue = 1;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_trainer_create(net, dev.stream, &o, data, &t));
    ck_assert(strstr(trine_last_error(), "augment: jitter:hue=1") != NULL);
    free(x);
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("accumulate");
    TCase *tc = tcase_create("accumulate");
    tcase_set_timeout(tc, 600);
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_test(tc, mean_of_batches);
    tcase_add_test(tc, epochs);
    tcase_add_test(tc, same_bits);
    tcase_add_test(tc, overflow_in_one_batch);
    tcase_add_test(tc, bad_counts_are_refused);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
