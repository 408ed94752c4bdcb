/* SPDX-License-Identifier: MIT */
/* 1,000 random sequences of training steps, evaluation, embedding, saving, loading, resuming, changes of policy
 * and of freezing on a small network. A model on the host, which knows names and the rules of PyTorch and trine
 * only, says what each operation may change: after every one the statistics and counters of exactly the layers
 * that it names have changed, and the parameters that it names; everything else is the same to the byte.
 *
 * A sequence depends on its number alone and failures tell it with the operations so far;
 * TRINE_TEST_SEQUENCE=N runs one. */
#include <stdarg.h>

#include "base/error.h"
#include "base/random.h"
#include "io/temp_files.h"
#include "learn/learn_data.h"
#include "trine/retrieval.h"

enum {
    SEQUENCES = 1000,
    BLOCK = 50, /* sequences of one Check test */
    ROWS = 4,
    PIXELS = 8,
    MAX_LAYERS = 32,
    MAX_PARAMETERS = 96,
    SPEC_BYTES = 512,
    HISTORY_BYTES = 8192,
    PLENTY = 1000 /* steps: no sequence comes to the end of a run */
};

/* ---- the model ---- */

typedef enum policy { AUTO, TRAIN, EVAL, NO_UPDATE, CUMULATIVE, POLICIES } policy;
static const char *const policy_names[] = {"auto", "train", "eval", "no-update", "cumulative"};

/* What the network must be like. Names come from the network once; what follows from them is decided here. */
typedef struct model {
    int layers, parameters;
    char layer[MAX_LAYERS][64], parameter[MAX_PARAMETERS][80];
    policy policies[MAX_LAYERS];
    float momentum[MAX_LAYERS];
    int64_t batches[MAX_LAYERS];
    bool frozen[MAX_PARAMETERS];
    uint64_t layer_hash[MAX_LAYERS], parameter_hash[MAX_PARAMETERS];
} model;

/* The globs of the sequences: a name, or its beginning and a star. */
static bool model_matches(const char *glob, const char *name)
{
    const size_t length = strlen(glob);
    return glob[length - 1] == '*' ? strncmp(glob, name, length - 1) == 0 : strcmp(glob, name) == 0;
}

static bool model_layer_frozen(const model *m, int layer)
{
    int trains = 0;
    for (int i = 0; i < m->parameters; i++) {
        const char *dot = strrchr(m->parameter[i], '.');
        const size_t length = (size_t)(dot - m->parameter[i]);
        if (strlen(m->layer[layer]) == length && strncmp(m->layer[layer], m->parameter[i], length) == 0)
            trains += !m->frozen[i];
    }
    return trains == 0;
}

static bool model_updates(const model *m, int layer)
{
    switch (m->policies[layer]) {
    case AUTO:
        return !model_layer_frozen(m, layer);
    case TRAIN:
    case CUMULATIVE:
        return true;
    default:
        return false;
    }
}

/* The pooled features do not depend on fc. */
static bool model_steps(const model *m, int parameter, bool fc_reached)
{
    return !m->frozen[parameter] && (fc_reached || strncmp(m->parameter[parameter], "fc.", 3) != 0);
}

static bool model_trains(const model *m, bool fc_reached)
{
    for (int i = 0; i < m->parameters; i++)
        if (model_steps(m, i, fc_reached)) return true;
    return false;
}

/* ---- one sequence ---- */

static float *images;
static int labels[ROWS];
static trine_weights *base; /* a network whose statistics are those of the images */

typedef struct sequence {
    int number;
    trine__random random;
    char history[HISTORY_BYTES];
    trine_trainer_options options;
    trine_resnet *net;
    trine_trainer *trainer;   /* NULL: made when it is needed */
    trine_session *inference; /* alike */
    model m;
    /* What "save" keeps for a later "load": */
    trine_weights *saved_net;
    model saved;
} sequence;

#define CHECK(s, condition, ...)                                                                             \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            char what_[256];                                                                                 \
            snprintf(what_, sizeof what_, __VA_ARGS__);                                                      \
            ck_abort_msg("sequence %d: %s: %s", (s)->number, (s)->history, what_);                           \
        }                                                                                                    \
    } while (0)
