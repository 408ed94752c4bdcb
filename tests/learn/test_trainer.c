/* SPDX-License-Identifier: MIT */
/* Training on a device: the loss falls, equal runs give equal bytes, what is frozen stays, records come in
 * order, data sets go through sampler and loader, and what cannot work is refused with a sentence. */
#include <math.h>

#include "learn/learn_data.h"
#include "learn/trainer_private.h"
#include "net/resnet_private.h"

enum { BATCH = 16, MAX_STEPS = 128 };

struct records {
    trine_step_record r[MAX_STEPS];
    int count, stop_at, steps;
};

static int keep(void *user, const trine_step_record *record, int steps)
{
    struct records *k = user;
    ck_assert_int_lt(k->count, MAX_STEPS);
    ck_assert_int_eq(record->step, k->count + 1);
    k->r[k->count++] = *record;
    k->steps = steps;
    return k->stop_at > 0 && record->step >= k->stop_at;
}

static double mean_loss(const struct records *k, int first, int count)
{
    double sum = 0;
    for (int i = first; i < first + count; i++) sum += k->r[i].loss;
    return sum / count;
}

static char last_log[512];

static void keep_log(void *user, const char *sentence)
{
    (void)user;
    snprintf(last_log, sizeof last_log, "%s", sentence);
}

static trine_trainer_options options_for(trine_objective objective, int steps)
{
    trine_trainer_options o = {
        .objective = objective,
        .normalize = 1,
        .triplet = {.mining = TRINE_BATCH_HARD, .margin = 0.5f},
        .lr = objective == TRINE_OBJECTIVE_TRIPLET ? 0.02 : 0.05,
        .classes_per_batch = 3,
        .images_per_class = 3,
        .batch = 8,
        .steps = steps,
        .preprocess = {0, 0, 0, {0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}},
        .seed = 3,
        .threads = 2,
        .log = keep_log,
    };
    o.optimizer = trine_optimizer_desc_default(TRINE_SGD);
    o.optimizer.momentum = 0.9f;
    last_log[0] = '\0';
    return o;
}

static void train_array(trine_resnet *net, const trine_trainer_options *o, int count, struct records *k)
{
    int labels[BATCH];
    float *x = make_images(count, SIDE, labels);
    const trine_shape shape = {count, 3, SIDE, SIDE};
    trine_trainer *t = NULL;
    ASSERT_OK(trine_trainer_create_array(net, dev.stream, o, x, &shape, labels, &t));
    free(x);
    k->count = 0;
    ASSERT_OK(trine_trainer_run(t, keep, k));
    ck_assert_uint_eq(trine_trainer_bad_images(t), 0);
    trine_trainer_destroy(&t);
    ck_assert_ptr_null(t);
}

static void train_folders(trine_resnet *net, const trine_trainer_options *o, const char *root,
                          struct records *k, size_t bad)
{
    trine_dataset *data = NULL;
    trine_trainer *t = NULL;
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    ASSERT_OK(trine_trainer_create(net, dev.stream, o, data, &t));
    k->count = 0;
    ASSERT_OK(trine_trainer_run(t, keep, k));
    ck_assert_int_eq(k->steps, trine_trainer_steps(t));
    ck_assert_uint_eq(trine_trainer_bad_images(t), bad);
    trine_trainer_destroy(&t);
    trine_dataset_destroy(&data);
}

START_TEST(triplet_loss_falls)
{
    static struct records k;
    for (int normalize = 0; normalize <= 1; normalize++) {
        trine_resnet *net = make_network(0);
        trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 20);
        o.normalize = normalize;
        train_array(net, &o, BATCH, &k);
        ck_assert_int_eq(k.count, 20);
        ck_assert_msg(mean_loss(&k, 16, 4) < 0.8 * mean_loss(&k, 0, 4), "normalize %d: loss %g, then %g",
                      normalize, mean_loss(&k, 0, 4), mean_loss(&k, 16, 4));
        for (int i = 0; i < k.count; i++) {
            const trine_step_record *r = &k.r[i];
            ck_assert_int_eq(r->epoch, i + 1); /* the whole array is the batch */
            ck_assert_double_eq(r->lr, o.lr);
            ck_assert(isfinite(r->loss) && r->loss >= 0);
            ck_assert(r->active_fraction >= 0 && r->active_fraction <= 1);
            ck_assert(r->d_ap > 0 && r->d_an > 0);
            ck_assert(!normalize || (r->d_ap <= 2 && r->d_an <= 2));
            ck_assert_float_eq(r->accuracy, 0);
        }
        ck_assert_float_gt(k.r[19].d_an - k.r[19].d_ap, k.r[0].d_an - k.r[0].d_ap);
        trine_resnet_destroy(&net);
    }
}
END_TEST

