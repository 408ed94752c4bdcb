/* SPDX-License-Identifier: MIT */
/* Drift: rows and layers against the closed form of the running averages, shares, policies, what the network
 * is left with. */
#include "trine/drift.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "support/check_main.h"
#include "support/device.h"

enum { IMAGES = 4, SIDE = 32, MAX_CHANNELS = 64, MAX_LAYERS = 32, FEATURES = 64, OUTPUTS = 10 };

static const trine_shape shape = {IMAGES, 3, SIDE, SIDE};
static float images[IMAGES * 3 * SIDE * SIDE];

static trine_resnet *make_network(const char *bn)
{
    trine_resnet *net = NULL;
    const trine_resnet_options options = {.arch = "resnet20_cifar", .seed = 7};
    ASSERT_OK(trine_resnet_create(dev.context, &options, &net));
    ASSERT_OK(trine_resnet_set_bn(net, bn));
    trine__random r = trine__random_stream(1, 2, 3);
    for (size_t i = 0; i < sizeof images / sizeof *images; i++)
        images[i] = (float)(0.5 + trine__random_normal(&r));
    return net;
}

static void hashes(const trine_resnet *net, uint64_t out[2])
{
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &out[0], &out[1], NULL));
}

/* Embeddings of the network as it is. */
static void embed(const trine_resnet *net, float *features, float *logits)
{
    trine_session *session = NULL;
    trine_tensor x;
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &shape, &session));
    ASSERT_OK(trine_tensor_create(dev.context, &shape, 1, &x));
    ASSERT_OK(trine_tensor_upload(dev.stream, images, &x));
    ASSERT_OK(trine_session_forward(session, &x));
    const trine_tensor f = trine_session_features(session), z = trine_session_logits(session);
    ASSERT_OK(trine_tensor_download(dev.stream, &f, features));
    ASSERT_OK(trine_tensor_download(dev.stream, &z, logits));
    trine_session_destroy(&session);
    trine_buffer_release(&x.buffer);
}

static double norm(const float *a, const float *minus, int count)
{
    double square = 0;
    for (int i = 0; i < count; i++) square += pow((double)a[i] - (minus ? minus[i] : 0), 2);
    return sqrt(square);
}

static double mean_norm(const float *rows, int count)
{
    double sum = 0;
    for (int i = 0; i < IMAGES; i++) sum += norm(rows + i * count, NULL, count);
    return sum / IMAGES;
}

static void assert_near(const char *what, double got, double want, double relative)
{
    ck_assert_msg(fabs(got - want) <= relative * fabs(want), "%s: got %.9g, want %.9g", what, got, want);
}

START_TEST(rows_tell_what_sessions_give)
{
    trine_resnet *net = make_network("train");
    float f0[IMAGES * FEATURES], f[IMAGES * FEATURES], z[IMAGES * OUTPUTS];
    trine_drift_report report;
    embed(net, f0, z);
    const double first_norm = mean_norm(f0, FEATURES), first_logits = mean_norm(z, OUTPUTS);
    ASSERT_OK(trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_POOL, 3, &report));
    embed(net, f, z); /* the network is as the passes left it */
    ck_assert_int_eq(report.row_count, 4);
    assert_near("first norm", report.rows[0].embedding_norm, first_norm, 1e-5);
    assert_near("first logits", report.rows[0].logit_norm, first_logits, 1e-5);
    assert_near("last norm", report.rows[3].embedding_norm, mean_norm(f, FEATURES), 1e-5);
    assert_near("last logits", report.rows[3].logit_norm, mean_norm(z, OUTPUTS), 1e-5);
    double cosine = 0;
    for (int i = 0; i < IMAGES; i++) {
        const float *a = f0 + i * FEATURES, *b = f + i * FEATURES;
        double product = 0;
        for (int d = 0; d < FEATURES; d++) product += (double)a[d] * b[d];
        cosine += product / (norm(a, NULL, FEATURES) * norm(b, NULL, FEATURES)) / IMAGES;
    }
    assert_near("cosine", report.rows[3].cosine, cosine, 1e-5);
    ck_assert_double_eq(report.rows[0].cosine, 1);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(report.rows[i].step, i);
    ck_assert_double_lt(report.rows[3].cosine, 0.9999);
    for (int i = 0; i < report.layer_count; i++) {
        trine_bn_info info;
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        ck_assert_int_eq((int)info.batches, 3);
        ck_assert_str_eq(report.layers[i].name, info.name);
    }
    trine_drift_report_free(&report);
    ck_assert_ptr_null(report.rows);
    trine_resnet_destroy(&net);
}
END_TEST