#define OK(s, call) CHECK(s, (call) == TRINE_OK, "%s: %s", #call, trine_last_error())

static int draw(sequence *s, int below)
{
    return (int)trine__random_below(&s->random, (uint64_t)below);
}

static void tell(sequence *s, const char *format, ...) TRINE_PRINTF(2, 3);

static void tell(sequence *s, const char *format, ...)
{
    const size_t used = strlen(s->history);
    va_list args;
    snprintf(s->history + used, HISTORY_BYTES - used, "%s", used ? "; " : "");
    va_start(args, format);
    vsnprintf(s->history + strlen(s->history), HISTORY_BYTES - strlen(s->history), format, args);
    va_end(args);
}

static void read_hashes(sequence *s, uint64_t *layers, uint64_t *parameters)
{
    OK(s, trine_resnet_state_hash(s->net, dev.stream, NULL, NULL, layers));
    OK(s, trine_resnet_parameter_hashes(s->net, dev.stream, parameters));
}

/* The model's hashes from the network, after checks that the other state agrees. */
static void check_settings(sequence *s)
{
    model *m = &s->m;
    for (int i = 0; i < m->layers; i++) {
        trine_bn_info info;
        OK(s, trine_resnet_bn(s->net, i, &info));
        CHECK(s,
              strcmp(policy_names[m->policies[i]], info.policy == TRINE_BN_AUTO        ? "auto"
                                                   : info.policy == TRINE_BN_TRAIN     ? "train"
                                                   : info.policy == TRINE_BN_EVAL      ? "eval"
                                                   : info.policy == TRINE_BN_NO_UPDATE ? "no-update"
                                                                                       : "cumulative") == 0,
              "%s has policy %d, want %s", info.name, (int)info.policy, policy_names[m->policies[i]]);
        CHECK(s, info.momentum == m->momentum[i], "%s has momentum %.9g, want %.9g", info.name,
              (double)info.momentum, (double)m->momentum[i]);
        CHECK(s, info.batches == m->batches[i], "%s has seen %lld batches, want %lld", info.name,
              (long long)info.batches, (long long)m->batches[i]);
    }
    for (int i = 0; i < m->parameters; i++) {
        trine_parameter_info info;
        OK(s, trine_resnet_parameter(s->net, i, &info));
        CHECK(s, info.trainable == !m->frozen[i], "%s trains: %d", info.name, info.trainable);
    }
}

/* The network against the model; what `may` names must have changed, nothing else. NULL: nothing may. */
static void check_state(sequence *s, const bool *layer_moves, const bool *parameter_moves)
{
    model *m = &s->m;
    uint64_t layers[MAX_LAYERS], parameters[MAX_PARAMETERS];
    read_hashes(s, layers, parameters);
    for (int i = 0; i < m->layers; i++) {
        const bool moved = layers[i] != m->layer_hash[i], want = layer_moves && layer_moves[i];
        CHECK(s, moved == want, "%s's statistics moved: %d, want %d", m->layer[i], moved, want);
        m->layer_hash[i] = layers[i];
    }
    for (int i = 0; i < m->parameters; i++) {
        const bool moved = parameters[i] != m->parameter_hash[i],
                   want = parameter_moves && parameter_moves[i];
        CHECK(s, moved == want, "%s moved: %d, want %d", m->parameter[i], moved, want);
        m->parameter_hash[i] = parameters[i];
    }
    check_settings(s);
}

static void load(sequence *s, const trine_weights *weights)
{
    OK(s, trine_resnet_from_weights(dev.context, weights, NULL, &s->net));
}

static void unload(sequence *s)
{
    trine_trainer_destroy(&s->trainer);
    trine_session_destroy(&s->inference);
    trine_resnet_destroy(&s->net);
}

static void open_trainer(sequence *s)
{
    const trine_shape shape = {ROWS, 3, PIXELS, PIXELS};
    if (!s->trainer)
        OK(s,
           trine_trainer_create_array(s->net, dev.stream, &s->options, images, &shape, labels, &s->trainer));
}

