/* SPDX-License-Identifier: MIT */
/* Recalibration: the statistics against a reference in double, what they do not depend on, and that everything
 * else stays as it is. */
#include "trine/recalibrate.h"

#include <math.h>
#include <stdio.h>

#include "networks.h"
#include "ref/ref_batchnorm.h"
#include "ref/ref_conv2d.h"

enum { MAX_LAYERS = 32, MAX_CHANNELS = 64 };

/* Running statistics of one layer. */
struct statistics {
    float mean[MAX_CHANNELS], var[MAX_CHANNELS];
};

static void read_layer(const trine_resnet *net, const char *name, struct statistics *s)
{
    ASSERT_OK(trine_resnet_bn_read(net, dev.stream, bn_index(net, name), s->mean, s->var));
}

static void hashes(const trine_resnet *net, uint64_t out[2])
{
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &out[0], &out[1], NULL));
}

static int64_t batches_of(const trine_resnet *net, const char *name)
{
    trine_bn_info info;
    ASSERT_OK(trine_resnet_bn(net, bn_index(net, name), &info));
    return info.batches;
}

static trine_recalibration *start(trine_resnet *net, int n, int size, const char *layers,
                                  trine_recalibration_method method)
{
    const trine_shape shape = {n, 3, size, size};
    trine_recalibration *r = NULL;
    ASSERT_OK(trine_recalibration_create(net, dev.stream, &shape, layers, method, &r));
    return r;
}

/* All of x [n][3][size][size] in the given batches (0 ends them), as often as the method wants it. */
static void run(trine_resnet *net, const float *x, int size, const int *batches, const char *layers,
                trine_recalibration_method method, trine_recalibration_report *report)
{
    int most = 0;
    for (int b = 0; batches[b]; b++) most = batches[b] > most ? batches[b] : most;
    trine_recalibration *r = start(net, most, size, layers, method);
    const trine_shape shape = {most, 3, size, size};
    trine_tensor t;
    ASSERT_OK(trine_tensor_create(dev.context, &shape, 1, &t));
    for (int pass = 0; pass < trine_recalibration_passes(r); pass++) {
        const float *at = x;
        for (int b = 0; batches[b]; b++) {
            t.shape.n = batches[b];
            ASSERT_OK(trine_tensor_upload(dev.stream, at, &t));
            ASSERT_OK(trine_recalibration_add(r, &t));
            at += test_dense(t.shape);
        }
        ASSERT_OK(trine_recalibration_end_pass(r));
    }
    ASSERT_OK(trine_recalibration_finish(r, report));
    trine_recalibration_destroy(&r);
    trine_buffer_release(&t.buffer);
}

/* Mean and unbiased variance of each channel of z. */
static void reference(const ref_batchnorm *d, const double *z, double *mean, double *var)
{
    const double count = (double)d->n * d->h * d->w;
    ref_batchnorm_statistics(d, z, mean, var);
    for (int c = 0; c < d->c; c++) var[c] *= count / (count - 1);
}

/* Means within `relative` of the standard deviation, variances within `relative`, and both within the rounding
 * of a mean to float32, which is all that a batch's mean can be known to. */
static void compare(const char *what, const struct statistics *got, const double *mean, const double *var,
                    int channels, double relative)
{
    for (int c = 0; c < channels; c++) {
        const double rounding = fabs(mean[c]) * 0x1p-24;
        ck_assert_msg(fabs(got->mean[c] - mean[c]) <= relative * sqrt(var[c]) + 2 * rounding,
                      "%s: mean of channel %d is %.9g, want %.9g", what, c, (double)got->mean[c], mean[c]);
        ck_assert_msg(fabs(got->var[c] - var[c]) <= relative * var[c] + 4 * rounding * rounding,
                      "%s: variance of channel %d is %.9g, want %.9g", what, c, (double)got->var[c], var[c]);
    }
}