/* embedding_norm is that of the embeddings before normalisation: equal for step 1 with and without. */
START_TEST(norms_are_before_normalisation)
{
    static struct records k;
    float first[2];
    for (int normalize = 0; normalize <= 1; normalize++) {
        trine_resnet *net = make_network(0);
        trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 1);
        o.normalize = normalize;
        train_array(net, &o, BATCH, &k);
        first[normalize] = k.r[0].embedding_norm;
        trine_resnet_destroy(&net);
    }
    ck_assert_float_gt(first[0], 0);
    ck_assert_float_eq_tol(first[0], first[1], 1e-5f * first[0]);
}
END_TEST

START_TEST(classification_learns)
{
    static struct records k;
    trine_resnet *net = make_network(CLASSES);
    trine_trainer_options o = options_for(TRINE_OBJECTIVE_CLASSIFY, 25);
    o.schedule = TRINE_SCHEDULE_COSINE;
    train_array(net, &o, BATCH, &k);
    ck_assert_float_eq_tol(k.r[0].loss, logf(CLASSES), 1.5f);
    ck_assert_double_lt(mean_loss(&k, 21, 4), 0.5 * mean_loss(&k, 0, 4));
    ck_assert_float_ge(k.r[24].accuracy, 0.9f);
    for (int i = 0; i < k.count; i++)
        ck_assert_double_eq(k.r[i].lr, trine_schedule_lr(TRINE_SCHEDULE_COSINE, o.lr, i, 25));
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(equal_runs_give_equal_bytes)
{
    static struct records a, b;
    uint64_t parameters[2], statistics[2];
    for (int run = 0; run < 2; run++) {
        trine_resnet *net = make_network(0);
        const trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 9);
        const uint64_t before = parameters_hash(net);
        train_array(net, &o, BATCH, run ? &b : &a);
        parameters[run] = parameters_hash(net);
        statistics[run] = statistics_hash(net);
        ck_assert_uint_ne(before, parameters[run]);
        trine_resnet_destroy(&net);
    }
    ck_assert_uint_eq(parameters[0], parameters[1]);
    ck_assert_uint_eq(statistics[0], statistics[1]);
    for (int i = 0; i < 9; i++) ck_assert_float_eq(a.r[i].loss, b.r[i].loss);
}
END_TEST

/* Every parameter: changed if and only if it trains and the loss reaches it. */
static void check_moved(const char *globs, trine_embedding embedding)
{
    static struct records k;
    trine_resnet *net = make_network(0);
    ASSERT_OK(trine_resnet_freeze(net, globs));
    const int count = trine_resnet_parameter_count(net), layers = trine_resnet_bn_count(net);
    float **before = calloc((size_t)count, sizeof *before);
    uint64_t bn_before[64], bn_after[64];
    for (int i = 0; i < count; i++) {
        before[i] = calloc(1 << 20, sizeof **before);
        ASSERT_OK(trine_resnet_parameter_read(net, dev.stream, i, before[i]));
    }
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, NULL, NULL, bn_before));
    trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 3);
    o.embedding = embedding;
    o.optimizer.weight_decay = 1e-2f;
    train_array(net, &o, BATCH, &k);
    float *after = calloc(1 << 20, sizeof *after);
    for (int i = 0; i < count; i++) {
        trine_parameter_info info;
        size_t floats = 1;
        ASSERT_OK(trine_resnet_parameter(net, i, &info));
        for (int d = 0; d < info.rank; d++) floats *= (size_t)info.dims[d];
        ASSERT_OK(trine_resnet_parameter_read(net, dev.stream, i, after));
        const bool reached = embedding == TRINE_EMBED_FC || strncmp(info.name, "fc.", 3) != 0;
        const bool moved = memcmp(before[i], after, floats * sizeof *after) != 0;
        ck_assert_msg(moved == (info.trainable && reached), "%s: trainable %d, reached %d, moved %d",
                      info.name, info.trainable, reached, moved);
        free(before[i]);
    }
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, NULL, NULL, bn_after));
    for (int i = 0; i < layers; i++) {
        trine_bn_info info;
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        ck_assert_msg((bn_before[i] == bn_after[i]) == (info.frozen != 0), "%s: frozen %d", info.name,
                      info.frozen);
    }
    free(after);
    free(before);
    trine_resnet_destroy(&net);
}