static bool reaches_fc(const sequence *s)
{
    return s->options.objective == TRINE_OBJECTIVE_CLASSIFY;
}

/* ---- operations ---- */

static void run_steps(sequence *s)
{
    bool layers[MAX_LAYERS], parameters[MAX_PARAMETERS];
    const int count = 1 + draw(s, 2);
    model *m = &s->m;
    tell(s, "%d steps", count);
    open_trainer(s);
    OK(s, trine_trainer_run_to(s->trainer, trine_trainer_step(s->trainer) + count, NULL, NULL));
    for (int i = 0; i < m->layers; i++) {
        layers[i] = model_updates(m, i);
        m->batches[i] += layers[i] ? count : 0;
    }
    for (int i = 0; i < m->parameters; i++) parameters[i] = model_steps(m, i, reaches_fc(s));
    check_state(s, layers, parameters);
}

static void evaluate(sequence *s)
{
    const trine_shape shape = {ROWS, 3, PIXELS, PIXELS};
    trine_tensor x = {0};
    tell(s, "eval");
    if (!s->inference) OK(s, trine_session_create_inference(s->net, dev.stream, &shape, &s->inference));
    OK(s, trine_tensor_create(dev.context, &shape, 1, &x));
    OK(s, trine_tensor_upload(dev.stream, images, &x));
    OK(s, trine_session_forward(s->inference, &x));
    OK(s, trine_stream_sync(dev.stream));
    trine_buffer_release(&x.buffer);
    check_state(s, NULL, NULL);
}

static void embed(sequence *s)
{
    const trine_shape shape = {ROWS, 3, PIXELS, PIXELS};
    const trine_embed_options options = {.normalize = 1, .batch = 3, .threads = 1};
    trine_vectors vectors = {0};
    tell(s, "embed");
    OK(s, trine_embed_array(s->net, dev.stream, images, &shape, &options, &vectors));
    trine_vectors_free(&vectors);
    check_state(s, NULL, NULL);
}

/* Through a file now and then; files and lists hold the same bytes. */
static void through_file(sequence *s, trine_weights **weights)
{
    if (draw(s, 8) != 0) return;
    const char *path = temp_path("list.safetensors");
    OK(s, trine_weights_write(*weights, path));
    trine_weights_destroy(weights);
    OK(s, trine_weights_read(path, weights));
}

static void save(sequence *s)
{
    tell(s, "save");
    trine_weights_destroy(&s->saved_net);
    OK(s, trine_resnet_to_weights(s->net, dev.stream, 1, &s->saved_net));
    through_file(s, &s->saved_net);
    s->saved = s->m;
    check_state(s, NULL, NULL);
}

/* Back to what was saved last, or as it is now through a list: everything is as it was, policies included. */
static void load_saved(sequence *s)
{
    if (!s->saved_net) save(s);
    tell(s, "load");
    unload(s);
    load(s, s->saved_net);
    s->m = s->saved;
    check_state(s, NULL, NULL);
}

static void check_same(sequence *s, const trine_weights *a, const trine_weights *b, const char *what)
{
    CHECK(s, trine_weights_count(a) == trine_weights_count(b), "%s: %zu tensors, then %zu", what,
          trine_weights_count(a), trine_weights_count(b));
    for (size_t i = 0; i < trine_weights_count(a); i++) {
        const trine_weights_tensor *x = trine_weights_at(a, i), *y = trine_weights_at(b, i);
        CHECK(s,
              strcmp(x->name, y->name) == 0 && x->bytes == y->bytes &&
                  memcmp(x->data, y->data, x->bytes) == 0,
              "%s: '%s' is not the same", what, x->name);
    }
    CHECK(s, trine_weights_metadata_count(a) == trine_weights_metadata_count(b), "%s: metadata", what);
    for (size_t i = 0; i < trine_weights_metadata_count(a); i++) {
        const char *key = trine_weights_metadata_key(a, i), *other = trine_weights_metadata(b, key);
        CHECK(s, other && strcmp(trine_weights_metadata(a, key), other) == 0, "%s: metadata '%s'", what, key);
    }
}