/* conv1 hands channel k % 3 through. */
static void pass_through(trine_resnet *net)
{
    const int i = parameter_index(net, "conv1.weight");
    float *w = calloc(parameter_count_of(net, i), sizeof *w);
    ck_assert_ptr_nonnull(w);
    for (int k = 0; k < 16; k++) w[(k * 3 + k % 3) * 9 + 4] = 1;
    ASSERT_OK(trine_resnet_parameter_write(net, dev.stream, i, w));
    free(w);
}

/* More than a million values a channel, a mean of 1e4 beside a deviation of 0.1, batches of three sizes. */
START_TEST(a_million_values)
{
    static const struct {
        double mean, deviation;
    } cases[] = {{0, 1}, {1e4, 0.1}, {-3, 1e-3}};
    const int size = test_small() ? 8 : 32, batches[] = {500, 500, 30, 0}, images = 1030;
    const trine_shape shape = {images, 3, size, size};
    const double half_width = cases[_i].deviation * sqrt(3);
    trine_resnet *net = make_network("resnet20_cifar", 3);
    struct statistics got;
    double mean[3], var[3], all_mean[16], all_var[16];
    pass_through(net);
    double *z = test_random(test_dense(shape), 5, cases[_i].mean - half_width, cases[_i].mean + half_width);
    float *x = malloc(test_dense(shape) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < test_dense(shape); i++) x[i] = (float)z[i];
    run(net, x, size, batches, "bn1", TRINE_RECALIBRATE_BATCH, NULL);
    read_layer(net, "bn1", &got);
    const ref_batchnorm layer = {images, 3, size, size, 1e-5};
    reference(&layer, z, mean, var);
    for (int c = 0; c < 16; c++) {
        all_mean[c] = mean[c % 3];
        all_var[c] = var[c % 3];
    }
    compare("bn1", &got, all_mean, all_var, 16, 1e-6);
    ck_assert_int_eq(batches_of(net, "bn1"), 3);
    free(z);
    free(x);
    trine_resnet_destroy(&net);
}
END_TEST

/* Values of a parameter as doubles; free(). */
static double *doubles(const trine_resnet *net, const char *name)
{
    const int i = parameter_index(net, name);
    const size_t count = parameter_count_of(net, i);
    float *values = parameter_values(net, i);
    double *out = test_zeros(count);
    for (size_t k = 0; k < count; k++) out[k] = values[k];
    free(values);
    return out;
}

/* The first two layers by hand: convolution, statistics, normalisation, convolution, statistics. In one method
 * bn1 normalises each batch with its own (biased) statistics, in the other all with the new running ones. */