/* From mean 0 and variance 1, after p passes: running = batch + (start - batch) * 0.9^p. */
START_TEST(layers_follow_the_running_average)
{
    enum { PASSES = 5 };
    const double left = pow(0.9, PASSES);
    trine_resnet *net = make_network("train");
    trine_drift_report report;
    ASSERT_OK(trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_POOL, PASSES, &report));
    ck_assert_int_eq(report.layer_count, trine_resnet_bn_count(net));
    double shares = 0;
    for (int i = 0; i < report.layer_count; i++) {
        const trine_drift_layer *l = &report.layers[i];
        trine_bn_info info;
        float mean[MAX_CHANNELS], var[MAX_CHANNELS], one[MAX_CHANNELS];
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        ASSERT_OK(trine_resnet_bn_read(net, dev.stream, i, mean, var));
        double spread = 0;
        for (int c = 0; c < info.channels; c++) {
            one[c] = 1;
            spread += var[c];
        }
        assert_near("mean moved", l->mean_moved, norm(mean, NULL, info.channels) / sqrt(info.channels), 1e-5);
        assert_near("var moved", l->var_moved, norm(var, one, info.channels) / sqrt(info.channels), 1e-5);
        assert_near("mean distance", l->mean_distance,
                    norm(mean, NULL, info.channels) * left / (1 - left) / sqrt(spread), 1e-3);
        ck_assert_str_eq(l->policy, "train");
        ck_assert_double_gt(l->share, 0);
        shares += l->share;
    }
    assert_near("shares", shares, 1, 1e-9);
    trine_drift_report_free(&report);
    trine_resnet_destroy(&net);
}
END_TEST

/* Running statistics of every layer, in double. */
typedef struct host_layer {
    double mean[MAX_CHANNELS], var[MAX_CHANNELS];
    int channels;
} host_layer;

static void read_layers(const trine_resnet *net, host_layer *out)
{
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        float mean[MAX_CHANNELS], var[MAX_CHANNELS];
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        ASSERT_OK(trine_resnet_bn_read(net, dev.stream, i, mean, var));
        out[i].channels = info.channels;
        for (int c = 0; c < info.channels; c++) {
            out[i].mean[c] = mean[c];
            out[i].var[c] = var[c];
        }
    }
}

/* Running statistics that are nobody's, and a counter. */
static void set_layers(trine_resnet *net, int64_t batches)
{
    trine__random r = trine__random_stream(4, 5, 6);
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        float mean[MAX_CHANNELS], var[MAX_CHANNELS];
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        for (int c = 0; c < info.channels; c++) {
            mean[c] = (float)(0.3 * trine__random_normal(&r));
            var[c] = (float)(0.2 + fabs(trine__random_normal(&r)));
        }
        ASSERT_OK(trine_resnet_bn_write(net, dev.stream, i, mean, var, batches));
    }
}

/* What the images are to every layer: the first cumulative average takes the batch's statistics as they are. */
static void read_batch(host_layer *out)
{
    trine_drift_report report;
    trine_resnet *net = make_network("cumulative");
    ASSERT_OK(trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_POOL, 1, &report));
    read_layers(net, out);
    trine_drift_report_free(&report);
    trine_resnet_destroy(&net);
}

static double apart(const double *a, const double *b, int count)
{
    double square = 0;
    for (int c = 0; c < count; c++) square += (a[c] - b[c]) * (a[c] - b[c]);
    return sqrt(square);
}

