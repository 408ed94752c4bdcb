/* SPDX-License-Identifier: MIT */
/* A network's values: seeds, names, exact round trips through weights, what does not fit, the state hash,
 * snapshots. */
#include <math.h>
#include <stdio.h>

#include "net/networks.h"

static trine_resnet *create(const char *arch, uint64_t seed, int embedding_dim)
{
    trine_resnet *net = NULL;
    const trine_resnet_options options = {.arch = arch, .seed = seed, .embedding_dim = embedding_dim};
    ASSERT_OK(trine_resnet_create(dev.context, &options, &net));
    return net;
}

static uint64_t hash_of(const trine_resnet *net)
{
    uint64_t parameters, statistics;
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &parameters, &statistics, NULL));
    return parameters * 31 + statistics;
}

static trine_weights *weights_of(const trine_resnet *net, int torchvision_names)
{
    trine_weights *w = NULL;
    ASSERT_OK(trine_resnet_to_weights(net, dev.stream, torchvision_names, &w));
    return w;
}

/* A copy of `from` in which one tensor has another name, shape or content. rename NULL: left out. */
static trine_weights *edited(const trine_weights *from, const char *name, const char *rename, int rank,
                             const int64_t *dims, float value, size_t element)
{
    trine_weights *w = NULL;
    ASSERT_OK(trine_weights_create(&w));
    for (size_t i = 0; i < trine_weights_count(from); i++) {
        const trine_weights_tensor *t = trine_weights_at(from, i);
        if (strcmp(t->name, name) != 0) {
            ASSERT_OK(trine_weights_add(w, t->name, t->dtype, t->rank, t->dims, t->data));
            continue;
        }
        if (!rename) continue;
        float *data = calloc(1, t->bytes + 65536);
        ck_assert_ptr_nonnull(data);
        memcpy(data, t->data, t->bytes);
        if (value != 0) data[element] = value;
        ASSERT_OK(trine_weights_add(w, rename, t->dtype, dims ? rank : t->rank, dims ? dims : t->dims, data));
        free(data);
    }
    return w;
}

START_TEST(test_seed)
{
    trine_resnet *a = create("resnet20_cifar", 1, 0), *b = create("resnet20_cifar", 1, 0),
                 *c = create("resnet20_cifar", 2, 0);
    ck_assert_uint_eq(hash_of(a), hash_of(b));
    ck_assert(hash_of(a) != hash_of(c));
    trine_resnet_destroy(&a);
    trine_resnet_destroy(&b);
    trine_resnet_destroy(&c);
    ck_assert_ptr_null(a);
    trine_resnet_destroy(&a);
}
END_TEST

/* He-normal over the output side, gamma 1, beta 0, fc within 1/sqrt(features); statistics 0 and 1. */
START_TEST(test_initial_values)
{
    trine_resnet *net = create("resnet20_cifar", 3, 0);
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        trine_parameter_info info;
        ASSERT_OK(trine_resnet_parameter(net, i, &info));
        const size_t count = parameter_count_of(net, i);
        float *values = parameter_values(net, i);
        double mean = 0, square = 0, most = 0;
        for (size_t k = 0; k < count; k++) {
            mean += values[k] / (double)count;
            square += (double)values[k] * values[k] / (double)count;
            most = fmax(most, fabs((double)values[k]));
        }
        if (info.rank == 4) {
            const double var = 2.0 / ((double)info.dims[0] * info.dims[2] * info.dims[3]);
            ck_assert_msg(fabs(mean) < 5 * sqrt(var / (double)count), "%s: mean %g", info.name, mean);
            ck_assert_msg(fabs(square / var - 1) < 5 * sqrt(2.0 / (double)count), "%s: variance %g of %g",
                          info.name, square, var);
        } else if (strncmp(info.name, "fc.", 3) == 0) {
            ck_assert(most <= 0.125 && most > 0.08);
        } else {
            const float want = strcmp(strrchr(info.name, '.'), ".weight") == 0 ? 1 : 0;
            for (size_t k = 0; k < count; k++) ck_assert_float_eq(values[k], want);
        }
        free(values);
    }
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        float mean[64], var[64];
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        ASSERT_OK(trine_resnet_bn_read(net, dev.stream, i, mean, var));
        ck_assert_int_eq(info.batches, 0);
        for (int c = 0; c < info.channels; c++) ck_assert(mean[c] == 0 && var[c] == 1);
    }
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(test_variants)
{
    for (int i = 0; i < trine_resnet_variant_count(); i++)
        ck_assert_ptr_nonnull(trine_resnet_variant_name(i));
    ck_assert_ptr_null(trine_resnet_variant_name(-1));
    ck_assert_ptr_null(trine_resnet_variant_name(trine_resnet_variant_count()));
    trine_resnet *net = NULL;
    trine_resnet_options options = {.arch = "resnet19"};
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_create(dev.context, &options, &net));
    for (int i = 0; i < trine_resnet_variant_count(); i++)
        ck_assert_ptr_nonnull(strstr(trine_last_error(), trine_resnet_variant_name(i)));
    options.arch = NULL;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_create(dev.context, &options, &net));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_create(dev.context, NULL, &net));
    ck_assert_ptr_null(net);
}
END_TEST