START_TEST(two_layers_by_hand)
{
    enum { N = 9, SIDE = 12, PIXELS = SIDE * SIDE };
    static const int batches[] = {5, 1, 3, 0};
    const trine_recalibration_method method = (trine_recalibration_method)_i;
    const trine_shape shape = {N, 3, SIDE, SIDE};
    ref_conv2d conv = {N, 3, SIDE, SIDE, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1};
    trine_resnet *net = make_network("resnet20_cifar", 3);
    double *xd = test_random(test_dense(shape), 8, -1, 3), mean[16], var[16], mean2[16], var2[16];
    double *w1 = doubles(net, "conv1.weight"), *w2 = doubles(net, "layer1.0.conv1.weight");
    double *gamma = doubles(net, "bn1.weight"), *beta = doubles(net, "bn1.bias");
    double *z1 = test_zeros(N * 16 * PIXELS), *z2 = test_zeros(N * 16 * PIXELS);
    float *x = malloc(test_dense(shape) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < test_dense(shape); i++) x[i] = (float)xd[i];
    ref_conv2d_forward(&conv, xd, w1, NULL, z1);
    ref_batchnorm layer = {N, 16, SIDE, SIDE, 1e-5}, batch = layer;
    reference(&layer, z1, mean, var);
    double *at = z1;
    for (int b = 0; batches[b]; at += batches[b++] * 16 * PIXELS) {
        const bool own = method == TRINE_RECALIBRATE_BATCH;
        batch.n = batches[b];
        ref_batchnorm_statistics(&batch, at, mean2, var2);
        ref_batchnorm_apply(&batch, at, own ? mean2 : mean, own ? var2 : var, gamma, beta, NULL, 1, at);
    }
    conv.c = 16;
    ref_conv2d_forward(&conv, z1, w2, NULL, z2);
    reference(&layer, z2, mean2, var2);
    struct statistics got;
    run(net, x, SIDE, batches, "bn1,layer1.0.bn1", method, NULL);
    read_layer(net, "bn1", &got);
    compare("bn1", &got, mean, var, 16, 1e-5);
    read_layer(net, "layer1.0.bn1", &got);
    compare("layer1.0.bn1", &got, mean2, var2, 16, 1e-5);
    double *const all[] = {xd, w1, w2, gamma, beta, z1, z2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(x);
    trine_resnet_destroy(&net);
}
END_TEST

/* Largest difference of two networks' statistics: of means in standard deviations, of variances relative. */
static double difference(const trine_resnet *a, const trine_resnet *b)
{
    double most = 0;
    for (int i = 0; i < trine_resnet_bn_count(a); i++) {
        trine_bn_info info;
        struct statistics s, t;
        ASSERT_OK(trine_resnet_bn(a, i, &info));
        read_layer(a, info.name, &s);
        read_layer(b, info.name, &t);
        for (int c = 0; c < info.channels; c++) {
            most = fmax(most, fabs(s.mean[c] - t.mean[c]) / sqrt(s.var[c]));
            most = fmax(most, fabs(s.var[c] - t.var[c]) / s.var[c]);
            ck_assert(isfinite(s.mean[c]) && isfinite(t.mean[c]) && s.var[c] > 0 && t.var[c] > 0);
        }
    }
    return most;
}

/* Layer after layer the batches do not matter, within 2e-5 after 19 layers; with batch statistics they do. */
START_TEST(batches_do_not_matter)
{
    enum { N = 8, SIDE = 16 };
    static const int splits[][N + 1] = {{8}, {5, 3}, {1, 1, 1, 1, 1, 1, 1, 1}};
    float *x = random_floats(N * 3 * SIDE * SIDE, 8, -1, 3);
    for (int method = 0; method < 2; method++) {
        trine_resnet *nets[3];
        for (int k = 0; k < 3; k++) {
            nets[k] = make_network("resnet20_cifar", 3);
            run(nets[k], x, SIDE, splits[k], NULL, (trine_recalibration_method)method, NULL);
            ck_assert_int_eq(batches_of(nets[k], "layer2.0.bn1"), k == 0 ? 1 : k == 1 ? 2 : 8);
        }
        for (int k = 1; k < 3; k++) {
            const double d = difference(nets[0], nets[k]);
            ck_assert_msg(method == TRINE_RECALIBRATE_SEQUENTIAL ? d <= 2e-5 : d > 1e-3, "split %d: %g", k,
                          d);
        }
        for (int k = 0; k < 3; k++) trine_resnet_destroy(&nets[k]);
    }
    free(x);
}
END_TEST

/* A network that remembers more than one way of being set up. */
static trine_resnet *set_up(void)
{
    trine_resnet *net = make_network("resnet20_cifar", 3);
    ASSERT_OK(trine_resnet_freeze(net, "*,!layer3.*"));
    ASSERT_OK(trine_resnet_set_bn(net, "auto,layer2.*=no-update,bn1=cumulative,layer3.*=train:momentum=0.5"));
    return net;
}

/* Everything but statistics and counters. */
static void assert_set_up(const trine_resnet *net)
{
    trine_resnet *fresh = set_up();
    uint64_t want[2], got[2];
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info a, b;
        ASSERT_OK(trine_resnet_bn(net, i, &a));
        ASSERT_OK(trine_resnet_bn(fresh, i, &b));
        ck_assert_msg(a.policy == b.policy && a.momentum == b.momentum && a.updates == b.updates &&
                          a.batch_statistics == b.batch_statistics && a.frozen == b.frozen,
                      "%s", a.name);
    }
    hashes(net, got);
    hashes(fresh, want);
    ck_assert_uint_eq(got[0], want[0]);
    trine_resnet_destroy(&fresh);
}