/* |sqrt(var)| and |var|. */
static double spread_of(const host_layer *l)
{
    double sum = 0;
    for (int c = 0; c < l->channels; c++) sum += l->var[c];
    return sqrt(sum);
}

static double var_norm(const host_layer *l)
{
    const double zero[MAX_CHANNELS] = {0};
    return apart(l->var, zero, l->channels);
}

/* Share of the old value that pass number `pass` (from 1) keeps. */
static double kept(double momentum, int64_t batches, int pass)
{
    return momentum >= 0 ? 1 - momentum : 1 - 1.0 / (double)(batches + pass);
}

/* A pass rounds the running value, and what earlier ones rounded fades with them: as a share of the way. */
static double rounding_of(const double *to, const double *from, int count, int passes)
{
    const double zero[MAX_CHANNELS] = {0};
    return FLT_EPSILON * fmin(passes + 1, 10) * (apart(to, zero, count) + apart(from, zero, count)) /
           apart(to, from, count);
}

/* Distances, what is left and what is to come, against averages made by hand. @param momentum below 0: cumulative */
static void check_heading(const char *bn, double momentum, int64_t batches, int passes)
{
    static host_layer batch[MAX_LAYERS], start[MAX_LAYERS];
    trine_drift_report report;
    read_batch(batch);
    trine_resnet *net = make_network(bn);
    set_layers(net, batches);
    read_layers(net, start);
    ASSERT_OK(trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_POOL, passes, &report));
    double left = 1;
    for (int pass = 1; pass <= passes; pass++) left *= kept(momentum, batches, pass);
    int further = 0;
    for (double then = left; then > 0.01 * (1 + 1e-5); further++)
        then *= kept(momentum, batches, passes + further + 1);
    for (int i = 0; i < report.layer_count; i++) {
        const trine_drift_layer *l = &report.layers[i];
        const host_layer *b = &batch[i], *s = &start[i];
        host_layer now = *s;
        const double to_go = apart(b->mean, s->mean, s->channels);
        for (int c = 0; c < s->channels; c++) {
            now.mean[c] = b->mean[c] + left * (s->mean[c] - b->mean[c]);
            now.var[c] = b->var[c] + left * (s->var[c] - b->var[c]);
        }
        assert_near("mean distance before", l->mean_distance_before, to_go / spread_of(s), 1e-5);
        assert_near("var distance before", l->var_distance_before,
                    apart(b->var, s->var, s->channels) / var_norm(s), 1e-5);
        const double rounding = rounding_of(b->mean, s->mean, s->channels, passes),
                     var_rounding = rounding_of(b->var, s->var, s->channels, passes);
        ck_assert_msg(fabs(l->mean_remaining - left) <= rounding, "%s: %.9g of the way left, want %.9g", bn,
                      l->mean_remaining, left);
        if (left > 1e-3) {
            assert_near("mean distance", l->mean_distance, left * to_go / spread_of(&now),
                        1e-5 + rounding / left);
            assert_near("var distance", l->var_distance,
                        left * apart(b->var, s->var, s->channels) / var_norm(&now),
                        1e-5 + var_rounding / left);
        }
        ck_assert_msg(l->passes_to_1_percent == further, "%s after %d: %g passes to 1 %%, want %d", bn,
                      passes, l->passes_to_1_percent, further);
    }
    trine_drift_report_free(&report);
    trine_resnet_destroy(&net);
}

/* The running statistics approach the batch's geometrically, or as an average does. */
START_TEST(heads_for_the_batch)
{
    const int passes[] = {0, 1, 5, 20, 43, 44, 60};
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) check_heading("train", 0.1, 0, passes[i]);
    check_heading("train:momentum=0.5", 0.5, 3, 2);
    check_heading("train:momentum=1", 1, 0, 0);
    check_heading("train:momentum=1", 1, 0, 2);
    check_heading("cumulative", -1, 0, 0);
    check_heading("cumulative", -1, 0, 3);
    check_heading("cumulative", -1, 7, 0);
    check_heading("cumulative", -1, 7, 4);
}
END_TEST

