/* SPDX-License-Identifier: MIT */
/* A run that is saved, destroyed and resumed through files ends with the bytes of one without a break, network
 * and state alike, and tells the same records; what does not belong to the saved run is refused with a
 * sentence that has both values. */
#include <math.h>

#include "io/temp_files.h"
#include "learn/learn_data.h"

enum { IMAGES = CLASSES * PER_CLASS, MAX_STEPS = 64, MAX_BREAKS = 8 };

static const char net_file[] = "net.safetensors", state_file[] = "run.safetensors";

/* One kind of run. */
typedef struct plan {
    const char *name, *bn, *freeze;
    trine_objective objective;
    trine_embedding embedding;
    trine_optimizer_kind optimizer;
    float momentum;
    int nesterov;
    trine_schedule schedule;
    double lr;
    int array, augment, steps, epochs;             /* 1: flip and crop, 2: flip; steps or epochs */
    trine_feature_cache cache_before, cache_after; /* the first break */
    int breaks[MAX_BREAKS]; /* steps to save, destroy everything and resume at; 0 ends */
} plan;

static const plan plans[] = {
    {.name = "sgd with momentum, flip-crop",
     .momentum = 0.9f,
     .lr = 0.02,
     .augment = 1,
     .steps = 9,
     .breaks = {4}},
    {.name = "sgd without momentum, a break after every step",
     .lr = 0.02,
     .augment = 1,
     .steps = 6,
     .breaks = {1, 2, 3, 4, 5}},
    {.name = "nesterov, step schedule, array",
     .momentum = 0.9f,
     .nesterov = 1,
     .lr = 0.02,
     .schedule = TRINE_SCHEDULE_STEP,
     .array = 1,
     .steps = 8,
     .breaks = {3, 5}},
    {.name = "adam, cosine",
     .optimizer = TRINE_ADAM,
     .lr = 1e-3,
     .schedule = TRINE_SCHEDULE_COSINE,
     .augment = 1,
     .steps = 7,
     .breaks = {2, 3}},
    {.name = "adamw, frozen parts, fc",
     .optimizer = TRINE_ADAMW,
     .lr = 1e-3,
     .embedding = TRINE_EMBED_FC,
     .freeze = "*,!layer3.*,!fc.*",
     .steps = 7,
     .breaks = {5}},
    {.name = "plateau by epochs, within and across its windows",
     .momentum = 0.9f,
     .lr = 0.02,
     .augment = 1,
     .schedule = TRINE_SCHEDULE_PLATEAU,
     .epochs = 3,
     .breaks = {1, 3, 5}},
    {.name = "plateau across a cut",
     .bn = "eval",
     .lr = 1e-7,
     .schedule = TRINE_SCHEDULE_PLATEAU,
     .array = 1,
     .epochs = 15,
     .breaks = {6, 11, 12, 13}},
    {.name = "classify, small last batches",
     .objective = TRINE_OBJECTIVE_CLASSIFY,
     .momentum = 0.9f,
     .lr = 0.05,
     .schedule = TRINE_SCHEDULE_COSINE,
     .augment = 1,
     .epochs = 3,
     .breaks = {2, 3, 7}},
    {.name = "frozen trunk, features kept, then evaluated at each step",
     .freeze = "*,!layer3.*",
     .momentum = 0.9f,
     .lr = 0.02,
     .augment = 2,
     .steps = 8,
     .cache_before = TRINE_FEATURES_MEMORY,
     .cache_after = TRINE_FEATURES_OFF,
     .breaks = {3}},
    {.name = "frozen trunk, the reverse, classify",
     .objective = TRINE_OBJECTIVE_CLASSIFY,
     .freeze = "*,!layer3.*,!fc.*",
     .momentum = 0.9f,
     .lr = 0.02,
     .augment = 2,
     .steps = 10,
     .cache_before = TRINE_FEATURES_OFF,
     .cache_after = TRINE_FEATURES_DISK,
     .breaks = {4, 6}},
    {.name = "bn train, frozen layers move",
     .bn = "train",
     .freeze = "*,!layer3.2.*",
     .momentum = 0.9f,
     .lr = 0.02,
     .steps = 5,
     .breaks = {2}},
    {.name = "bn eval", .bn = "eval", .momentum = 0.9f, .lr = 0.02, .steps = 5, .breaks = {3}},
    {.name = "bn no-update", .bn = "no-update", .momentum = 0.9f, .lr = 0.02, .steps = 5, .breaks = {3}},
    {.name = "bn cumulative", .bn = "cumulative", .momentum = 0.9f, .lr = 0.02, .steps = 5, .breaks = {1, 3}},
    {.name = "bn mixed, momenta",
     .freeze = "layer1.*",
     .bn =
         "auto,bn1=train:momentum=0.37,layer2.*=cumulative,layer3.0.*=no-update,layer3.1.bn1=eval:momentum=1",
     .optimizer = TRINE_ADAM,
     .lr = 1e-3,
     .augment = 1,
     .steps = 6,
     .breaks = {2, 4}},
};