/* What is chosen moves, by what the report says; nothing else does. */
START_TEST(only_what_is_chosen)
{
    enum { N = 4, SIDE = 16 };
    static const int batches[] = {2, 2, 0};
    static const struct {
        const char *layers;
        int count;
    } cases[] = {{NULL, 19}, {"", 19}, {"layer2.*", 6}, {"*,!*.bn1,layer3.0.bn1", 11}, {"!bn1", 18}};
    float *x = random_floats(N * 3 * SIDE * SIDE, 8, -1, 3);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (int method = 0; method < 2; method++) {
            trine_resnet *net = set_up(), *fresh = set_up();
            trine_recalibration_report report;
            uint64_t before[MAX_LAYERS], after[MAX_LAYERS];
            int moved = 0;
            ASSERT_OK(trine_resnet_state_hash(net, dev.stream, NULL, NULL, before));
            run(net, x, SIDE, batches, cases[k].layers, (trine_recalibration_method)method, &report);
            ASSERT_OK(trine_resnet_state_hash(net, dev.stream, NULL, NULL, after));
            assert_set_up(net);
            ck_assert_int_eq(report.layer_count, cases[k].count);
            ck_assert_uint_eq(report.images, N);
            ck_assert_uint_eq(report.batches, 2);
            for (int i = 0; i < trine_resnet_bn_count(net); i++) {
                trine_bn_info info;
                struct statistics s, t;
                double d[4] = {0};
                if (before[i] == after[i]) continue;
                ck_assert_int_lt(moved, report.layer_count);
                const trine_recalibrated_layer *layer = &report.layers[moved++];
                ASSERT_OK(trine_resnet_bn(net, i, &info));
                ck_assert_str_eq(layer->name, info.name);
                ck_assert_int_eq((int)info.batches, 2);
                read_layer(fresh, info.name, &s);
                read_layer(net, info.name, &t);
                for (int c = 0; c < info.channels; c++) {
                    d[0] += pow((double)t.mean[c] - s.mean[c], 2);
                    d[1] += s.var[c];
                    d[2] += pow((double)t.var[c] - s.var[c], 2);
                    d[3] += pow(s.var[c], 2);
                }
                ck_assert_double_eq_tol(layer->mean_moved, sqrt(d[0] / d[1]), 1e-9);
                ck_assert_double_eq_tol(layer->var_moved, sqrt(d[2] / d[3]), 1e-9);
            }
            ck_assert_int_eq(moved, cases[k].count);
            trine_recalibration_report_free(&report);
            ck_assert_ptr_null(report.layers);
            trine_resnet_destroy(&net);
            trine_resnet_destroy(&fresh);
        }
    free(x);
}
END_TEST

/* Statistics that are beyond repair by averaging: replaced all the same. */
START_TEST(infinite_statistics)
{
    static const int batches[] = {2, 0};
    trine_resnet *net = make_network("resnet20_cifar", 3), *other = make_network("resnet20_cifar", 3);
    float *x = random_floats(2 * 3 * 16 * 16, 8, -1, 3), bad[MAX_CHANNELS];
    for (int c = 0; c < MAX_CHANNELS; c++) bad[c] = INFINITY;
    for (int i = 0; i < trine_resnet_bn_count(net); i++)
        ASSERT_OK(trine_resnet_bn_write(net, dev.stream, i, bad, bad, 1));
    for (int method = 0; method < 2; method++) {
        run(net, x, 16, batches, NULL, (trine_recalibration_method)method, NULL);
        run(other, x, 16, batches, NULL, (trine_recalibration_method)method, NULL);
        uint64_t a[2], b[2];
        hashes(net, a);
        hashes(other, b);
        ck_assert_uint_eq(a[1], b[1]);
    }
    free(x);
    trine_resnet_destroy(&net);
    trine_resnet_destroy(&other);
}
END_TEST

