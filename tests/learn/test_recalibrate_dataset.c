/* SPDX-License-Identifier: MIT */
/* Recalibration over arrays and data sets: as the calls beneath it, in even batches, with bad images, and the
 * network as it was after a failure. */
#include <math.h>

#include "learn/learn_data.h"
#include "trine/recalibrate.h"
#include "trine/retrieval.h"

static trine_recalibrate_options options_for(int batch, int method)
{
    return (trine_recalibrate_options){.preprocess = {0, 0, 0, {0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}},
                                       .method = (trine_recalibration_method)method,
                                       .batch = batch,
                                       .threads = 2};
}

static double mean_norm(const trine_resnet *net, const float *x, int images, trine_embedding embedding)
{
    const trine_shape shape = {images, 3, SIDE, SIDE};
    const trine_embed_options o = {.embedding = embedding, .batch = images};
    trine_vectors v;
    double sum = 0;
    ASSERT_OK(trine_embed_array(net, dev.stream, x, &shape, &o, &v));
    for (int i = 0; i < images; i++) {
        double square = 0;
        for (int d = 0; d < v.dim; d++) square += pow(v.data[i * v.dim + d], 2);
        sum += sqrt(square);
    }
    trine_vectors_free(&v);
    return sum / images;
}

/* By hand: 7 images by 3 are batches of 2, 2 and 3. */
static void by_hand(trine_resnet *net, const float *x, int method)
{
    static const int sizes[] = {2, 2, 3};
    trine_shape shape = {3, 3, SIDE, SIDE};
    trine_recalibration *r = NULL;
    trine_tensor t;
    ASSERT_OK(trine_tensor_create(dev.context, &shape, 1, &t));
    ASSERT_OK(trine_recalibration_create(net, dev.stream, &shape, "*,!layer3.*",
                                         (trine_recalibration_method)method, &r));
    for (int pass = 0; pass < trine_recalibration_passes(r); pass++) {
        const float *at = x;
        for (int b = 0; b < 3; b++) {
            t.shape.n = sizes[b];
            ASSERT_OK(trine_tensor_upload(dev.stream, at, &t));
            ASSERT_OK(trine_recalibration_add(r, &t));
            at += sizes[b] * 3 * SIDE * SIDE;
        }
        ASSERT_OK(trine_recalibration_end_pass(r));
    }
    ASSERT_OK(trine_recalibration_finish(r, NULL));
    trine_recalibration_destroy(&r);
    trine_buffer_release(&t.buffer);
}

START_TEST(arrays_as_by_hand)
{
    enum { COUNT = 7 };
    int labels[COUNT];
    float *x = make_images(COUNT, SIDE, labels);
    const trine_shape shape = {COUNT, 3, SIDE, SIDE};
    for (int method = 0; method < 2; method++) {
        trine_resnet *net = make_network(10), *want = make_network(10);
        trine_recalibrate_options o = options_for(3, method);
        trine_recalibration_report report;
        o.layers = "*,!layer3.*";
        o.embedding = method ? TRINE_EMBED_FC : TRINE_EMBED_POOL;
        const double before = mean_norm(net, x, 2, o.embedding);
        ASSERT_OK(trine_recalibrate_array(net, dev.stream, x, &shape, &o, &report));
        by_hand(want, x, method);
        ck_assert_uint_eq(statistics_hash(net), statistics_hash(want));
        ck_assert_uint_eq(parameters_hash(net), parameters_hash(want));
        ck_assert(report.images == COUNT && report.batches == 3 && report.bad == 0);
        ck_assert_int_eq(report.layer_count, 13);
        ck_assert_double_eq_tol(report.norm_before, before, 1e-5 * before);
        const double after = mean_norm(net, x, 2, o.embedding);
        ck_assert_double_eq_tol(report.norm_after, after, 1e-5 * after);
        ck_assert(fabs(after - before) > 1e-2 * before);
        trine_recalibration_report_free(&report);
        o.threads = 1;
        ASSERT_OK(trine_recalibrate_array(want, dev.stream, x, &shape, &o, NULL));
        trine_resnet_destroy(&net);
        trine_resnet_destroy(&want);
    }
    free(x);
}
END_TEST

struct told {
    int sentences;
    size_t done, all;
};

