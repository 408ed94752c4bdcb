/* SPDX-License-Identifier: MIT */
/* What does not belong to a saved run is refused with a sentence that has both values, and does the trainer no
 * harm. */
#include <math.h>

#include "learn/resume_runs.h"

static const plan plain = {.name = "plain", .momentum = 0.9f, .lr = 0.02, .augment = 1, .steps = 9};
static const plan mixed = {.name = "mixed",
                           .freeze = "layer1.*",
                           .bn = "auto,bn1=train:momentum=0.37",
                           .optimizer = TRINE_ADAM,
                           .lr = 1e-3,
                           .augment = 1,
                           .steps = 6};

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

/* A setting that is written where it is on only. */
START_TEST(what_was_on_is_not_forgotten)
{
    plan remembers = plain;
    remembers.memory_size = 20;
    remembers.memory_start = 2;
    remembers.warmup = 3;
    remembers.lr_globs = "layer1.*=0.01";
    const plan *p = &remembers;
    save_first_steps(p);
    REFUSE(o.clip_norm = 2, TRINE_ERR_ARG, "clip-norm is 2 here, but 0");
    REFUSE(o.warmup = 0, TRINE_ERR_ARG, "warmup is 0 here, but 3");
    REFUSE(o.lr_globs = NULL, TRINE_ERR_ARG, "lr by name is  here, but layer1.*=0.01");
    REFUSE(o.memory_size = 0, TRINE_ERR_ARG, "memory-size is 0 here, but 20");
    REFUSE(o.memory_start = 1, TRINE_ERR_ARG, "memory-start is 0 here, but 2");
}
END_TEST

START_TEST(other_options_are_refused)
{
    const plan *p = &plain;
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
    REFUSE(o.triplet.loss = TRINE_LOSS_NT_XENT, TRINE_ERR_ARG, "loss is nt-xent here, but triplet");
    REFUSE(o.triplet.negative = TRINE_EASIEST_NEGATIVE, TRINE_ERR_ARG,
           "negative is easiest here, but hardest");
    REFUSE(o.triplet.swap = 1, TRINE_ERR_ARG, "swap is on here, but off");
    REFUSE(o.triplet.temperature = 2, TRINE_ERR_ARG, "temperature is 2 here, but 1");
    REFUSE(o.triplet.window_lower = -1, TRINE_ERR_ARG, "window-lower is -1 here, but 0");
    REFUSE(o.triplet.window_upper = 1, TRINE_ERR_ARG, "window-upper is 1 here, but inf");
    REFUSE(o.memory_size = 5, TRINE_ERR_ARG, "memory-size is 5 here, but 0");
    REFUSE(o.normalize = 0, TRINE_ERR_ARG, "normalize is off here, but on");
    REFUSE(o.embedding = TRINE_EMBED_FC, TRINE_ERR_ARG, "embedding is fc here, but pool");
    REFUSE(o.objective = TRINE_OBJECTIVE_CLASSIFY, TRINE_ERR_ARG, "objective is classify here, but triplet");
    REFUSE(o.classes_per_batch = 2, TRINE_ERR_ARG, "classes-per-batch is 2 here, but 3");
    REFUSE(o.images_per_class = 2, TRINE_ERR_ARG, "images-per-class is 2 here, but 3");
    REFUSE(o.augment.crop = 0, TRINE_ERR_ARG, "augment is flip here, but flip-crop");
    REFUSE(o.augment.hue = 0.5, TRINE_ERR_ARG, "augment is flip-crop,jitter:hue=0.5 here, but flip-crop");
    REFUSE(o.accumulate = 2, TRINE_ERR_ARG, "accumulate is 2 here, but 1");
    REFUSE(o.ema = 0.5, TRINE_ERR_ARG, "ema is 0.5 here, but 0");
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
    const plan *p = &mixed;
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
    const plan *p = &plain;
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
    const plan *p = &plain;
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

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("resume_refusals");
    TCase *tc = resume_case(suite);
    tcase_add_test(tc, other_options_are_refused);
    tcase_add_test(tc, what_was_on_is_not_forgotten);
    tcase_add_test(tc, other_networks_and_policies_are_refused);
    tcase_add_test(tc, damaged_states_are_refused);
    tcase_add_test(tc, another_device_is_told);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