enum { MIXED = sizeof plans / sizeof plans[0] - 1 };

static trine_trainer_options options_for(const plan *p)
{
    trine_trainer_options o = {
        .objective = p->objective,
        .embedding = p->embedding,
        .normalize = 1,
        .triplet = {.mining = TRINE_BATCH_HARD, .margin = 0.5f},
        .lr = p->lr,
        .schedule = p->schedule,
        .classes_per_batch = 3,
        .images_per_class = 3,
        .batch = 7, /* 24 images: 7 + 7 + 7 + 3 */
        .steps = p->steps,
        .epochs = p->epochs,
        .flip = p->augment != 0,
        .crop = p->augment == 1,
        .feature_cache = p->cache_before,
        .preprocess = {0, 0, 0, {0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}},
        .seed = 3,
        .threads = 2,
    };
    o.optimizer = trine_optimizer_desc_default(p->optimizer);
    o.optimizer.weight_decay = 1e-3f;
    if (p->optimizer == TRINE_SGD) {
        o.optimizer.momentum = p->momentum;
        o.optimizer.nesterov = p->nesterov;
    }
    return o;
}

/* ---- runs ---- */

typedef struct records {
    trine_step_record r[MAX_STEPS];
    int count;
} records;

static int keep(void *user, const trine_step_record *record, int steps)
{
    records *k = user;
    ck_assert_int_lt(k->count, MAX_STEPS);
    ck_assert_int_le(record->step, steps);
    k->r[k->count++] = *record;
    return 0;
}

static char root[PATH_BYTES];
static float *array;
static int array_labels[IMAGES];

/* The data and a trainer over them. */
typedef struct bench {
    trine_dataset *data;
    trine_resnet *net;
    trine_trainer *t;
} bench;

static trine_status open_trainer(bench *b, const trine_trainer_options *o, int with_array)
{
    const trine_shape shape = {IMAGES, 3, SIDE, SIDE};
    if (with_array)
        return trine_trainer_create_array(b->net, dev.stream, o, array, &shape, array_labels, &b->t);
    if (!b->data) ASSERT_OK(trine_dataset_open(root, NULL, &b->data));
    return trine_trainer_create(b->net, dev.stream, o, b->data, &b->t);
}

static void begin(bench *b, const plan *p)
{
    const trine_trainer_options o = options_for(p);
    *b = (bench){.net = make_network(CLASSES)};
    if (p->freeze) ASSERT_OK(trine_resnet_freeze(b->net, p->freeze));
    if (p->bn) ASSERT_OK(trine_resnet_set_bn(b->net, p->bn));
    ASSERT_OK(open_trainer(b, &o, p->array));
}

static void end(bench *b)
{
    trine_trainer_destroy(&b->t);
    trine_resnet_destroy(&b->net);
    trine_dataset_destroy(&b->data);
}

/* Network and state to their files. */
static void save(const bench *b)
{
    trine_weights *net = NULL, *state = NULL;
    ASSERT_OK(trine_resnet_to_weights(b->net, dev.stream, 1, &net));
    ASSERT_OK(trine_trainer_save(b->t, &state));
    ASSERT_OK(trine_weights_write(net, temp_path(net_file)));
    ASSERT_OK(trine_weights_write(state, temp_path(state_file)));
    trine_weights_destroy(&net);
    trine_weights_destroy(&state);
}

/* The network of the file, with the policies of its metadata and nothing else. */
static void load_network(bench *b)
{
    trine_weights *net = NULL;
    ASSERT_OK(trine_weights_read(temp_path(net_file), &net));
    ASSERT_OK(trine_resnet_from_weights(dev.context, net, NULL, &b->net));
    trine_weights_destroy(&net);
}

static trine_weights *load_state(void)
{
    trine_weights *state = NULL;
    ASSERT_OK(trine_weights_read(temp_path(state_file), &state));
    return state;
}

