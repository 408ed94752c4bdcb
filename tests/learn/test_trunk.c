/* SPDX-License-Identifier: MIT */
/* A frozen trunk in training: features kept in memory, on disk or not at all give the same bytes; they are those
 * of the network run as a whole; every distinct image goes through once; what changes the trunk is noticed. */
#include <math.h>

#include "base/memory.h"
#include "io/loader.h"
#include "learn/learn_data.h"
#include "learn/trunk_draws.h"

enum { STEPS = 12, MAX_STEPS = 64, P = 3, K = 3, IMAGES = CLASSES * PER_CLASS };

struct outcome {
    trine_step_record r[MAX_STEPS];
    int count;
    size_t bad;
    uint64_t parameters, statistics;
    char note[512];
};

static int keep(void *user, const trine_step_record *record, int steps)
{
    struct outcome *o = user;
    (void)steps;
    ck_assert_int_lt(o->count, MAX_STEPS);
    o->r[o->count++] = *record;
    return 0;
}

static trine_trainer_options options_for(struct outcome *out)
{
    trine_trainer_options o = triplet_run(STEPS);
    o.embedding = TRINE_EMBED_FC;
    o.classes_per_batch = P;
    o.images_per_class = K;
    *out = (struct outcome){0};
    return o;
}

static void finish(trine_resnet **net, trine_trainer **t, struct outcome *out)
{
    out->bad = trine_trainer_bad_images(*t);
    snprintf(out->note, sizeof out->note, "%s", trine_trainer_note(*t));
    trine_trainer_destroy(t);
    out->parameters = parameters_hash(*net);
    out->statistics = statistics_hash(*net);
    trine_resnet_destroy(net);
}

static void run(const char *root, const char *freeze, const trine_trainer_options *o, struct outcome *out)
{
    trine_dataset *data = NULL;
    trine_trainer *t = NULL;
    trine_resnet *net = make_network(0);
    ASSERT_OK(trine_resnet_freeze(net, freeze));
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    ASSERT_OK(trine_trainer_create(net, dev.stream, o, data, &t));
    ASSERT_OK(trine_trainer_run(t, keep, out));
    ck_assert_int_eq(out->count, o->steps);
    finish(&net, &t, out);
    trine_dataset_destroy(&data);
}

static void check_same(const struct outcome *a, const struct outcome *b)
{
    ck_assert_int_eq(a->count, b->count);
    for (int i = 0; i < a->count; i++) ck_assert_mem_eq(&a->r[i], &b->r[i], sizeof a->r[i]);
    ck_assert_uint_eq(a->parameters, b->parameters);
    ck_assert_uint_eq(a->statistics, b->statistics);
    ck_assert_uint_eq(a->bad, b->bad);
}

/* Kept in memory, on disk or not, with and without mirror images, for trunks of every length. */
START_TEST(kept_or_not_the_bytes_are_the_same)
{
    static const char *const freezes[] = {"*,!fc.*", "*,!fc.*,!layer3.2.*", "conv1.*,bn1.*",
                                          "conv1.*,bn1.*,layer1.*,layer2.0.*"};
    static struct outcome off, kept;
    char root[PATH_BYTES];
    make_root(root);
    make_folders(root);
    for (size_t f = 0; f < TRINE_COUNTOF(freezes); f++) {
        for (int flip = 0; flip <= 1; flip++) {
            trine_trainer_options o = options_for(&off);
            o.feature_cache = TRINE_FEATURES_OFF;
            o.augment.flip = flip;
            run(root, freezes[f], &o, &off);
            ck_assert_msg(strstr(off.note, "is evaluated at every step") != NULL, "%s", off.note);
            for (int c = TRINE_FEATURES_MEMORY; c <= TRINE_FEATURES_DISK; c++) {
                o = options_for(&kept);
                o.feature_cache = (trine_feature_cache)c;
                o.augment.flip = flip;
                run(root, freezes[f], &o, &kept);
                ck_assert_msg(strstr(kept.note, c == TRINE_FEATURES_DISK ? "kept on disk" : "kept in memory"),
                              "%s", kept.note);
                check_same(&off, &kept);
            }
        }
    }
    remove_root(root);
}
END_TEST

/* The same as the whole network in one session: with nothing frozen and no learning rate the losses are those of
 * evaluation, if every layer normalises with running statistics. */
