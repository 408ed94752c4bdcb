/* SPDX-License-Identifier: MIT */
/* Every public call that promises to leave a network as it is, or to move one part of it, with the state
 * assertion on and the state compared before and after. */
#include <ctype.h>
#include <glob.h>

#include "learn/learn_data.h"
#include "net/resnet_private.h"
#include "trine/trine.h"

enum { COUNT = 8, LAYERS = 19, PARAMETERS = 2 + 3 * LAYERS };

/* What the calls work on; made once. */
static struct {
    trine_resnet *net;
    const trine_resnet *look; /* the same */
    char root[PATH_BYTES];    /* folders of images */
    trine_dataset *data;
    trine_shape shape;
    float *x;
    int labels[COUNT];
    trine_tensor tx, d; /* the images; a gradient of the pooled features */
    trine_session *training;
    trine_gradients *gradients;
    trine_optimizer *optimizer;
} on;

/* ---- calls on a const network ---- */

static void call_to_weights(void)
{
    trine_weights *w = NULL;
    ASSERT_OK(trine_resnet_to_weights(on.look, dev.stream, 0, &w));
    trine_weights_destroy(&w);
}

static void call_bn_snapshot(void)
{
    trine_bn_snapshot *s = NULL;
    ASSERT_OK(trine_resnet_bn_snapshot(on.look, dev.stream, &s));
    trine_bn_snapshot_destroy(&s);
}

static void call_arch(void)
{
    ck_assert_str_eq(trine_resnet_arch(on.look), "resnet20_cifar");
}

static void call_sizes(void)
{
    ck_assert_int_eq(trine_resnet_features(on.look), 64);
    ck_assert_int_eq(trine_resnet_outputs(on.look), CLASSES);
    ck_assert_int_eq(trine_resnet_in_channels(on.look), 3);
    ck_assert_int_eq(trine_resnet_parameter_count(on.look), PARAMETERS);
    ck_assert_int_eq(trine_resnet_bn_count(on.look), LAYERS);
    ck_assert(trine_resnet_flat_count(on.look) > 0);
    ck_assert(trine_resnet_macs(on.look, SIDE, SIDE) > 0);
    ck_assert_int_eq(trine_resnet_precision(on.look), TRINE_F32);
    ck_assert_int_eq(trine_resnet_allows_tf32(on.look), 0);
}

static void call_parameter(void)
{
    trine_parameter_info info;
    float bias[CLASSES];
    for (int i = 0; i < PARAMETERS; i++) ASSERT_OK(trine_resnet_parameter(on.look, i, &info));
    ASSERT_OK(trine_resnet_parameter_read(on.look, dev.stream, TRINE__FC_BIAS, bias));
}

static void call_bn(void)
{
    trine_bn_info info;
    float mean[64], var[64];
    for (int i = 0; i < LAYERS; i++) {
        ASSERT_OK(trine_resnet_bn(on.look, i, &info));
        ASSERT_OK(trine_resnet_bn_read(on.look, dev.stream, i, mean, var));
    }
}

static void call_hashes(void)
{
    uint64_t one, two, layers[LAYERS], parameters[PARAMETERS];
    ASSERT_OK(trine_resnet_state_hash(on.look, dev.stream, &one, &two, layers));
    ASSERT_OK(trine_resnet_parameter_hashes(on.look, dev.stream, parameters));
}

static void call_inference(void)
{
    trine_session *s = NULL;
    ASSERT_OK(trine_session_create_inference(on.look, dev.stream, &on.shape, &s));
    ASSERT_OK(trine_session_forward(s, &on.tx));
    trine_session_destroy(&s);
}

static void call_gradients(void)
{
    trine_gradients *g = NULL;
    ASSERT_OK(trine_gradients_create(on.look, dev.stream, &g));
    trine_gradients_destroy(&g);
}

static void call_collapse_guard(void)
{
    const trine_trainer_options options = {.objective = TRINE_OBJECTIVE_TRIPLET, .triplet = {.margin = 0.2f}};
    trine_collapse_guard *guard = NULL;
    ASSERT_OK(trine_collapse_guard_create(&options, on.look, &guard));
    trine_collapse_guard_destroy(&guard);
}