static void resume(bench *b, const plan *p)
{
    trine_trainer_options o = options_for(p);
    o.feature_cache = p->cache_after;
    *b = (bench){0};
    load_network(b);
    ASSERT_OK(open_trainer(b, &o, p->array));
    trine_weights *state = load_state();
    ASSERT_OK(trine_trainer_resume(b->t, state));
    trine_weights_destroy(&state);
}

/* What the two files hold now. */
typedef struct files {
    unsigned char *bytes[2];
    size_t count[2];
} files;

static files read_files(void)
{
    files f;
    f.bytes[0] = get_file(temp_path(net_file), &f.count[0]);
    f.bytes[1] = get_file(temp_path(state_file), &f.count[1]);
    return f;
}

static void free_files(files *f)
{
    free(f->bytes[0]);
    free(f->bytes[1]);
}

static void check_same_files(const files *a, const files *b, const char *name, const char *when)
{
    for (int i = 0; i < 2; i++)
        ck_assert_msg(a->count[i] == b->count[i] && memcmp(a->bytes[i], b->bytes[i], a->count[i]) == 0,
                      "%s: the %s is not the same %s", name, i ? "state" : "checkpoint", when);
}

static void check_same_records(const records *a, const records *b, const char *name)
{
    ck_assert_msg(a->count == b->count, "%s: %d records, then %d", name, a->count, b->count);
    for (int i = 0; i < a->count; i++) {
        const trine_step_record *x = &a->r[i], *y = &b->r[i];
        const float fx[] = {x->loss, x->active_fraction, x->d_ap, x->d_an, x->embedding_norm, x->accuracy},
                    fy[] = {y->loss, y->active_fraction, y->d_ap, y->d_an, y->embedding_norm, y->accuracy};
        ck_assert_msg(x->step == i + 1 && x->step == y->step && x->epoch == y->epoch &&
                          memcmp(fx, fy, sizeof fx) == 0 && x->lr == y->lr && isfinite(x->loss),
                      "%s: step %d: loss %.9g lr %.17g, then step %d: loss %.9g lr %.17g", name, x->step,
                      (double)x->loss, x->lr, y->step, (double)y->loss, y->lr);
    }
}

START_TEST(resumed_runs_end_alike)
{
    const plan *p = &plans[_i];
    static records whole, parts;
    bench b;
    whole.count = parts.count = 0;
    begin(&b, p);
    ASSERT_OK(trine_trainer_run(b.t, keep, &whole));
    const int steps = trine_trainer_steps(b.t);
    ck_assert_int_eq(trine_trainer_step(b.t), steps);
    ck_assert_int_eq(whole.count, steps);
    save(&b);
    end(&b);
    files uninterrupted = read_files();

    begin(&b, p);
    for (const int *at = p->breaks; *at; at++) {
        ASSERT_OK(trine_trainer_run_to(b.t, *at, keep, &parts));
        ck_assert_int_eq(trine_trainer_step(b.t), *at);
        save(&b);
        end(&b);
        files saved = read_files();
        resume(&b, p);
        ck_assert_int_eq(trine_trainer_step(b.t), *at);
        save(&b); /* nothing was lost or undone */
        files again = read_files();
        check_same_files(&saved, &again, p->name, "after resuming");
        free_files(&saved);
        free_files(&again);
    }
    ASSERT_OK(trine_trainer_run(b.t, keep, &parts));
    save(&b);
    end(&b);
    files interrupted = read_files();
    check_same_records(&whole, &parts, p->name);
    check_same_files(&uninterrupted, &interrupted, p->name, "at the end");
    free_files(&uninterrupted);
    free_files(&interrupted);

    resume(&b, p); /* complete: nothing runs */
    parts.count = 0;
    ASSERT_OK(trine_trainer_run(b.t, keep, &parts));
    ck_assert_int_eq(parts.count, 0);
    end(&b);
}
END_TEST

static void stop_soon(trine_trainer *t)
{
    trine_trainer_stop(t);
}

struct stopper {
    records *k;
    trine_trainer *t;
    int at; /* the record at which the callback ends the run: by its result, or below 0 by trine_trainer_stop() */
};

static int keep_and_stop(void *user, const trine_step_record *record, int steps)
{
    struct stopper *s = user;
    trine_weights *none = NULL;
    keep(s->k, record, steps);
    ASSERT_FAILS(TRINE_ERR_STATE, trine_trainer_save(s->t, &none)); /* not while it runs */
    if (record->step == -s->at) stop_soon(s->t);
    return record->step == s->at;
}