START_TEST(frozen_and_unreached_stay)
{
    check_moved("conv1*,bn1*,layer1.*,layer2.0.*", TRINE_EMBED_POOL);
    check_moved("*,!layer3.2.bn2.*", TRINE_EMBED_POOL);
    check_moved("*,!fc.*", TRINE_EMBED_FC);
    check_moved("", TRINE_EMBED_FC);
}
END_TEST

START_TEST(nothing_trainable_is_refused)
{
    int labels[BATCH];
    float *x = make_images(BATCH, SIDE, labels);
    const trine_shape shape = {BATCH, 3, SIDE, SIDE};
    trine_resnet *net = make_network(0);
    const trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 3);
    trine_trainer *t = NULL;
    ASSERT_OK(trine_resnet_freeze(net, "*,!fc.*"));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_trainer_create_array(net, dev.stream, &o, x, &shape, labels, &t));
    ck_assert_ptr_null(t);
    free(x);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(policies_that_move_frozen_layers_are_told)
{
    static struct records k;
    trine_resnet *net = make_network(0);
    ASSERT_OK(trine_resnet_freeze(net, "*,!layer3.*"));
    const trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 1);
    train_array(net, &o, BATCH, &k);
    ck_assert_str_eq(last_log, "");
    ASSERT_OK(trine_resnet_set_bn(net, "torch"));
    train_array(net, &o, BATCH, &k);
    ck_assert_str_eq(last_log,
                     "13 frozen BatchNorm layers (bn1 first) will still move their running statistics "
                     "at every step, because their policy updates them; --bn auto (in C: "
                     "trine_resnet_set_bn(net, \"auto\")) keeps frozen layers still");
    ASSERT_OK(trine_resnet_set_bn(net, "auto")); /* the remedy that it names is one */
    last_log[0] = '\0';
    train_array(net, &o, BATCH, &k);
    ck_assert_str_eq(last_log, "");
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(the_callback_stops_and_the_run_goes_on)
{
    static struct records k;
    int labels[BATCH];
    float *x = make_images(BATCH, SIDE, labels);
    const trine_shape shape = {BATCH, 3, SIDE, SIDE};
    trine_resnet *net = make_network(0);
    const trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 40);
    trine_trainer *t = NULL;
    ASSERT_OK(trine_trainer_create_array(net, dev.stream, &o, x, &shape, labels, &t));
    ck_assert_int_eq(trine_trainer_steps(t), 40);
    k = (struct records){.stop_at = 3};
    ASSERT_OK(trine_trainer_run(t, keep, &k));
    ck_assert_int_ge(k.count, 3);
    ck_assert_int_le(k.count, 3 + 16);                /* the host is at most a ring ahead */
    ck_assert_int_eq(k.count, trine_trainer_step(t)); /* what had begun is told */
    trine_bn_info info;
    ASSERT_OK(trine_resnet_bn(net, 0, &info));
    ck_assert_int_eq(info.batches, k.count);
    k.stop_at = 0;
    ASSERT_OK(trine_trainer_run_to(t, k.count, keep, &k)); /* nothing left to do */
    ck_assert_int_eq(trine_trainer_step(t), k.count);
    ASSERT_OK(trine_trainer_run_to(t, 25, keep, &k));
    ck_assert_int_eq(k.count, 25);
    trine_trainer_stop(t);
    ASSERT_OK(trine_trainer_run(t, keep, &k));
    ck_assert_int_eq(trine_trainer_step(t), 25);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_trainer_run_to(t, 41, keep, &k));
    ASSERT_OK(trine_trainer_run(t, keep, &k));
    ck_assert_int_eq(k.count, 40);
    ASSERT_OK(trine_resnet_bn(net, 0, &info));
    ck_assert_int_eq(info.batches, 40);
    trine_trainer_destroy(&t);
    free(x);
    trine_resnet_destroy(&net);
}
END_TEST