START_TEST(features_are_the_networks)
{
    static struct outcome trunk, whole;
    int labels[IMAGES];
    float *x = make_images(IMAGES, SIDE, labels);
    const trine_shape shape = {IMAGES, 3, SIDE, SIDE};
    for (int freeze = 0; freeze <= 1; freeze++) {
        struct outcome *out = freeze ? &trunk : &whole;
        trine_trainer_options o = options_for(out);
        trine_trainer *t = NULL;
        trine_resnet *net = make_network(0);
        o.lr = 0;
        o.steps = 1;
        ASSERT_OK(trine_resnet_set_bn(net, "eval"));
        ASSERT_OK(trine_resnet_freeze(net, freeze ? "*,!fc.*" : ""));
        ASSERT_OK(trine_trainer_create_array(net, dev.stream, &o, x, &shape, labels, &t));
        ASSERT_OK(trine_trainer_run(t, keep, out));
        finish(&net, &t, out);
    }
    ck_assert_float_gt(whole.r[0].loss, 0);
    ck_assert_float_eq_tol(trunk.r[0].loss, whole.r[0].loss, 1e-5f * whole.r[0].loss);
    ck_assert_float_eq_tol(trunk.r[0].embedding_norm, whole.r[0].embedding_norm,
                           1e-5f * whole.r[0].embedding_norm);
    free(x);
}
END_TEST

/* An array's features: computed once, or at every step, the same. */
START_TEST(arrays_too)
{
    static struct outcome off, kept;
    int labels[IMAGES];
    float *x = make_images(IMAGES, SIDE, labels);
    const trine_shape shape = {IMAGES, 3, SIDE, SIDE};
    for (int keep_them = 0; keep_them <= 1; keep_them++) {
        struct outcome *out = keep_them ? &kept : &off;
        trine_trainer_options o = options_for(out);
        trine_resnet *net = make_network(0);
        trine_trainer *t = NULL;
        o.feature_cache = keep_them ? TRINE_FEATURES_AUTO : TRINE_FEATURES_OFF;
        ASSERT_OK(trine_resnet_freeze(net, "*,!fc.*,!layer3.*"));
        ASSERT_OK(trine_trainer_create_array(net, dev.stream, &o, x, &shape, labels, &t));
        ASSERT_OK(trine_trainer_run(t, keep, out));
        finish(&net, &t, out);
    }
    check_same(&off, &kept);
    ck_assert_float_lt(kept.r[STEPS - 1].loss, kept.r[0].loss);
    free(x);
}
END_TEST

/* An image that cannot be read is replaced alike; a class of which nothing can be read is left out alike. */
START_TEST(unreadable_images)
{
    static struct outcome off, kept;
    char root[PATH_BYTES];
    make_root(root);
    make_folders(root);
    write_bytes(root, "b/02.ppm", "P6 broken", 9);
    for (int i = 0; i < PER_CLASS; i++) {
        char name[32];
        snprintf(name, sizeof name, "d/%02d.ppm", i);
        write_bytes(root, name, "no image", 8);
    }
    for (int keep_them = 0; keep_them <= 1; keep_them++) {
        struct outcome *out = keep_them ? &kept : &off;
        trine_trainer_options o = options_for(out);
        o.feature_cache = keep_them ? TRINE_FEATURES_AUTO : TRINE_FEATURES_OFF;
        o.steps = 20;
        run(root, "*,!fc.*", &o, out);
        ck_assert_uint_eq(out->bad, 1 + PER_CLASS);
    }
    check_same(&off, &kept);
    remove_root(root);
}
END_TEST

static void check_note(const trine_trainer *t, const char *part)
{
    ck_assert_msg(strstr(trine_trainer_note(t), part) != NULL, "%s", trine_trainer_note(t));
}

/* Between steps another policy, other statistics, another freezing: the features follow. */
START_TEST(changes_are_noticed)
{
    static struct outcome off, kept;
    char root[PATH_BYTES];
    make_root(root);
    make_folders(root);
    for (int keep_them = 0; keep_them <= 1; keep_them++) {
        struct outcome *out = keep_them ? &kept : &off;
        trine_trainer_options o = options_for(out);
        trine_dataset *data = NULL;
        trine_trainer *t = NULL;
        trine_resnet *net = make_network(0);
        o.feature_cache = keep_them ? TRINE_FEATURES_AUTO : TRINE_FEATURES_OFF;
        ASSERT_OK(trine_resnet_freeze(net, "*,!fc.*"));
        ASSERT_OK(trine_dataset_open(root, NULL, &data));
        ASSERT_OK(trine_trainer_create(net, dev.stream, &o, data, &t));
        check_note(t, "everything before fc is frozen");
        ASSERT_OK(trine_trainer_run_to(t, 3, keep, out));
        float mean[64], var[64];
        ASSERT_OK(trine_resnet_bn_read(net, dev.stream, 0, mean, var));
        for (int c = 0; c < 16; c++) var[c] *= 2;
        ASSERT_OK(trine_resnet_bn_write(net, dev.stream, 0, mean, var, 1));
        ASSERT_OK(trine_trainer_run_to(t, 6, keep, out));
        ASSERT_OK(trine_resnet_set_bn(net, "layer2.*=train"));
        ASSERT_OK(trine_trainer_run_to(t, 9, keep, out));
        check_note(t, "everything before layer2.0 is frozen");
        ASSERT_OK(trine_resnet_freeze(net, "conv1.*"));
        ASSERT_OK(trine_trainer_run(t, keep, out));
        ck_assert_str_eq(trine_trainer_note(t), "");
        finish(&net, &t, out);
        trine_dataset_destroy(&data);
    }
    ck_assert_int_eq(kept.count, STEPS);
    check_same(&off, &kept);
    remove_root(root);
}
END_TEST