/* 1814073344: torchvision's own count for resnet18 at 224 x 224 ("_ops" 1.814). */
START_TEST(test_properties)
{
    trine_resnet *net = create("resnet18", 1, 0);
    ck_assert_str_eq(trine_resnet_arch(net), "resnet18");
    ck_assert_int_eq(trine_resnet_features(net), 512);
    ck_assert_int_eq(trine_resnet_outputs(net), 1000);
    ck_assert_int_eq(trine_resnet_in_channels(net), 3);
    ck_assert_double_eq_tol(trine_resnet_macs(net, 224, 224), 1814073344.0, 0.5);
    trine_parameter_info info;
    ASSERT_OK(trine_resnet_parameter(net, 0, &info));
    ck_assert_str_eq(info.name, "fc.weight");
    ck_assert(info.rank == 2 && info.dims[0] == 1000 && info.dims[1] == 512 && info.trainable);
    ck_assert_int_eq(bn_index(net, "bn1"), 0); /* forward order */
    const int conv1 = parameter_index(net, "conv1.weight");
    ck_assert_int_ge(conv1, trine_resnet_parameter_count(net) - 3); /* backward order */
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_parameter(net, -1, &info));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_parameter(net, trine_resnet_parameter_count(net), &info));
    trine_resnet_destroy(&net);
}
END_TEST

/* to_weights(from_weights(w)) has w's names, order and bytes, and the network's hash is the same. */
START_TEST(test_round_trip)
{
    static const char *const archs[] = {"resnet20_cifar", "resnet18"};
    trine_resnet *net = create(archs[_i], 5, 0), *back = NULL;
    stir(net, 5);
    float mean[64], var[64];
    ASSERT_OK(trine_resnet_bn_read(net, dev.stream, 0, mean, var));
    ASSERT_OK(trine_resnet_bn_write(net, dev.stream, 0, mean, var, INT64_C(123456789012)));
    trine_weights *a = weights_of(net, 1), *b;
    ASSERT_OK(trine_resnet_from_weights(dev.context, a, NULL, &back));
    b = weights_of(back, 1);
    ck_assert_uint_eq(trine_weights_count(a), trine_weights_count(b));
    for (size_t i = 0; i < trine_weights_count(a); i++) {
        const trine_weights_tensor *s = trine_weights_at(a, i), *t = trine_weights_at(b, i);
        ck_assert_str_eq(s->name, t->name);
        ck_assert_uint_eq(s->bytes, t->bytes);
        ck_assert_int_eq(s->rank, t->rank);
        ck_assert_msg(memcmp(s->data, t->data, s->bytes) == 0, "%s differs", s->name);
    }
    ck_assert_str_eq(trine_weights_at(a, 0)->name, "conv1.weight"); /* torchvision's order */
    ck_assert_str_eq(trine_weights_at(a, 1)->name, "bn1.weight");
    ck_assert_str_eq(trine_weights_at(a, trine_weights_count(a) - 1)->name, "fc.bias");
    ck_assert_str_eq(trine_weights_metadata(a, "arch"), archs[_i]);
    ck_assert_str_eq(trine_resnet_arch(back), archs[_i]);
    ck_assert_uint_eq(hash_of(net), hash_of(back));
    trine_bn_info info;
    ASSERT_OK(trine_resnet_bn(back, 0, &info));
    ck_assert_int_eq(info.batches, INT64_C(123456789012));
    trine_weights_destroy(&a);
    trine_weights_destroy(&b);
    trine_resnet_destroy(&net);
    trine_resnet_destroy(&back);
}
END_TEST