/* The rate falls after the 12th mean: 11 in a row that are no better than the first. */
START_TEST(plateau_counts_epochs)
{
    static struct records k;
    trine_resnet *net = make_network(0);
    trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 0);
    o.epochs = 15;
    o.schedule = TRINE_SCHEDULE_PLATEAU;
    o.lr = 1e-7; /* nothing to speak of moves, and no cut falls below eps 1e-8 */
    ASSERT_OK(trine_resnet_set_bn(net, "eval"));
    train_array(net, &o, BATCH, &k);
    ck_assert_int_eq(k.count, 15);
    for (int i = 0; i < 15; i++) ck_assert_double_eq_tol(k.r[i].lr, i < 12 ? 1e-7 : 1e-8, 1e-20);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(folders_train_alike_on_any_threads)
{
    static struct records k[2];
    char root[PATH_BYTES];
    make_root(root);
    make_folders(root);
    write_bytes(root, "b/02.ppm", "P6 32 32 255\nshort", 18);
    for (int objective = 0; objective <= 1; objective++) {
        uint64_t hashes[2];
        for (int run = 0; run < 2; run++) {
            trine_resnet *net = make_network(CLASSES);
            trine_trainer_options o = options_for((trine_objective)objective, 0);
            o.epochs = 5;
            o.threads = run ? 3 : 1;
            o.augment.flip = o.augment.crop = 1;
            o.lr = 0.01;
            train_folders(net, &o, root, &k[run], 1);
            hashes[run] = parameters_hash(net) ^ statistics_hash(net);
            ck_assert_int_eq(k[run].count, 5 * 3); /* 24 images by 9, or by 8 */
            ck_assert_int_eq(k[run].r[14].epoch, 5);
            trine_resnet_destroy(&net);
        }
        ck_assert_uint_eq(hashes[0], hashes[1]);
        for (int i = 0; i < 15; i++) ck_assert_float_eq(k[0].r[i].loss, k[1].r[i].loss);
        ck_assert_double_lt(mean_loss(&k[0], 11, 4), mean_loss(&k[0], 0, 4));
        ck_assert_msg(strstr(last_log, "b/02.ppm: skipped: ") != NULL, "%s", last_log);
    }
    remove_root(root);
}
END_TEST

START_TEST(small_classes_are_told)
{
    char root[PATH_BYTES];
    make_root(root);
    make_folders(root);
    make_folder(root, "e");
    write_ppm(root, "e/00.ppm", SIDE, SIDE, 7);
    trine_dataset *data = NULL;
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    trine_resnet *net = make_network(CLASSES);
    for (int k = 1; k <= 7; k++) {
        trine_trainer *t = NULL;
        trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 1);
        o.images_per_class = k;
        o.augment.flip = k == 7;
        ASSERT_OK(trine_trainer_create(net, dev.stream, &o, data, &t));
        const char *want =
            k == 7   ? "5 classes have fewer than the 7 images of a batch: all of them come before one comes "
                       "again; 1 has one image, whose only positives are its own copies, augmented in "
                       "other ways"
            : k == 3 ? "1 class has fewer than the 3 images of a batch: all of them come before one comes "
                       "again; 1 has one image, whose only positives are copies of itself at distance 0"
                     : NULL;
        if (want) ck_assert_str_eq(last_log, want);
        if (k == 1) ck_assert_ptr_null(strstr(last_log, "fewer"));
        trine_trainer_destroy(&t);
    }
    trine_resnet_destroy(&net);
    trine_dataset_destroy(&data);
    remove_root(root);
}
END_TEST

