/* SPDX-License-Identifier: MIT */
/* Remedies: what each does and does not, and that the network is afterwards as it was. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "networks.h"
#include "trine/drift.h"

enum { SIDE = 32, PASSES = 3, REMEDIES = 10 };

/* What holds for any network that has drifted; rows in order. */
static const struct {
    const char *name, *bn; /* NULL: not told here */
    int statistics_move, train_equals_eval, depends_on_batch, gradient_matches_eval, drifts;
    int norms; /* beyond one before and one after each pass */
} expected[REMEDIES] = {
    {"nothing", "train", 1, 0, 1, 0, 1, 0},         {"freeze parameters", "train", 1, 0, 1, 0, 1, 0},
    {"momentum 0", "no-update", 0, 0, 1, 0, 0, 0},  {"eval all", "eval", 0, 1, 0, 1, 0, 0},
    {"eval chosen layers", NULL, 1, 0, 1, 0, 1, 0}, {"cumulative", "cumulative", 1, 0, 1, 0, 1, 0},
    {"batch of one", "train", 1, 0, 0, 0, 1, 0},    {"batch of many", "train", 1, 0, 1, 0, 1, 0},
    {"re-estimate", "train", 1, 0, 1, 0, 1, 1},     {"snapshot and restore", "train", 0, 0, 1, 0, 0, 1},
};

static void hashes(const trine_resnet *net, uint64_t out[2])
{
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &out[0], &out[1], NULL));
}

static const trine_remedy *named(const trine_remedies *remedies, const char *name)
{
    for (int i = 0; i < remedies->count; i++)
        if (strcmp(remedies->items[i].name, name) == 0) return &remedies->items[i];
    ck_abort_msg("no remedy %s", name);
}

static void try_all(trine_resnet *net, int n, trine_embedding embedding, trine_remedies *out)
{
    const trine_shape shape = {n, 3, SIDE, SIDE};
    float *x = random_floats(test_dense(shape), 11, -1, 2);
    ASSERT_OK(trine_remedies_run(net, dev.stream, x, &shape, embedding, PASSES, out));
    free(x);
}

static void check_rows(const trine_remedies *remedies)
{
    ck_assert_int_eq(remedies->count, REMEDIES);
    for (int i = 0; i < REMEDIES; i++) {
        const trine_remedy *r = &remedies->items[i];
        ck_assert_str_eq(r->name, expected[i].name);
        if (expected[i].bn) ck_assert_str_eq(r->bn, expected[i].bn);
        ck_assert_msg(r->possible && r->statistics_move == expected[i].statistics_move &&
                          r->train_equals_eval == expected[i].train_equals_eval &&
                          r->depends_on_batch == expected[i].depends_on_batch &&
                          r->gradient_matches_eval == expected[i].gradient_matches_eval &&
                          (r->drift > 0) == expected[i].drifts,
                      "%s: %d %d %d %d %g", r->name, r->statistics_move, r->train_equals_eval,
                      r->depends_on_batch, r->gradient_matches_eval, r->drift);
        ck_assert_int_eq(r->norm_count, PASSES + 1 + expected[i].norms);
        ck_assert_double_eq(r->norms[0], remedies->items[0].norms[0]);
        const double last = r->norms[r->norm_count - 1], first = r->norms[0];
        ck_assert_double_eq_tol(r->drift, fabs(last - first) / first, 1e-12);
    }
}

