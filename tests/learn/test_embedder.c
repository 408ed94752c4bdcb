/* SPDX-License-Identifier: MIT */
/* Embedding on a device: arrays and data sets give what a session gives, in order; unreadable images are left
 * out or fail; the network does not change. */
#include <math.h>

#include "learn/learn_data.h"
#include "net/resnet_private.h"
#include "trine/retrieval.h"

enum { COUNT = 7 };

static trine_embed_options options_for(int batch)
{
    return (trine_embed_options){
        .preprocess = {0, 0, 0, {0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}, .batch = batch, .threads = 2};
}

START_TEST(arrays_as_sessions)
{
    int labels[COUNT];
    float *x = make_images(COUNT, SIDE, labels);
    const trine_shape shape = {COUNT, 3, SIDE, SIDE};
    trine_resnet *net = make_network(10);
    const uint64_t before = parameters_hash(net) ^ statistics_hash(net);
    trine_session *session = NULL;
    trine_tensor tx;
    ASSERT_OK(trine_tensor_create(dev.context, &shape, 1, &tx));
    ASSERT_OK(trine_tensor_upload(dev.stream, x, &tx));
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &shape, &session));
    ASSERT_OK(trine_session_forward(session, &tx));
    for (int fc = 0; fc <= 1; fc++) {
        const trine_tensor y = fc ? trine_session_logits(session) : trine_session_features(session);
        float *want = calloc((size_t)(COUNT * y.shape.c), sizeof *want);
        ASSERT_OK(trine_tensor_download(dev.stream, &y, want));
        const int batches[] = {0, 1, 2, 3, COUNT, 50};
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
            trine_embed_options o = options_for(batches[b]);
            o.embedding = fc ? TRINE_EMBED_FC : TRINE_EMBED_POOL;
            trine_vectors v;
            ASSERT_OK(trine_embed_array(net, dev.stream, x, &shape, &o, &v));
            ck_assert_uint_eq(v.count, COUNT);
            ck_assert_int_eq(v.dim, fc ? 10 : 64);
            ck_assert_ptr_null(v.labels);
            for (int i = 0; i < COUNT; i++) ck_assert_int_eq(v.indices[i], i);
            for (int i = 0; i < COUNT * v.dim; i++)
                ck_assert_float_eq_tol(v.data[i], want[i], 1e-5f * (1 + fabsf(want[i])));
            trine_vectors_free(&v);
            ck_assert_ptr_null(v.data);
        }
        free(want);
    }
    ck_assert_uint_eq(before, parameters_hash(net) ^ statistics_hash(net));
    trine_session_destroy(&session);
    trine_buffer_release(&tx.buffer);
    trine_resnet_destroy(&net);
    free(x);
}
END_TEST

START_TEST(normalised_rows_have_length_one)
{
    int labels[COUNT];
    float *x = make_images(COUNT, SIDE, labels);
    const trine_shape shape = {COUNT, 3, SIDE, SIDE};
    trine_resnet *net = make_network(10);
    trine_embed_options o = options_for(3);
    trine_vectors plain, unit;
    ASSERT_OK(trine_embed_array(net, dev.stream, x, &shape, &o, &plain));
    o.normalize = 1;
    ASSERT_OK(trine_embed_array(net, dev.stream, x, &shape, &o, &unit));
    for (int i = 0; i < COUNT; i++) {
        double square = 0;
        for (int d = 0; d < 64; d++) square += (double)plain.data[i * 64 + d] * plain.data[i * 64 + d];
        for (int d = 0; d < 64; d++)
            ck_assert_double_eq_tol(unit.data[i * 64 + d], plain.data[i * 64 + d] / sqrt(square), 1e-7);
    }
    trine_vectors_free(&plain);
    trine_vectors_free(&unit);
    trine_resnet_destroy(&net);
    free(x);
}
END_TEST

struct progress {
    size_t done, all;
    int calls;
};

static void count_progress(void *user, size_t done, size_t all)
{
    struct progress *p = user;
    ck_assert_uint_gt(done, p->done);
    *p = (struct progress){done, all, p->calls + 1};
}

START_TEST(folders_in_order_without_bad_images)
{
    char root[PATH_BYTES];
    make_root(root);
    make_folders(root);
    trine_resnet *net = make_network(10);
    trine_dataset *data = NULL;
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    trine_embed_options o = options_for(5);
    struct progress p = {0};
    o.progress = count_progress;
    o.progress_user = &p;
    trine_vectors all, some;
    ASSERT_OK(trine_embed_dataset(net, dev.stream, data, &o, &all));
    ck_assert_uint_eq(all.count, CLASSES * PER_CLASS);
    ck_assert_uint_eq(all.bad, 0);
    ck_assert_uint_eq(p.done, all.count);
    ck_assert_uint_eq(p.all, all.count);
    ck_assert_int_eq(p.calls, 5);
    for (int i = 0; i < (int)all.count; i++) {
        ck_assert_int_eq(all.indices[i], i);
        ck_assert_int_eq(all.labels[i], i / PER_CLASS);
    }
    write_bytes(root, "a/00.ppm", "no image", 8);
    write_bytes(root, "b/03.ppm", "no image", 8);
    p = (struct progress){0};
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_embed_dataset(net, dev.stream, data, &o, &some));
    o.skip_bad = 1;
    o.threads = 3;
    p = (struct progress){0};
    ASSERT_OK(trine_embed_dataset(net, dev.stream, data, &o, &some));
    ck_assert_uint_eq(some.count, all.count - 2);
    ck_assert_uint_eq(some.bad, 2);
    for (size_t i = 0; i < some.count; i++) {
        const int k = some.indices[i];
        ck_assert_int_eq(k, (int)(i + 1 + (i + 1 >= PER_CLASS + 3)));
        ck_assert_int_eq(some.labels[i], k / PER_CLASS);
        for (int d = 0; d < 64; d++)
            ck_assert_float_eq_tol(some.data[i * 64 + (size_t)d], all.data[k * 64 + d], 1e-5f);
    }
    trine_vectors_free(&all);
    trine_vectors_free(&some);
    trine_dataset_destroy(&data);
    trine_resnet_destroy(&net);
    remove_root(root);
}
END_TEST