START_TEST(unsuitable_data_are_refused)
{
    char root[PATH_BYTES];
    make_root(root);
    make_folders(root);
    trine_dataset *data = NULL;
    trine_trainer *t = NULL;
    trine_resnet *net = make_network(3);
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    trine_trainer_options o = options_for(TRINE_OBJECTIVE_CLASSIFY, 2);
    ASSERT_FAILS(TRINE_ERR_DATA, trine_trainer_create(net, dev.stream, &o, data, &t));
    ck_assert_msg(strstr(trine_last_error(), "class number 3, but fc has 3 outputs") != NULL, "%s",
                  trine_last_error());
    o = options_for(TRINE_OBJECTIVE_TRIPLET, 2);
    o.classes_per_batch = CLASSES + 1;
    ASSERT_FAILS(TRINE_ERR_DATA, trine_trainer_create(net, dev.stream, &o, data, &t));
    o = options_for(TRINE_OBJECTIVE_TRIPLET, 0);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_trainer_create(net, dev.stream, &o, data, &t));
    o = options_for(TRINE_OBJECTIVE_TRIPLET, 2);
    o.lr = NAN;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_trainer_create(net, dev.stream, &o, data, &t));
    o = options_for(TRINE_OBJECTIVE_TRIPLET, 30);
    ASSERT_OK(trine_trainer_create(net, dev.stream, &o, data, &t));
    write_ppm(root, "c/01.ppm", SIDE + 1, SIDE, 1); /* another size, behind the trainer's back */
    ASSERT_FAILS(TRINE_ERR_DATA, trine_trainer_run(t, NULL, NULL));
    ck_assert_msg(strstr(trine_last_error(), "33x32") != NULL, "%s", trine_last_error());
    ASSERT_FAILS(TRINE_ERR_STATE, trine_trainer_run(t, NULL, NULL));
    trine_trainer_destroy(&t);
    ASSERT_FAILS(TRINE_ERR_DATA,
                 trine_trainer_create(net, dev.stream, &o, data, &t)); /* told before the first step */
    ck_assert_msg(strstr(trine_last_error(), "33x32") != NULL, "%s", trine_last_error());
    trine_dataset_destroy(&data);

    write_bytes(root, "a/00.ppm", "no image", 8);
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    o.fail_bad = 1;
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_trainer_create(net, dev.stream, &o, data, &t));
    ck_assert_ptr_null(t);
    trine_dataset_destroy(&data);
    trine_resnet_destroy(&net);
    remove_root(root);
}
END_TEST

/* A trainer that keeps its norms in a frozen parameter, which no call of net sees: the state assertion does. */
START_TEST(state_assertion)
{
    enum { COUNT = 6 };
    const trine_shape shape = {COUNT, 3, SIDE, SIDE};
    const trine_trainer_options o = options_for(TRINE_OBJECTIVE_TRIPLET, 2);
    int labels[COUNT];
    float *x = make_images(COUNT, SIDE, labels);
    trine_resnet *net = make_network(CLASSES);
    ASSERT_OK(trine_resnet_freeze(net, "bn1*"));
    for (int asserts = 0; asserts <= 1; asserts++) {
        trine_trainer *t = NULL;
        trine_resnet_assert_state(net, asserts);
        ASSERT_OK(trine_trainer_create_array(net, dev.stream, &o, x, &shape, labels, &t));
        trine_buffer *norms = t->norms;
        t->norms = net->params[trine__gamma_parameter(net, 0)].view;
        ck_assert_int_eq(trine_trainer_run(t, NULL, NULL), asserts ? TRINE_ERR_CHECK : TRINE_OK);
        if (asserts)
            ck_assert_str_eq(trine_last_error(),
                             "trine_trainer_run: bn1.weight changed, and it is frozen (state assertion)");
        t->norms = norms;
        trine_trainer_destroy(&t);
    }
    trine_resnet_destroy(&net);
    free(x);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("trainer");
    TCase *tc = tcase_create("trainer");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, triplet_loss_falls);
    tcase_add_test(tc, norms_are_before_normalisation);
    tcase_add_test(tc, classification_learns);
    tcase_add_test(tc, equal_runs_give_equal_bytes);
    tcase_add_test(tc, frozen_and_unreached_stay);
    tcase_add_test(tc, nothing_trainable_is_refused);
    tcase_add_test(tc, policies_that_move_frozen_layers_are_told);
    tcase_add_test(tc, the_callback_stops_and_the_run_goes_on);
    tcase_add_test(tc, plateau_counts_epochs);
    tcase_add_test(tc, folders_train_alike_on_any_threads);
    tcase_add_test(tc, small_classes_are_told);
    tcase_add_test(tc, unsuitable_data_are_refused);
    tcase_add_test(tc, state_assertion);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