/* No room in memory: on disk; none there: not kept; asked for in vain: an error. */
START_TEST(room)
{
    static struct outcome out;
    char root[PATH_BYTES];
    make_root(root);
    make_folders(root);
    trine_trainer_options o = options_for(&out);
    o.feature_memory = 1;
    run(root, "*,!fc.*", &o, &out);
    ck_assert_msg(strstr(out.note, "kept on disk") != NULL, "%s", out.note);
    char missing[4200];
    snprintf(missing, sizeof missing, "%s/nowhere", root);
    setenv("TMPDIR", missing, 1);
    o = options_for(&out);
    o.feature_memory = 1;
    run(root, "*,!fc.*", &o, &out);
    ck_assert_msg(strstr(out.note, "nowhere: no temporary file") != NULL, "%s", out.note);
    trine_dataset *data = NULL;
    trine_trainer *t = NULL;
    trine_resnet *net = make_network(0);
    ASSERT_OK(trine_resnet_freeze(net, "*,!fc.*"));
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    o.feature_cache = TRINE_FEATURES_DISK;
    ASSERT_FAILS(TRINE_ERR_WRITE, trine_trainer_create(net, dev.stream, &o, data, &t));
    o.feature_cache = TRINE_FEATURES_MEMORY;
    ASSERT_FAILS(TRINE_ERR_NOMEM, trine_trainer_create(net, dev.stream, &o, data, &t));
    ck_assert_ptr_null(t);
    unsetenv("TMPDIR");
    trine_dataset_destroy(&data);
    trine_resnet_destroy(&net);
    remove_root(root);
}
END_TEST

/* ---- the order ---- */

static trine__sampler *open_sampler(void)
{
    int labels[IMAGES];
    trine__sampler *s = NULL;
    for (int i = 0; i < IMAGES; i++) labels[i] = i % CLASSES;
    ASSERT_OK(trine__sampler_create_classes(labels, IMAGES, P, K, 9, &s));
    return s;
}

/* Each distinct image once, in the order of the steps or, all of them, in that of the data set; or every draw. */
START_TEST(every_distinct_image_once)
{
    for (int flip = 0; flip <= 1; flip++) {
        for (int mode = 0; mode < 3; mode++) {
            const trine__draws_options o = {.images = IMAGES,
                                            .flip = flip,
                                            .seed = 5,
                                            .first_step = 2,
                                            .steps = 7,
                                            .once = mode > 0,
                                            .all_first = mode == 2};
            trine__draws d;
            trine__loader_row row;
            bool drawn[2 * IMAGES] = {false}, given[2 * IMAGES] = {false};
            int indices[P * K], count = 0, distinct = 0;
            trine__sampler *s = open_sampler();
            for (size_t step = o.first_step; step < o.steps; step++) {
                trine__sampler_batch(s, step, indices);
                for (int i = 0; i < P * K; i++) {
                    row = (trine__loader_row){indices[i], step, (uint64_t)i};
                    distinct += !drawn[trine__draws_key(&o, &row)];
                    drawn[trine__draws_key(&o, &row)] = true;
                }
            }
            trine__sampler_destroy(&s);
            ASSERT_OK(trine__draws_open(&d, &o, open_sampler()));
            for (; trine__draws_next(&d, &row); count++) {
                const size_t key = trine__draws_key(&o, &row);
                ck_assert(!o.once || !given[key]);
                ck_assert(mode != 2 || key == (size_t)count);
                given[key] = true;
            }
            trine__draws_close(&d);
            const int all = (int)trine__draws_keys(&o);
            ck_assert_int_eq(all, flip ? 2 * IMAGES : IMAGES);
            ck_assert_int_eq(count, mode == 0 ? 5 * P * K : mode == 1 ? distinct : all);
            for (int i = 0; i < all; i++) ck_assert(mode == 2 ? given[i] : given[i] == drawn[i]);
        }
    }
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("trunk");
    TCase *tc = tcase_create("trunk");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, kept_or_not_the_bytes_are_the_same);
    tcase_add_test(tc, features_are_the_networks);
    tcase_add_test(tc, arrays_too);
    tcase_add_test(tc, unreadable_images);
    tcase_add_test(tc, changes_are_noticed);
    tcase_add_test(tc, room);
    tcase_add_test(tc, every_distinct_image_once);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