/* A network without running statistics gets them, the same as one that has some; after a failure it has none. */
START_TEST(no_statistics)
{
    static const int batches[] = {2, 1, 0};
    const trine_resnet_options with = {.arch = "resnet20_cifar", .classes = 10, .seed = 3},
                               without = {.arch = "resnet20_cifar",
                                          .classes = 10,
                                          .seed = 3,
                                          .bn_without_statistics = 1};
    float *x = random_floats(3 * 3 * 16 * 16, 8, -1, 3);
    test_tensor tiny = images(1, 4, 1, 0);
    for (int method = 0; method < 2; method++) {
        trine_resnet *net = NULL, *other = NULL;
        trine_bn_info info;
        uint64_t a[2], b[2];
        ASSERT_OK(trine_resnet_create(dev.context, &without, &net));
        ASSERT_OK(trine_resnet_create(dev.context, &with, &other));
        hashes(net, a);
        trine_recalibration *r = start(net, 1, 4, NULL, (trine_recalibration_method)method);
        ASSERT_FAILS(TRINE_ERR_SHAPE, trine_recalibration_add(r, &tiny.t));
        trine_recalibration_destroy(&r);
        hashes(net, b);
        ck_assert_mem_eq(a, b, sizeof a);
        for (int tracked = 0; tracked < 2; tracked++) {
            for (int i = 0; i < trine_resnet_bn_count(net); i++) {
                ASSERT_OK(trine_resnet_bn(net, i, &info));
                ck_assert_int_eq(info.tracked, tracked);
            }
            if (!tracked) run(net, x, 16, batches, NULL, (trine_recalibration_method)method, NULL);
        }
        run(other, x, 16, batches, NULL, (trine_recalibration_method)method, NULL);
        hashes(net, a);
        hashes(other, b);
        ck_assert_mem_eq(a, b, sizeof a);
        trine_resnet_destroy(&net);
        trine_resnet_destroy(&other);
    }
    test_tensor_release(&tiny);
    free(x);
}
END_TEST

/* What can go wrong, after a batch that went well. */
typedef enum fault { TOO_SMALL, OTHER_SIZE, NO_NUMBER, NO_IMAGES, OTHER_COUNT, GIVEN_UP, FAULTS } fault;

static void provoke(trine_recalibration *r, const test_tensor *good, fault kind)
{
    test_tensor bad = images(2, kind == OTHER_SIZE ? 8 : 4, 3, 0);
    double *nan = test_constant(2 * 3 * 4 * 4, NAN);
    test_tensor nans = test_tensor_from((trine_shape){2, 3, 4, 4}, 1, nan);
    free(nan);
    if (kind == NO_IMAGES) {
        ASSERT_FAILS(TRINE_ERR_DATA, trine_recalibration_end_pass(r));
    } else {
        ASSERT_OK(trine_recalibration_add(r, &good->t));
    }
    if (kind == TOO_SMALL) {
        bad.t.shape.n = 1; /* the third stage's maps are 1x1 */
        ASSERT_FAILS(TRINE_ERR_SHAPE, trine_recalibration_add(r, &bad.t));
        ck_assert_msg(strstr(trine_last_error(), "layer3.0.bn1") && strstr(trine_last_error(), "=eval"), "%s",
                      trine_last_error());
    } else if (kind == OTHER_SIZE) {
        ASSERT_FAILS(TRINE_ERR_SHAPE, trine_recalibration_add(r, &bad.t));
    } else if (kind == NO_NUMBER) {
        ASSERT_OK(trine_recalibration_add(r, &nans.t));
        ASSERT_FAILS(TRINE_ERR_DATA, trine_recalibration_end_pass(r));
        ck_assert_msg(strstr(trine_last_error(), "bn1") != NULL, "%s", trine_last_error());
    } else if (kind == OTHER_COUNT) {
        ASSERT_OK(trine_recalibration_end_pass(r));
        ASSERT_OK(trine_recalibration_add(r, &good->t));
        ASSERT_OK(trine_recalibration_add(r, &good->t));
        ASSERT_FAILS(TRINE_ERR_DATA, trine_recalibration_end_pass(r));
    }
    test_tensor_release(&bad);
    test_tensor_release(&nans);
}