START_TEST(test_linear_names)
{
    trine_resnet *net = create("resnet20_cifar", 6, 0), *back = NULL;
    trine_weights *fc = weights_of(net, 0), *half = edited(fc, "fc.weight", "linear.weight", 0, NULL, 0, 0),
                  *linear = edited(half, "fc.bias", "linear.bias", 0, NULL, 0, 0);
    ASSERT_FAILS(TRINE_ERR_WEIGHTS,
                 trine_resnet_from_weights(dev.context, half, NULL, &back)); /* one of each */
    ASSERT_OK(trine_resnet_from_weights(dev.context, linear, NULL, &back));
    ck_assert_uint_eq(hash_of(net), hash_of(back));
    trine_weights *source = weights_of(back, 0), *canonical = weights_of(back, 1);
    ck_assert_ptr_nonnull(trine_weights_find(source, "linear.weight"));
    ck_assert_ptr_null(trine_weights_find(source, "fc.weight"));
    ck_assert_ptr_nonnull(trine_weights_find(canonical, "fc.bias"));
    ck_assert_ptr_null(trine_weights_find(canonical, "linear.bias"));
    ck_assert_str_eq(trine_weights_metadata(source, "names"), "source");
    ck_assert_str_eq(trine_weights_metadata(canonical, "names"), "torchvision");
    ck_assert_int_ge(parameter_index(back, "fc.weight"), 0); /* canonical inside */
    trine_weights *const all[] = {fc, half, linear, source, canonical};
    for (size_t i = 0; i < 5; i++) {
        trine_weights *w = all[i];
        trine_weights_destroy(&w);
    }
    trine_resnet_destroy(&net);
    trine_resnet_destroy(&back);
}
END_TEST

START_TEST(test_embedding)
{
    trine_resnet *net = create("resnet20_cifar", 7, 0), *a = NULL, *b = NULL, *c = NULL;
    trine_weights *w = weights_of(net, 1), *headless = edited(w, "fc.weight", NULL, 0, NULL, 0, 0),
                  *bare = edited(headless, "fc.bias", NULL, 0, NULL, 0, 0);
    trine_resnet_options options = {.embedding_dim = 24, .seed = 1};
    ASSERT_OK(trine_resnet_from_weights(dev.context, w, &options, &a));
    ck_assert_int_eq(trine_resnet_outputs(a), 24);
    ck_assert_uint_eq(parameter_count_of(a, parameter_index(a, "fc.weight")), 24 * 64);
    for (int i = 2; i < trine_resnet_parameter_count(net); i++) { /* the rest is that of the file */
        float *x = parameter_values(net, i), *y = parameter_values(a, i);
        ck_assert_mem_eq(x, y, parameter_count_of(net, i) * sizeof *x);
        free(x);
        free(y);
    }
    ASSERT_OK(trine_resnet_from_weights(dev.context, bare, &options, &b)); /* a file without fc will do */
    ck_assert_uint_eq(hash_of(a), hash_of(b));
    options.seed = 2;
    ASSERT_OK(trine_resnet_from_weights(dev.context, w, &options, &c));
    ck_assert(hash_of(a) != hash_of(c));
    trine_resnet_destroy(&c);
    ASSERT_FAILS(TRINE_ERR_WEIGHTS, trine_resnet_from_weights(dev.context, bare, NULL, &c));
    c = create("resnet20_cifar", 1, 5);
    ck_assert_int_eq(trine_resnet_outputs(c), 5);
    trine_weights_destroy(&w);
    trine_weights_destroy(&headless);
    trine_weights_destroy(&bare);
    trine_resnet_destroy(&net);
    trine_resnet_destroy(&a);
    trine_resnet_destroy(&b);
    trine_resnet_destroy(&c);
}
END_TEST

