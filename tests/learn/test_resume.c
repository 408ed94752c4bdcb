/* SPDX-License-Identifier: MIT */
/* A run that is saved, destroyed and resumed through files ends with the bytes of one without a break, network
 * and state alike, and tells the same records. */
#include <math.h>

#include "learn/resume_runs.h"

enum { MAX_STEPS = 64 };

static const plan plans[] = {
    {.name = "sgd with momentum, flip-crop, rates by name, warm-up",
     .momentum = 0.9f,
     .lr = 0.02,
     .lr_globs = "layer2.*=0.01",
     .warmup = 5,
     .clip_norm = 0.5,
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
    {.name = "a memory that begins, fills and comes round, with drawn negatives",
     .momentum = 0.9f,
     .lr = 0.02,
     .augment = 1,
     .mining = TRINE_DISTANCE_WEIGHTED,
     .memory_size = 21,
     .memory_start = 2,
     .steps = 6,
     .breaks = {1, 2, 3, 5}},
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
    {.name = "averages, two batches a step, all augmentation",
     .momentum = 0.9f,
     .lr = 0.02,
     .clip_norm = 0.5,
     .ema = 0.7,
     .accumulate = 2,
     .augment = 3,
     .steps = 6,
     .breaks = {1, 2, 4}},
    {.name = "averages of what is behind a frozen trunk, two batches a step",
     .freeze = "*,!layer3.*",
     .optimizer = TRINE_ADAMW,
     .lr = 1e-3,
     .ema = 0.9,
     .accumulate = 2,
     .augment = 2,
     .steps = 6,
     .cache_before = TRINE_FEATURES_MEMORY,
     .cache_after = TRINE_FEATURES_OFF,
     .breaks = {3}},
    {.name = "classify, averages, an epoch's last step of one batch",
     .objective = TRINE_OBJECTIVE_CLASSIFY,
     .momentum = 0.9f,
     .lr = 0.05,
     .schedule = TRINE_SCHEDULE_COSINE,
     .ema = 0.5,
     .accumulate = 3,
     .augment = 1,
     .epochs = 3,
     .breaks = {1, 2, 3}},
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

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("resume");
    TCase *tc = resume_case(suite);
    tcase_add_loop_test(tc, resumed_runs_end_alike, 0, (int)(sizeof plans / sizeof plans[0]));
    tcase_add_test(tc, ended_runs_go_on);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