START_TEST(refusals)
{
    char root[PATH_BYTES];
    make_root(root);
    make_folder(root, "a");
    write_bytes(root, "a/0.ppm", "no image", 8);
    write_bytes(root, "a/1.ppm", "no image", 8);
    trine_resnet *net = make_network(10);
    trine_dataset *data = NULL;
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    trine_embed_options o = options_for(2);
    o.skip_bad = 1;
    trine_vectors v = {.count = 77};
    ASSERT_FAILS(TRINE_ERR_DATA, trine_embed_dataset(net, dev.stream, data, &o, &v));
    o.preprocess.crop = SIDE;
    ASSERT_FAILS(TRINE_ERR_DATA, trine_embed_dataset(net, dev.stream, data, &o, &v));
    write_ppm(root, "a/0.ppm", SIDE, SIDE, 1);
    write_ppm(root, "a/1.ppm", SIDE, SIDE + 2, 1);
    o.preprocess.crop = 0;
    for (o.batch = 1; o.batch <= 2; o.batch++) {
        ASSERT_FAILS(TRINE_ERR_DATA, trine_embed_dataset(net, dev.stream, data, &o, &v));
        ck_assert_msg(strstr(trine_last_error(), "32x34") != NULL, "%s", trine_last_error());
    }
    const float x[4] = {0};
    const trine_shape shape = {1, 1, 2, 2};
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_embed_array(net, dev.stream, x, &shape, &o, &v));
    o.batch = -1;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_embed_array(net, dev.stream, x, &shape, &o, &v));
    ck_assert_uint_eq(v.count, 77);
    trine_dataset_destroy(&data);
    trine_resnet_destroy(&net);
    remove_root(root);
}
END_TEST

/* user: the network, whose first BatchNorm layer is moved. */
static void nudge(void *user, size_t done, size_t all)
{
    (void)done;
    (void)all;
    float value;
    trine_buffer *mean = ((trine_resnet *)user)->bns[0].mean;
    ASSERT_OK(trine_buffer_read(dev.stream, mean, 0, &value, sizeof value));
    value += 1;
    ASSERT_OK(trine_buffer_write(dev.stream, mean, 0, &value, sizeof value));
}

/* Somebody moves the network while it embeds: the state assertion tells, and nothing is handed out. */
START_TEST(state_assertion)
{
    int labels[COUNT];
    char root[PATH_BYTES];
    trine_dataset *data = NULL;
    make_root(root);
    make_folders(root);
    ASSERT_OK(trine_dataset_open(root, NULL, &data));
    float *x = make_images(COUNT, SIDE, labels);
    const trine_shape shape = {COUNT, 3, SIDE, SIDE};
    trine_resnet *net = make_network(10);
    trine_embed_options o = options_for(COUNT);
    o.progress = nudge;
    o.progress_user = net;
    for (int asserts = 0; asserts <= 1; asserts++) {
        const trine_status want = asserts ? TRINE_ERR_CHECK : TRINE_OK;
        trine_vectors v = {0};
        trine_resnet_assert_state(net, asserts);
        ck_assert_int_eq(trine_embed_array(net, dev.stream, x, &shape, &o, &v), want);
        ck_assert_int_eq(v.data == NULL, asserts);
        if (asserts)
            ck_assert_str_eq(trine_last_error(), "trine_embed_array: bn1's running statistics changed, which "
                                                 "this call does not do (state assertion)");
        trine_vectors_free(&v);
        ck_assert_int_eq(trine_embed_dataset(net, dev.stream, data, &o, &v), want);
        ck_assert_int_eq(v.data == NULL, asserts);
        if (asserts) ck_assert_ptr_nonnull(strstr(trine_last_error(), "trine_embed_dataset: bn1's running"));
        trine_vectors_free(&v);
    }
    trine_resnet_destroy(&net);
    trine_dataset_destroy(&data);
    remove_root(root);
    free(x);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("embedder");
    TCase *tc = tcase_create("embedder");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, arrays_as_sessions);
    tcase_add_test(tc, normalised_rows_have_length_one);
    tcase_add_test(tc, folders_in_order_without_bad_images);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, state_assertion);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