/* After every failure, and where nobody finishes, the network is as it was; so is the caller's report. */
START_TEST(failures_put_everything_back)
{
    test_tensor good = images(2, 4, 1, 0);
    for (fault kind = 0; kind < FAULTS; kind++)
        for (int method = 0; method < 2; method++) {
            if (kind == OTHER_COUNT && method == TRINE_RECALIBRATE_BATCH) continue;
            trine_resnet *net = set_up();
            trine_recalibration_report report = {.images = 77};
            uint64_t before[2], after[2];
            hashes(net, before);
            trine_recalibration *r = start(net, 2, 4, NULL, (trine_recalibration_method)method);
            provoke(r, &good, kind);
            ASSERT_FAILS(TRINE_ERR_STATE, trine_recalibration_finish(r, &report));
            ck_assert_uint_eq(report.images, 77);
            if (kind != GIVEN_UP) { /* put back by the failure already */
                ASSERT_FAILS(TRINE_ERR_STATE, trine_recalibration_add(r, &good.t));
                ASSERT_FAILS(TRINE_ERR_STATE, trine_recalibration_end_pass(r));
                hashes(net, after);
                ck_assert_mem_eq(before, after, sizeof before);
            }
            trine_recalibration_destroy(&r);
            ck_assert_ptr_null(r);
            hashes(net, after);
            ck_assert_mem_eq(before, after, sizeof before);
            assert_set_up(net);
            trine_resnet_destroy(&net);
        }
    test_tensor_release(&good);
}
END_TEST

/* What create refuses, and a network that it leaves alone. */
START_TEST(refusals)
{
    trine_resnet *net = set_up();
    trine_shape shape = {2, 3, 16, 16};
    trine_recalibration *r = NULL;
    uint64_t before[2], after[2];
    hashes(net, before);
    const char *const bad[] = {"layer9.*", "bn1,[x", "bn1,!bn1", "!*"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ASSERT_FAILS(TRINE_ERR_ARG, trine_recalibration_create(net, dev.stream, &shape, bad[i],
                                                               TRINE_RECALIBRATE_BATCH, &r));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_recalibration_create(net, dev.stream, &shape, NULL,
                                                           (trine_recalibration_method)2, &r));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_recalibration_create(net, dev.stream, NULL, NULL, TRINE_RECALIBRATE_BATCH, &r));
    shape.c = 4;
    ASSERT_FAILS(TRINE_ERR_SHAPE,
                 trine_recalibration_create(net, dev.stream, &shape, NULL, TRINE_RECALIBRATE_BATCH, &r));
    ck_assert_ptr_null(r);
    hashes(net, after);
    ck_assert_mem_eq(before, after, sizeof before);
    assert_set_up(net);
    trine_recalibration_destroy(&r);
    trine_recalibration_destroy(NULL);
    trine_recalibration_report_free(NULL);
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("recalibrate");
    TCase *tc = tcase_create("recalibrate");
    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, a_million_values, 0, 3);
    tcase_add_loop_test(tc, two_layers_by_hand, 0, 2);
    tcase_add_test(tc, batches_do_not_matter);
    tcase_add_test(tc, only_what_is_chosen);
    tcase_add_test(tc, infinite_statistics);
    tcase_add_test(tc, no_statistics);
    tcase_add_test(tc, failures_put_everything_back);
    tcase_add_test(tc, refusals);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