/* Who does not update never arrives; who does not look at the batch has no way to go. */
START_TEST(never_arrives)
{
    trine_resnet *net = make_network("no-update,layer1.*=eval,layer2.*=train:momentum=0");
    trine_drift_report report;
    ASSERT_OK(trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_POOL, 2, &report));
    for (int i = 0; i < report.layer_count; i++) {
        const trine_drift_layer *l = &report.layers[i];
        ck_assert(isnan(l->passes_to_1_percent));
        if (strncmp(l->name, "layer1.", 7) == 0) {
            ck_assert(isnan(l->mean_remaining));
            ck_assert(l->mean_distance == 0 && l->var_distance == 0 && l->mean_distance_before == 0 &&
                      l->var_distance_before == 0);
        } else {
            ck_assert_double_eq(l->mean_remaining, 1);
            ck_assert(l->mean_distance > 0 && l->mean_distance == l->mean_distance_before);
            ck_assert(l->var_distance > 0 && l->var_distance == l->var_distance_before);
        }
    }
    trine_drift_report_free(&report);
    trine_resnet_destroy(&net);
}
END_TEST

static void nudge(trine_resnet *net)
{
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        float mean[MAX_CHANNELS], var[MAX_CHANNELS];
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        ASSERT_OK(trine_resnet_bn_read(net, dev.stream, i, mean, var));
        for (int c = 0; c < info.channels; c++) mean[c] = nextafterf(mean[c], 1e9f);
        ASSERT_OK(trine_resnet_bn_write(net, dev.stream, i, mean, var, info.batches));
    }
}

/* Statistics that are the batch's already, but for float32's rounding. */
START_TEST(there_already)
{
    trine_resnet *net = make_network("cumulative");
    trine_drift_report report;
    for (int round = 0; round < 2; round++) {
        ASSERT_OK(trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_POOL, 1 + 4 * round, &report));
        ASSERT_OK(trine_resnet_set_bn(net, "train"));
        for (int i = 0; i < report.layer_count; i++) {
            const trine_drift_layer *l = &report.layers[i];
            ck_assert_double_eq(l->mean_remaining, 0);
            ck_assert_double_eq(l->passes_to_1_percent, 0);
            ck_assert(l->var_distance < 1e-6);
            ck_assert(l->mean_distance_before > (round == 0 ? 1e-3 : 0));
            ck_assert(l->mean_distance_before < (round == 0 ? 100 : 1e-6));
        }
        nudge(net);
        trine_drift_report_free(&report);
    }
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(no_layer_that_updates_no_drift)
{
    const char *const policies[] = {"eval", "no-update"};
    for (int p = 0; p < 2; p++) {
        trine_resnet *net = make_network(policies[p]);
        uint64_t before[2], after[2];
        trine_drift_report report;
        hashes(net, before);
        ASSERT_OK(trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_FC, 4, &report));
        hashes(net, after);
        ck_assert_mem_eq(before, after, sizeof before);
        for (int i = 0; i < report.row_count; i++) {
            ck_assert_double_eq(report.rows[i].cosine, 1);
            ck_assert_double_eq(report.rows[i].embedding_norm, report.rows[0].embedding_norm);
            ck_assert_double_eq(report.rows[i].embedding_norm, report.rows[i].logit_norm); /* fc is both */
        }
        for (int i = 0; i < report.layer_count; i++) {
            const trine_drift_layer *l = &report.layers[i];
            ck_assert_str_eq(l->policy, policies[p]);
            ck_assert_double_eq(l->mean_moved, 0);
            ck_assert_double_eq(l->var_moved, 0);
            ck_assert_double_eq(l->share, 0);
            ck_assert((l->mean_distance > 0) == (p == 1));
        }
        trine_drift_report_free(&report);
        trine_resnet_destroy(&net);
    }
}
END_TEST

/* One layer moves: it has the whole share, and restoring it gives row 0 back. Passes of the report and passes
 * of a session leave the same bytes: nothing that was measured in between stayed. */