static void count_log(void *user, const char *sentence)
{
    ck_assert_msg(strstr(sentence, "skipped") != NULL, "%s", sentence);
    ((struct told *)user)->sentences++;
}

static void check_progress(void *user, size_t done, size_t all)
{
    struct told *t = user;
    ck_assert_uint_gt(done, t->done);
    t->done = done;
    t->all = all;
}

/* A folder with two bad images is the folder without them, but for the batches; the bad ones are named once
 * however many passes there are. */
START_TEST(folders)
{
    char root[PATH_BYTES];
    make_root(root);
    make_folders(root);
    trine_dataset *data = NULL;
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    for (int method = 0; method < 2; method++) {
        trine_resnet *net = make_network(10);
        trine_recalibrate_options o = options_for(10, method);
        trine_recalibration_report report;
        struct told told = {0};
        const uint64_t before = statistics_hash(net);
        write_bytes(root, "a/00.ppm", "no image", 8);
        write_bytes(root, "d/03.ppm", "no image", 8);
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine_recalibrate_dataset(net, dev.stream, data, &o, NULL));
        ck_assert_uint_eq(statistics_hash(net), before);
        o.skip_bad = 1;
        o.log = count_log;
        o.progress = check_progress;
        o.log_user = o.progress_user = &told;
        o.layers = "bn1,layer1.*";
        ASSERT_OK(trine_recalibrate_dataset(net, dev.stream, data, &o, &report));
        ck_assert(report.images == CLASSES * PER_CLASS - 2 && report.bad == 2 && report.batches == 3);
        ck_assert_int_eq(report.layer_count, 7);
        ck_assert_int_eq(told.sentences, 2);
        ck_assert_uint_eq(told.all, CLASSES * PER_CLASS * (method ? 7 : 1));
        ck_assert_uint_eq(told.done, told.all);
        ck_assert(statistics_hash(net) != before);
        trine_recalibration_report_free(&report);
        trine_resnet_destroy(&net);
    }
    trine_dataset_destroy(&data);
    remove_root(root);
}
END_TEST

START_TEST(refusals)
{
    char root[PATH_BYTES];
    int labels[2];
    float *x = make_images(2, SIDE, labels);
    trine_shape shape = {2, 3, SIDE, SIDE};
    make_root(root);
    make_folder(root, "a");
    write_bytes(root, "a/0.ppm", "no image", 8);
    trine_resnet *net = make_network(10);
    const uint64_t before = statistics_hash(net);
    trine_dataset *data = NULL;
    trine_recalibration_report report = {.images = 77};
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    trine_recalibrate_options o = options_for(0, 0);
    o.skip_bad = 1;
    ASSERT_FAILS(TRINE_ERR_DATA, trine_recalibrate_dataset(net, dev.stream, data, &o, &report));
    o.preprocess.crop = SIDE; /* the size is known without an image */
    ASSERT_FAILS(TRINE_ERR_DATA, trine_recalibrate_dataset(net, dev.stream, data, &o, &report));
    o.layers = "layer9.*";
    ASSERT_FAILS(TRINE_ERR_ARG, trine_recalibrate_array(net, dev.stream, x, &shape, &o, &report));
    o = options_for(-1, 0);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_recalibrate_array(net, dev.stream, x, &shape, &o, &report));
    o = options_for(0, 2);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_recalibrate_array(net, dev.stream, x, &shape, &o, &report));
    o = options_for(0, 0);
    shape = (trine_shape){1, 3, 4, 4}; /* one value per channel in the last stage */
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_recalibrate_array(net, dev.stream, x, &shape, &o, &report));
    ck_assert_msg(strstr(trine_last_error(), "layer3.0.bn1") != NULL, "%s", trine_last_error());
    shape.n = 0;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_recalibrate_array(net, dev.stream, x, &shape, &o, &report));
    ck_assert_uint_eq(report.images, 77);
    ck_assert_uint_eq(statistics_hash(net), before);
    trine_dataset_destroy(&data);
    trine_resnet_destroy(&net);
    remove_root(root);
    free(x);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("recalibrate_dataset");
    TCase *tc = tcase_create("recalibrate_dataset");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, arrays_as_by_hand);
    tcase_add_test(tc, folders);
    tcase_add_test(tc, refusals);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