/* Network and run saved, destroyed and made again: saving once more gives the same lists. */
static void resume(sequence *s)
{
    trine_weights *net[2] = {0}, *state[2] = {0};
    tell(s, "resume");
    open_trainer(s);
    for (int i = 0; i < 2; i++) {
        OK(s, trine_resnet_to_weights(s->net, dev.stream, 1, &net[i]));
        OK(s, trine_trainer_save(s->trainer, &state[i]));
        if (i == 1) break;
        through_file(s, &net[0]);
        through_file(s, &state[0]);
        unload(s);
        load(s, net[0]);
        open_trainer(s);
        OK(s, trine_trainer_resume(s->trainer, state[0]));
    }
    check_same(s, net[0], net[1], "network");
    check_same(s, state[0], state[1], "state");
    for (int i = 0; i < 2; i++) {
        trine_weights_destroy(&net[i]);
        trine_weights_destroy(&state[i]);
    }
    check_state(s, NULL, NULL);
}

/* "*", a stage, a block, or one name. */
static void draw_glob(sequence *s, const char *name, char *glob, size_t size)
{
    const int dots = draw(s, 5);
    snprintf(glob, size, "%s", dots == 0 ? "*" : name);
    char *at = glob;
    for (int i = 0; i < dots && at; i++) at = strchr(at + 1, '.');
    if (at && dots > 0) snprintf(at, size - (size_t)(at - glob), ".*");
}

static void change_policy(sequence *s)
{
    static const float momenta[] = {0.0f, 0.1f, 0.37f, 1.0f};
    char spec[SPEC_BYTES] = "", glob[64], item[128];
    const int items = 1 + draw(s, 3);
    model *m = &s->m;
    for (int k = 0; k < items; k++) {
        const policy chosen = (policy)draw(s, POLICIES);
        const float momentum = draw(s, 3) == 0 ? momenta[draw(s, 4)] : -1;
        draw_glob(s, m->layer[draw(s, m->layers)], glob, sizeof glob);
        if (momentum < 0)
            snprintf(item, sizeof item, "%s%s=%s", k ? "," : "", glob, policy_names[chosen]);
        else
            snprintf(item, sizeof item, "%s%s=%s:momentum=%g", k ? "," : "", glob, policy_names[chosen],
                     (double)momentum);
        strcat(spec, item);
        for (int i = 0; i < m->layers; i++) {
            if (!model_matches(glob, m->layer[i])) continue;
            m->policies[i] = chosen;
            if (momentum >= 0) m->momentum[i] = momentum;
        }
    }
    tell(s, "bn %s", spec);
    OK(s, trine_resnet_set_bn(s->net, spec));
    check_state(s, NULL, NULL);
}

static void change_freeze(sequence *s)
{
    char spec[SPEC_BYTES] = "", glob[96], item[128];
    bool frozen[MAX_PARAMETERS] = {false};
    const int items = draw(s, 4);
    model next = s->m;
    for (int k = 0; k < items; k++) {
        const bool thaw = draw(s, 3) == 0;
        draw_glob(s, next.parameter[draw(s, next.parameters)], glob, sizeof glob);
        snprintf(item, sizeof item, "%s%s%s", k ? "," : "", thaw ? "!" : "", glob);
        strcat(spec, item);
        for (int i = 0; i < next.parameters; i++)
            if (model_matches(glob, next.parameter[i])) frozen[i] = !thaw;
    }
    memcpy(next.frozen, frozen, sizeof frozen);
    if (!model_trains(&next, reaches_fc(s))) return; /* a trainer refuses that */
    s->m = next;
    tell(s, "freeze %s", spec[0] ? spec : "nothing");
    OK(s, trine_resnet_freeze(s->net, spec));
    check_state(s, NULL, NULL);
}

/* ---- sequences ---- */