/* One image and several, both embeddings: the rows, and an unchanged network. */
START_TEST(rows_and_nothing_moves)
{
    const int counts[] = {1, 4};
    for (int k = 0; k < 4; k++) {
        trine_resnet *net = make_network("resnet20_cifar", 7);
        uint64_t before[2], after[2];
        trine_remedies remedies;
        hashes(net, before);
        try_all(net, counts[k % 2], k < 2 ? TRINE_EMBED_POOL : TRINE_EMBED_FC, &remedies);
        hashes(net, after);
        ck_assert_mem_eq(before, after, sizeof before);
        check_rows(&remedies);
        /* These are what "nothing" is. Frozen parameters have passes of their own, the others share its. */
        const trine_remedy *nothing = &remedies.items[0], *frozen = named(&remedies, "freeze parameters"),
                           *restored = named(&remedies, "snapshot and restore");
        for (int i = 0; i <= PASSES; i++) {
            ck_assert_double_eq(frozen->norms[i], nothing->norms[i]);
            ck_assert_double_eq(restored->norms[i], nothing->norms[i]);
        }
        ck_assert_double_eq(named(&remedies, k % 2 == 0 ? "batch of one" : "batch of many")->drift,
                            nothing->drift);
        trine_remedies_free(&remedies);
        ck_assert_ptr_null(remedies.items);
        ck_assert_ptr_null(remedies.drift.rows);
        trine_resnet_destroy(&net);
    }
}
END_TEST

/* Policies, momenta, freezing and counters are those of before; what they are does not matter to the rows. */
START_TEST(policies_and_freezing_stay)
{
    static const char policy[] = "auto,layer2.*=no-update,bn1=cumulative,layer3.*=train:momentum=0.5";
    trine_resnet *net = make_network("resnet20_cifar", 7);
    ASSERT_OK(trine_resnet_freeze(net, "*,!layer3.*"));
    ASSERT_OK(trine_resnet_set_bn(net, policy));
    const int layers = trine_resnet_bn_count(net), parameters = trine_resnet_parameter_count(net);
    trine_bn_info before[32], after;
    int trainable[128];
    trine_parameter_info parameter;
    for (int i = 0; i < layers; i++) ASSERT_OK(trine_resnet_bn(net, i, &before[i]));
    for (int i = 0; i < parameters; i++) {
        ASSERT_OK(trine_resnet_parameter(net, i, &parameter));
        trainable[i] = parameter.trainable;
    }
    trine_remedies remedies;
    try_all(net, 2, TRINE_EMBED_POOL, &remedies);
    check_rows(&remedies);
    for (int i = 0; i < layers; i++) {
        ASSERT_OK(trine_resnet_bn(net, i, &after));
        ck_assert(after.policy == before[i].policy && after.momentum == before[i].momentum &&
                  after.batches == before[i].batches && after.frozen == before[i].frozen &&
                  after.updates == before[i].updates);
    }
    for (int i = 0; i < parameters; i++) {
        ASSERT_OK(trine_resnet_parameter(net, i, &parameter));
        ck_assert_int_eq(parameter.trainable, trainable[i]);
    }
    trine_remedies_free(&remedies);
    trine_resnet_destroy(&net);
}
END_TEST

/* "nothing" is what trine_drift_run() sees; the chosen layers are those with the largest shares. */
START_TEST(as_drift_tells)
{
    trine_resnet *net = make_network("resnet20_cifar", 7);
    const trine_shape shape = {3, 3, SIDE, SIDE};
    float *x = random_floats(test_dense(shape), 11, -1, 2);
    trine_remedies remedies;
    trine_drift_report report;
    ASSERT_OK(trine_remedies_run(net, dev.stream, x, &shape, TRINE_EMBED_POOL, PASSES, &remedies));
    ASSERT_OK(trine_resnet_set_bn(net, "train"));
    ASSERT_OK(trine_drift_run(net, dev.stream, x, &shape, TRINE_EMBED_POOL, PASSES, &report));
    for (int i = 0; i <= PASSES; i++)
        ck_assert_double_eq(remedies.items[0].norms[i], report.rows[i].embedding_norm);
    ck_assert_int_eq(remedies.drift.row_count, report.row_count);
    for (int i = 0; i <= PASSES; i++) {
        ck_assert_double_eq(remedies.drift.rows[i].embedding_norm, report.rows[i].embedding_norm);
        ck_assert_double_eq(remedies.drift.rows[i].logit_norm, report.rows[i].logit_norm);
        ck_assert_double_eq(remedies.drift.rows[i].cosine, report.rows[i].cosine);
    }
    ck_assert_int_eq(remedies.drift.layer_count, report.layer_count);
    for (int i = 0; i < report.layer_count; i++) {
        const trine_drift_layer *got = &remedies.drift.layers[i], *want = &report.layers[i];
        ck_assert_str_eq(got->name, want->name);
        ck_assert_str_eq(got->policy, want->policy);
        ck_assert(got->share == want->share && got->mean_distance == want->mean_distance &&
                  got->passes_to_1_percent == want->passes_to_1_percent);
    }
    const char *chosen = named(&remedies, "eval chosen layers")->bn;
    double least = 1, most = 0, sum = 0;
    int count = 0;
    for (int i = 0; i < report.layer_count; i++) {
        char item[96];
        snprintf(item, sizeof item, ",%s=eval", report.layers[i].name);
        const double share = report.layers[i].share;
        if (strstr(chosen, item)) {
            least = share < least ? share : least;
            sum += share;
            count++;
        } else {
            most = share > most ? share : most;
        }
    }
    ck_assert_double_ge(least, most);
    ck_assert_double_ge(sum, 0.9);
    ck_assert_int_ge(2 * count, report.layer_count);
    trine_drift_report_free(&report);
    trine_remedies_free(&remedies);
    free(x);
    trine_resnet_destroy(&net);
}
END_TEST