/* Ended by the callback or by trine_trainer_stop() at a step that nobody chose: continued, and saved and resumed. */
START_TEST(ended_runs_go_on)
{
    const plan *p = &plans[0];
    static records whole, parts;
    bench b;
    whole.count = 0;
    begin(&b, p);
    ASSERT_OK(trine_trainer_run(b.t, keep, &whole));
    save(&b);
    end(&b);
    files uninterrupted = read_files();
    for (int kind = 0; kind < 4; kind++) {
        parts.count = 0;
        begin(&b, p);
        struct stopper s = {&parts, b.t, kind & 1 ? 1 : -1};
        ASSERT_OK(trine_trainer_run(b.t, keep_and_stop, &s));
        ck_assert_int_eq(parts.count, trine_trainer_step(b.t));
        if (kind & 2) {
            save(&b);
            end(&b);
            resume(&b, p);
        }
        ASSERT_OK(trine_trainer_run(b.t, keep, &parts));
        save(&b);
        end(&b);
        files interrupted = read_files();
        check_same_records(&whole, &parts, "ended");
        check_same_files(&uninterrupted, &interrupted, "ended", "at the end");
        free_files(&interrupted);
    }
    free_files(&uninterrupted);
}
END_TEST

/* ---- refusals ---- */

static void expect(const char *part)
{
    ck_assert_msg(strstr(trine_last_error(), part) != NULL, "'%s' does not say '%s'", trine_last_error(),
                  part);
}

/* A trainer with other options over the saved network does not take the state. */
static void refuse_options(const trine_trainer_options *o, int with_array, trine_status status,
                           const char *sentence)
{
    bench b = {0};
    load_network(&b);
    trine_weights *state = load_state();
    ASSERT_OK(open_trainer(&b, o, with_array));
    ASSERT_FAILS(status, trine_trainer_resume(b.t, state));
    expect(sentence);
    ck_assert_int_eq(trine_trainer_step(b.t), 0);
    trine_weights_destroy(&state);
    end(&b);
}

static void save_first_steps(const plan *p)
{
    bench b;
    begin(&b, p);
    ASSERT_OK(trine_trainer_run_to(b.t, 2, NULL, NULL));
    save(&b);
    end(&b);
}

#define REFUSE(change, status, sentence)                                                                     \
    do {                                                                                                     \
        trine_trainer_options o = options_for(p);                                                            \
        change;                                                                                              \
        refuse_options(&o, 0, status, sentence);                                                             \
    } while (0)

START_TEST(other_options_are_refused)
{
    const plan *p = &plans[0];
    save_first_steps(p);
    REFUSE(o.lr = 0.03, TRINE_ERR_ARG, "lr is 0.03 here, but 0.02 in the saved run");
    REFUSE(o.seed = 4, TRINE_ERR_ARG, "seed is 4 here, but 3 in the saved run");
    REFUSE(o.steps = 10, TRINE_ERR_ARG, "steps is 10 here, but 9");
    REFUSE((o.steps = 0, o.epochs = 3), TRINE_ERR_ARG, "epochs is 3 here, but 0");
    REFUSE(o.schedule = TRINE_SCHEDULE_COSINE, TRINE_ERR_ARG, "schedule is cosine here, but constant");
    REFUSE(o.optimizer = trine_optimizer_desc_default(TRINE_ADAM), TRINE_ERR_ARG,
           "optimizer is adam here, but sgd");
    REFUSE(o.optimizer.momentum = 0.5f, TRINE_ERR_ARG, "momentum is 0.5 here, but 0.9");
    REFUSE(o.optimizer.momentum = 0, TRINE_ERR_ARG, "momentum is 0 here, but 0.9");
    REFUSE(o.optimizer.nesterov = 1, TRINE_ERR_ARG, "nesterov is on here, but off");
    REFUSE(o.optimizer.weight_decay = 0, TRINE_ERR_ARG, "weight-decay is 0 here, but 0.001");
    REFUSE(o.triplet.margin = 0.25f, TRINE_ERR_ARG, "margin is 0.25 here, but 0.5");
    REFUSE(o.triplet.soft = 1, TRINE_ERR_ARG, "margin is soft here, but 0.5");
    REFUSE(o.triplet.mining = TRINE_BATCH_ALL, TRINE_ERR_ARG, "mining is batch-all here, but batch-hard");
    REFUSE(o.triplet.distance = TRINE_COSINE, TRINE_ERR_ARG, "distance is cosine here, but euclidean");
    REFUSE(o.normalize = 0, TRINE_ERR_ARG, "normalize is off here, but on");
    REFUSE(o.embedding = TRINE_EMBED_FC, TRINE_ERR_ARG, "embedding is fc here, but pool");
    REFUSE(o.objective = TRINE_OBJECTIVE_CLASSIFY, TRINE_ERR_ARG, "objective is classify here, but triplet");
    REFUSE(o.classes_per_batch = 2, TRINE_ERR_ARG, "classes-per-batch is 2 here, but 3");
    REFUSE(o.images_per_class = 2, TRINE_ERR_ARG, "images-per-class is 2 here, but 3");
    REFUSE(o.crop = 0, TRINE_ERR_ARG, "augment is flip here, but flip-crop");
    REFUSE(o.preprocess.std[1] = 0.5f, TRINE_ERR_ARG, "preprocess is {");
    trine_trainer_options o = options_for(p);
    refuse_options(&o, 1, TRINE_ERR_DATA, "hash of the data is");
    o.threads = 1; /* these decide nothing */
    o.fail_bad = 1;
    bench b = {0};
    load_network(&b);
    trine_weights *state = load_state();
    ASSERT_OK(open_trainer(&b, &o, 0));
    ASSERT_OK(trine_trainer_resume(b.t, state));
    ASSERT_FAILS(TRINE_ERR_STATE, trine_trainer_resume(b.t, state)); /* twice */
    trine_weights_destroy(&state);
    end(&b);
}
END_TEST