/* One thing wrong at a time; the sentence names it. */
START_TEST(test_misfits)
{
    static const int64_t wrong[] = {16, 3, 5, 5};
    static const struct {
        const char *name, *rename;
        int rank;
        float value;
        const char *says;
    } edits[] = {
        {"layer2.1.conv1.weight", NULL, 0, 0, "missing 'layer2.1.conv1.weight'"},
        {"layer1.0.bn1.running_var", NULL, 0, 0, "missing 'layer1.0.bn1.running_var'"},
        {"fc.bias", NULL, 0, 0, "missing 'fc.bias'"},
        {"layer2.1.conv1.weight", "layer2.1.conv9.weight", 0, 0, "unexpected 'layer2.1.conv9.weight'"},
        {"layer1.2.conv2.weight", "layer1.2.conv2.weight", 4, 0, "[16,3,5,5], expected [16,16,3,3]"},
        {"layer1.2.bn2.weight", "layer1.2.bn2.weight", 0, NAN,
         "'layer1.2.bn2.weight' holds NaN at element 3"},
        {"layer3.0.conv1.weight", "layer3.0.conv1.weight", 0, INFINITY,
         "'layer3.0.conv1.weight' holds infinity"},
        {"bn1.running_mean", "bn1.running_mean", 0, NAN, "'bn1.running_mean' holds NaN"},
        {"fc.weight", "fc.weight", 0, NAN, "'fc.weight' holds NaN"},
        {"bn1.running_var", "bn1.running_var", 0, -1, "bn1: running variance of channel 3 is -1"}};
    trine_resnet *net = create("resnet20_cifar", 8, 0), *back = NULL;
    trine_weights *w = weights_of(net, 1);
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        trine_weights *bad = edited(w, edits[i].name, edits[i].rename, edits[i].rank,
                                    edits[i].rank ? wrong : NULL, edits[i].value, 3);
        const trine_status status = trine_resnet_from_weights(dev.context, bad, NULL, &back);
        ck_assert_msg(status == TRINE_ERR_WEIGHTS, "%s: %s", edits[i].says, trine_status_text(status));
        ck_assert_msg(strstr(trine_last_error(), edits[i].says) != NULL, "'%s' lacks '%s'",
                      trine_last_error(), edits[i].says);
        ck_assert_ptr_null(back);
        trine_weights_destroy(&bad);
    }
    trine_weights *no_counter = edited(w, "layer2.0.bn1.num_batches_tracked", NULL, 0, NULL, 0, 0);
    ASSERT_OK(trine_resnet_from_weights(dev.context, no_counter, NULL, &back)); /* old files have none */
    trine_resnet_destroy(&back);
    trine_weights_destroy(&no_counter);
    static const trine_resnet_options wrong_options[] = {
        {.arch = "resnet18"}, {.in_channels = 4}, {.classes = 11}, {.arch = "resnet32_cifar"}};
    for (size_t i = 0; i < sizeof wrong_options / sizeof wrong_options[0]; i++) {
        ASSERT_FAILS(TRINE_ERR_WEIGHTS, trine_resnet_from_weights(dev.context, w, &wrong_options[i], &back));
        ck_assert_ptr_null(back);
    }
    const trine_resnet_options negative = {.embedding_dim = -1};
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_from_weights(dev.context, w, &negative, &back));
    const trine_resnet_options unknown = {.arch = "resnet19"};
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_from_weights(dev.context, w, &unknown, &back));
    trine_weights *empty = NULL;
    ASSERT_OK(trine_weights_create(&empty));
    ASSERT_FAILS(TRINE_ERR_WEIGHTS, trine_resnet_from_weights(dev.context, empty, NULL, &back));
    trine_weights_destroy(&empty);
    trine_weights_destroy(&w);
    trine_resnet_destroy(&net);
}
END_TEST