static void learn_names(sequence *s)
{
    model *m = &s->m;
    m->layers = trine_resnet_bn_count(s->net);
    m->parameters = trine_resnet_parameter_count(s->net);
    ck_assert_int_le(m->layers, MAX_LAYERS);
    ck_assert_int_le(m->parameters, MAX_PARAMETERS);
    for (int i = 0; i < m->layers; i++) {
        trine_bn_info info;
        OK(s, trine_resnet_bn(s->net, i, &info));
        snprintf(m->layer[i], sizeof m->layer[i], "%s", info.name);
        m->momentum[i] = 0.1f;
        m->batches[i] = info.batches;
    }
    for (int i = 0; i < m->parameters; i++) {
        trine_parameter_info info;
        OK(s, trine_resnet_parameter(s->net, i, &info));
        snprintf(m->parameter[i], sizeof m->parameter[i], "%s", info.name);
    }
    read_hashes(s, m->layer_hash, m->parameter_hash);
}

/* Kind of run, drawn once a sequence; weight decay would show where a parameter must not move. */
static trine_trainer_options draw_options(sequence *s)
{
    trine_trainer_options o = {.objective = (trine_objective)draw(s, 2),
                               .normalize = 1,
                               .triplet = {.mining = TRINE_BATCH_HARD, .soft = 1},
                               .schedule = (trine_schedule)draw(s, 4),
                               .steps = PLENTY,
                               .seed = (uint64_t)s->number};
    o.optimizer = trine_optimizer_desc_default((trine_optimizer_kind)draw(s, 3));
    o.optimizer.weight_decay = 1e-2f;
    if (o.optimizer.kind == TRINE_SGD) o.optimizer.momentum = draw(s, 2) ? 0.9f : 0.0f;
    o.lr = o.optimizer.kind == TRINE_SGD ? 2e-3 : 2e-4;
    return o;
}

static void run_sequence(int number)
{
    static void (*const operations[])(sequence *) = {run_steps,     run_steps,    evaluate, embed,
                                                     save,          load_saved,   resume,   change_policy,
                                                     change_policy, change_freeze};
    static sequence memory;
    sequence *s = &memory;
    *s = (sequence){.number = number, .random = trine__random_stream(2026, 1, (uint64_t)number)};
    s->options = draw_options(s);
    load(s, base);
    learn_names(s);
    const int count = 5 + draw(s, 6);
    for (int k = 0; k < count; k++) operations[draw(s, (int)(sizeof operations / sizeof operations[0]))](s);
    run_steps(s); /* whatever happened shows */
    unload(s);
    trine_weights_destroy(&s->saved_net);
}

static void setup(void)
{
    images = make_images(ROWS, PIXELS, labels);
    for (int i = 0; i < ROWS; i++) labels[i] = i / 2; /* pairs, for the triplets */
    trine_resnet *net = make_network(CLASSES);
    trine_session *session = NULL;
    trine_tensor x = {0};
    const trine_shape shape = {ROWS, 3, PIXELS, PIXELS};
    ASSERT_OK(trine_session_create_training(net, dev.stream, &shape, TRINE_EMBED_POOL, 0, &session));
    ASSERT_OK(trine_tensor_create(dev.context, &shape, 1, &x));
    ASSERT_OK(trine_tensor_upload(dev.stream, images, &x));
    for (int i = 0; i < 20; i++) ASSERT_OK(trine_session_forward(session, &x));
    ASSERT_OK(trine_resnet_to_weights(net, dev.stream, 1, &base));
    trine_buffer_release(&x.buffer);
    trine_session_destroy(&session);
    trine_resnet_destroy(&net);
}

static void teardown(void)
{
    trine_weights_destroy(&base);
    free(images);
    if (temp_folder[0]) remove_temp((const char *const[]){"list.safetensors", NULL});
}

START_TEST(block_of_sequences)
{
    const char *only = getenv("TRINE_TEST_SEQUENCE");
    for (int i = 0; i < BLOCK; i++) {
        const int number = _i * BLOCK + i;
        if (!only || atoi(only) == number) run_sequence(number);
    }
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("sequences");
    TCase *tc = tcase_create("sequences");
    tcase_set_timeout(tc, 600);
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, block_of_sequences, 0, test_small() ? 1 : SEQUENCES / BLOCK);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