START_TEST(other_networks_and_policies_are_refused)
{
    const plan *p = &plans[MIXED];
    const trine_trainer_options o = options_for(p);
    static const struct {
        const char *bn, *freeze;
        trine_status status;
        const char *sentence;
    } rows[] = {
        {"bn1=eval", NULL, TRINE_ERR_ARG,
         "bn1 is eval:momentum=0.37:eps=1e-05 here, but train:momentum=0.37:eps=1e-05 in the saved run"},
        {"layer2.0.bn1=cumulative:momentum=0.5", NULL, TRINE_ERR_ARG,
         "layer2.0.bn1 is cumulative:momentum=0.5"},
        {NULL, "", TRINE_ERR_ARG, "layer1.2.conv2.weight is trainable here, but frozen in the saved run"},
        {NULL, NULL, TRINE_ERR_WEIGHTS, "state hash of the network is"},
    };
    save_first_steps(p);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bench b = {0};
        load_network(&b);
        if (rows[i].bn) ASSERT_OK(trine_resnet_set_bn(b.net, rows[i].bn));
        if (rows[i].freeze) ASSERT_OK(trine_resnet_freeze(b.net, rows[i].freeze));
        if (rows[i].status == TRINE_ERR_WEIGHTS) { /* one counter */
            float mean[16], var[16];
            ASSERT_OK(trine_resnet_bn_read(b.net, dev.stream, 0, mean, var));
            ASSERT_OK(trine_resnet_bn_write(b.net, dev.stream, 0, mean, var, 7));
        }
        trine_weights *state = load_state();
        ASSERT_OK(open_trainer(&b, &o, p->array));
        ASSERT_FAILS(rows[i].status, trine_trainer_resume(b.t, state));
        expect(rows[i].sentence);
        trine_weights_destroy(&state);
        end(&b);
    }
}
END_TEST

/* A copy of the saved state, but for one tensor; `other` takes its place under the same name. */
static trine_weights *without(const trine_weights *state, const char *name)
{
    trine_weights *copy = NULL;
    ASSERT_OK(trine_weights_create(&copy));
    for (size_t i = 0; i < trine_weights_count(state); i++) {
        const trine_weights_tensor *t = trine_weights_at(state, i);
        if (strcmp(t->name, name) != 0)
            ASSERT_OK(trine_weights_add(copy, t->name, t->dtype, t->rank, t->dims, t->data));
    }
    for (size_t i = 0; i < trine_weights_metadata_count(state); i++) {
        const char *key = trine_weights_metadata_key(state, i);
        ASSERT_OK(trine_weights_set_metadata(copy, key, trine_weights_metadata(state, key)));
    }
    return copy;
}

static void refuse_state(bench *b, trine_weights *state, const char *sentence)
{
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_trainer_resume(b->t, state));
    expect(sentence);
    trine_weights_destroy(&state);
}