START_TEST(one_layer_has_the_whole_share)
{
    uint64_t by_report[2], by_session[2];
    for (int run = 0; run < 2; run++) {
        trine_resnet *net = make_network("eval,layer2.1.bn2=train:momentum=0.5");
        if (run == 0) {
            trine_drift_report report;
            ASSERT_OK(trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_POOL, 2, &report));
            for (int i = 0; i < report.layer_count; i++) {
                const trine_drift_layer *l = &report.layers[i];
                const bool it = strcmp(l->name, "layer2.1.bn2") == 0;
                ck_assert_double_eq(l->share, it ? 1 : 0);
                ck_assert_str_eq(l->policy, it ? "train" : "eval");
                ck_assert((l->mean_moved > 0) == it);
                ck_assert((l->mean_distance > 0) == it);
            }
            trine_drift_report_free(&report);
            hashes(net, by_report);
        } else {
            trine_session *session = NULL;
            trine_tensor x;
            ASSERT_OK(trine_session_create_training(net, dev.stream, &shape, TRINE_EMBED_POOL, 0, &session));
            ASSERT_OK(trine_tensor_create(dev.context, &shape, 1, &x));
            ASSERT_OK(trine_tensor_upload(dev.stream, images, &x));
            for (int pass = 0; pass < 2; pass++) ASSERT_OK(trine_session_forward(session, &x));
            hashes(net, by_session);
            trine_session_destroy(&session);
            trine_buffer_release(&x.buffer);
        }
        trine_resnet_destroy(&net);
    }
    ck_assert_mem_eq(by_report, by_session, sizeof by_report);
}
END_TEST

/* No pass: nothing moves, distances are told all the same. */
START_TEST(no_passes)
{
    trine_resnet *net = make_network("cumulative");
    uint64_t before[2], after[2];
    trine_drift_report report;
    hashes(net, before);
    ASSERT_OK(trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_POOL, 0, &report));
    hashes(net, after);
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert_int_eq(report.row_count, 1);
    for (int i = 0; i < report.layer_count; i++) {
        ck_assert_str_eq(report.layers[i].policy, "cumulative");
        ck_assert_double_eq(report.layers[i].mean_moved, 0);
        ck_assert_double_eq(report.layers[i].share, 0);
        ck_assert_double_gt(report.layers[i].mean_distance, 0);
    }
    trine_drift_report_free(&report);
    /* The first cumulative pass takes the batch's statistics as they are. */
    ASSERT_OK(trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_POOL, 1, &report));
    for (int i = 0; i < report.layer_count; i++) ck_assert_double_eq(report.layers[i].mean_distance, 0);
    trine_drift_report_free(&report);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(refusals)
{
    trine_resnet *net = make_network("train");
    trine_drift_report report = {.row_count = 77};
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_drift_run(net, dev.stream, images, &shape, TRINE_EMBED_POOL, -1, &report));
    const trine_shape tiny = {1, 3, 4, 4}; /* 1 x 1 in the last stage */
    uint64_t before[2], after[2];
    hashes(net, before);
    ASSERT_FAILS(TRINE_ERR_SHAPE,
                 trine_drift_run(net, dev.stream, images, &tiny, TRINE_EMBED_POOL, 1, &report));
    hashes(net, after);
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert_msg(strstr(trine_last_error(), "layer3.0.bn1") != NULL, "%s", trine_last_error());
    ck_assert_int_eq(report.row_count, 77);
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("drift");
    TCase *tc = tcase_create("drift");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, rows_tell_what_sessions_give);
    tcase_add_test(tc, layers_follow_the_running_average);
    tcase_add_test(tc, heads_for_the_batch);
    tcase_add_test(tc, never_arrives);
    tcase_add_test(tc, there_already);
    tcase_add_test(tc, no_layer_that_updates_no_drift);
    tcase_add_test(tc, one_layer_has_the_whole_share);
    tcase_add_test(tc, no_passes);
    tcase_add_test(tc, refusals);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