/* The hash moves with any one float or counter, back with it, and only in the part and layer concerned. */
START_TEST(test_state_hash)
{
    enum { LAYERS = 19 };
    trine_resnet *net = create("resnet20_cifar", 9, 0);
    uint64_t parameters, statistics, layers[LAYERS], p, s, l[LAYERS];
    ck_assert_int_eq(trine_resnet_bn_count(net), LAYERS);
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &parameters, &statistics, layers));
    const int count = trine_resnet_parameter_count(net);
    uint64_t *each = calloc(2 * (size_t)count, sizeof *each), *now = each + count;
    ASSERT_OK(trine_resnet_parameter_hashes(net, dev.stream, each));
    for (int i = 0; i < count; i++) {
        float *values = parameter_values(net, i);
        const size_t last = parameter_count_of(net, i) - 1;
        const float keep = values[last];
        values[last] = nextafterf(keep, 1e9f);
        ASSERT_OK(trine_resnet_parameter_write(net, dev.stream, i, values));
        ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &p, &s, l));
        ck_assert_msg(p != parameters && s == statistics, "parameter %d", i);
        ck_assert_mem_eq(l, layers, sizeof l);
        ASSERT_OK(trine_resnet_parameter_hashes(net, dev.stream, now));
        for (int k = 0; k < count; k++) ck_assert_int_eq(now[k] != each[k], k == i);
        values[last] = keep;
        ASSERT_OK(trine_resnet_parameter_write(net, dev.stream, i, values));
        free(values);
    }
    for (int i = 0; i < LAYERS; i++)
        for (int what = 0; what < 4; what++) {
            float mean[64], var[64];
            ASSERT_OK(trine_resnet_bn_read(net, dev.stream, i, mean, var));
            mean[5] += what == 0;
            var[15] += what == 1;
            ASSERT_OK(trine_resnet_bn_write(net, dev.stream, i, mean, var, what == 2));
            ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &p, &s, l));
            ck_assert_uint_eq(p, parameters);
            ck_assert_msg((s != statistics) == (what < 3), "layer %d, change %d", i, what);
            for (int k = 0; k < LAYERS; k++) ck_assert_int_eq(l[k] != layers[k], k == i && what < 3);
            mean[5] -= what == 0;
            var[15] -= what == 1;
            ASSERT_OK(trine_resnet_bn_write(net, dev.stream, i, mean, var, 0));
        }
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &p, &s, NULL));
    ck_assert(p == parameters && s == statistics);
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, NULL, NULL, NULL));
    free(each);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(test_snapshot)
{
    trine_resnet *net = make_network("resnet20_cifar", 10), *other = create("resnet18", 1, 0);
    trine_bn_snapshot *snapshot = NULL;
    ASSERT_OK(trine_resnet_set_bn(net, "train"));
    test_tensor x = images(2, 16, 1, 0);
    trine_session *session = training(net, 2, 16, TRINE_EMBED_POOL), *inference = NULL;
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &x.t.shape, &inference));
    ASSERT_OK(trine_session_forward(session, &x.t));
    const uint64_t before = hash_of(net);
    double *want = forward_values(inference, &x, TRINE_EMBED_POOL);
    ASSERT_OK(trine_resnet_bn_snapshot(net, dev.stream, &snapshot));
    for (int i = 0; i < 3; i++) ASSERT_OK(trine_session_forward(session, &x.t));
    ck_assert(hash_of(net) != before);
    ASSERT_OK(trine_resnet_bn_restore(net, dev.stream, snapshot));
    ck_assert_uint_eq(hash_of(net), before);
    double *got = forward_values(inference, &x, TRINE_EMBED_POOL); /* folded anew */
    ck_assert_mem_eq(got, want, 2 * 64 * sizeof *got);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_bn_restore(other, dev.stream, snapshot));
    free(want);
    free(got);
    trine_bn_snapshot_destroy(&snapshot);
    ck_assert_ptr_null(snapshot);
    trine_bn_snapshot_destroy(&snapshot);
    trine_session_destroy(&session);
    trine_session_destroy(&inference);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
    trine_resnet_destroy(&other);
}
END_TEST

START_TEST(test_writes)
{
    trine_resnet *net = create("resnet20_cifar", 11, 0);
    float mean[16] = {0}, var[16];
    for (int c = 0; c < 16; c++) var[c] = 1;
    const uint64_t before = hash_of(net);
    var[7] = -0.5f;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_bn_write(net, dev.stream, 0, mean, var, 1));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "channel 7"));
    var[7] = NAN;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_bn_write(net, dev.stream, 0, mean, var, 1));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_bn_write(net, dev.stream, 99, mean, var, 1));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_bn_read(net, dev.stream, -1, mean, var));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_parameter_write(net, dev.stream, 999, mean));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_resnet_parameter_read(net, dev.stream, -1, mean));
    ck_assert_uint_eq(hash_of(net), before);
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("resnet");
    TCase *tc = tcase_create("resnet");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, test_seed);
    tcase_add_test(tc, test_initial_values);
    tcase_add_test(tc, test_variants);
    tcase_add_test(tc, test_properties);
    tcase_add_loop_test(tc, test_round_trip, 0, 2);
    tcase_add_test(tc, test_linear_names);
    tcase_add_test(tc, test_embedding);
    tcase_add_test(tc, test_misfits);
    tcase_add_test(tc, test_state_hash);
    tcase_add_test(tc, test_snapshot);
    tcase_add_test(tc, test_writes);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