START_TEST(damaged_states_are_refused)
{
    static const char moment[] = "optimizer.conv1.weight.momentum_buffer",
                      count[] = "optimizer.conv1.weight.step";
    static const int64_t three = 3, minus = -1, dims[] = {5};
    static const double values[5] = {0.02, INFINITY, 0, NAN, 99};
    const plan *p = &plans[0];
    const trine_trainer_options o = options_for(p);
    save_first_steps(p);
    trine_weights *state = load_state(), *bad;
    bench b = {0};
    load_network(&b);
    ASSERT_OK(open_trainer(&b, &o, 0));
    refuse_state(&b, without(state, moment), "has no 'optimizer.conv1.weight.momentum_buffer'");
    refuse_state(&b, without(state, count), "tensors, expected"); /* a moment that no count belongs to */
    refuse_state(&b, without(state, "schedule"), "has no 'schedule'");
    bad = without(state, moment);
    ASSERT_OK(trine_weights_add(bad, moment, TRINE_F32, 1, dims, values));
    refuse_state(&b, bad, "momentum_buffer' has another shape");
    bad = without(state, count);
    ASSERT_OK(trine_weights_add(bad, count, TRINE_I64, 0, NULL, &three));
    refuse_state(&b, bad, "step' is 3, expected 0 to 2");
    bad = without(state, count);
    ASSERT_OK(trine_weights_add(bad, count, TRINE_I64, 0, NULL, &minus));
    refuse_state(&b, bad, "step' is -1, expected 0 to 2");
    bad = without(state, "schedule");
    ASSERT_OK(trine_weights_add(bad, "schedule", TRINE_F64, 1, dims, values));
    refuse_state(&b, bad, "'schedule' holds a number out of range");
    bad = without(state, "");
    ASSERT_OK(trine_weights_add(bad, "more", TRINE_F64, 1, dims, values));
    refuse_state(&b, bad, "tensors, expected");
    static const char *const metadata[][3] = {
        {"trine.state", "2", "format '2', expected 1"},
        {"trine.state", NULL, "no state of a run"},
        {"step", "10", "at step '10' of 9"},
        {"step", "-1", "at step '-1' of 9"},
        {"step", "2x", "at step '2x' of 9"},
        {"step", NULL, "does not say at which step"},
        {"run.lr", NULL, "does not say what its lr was"},
    };
    for (size_t i = 0; i < sizeof metadata / sizeof metadata[0]; i++) {
        bad = without(state, "");
        ASSERT_OK(trine_weights_set_metadata(bad, metadata[i][0], metadata[i][1]));
        refuse_state(&b, bad, metadata[i][2]);
    }
    ASSERT_OK(trine_trainer_resume(b.t, state)); /* none of that did any harm */
    ASSERT_OK(trine_trainer_run(b.t, NULL, NULL));
    trine_weights_destroy(&state);
    end(&b);
}
END_TEST

static char told[1024];

static void keep_log(void *user, const char *sentence)
{
    (void)user;
    snprintf(told, sizeof told, "%s", sentence);
}

START_TEST(another_device_is_told)
{
    const plan *p = &plans[0];
    trine_trainer_options o = options_for(p);
    save_first_steps(p);
    trine_weights *state = load_state();
    o.log = keep_log;
    for (int other = 0; other <= 1; other++) {
        bench b = {0};
        told[0] = '\0';
        if (other) ASSERT_OK(trine_weights_set_metadata(state, "device", "Abacus"));
        load_network(&b);
        ASSERT_OK(open_trainer(&b, &o, 0));
        ASSERT_OK(trine_trainer_resume(b.t, state));
        ck_assert_msg(other == (strstr(told, "Abacus") != NULL), "%s", told);
        end(&b);
    }
    trine_weights_destroy(&state);
}
END_TEST

static void setup(void)
{
    make_root(root);
    make_folders(root);
    array = make_images(IMAGES, SIDE, array_labels);
}

static void teardown(void)
{
    free(array);
    remove_root(root);
    if (temp_folder[0]) remove_temp((const char *const[]){net_file, state_file, NULL});
}

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("resume");
    TCase *tc = tcase_create("resume");
    tcase_set_timeout(tc, 600);
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, resumed_runs_end_alike, 0, (int)(sizeof plans / sizeof plans[0]));
    tcase_add_test(tc, ended_runs_go_on);
    tcase_add_test(tc, other_options_are_refused);
    tcase_add_test(tc, other_networks_and_policies_are_refused);
    tcase_add_test(tc, damaged_states_are_refused);
    tcase_add_test(tc, another_device_is_told);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