/* Images so small that one alone has a single value per channel. */
START_TEST(too_small_for_one)
{
    trine_resnet *net = make_network("resnet20_cifar", 7);
    trine_shape tiny = {2, 3, 4, 4};
    float *x = random_floats(test_dense(tiny), 11, -1, 2);
    uint64_t before[2], after[2];
    trine_remedies remedies;
    hashes(net, before);
    ASSERT_OK(trine_remedies_run(net, dev.stream, x, &tiny, TRINE_EMBED_POOL, 1, &remedies));
    for (int i = 0; i < remedies.count; i++)
        ck_assert_int_eq(remedies.items[i].possible, strcmp(remedies.items[i].name, "batch of one") != 0);
    trine_remedies_free(&remedies);
    tiny.n = 1;
    remedies.count = 77;
    ASSERT_FAILS(TRINE_ERR_SHAPE,
                 trine_remedies_run(net, dev.stream, x, &tiny, TRINE_EMBED_POOL, 1, &remedies));
    ck_assert_msg(strstr(trine_last_error(), "layer3.0.bn1") != NULL, "%s", trine_last_error());
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_remedies_run(net, dev.stream, x, &tiny, TRINE_EMBED_POOL, -1, &remedies));
    ck_assert_int_eq(remedies.count, 77);
    hashes(net, after);
    ck_assert_mem_eq(before, after, sizeof before);
    free(x);
    trine_resnet_destroy(&net);
}
END_TEST

/* Without a pass nothing drifts, except where something is done afterwards. */
START_TEST(no_passes)
{
    trine_resnet *net = make_network("resnet20_cifar", 7);
    const trine_shape shape = {2, 3, SIDE, SIDE};
    float *x = random_floats(test_dense(shape), 11, -1, 2);
    trine_remedies remedies;
    ASSERT_OK(trine_remedies_run(net, dev.stream, x, &shape, TRINE_EMBED_POOL, 0, &remedies));
    for (int i = 0; i < remedies.count; i++) {
        const trine_remedy *r = &remedies.items[i];
        const int moves = strcmp(r->name, "re-estimate") == 0;
        ck_assert_int_eq(r->statistics_move, moves);
        ck_assert_int_eq(r->drift > 0, moves);
        ck_assert_int_eq(r->train_equals_eval, expected[i].train_equals_eval);
    }
    trine_remedies_free(&remedies);
    free(x);
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("remedies");
    TCase *tc = tcase_create("remedies");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, rows_and_nothing_moves);
    tcase_add_test(tc, policies_and_freezing_stay);
    tcase_add_test(tc, as_drift_tells);
    tcase_add_test(tc, too_small_for_one);
    tcase_add_test(tc, no_passes);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