static trine_embed_options embed_options(void)
{
    return (trine_embed_options){
        .preprocess = {0, 0, 0, {0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}, .batch = 5, .threads = 2};
}

static void call_embed_array(void)
{
    const trine_embed_options o = embed_options();
    trine_vectors v;
    ASSERT_OK(trine_embed_array(on.look, dev.stream, on.x, &on.shape, &o, &v));
    trine_vectors_free(&v);
}

static void call_onnx(void)
{
    const trine_onnx_options o = {.folded = 1, .normalize = 1};
    char path[PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s/net.onnx", on.root);
    ASSERT_OK(trine_onnx_write(on.look, dev.stream, &o, path));
    remove(path);
}

static void call_embed_dataset(void)
{
    const trine_embed_options o = embed_options();
    trine_vectors v;
    trine_retrieval figures;
    ASSERT_OK(trine_embed_dataset(on.look, dev.stream, on.data, &o, &v));
    ASSERT_OK(trine_retrieval_measure(dev.stream, v.data, v.labels, v.count, v.dim,
                                      &(trine_retrieval_options){.threads = 1}, &figures));
    trine_vectors_free(&v);
}

/* ---- calls that may move, and are told not to, or put everything back ---- */

static void pass(void)
{
    ASSERT_OK(trine_session_forward(on.training, &on.tx));
}

static void pass_eval(void)
{
    ASSERT_OK(trine_resnet_set_bn(on.net, "eval"));
    pass();
}

static void pass_no_update(void)
{
    ASSERT_OK(trine_resnet_set_bn(on.net, "no-update"));
    pass();
}

static void pass_frozen(void)
{
    ASSERT_OK(trine_resnet_freeze(on.net, "*"));
    pass();
}

static void backward(void)
{
    trine_gradients_clear(on.gradients);
    ASSERT_OK(trine_session_backward(on.training, &on.d, on.gradients));
}

static void pass_and_backward(void)
{
    pass_no_update();
    backward();
}

static void drift(int passes)
{
    trine_drift_report report;
    ASSERT_OK(trine_drift_run(on.net, dev.stream, on.x, &on.shape, TRINE_EMBED_POOL, passes, &report));
    trine_drift_report_free(&report);
}

static void drift_no_passes(void)
{
    drift(0);
}

static void drift_eval(void)
{
    ASSERT_OK(trine_resnet_set_bn(on.net, "eval"));
    drift(2);
}

static void remedies(void)
{
    trine_remedies r;
    ASSERT_OK(trine_remedies_run(on.net, dev.stream, on.x, &on.shape, TRINE_EMBED_POOL, 1, &r));
    trine_remedies_free(&r);
}

static void restore(void)
{
    trine_bn_snapshot *s = NULL;
    ASSERT_OK(trine_resnet_bn_snapshot(on.net, dev.stream, &s));
    pass();
    ASSERT_OK(trine_resnet_bn_restore(on.net, dev.stream, s));
    trine_bn_snapshot_destroy(&s);
}

static void settings(void)
{
    ASSERT_OK(trine_resnet_set_bn(on.net, "train:momentum=0.3,layer1.*=cumulative"));
    ASSERT_OK(trine_resnet_freeze(on.net, "*,!fc.*"));
}

static trine_trainer_options trainer_options(void)
{
    trine_trainer_options o = {.objective = TRINE_OBJECTIVE_TRIPLET,
                               .embedding = TRINE_EMBED_FC,
                               .normalize = 1,
                               .triplet = {.mining = TRINE_BATCH_HARD, .margin = 0.5f},
                               .optimizer = trine_optimizer_desc_default(TRINE_SGD),
                               .lr = 0.05,
                               .steps = 2};
    o.optimizer.weight_decay = 0.01f;
    return o;
}

static trine_trainer *make_trainer(void)
{
    trine_trainer *t = NULL;
    const trine_trainer_options o = trainer_options();
    ASSERT_OK(trine_trainer_create_array(on.net, dev.stream, &o, on.x, &on.shape, on.labels, &t));
    return t;
}

static void make_and_save(void)
{
    trine_weights *state = NULL;
    trine_trainer *t = make_trainer();
    ASSERT_OK(trine_trainer_save(t, &state));
    ASSERT_OK(trine_trainer_resume(t, state));
    trine_weights_destroy(&state);
    trine_trainer_destroy(&t);
}

/* ---- calls that move one part ---- */

static void drift_train(void)
{
    ASSERT_OK(trine_resnet_set_bn(on.net, "train"));
    drift(2);
}

static void step(void)
{
    pass_and_backward();
    ASSERT_OK(trine_resnet_step(on.net, dev.stream, on.optimizer, on.gradients, 0.1f));
}

static void write_bn(void)
{
    float mean[64], var[64];
    ASSERT_OK(trine_resnet_bn_read(on.net, dev.stream, 3, mean, var));
    mean[1] += 1;
    ASSERT_OK(trine_resnet_bn_write(on.net, dev.stream, 3, mean, var, 0));
}

static void write_parameter(void)
{
    float bias[CLASSES];
    ASSERT_OK(trine_resnet_parameter_read(on.net, dev.stream, TRINE__FC_BIAS, bias));
    bias[1] += 1;
    ASSERT_OK(trine_resnet_parameter_write(on.net, dev.stream, TRINE__FC_BIAS, bias));
}

static void train_eval(void)
{
    ASSERT_OK(trine_resnet_set_bn(on.net, "eval"));
    trine_trainer *t = make_trainer();
    ASSERT_OK(trine_trainer_run(t, NULL, NULL));
    trine_trainer_destroy(&t);
}

/* Calls, the public functions that they stand for, and what must have moved after them; the rest must not. */
static const struct row {
    const char *functions;
    void (*call)(void);
    int parameters, statistics;
} rows[] = {
    {"trine_resnet_to_weights", call_to_weights, 0, 0},
    {"trine_resnet_bn_snapshot", call_bn_snapshot, 0, 0},
    {"trine_resnet_arch", call_arch, 0, 0},
    {"trine_resnet_features trine_resnet_outputs trine_resnet_in_channels trine_resnet_parameter_count "
     "trine_resnet_bn_count trine_resnet_flat_count trine_resnet_macs trine_resnet_precision "
     "trine_resnet_allows_tf32",
     call_sizes, 0, 0},
    {"trine_resnet_parameter trine_resnet_parameter_read", call_parameter, 0, 0},
    {"trine_resnet_bn trine_resnet_bn_read", call_bn, 0, 0},
    {"trine_resnet_state_hash trine_resnet_parameter_hashes", call_hashes, 0, 0},
    {"trine_session_create_inference trine_session_forward", call_inference, 0, 0},
    {"trine_gradients_create", call_gradients, 0, 0},
    {"trine_collapse_guard_create", call_collapse_guard, 0, 0},
    {"trine_embed_array", call_embed_array, 0, 0},
    {"trine_onnx_write", call_onnx, 0, 0},
    {"trine_embed_dataset", call_embed_dataset, 0, 0},
    {"trine_session_forward (eval)", pass_eval, 0, 0},
    {"trine_session_forward (no-update)", pass_no_update, 0, 0},
    {"trine_session_forward (auto, all frozen)", pass_frozen, 0, 0},
    {"trine_session_backward", pass_and_backward, 0, 0},
    {"trine_drift_run (no passes)", drift_no_passes, 0, 0},
    {"trine_drift_run (eval)", drift_eval, 0, 0},
    {"trine_remedies_run", remedies, 0, 0},
    {"trine_resnet_bn_restore", restore, 0, 0},
    {"trine_resnet_set_bn trine_resnet_freeze", settings, 0, 0},
    {"trine_trainer_create_array trine_trainer_save trine_trainer_resume", make_and_save, 0, 0},
    {"trine_session_forward (train)", pass, 0, 1},
    {"trine_drift_run (train)", drift_train, 0, 1},
    {"trine_resnet_bn_write", write_bn, 0, 1},
    {"trine_resnet_parameter_write", write_parameter, 1, 0},
    {"trine_resnet_step", step, 1, 0},
    {"trine_trainer_run (eval)", train_eval, 1, 0},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static void reset(void)
{
    ASSERT_OK(trine_resnet_set_bn(on.net, "auto:momentum=0.1"));
    ASSERT_OK(trine_resnet_freeze(on.net, NULL));
}

START_TEST(test_calls)
{
    const struct row *row = &rows[_i];
    reset();
    const uint64_t parameters = parameters_hash(on.net), statistics = statistics_hash(on.net);
    row->call();
    ck_assert_msg((parameters_hash(on.net) != parameters) == row->parameters, "%s: parameters",
                  row->functions);
    ck_assert_msg((statistics_hash(on.net) != statistics) == row->statistics, "%s: statistics",
                  row->functions);
}
END_TEST

static bool listed(const char *name)
{
    const size_t length = strlen(name);
    for (size_t i = 0; i < ROWS; i++)
        for (const char *at = rows[i].functions; (at = strstr(at, name)) != NULL; at += length)
            if (at[length] == '\0' || at[length] == ' ') return true;
    return false;
}

/* Names of the functions of a header that take a const network. */
static int check_header(const char *path)
{
    static char text[1 << 16];
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s", path);
    const size_t length = fread(text, 1, sizeof text - 1, file);
    ck_assert(length < sizeof text - 1);
    fclose(file);
    text[length] = '\0';
    int found = 0;
    for (char *at = text; (at = strstr(at, "TRINE_API ")) != NULL;) {
        char *open = strchr(at, '('), *end = strchr(at, ';');
        if (!open || !end || open > end) break; /* the macro's own definition */
        *end = '\0';
        if (strstr(open, "const trine_resnet *")) {
            *open = '\0';
            char *name = open;
            while (isalnum((unsigned char)name[-1]) || name[-1] == '_') name--;
            ck_assert_msg(listed(name), "%s takes a const network and is no row of the table", name);
            found++;
        }
        at = end + 1;
    }
    return found;
}

START_TEST(test_table_is_complete)
{
    const char *source = getenv("TRINE_TEST_SOURCE");
    ck_assert_ptr_nonnull(source);
    char pattern[PATH_BYTES];
    glob_t headers;
    in_root(pattern, source, "include/trine/*.h");
    ck_assert_int_eq(glob(pattern, 0, NULL, &headers), 0);
    int found = 0;
    for (size_t i = 0; i < headers.gl_pathc; i++) found += check_header(headers.gl_pathv[i]);
    globfree(&headers);
    ck_assert_int_ge(found, 20);
    ck_assert(!listed("trine_resnet_bn_c") && listed("trine_resnet_bn"));
}
END_TEST

/* ---- fine-tuning under every policy ---- */

/* fc alone trains: nothing else moves, but the statistics of layers whose policy updates them. */
START_TEST(test_finetune)
{
    static const struct {
        const char *bn;
        bool moves; /* running statistics */
    } policies[] = {{"auto", false},      {"eval", false}, {"no-update", false},
                    {"cumulative", true}, {"train", true}, {"eval,layer3.*=train", true}};
    uint64_t before[PARAMETERS], after[PARAMETERS], bn_before[LAYERS], bn_after[LAYERS];
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        reset();
        ASSERT_OK(trine_resnet_freeze(on.net, "*,!fc*"));
        ASSERT_OK(trine_resnet_set_bn(on.net, policies[i].bn));
        ASSERT_OK(trine_resnet_parameter_hashes(on.net, dev.stream, before));
        ASSERT_OK(trine_resnet_state_hash(on.net, dev.stream, NULL, NULL, bn_before));
        trine_trainer *t = make_trainer();
        ASSERT_OK(trine_trainer_run(t, NULL, NULL));
        trine_trainer_destroy(&t);
        ASSERT_OK(trine_resnet_parameter_hashes(on.net, dev.stream, after));
        ASSERT_OK(trine_resnet_state_hash(on.net, dev.stream, NULL, NULL, bn_after));
        for (int k = 0; k < PARAMETERS; k++)
            ck_assert_msg((before[k] != after[k]) == (k <= TRINE__FC_BIAS), "%s: parameter %d",
                          policies[i].bn, k);
        for (int k = 0; k < LAYERS; k++) {
            trine_bn_info info;
            ASSERT_OK(trine_resnet_bn(on.net, k, &info));
            ck_assert(!info.updates || policies[i].moves);
            ck_assert_msg((bn_before[k] != bn_after[k]) == info.updates, "%s: %s", policies[i].bn, info.name);
        }
    }
}
END_TEST

static void setup(void)
{
    const trine_optimizer_desc sgd = trine_optimizer_desc_default(TRINE_SGD);
    on.look = on.net = make_network(CLASSES);
    trine_resnet_assert_state(on.net, 1);
    make_root(on.root);
    make_folders(on.root);
    ASSERT_OK(trine_dataset_open(on.root, NULL, &on.data));
    on.shape = (trine_shape){COUNT, 3, SIDE, SIDE};
    on.x = make_images(COUNT, SIDE, on.labels);
    ASSERT_OK(trine_tensor_create(dev.context, &on.shape, 1, &on.tx));
    ASSERT_OK(trine_tensor_upload(dev.stream, on.x, &on.tx));
    ASSERT_OK(
        trine_session_create_training(on.net, dev.stream, &on.shape, TRINE_EMBED_POOL, 1, &on.training));
    const trine_tensor e = trine_session_embedding(on.training);
    ASSERT_OK(trine_tensor_create(dev.context, &e.shape, e.cb, &on.d));
    ASSERT_OK(trine_tensor_upload(dev.stream, on.x, &on.d)); /* any values will do */
    ASSERT_OK(trine_gradients_create(on.net, dev.stream, &on.gradients));
    ASSERT_OK(trine_optimizer_create(dev.context, &sgd, trine_resnet_flat_count(on.net), &on.optimizer));
}

static void teardown(void)
{
    trine_optimizer_destroy(&on.optimizer);
    trine_gradients_destroy(&on.gradients);
    trine_session_destroy(&on.training);
    trine_buffer_release(&on.d.buffer);
    trine_buffer_release(&on.tx.buffer);
    trine_dataset_destroy(&on.data);
    trine_resnet_destroy(&on.net);
    remove_root(on.root);
    free(on.x);
}

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("state_calls");
    TCase *tc = tcase_create("state_calls");
    tcase_set_timeout(tc, 0);
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_calls, 0, ROWS);
    tcase_add_test(tc, test_table_is_complete);
    tcase_add_test(tc, test_finetune);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
