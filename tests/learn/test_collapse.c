/* SPDX-License-Identifier: MIT */
/* The collapse guard on made sequences of records: every sign is found, with its step, and healthy runs are left alone. */
#include "trine/collapse.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "io/image_files.h"
#include "support/check_main.h"

enum { STEPS = 1000 };

typedef struct sequence {
    const char *name;
    const trine_triplet_desc *loss;
    int normalize;
    trine_step_record (*at)(int step, double noise); /* from 1; noise in [-1, 1] */
    trine_collapse_sign want;
    int from, to; /* steps between which it must be found */
    const char *advice;
} sequence;

static trine_step_record record(double loss, double active, double d_ap, double d_an, double norm)
{
    return (trine_step_record){.loss = (float)loss,
                               .active_fraction = (float)active,
                               .d_ap = (float)d_ap,
                               .d_an = (float)d_an,
                               .embedding_norm = (float)norm,
                               .lr = 0.01};
}

/* A loss of batch-hard, margin 0.2, for the distances. */
static trine_step_record hinge(double margin, double active, double d_ap, double d_an, double norm)
{
    return record(fmax(0, d_ap - d_an + margin), active, d_ap, d_an, norm);
}

/* Everything shrinks, norms with it. */
static trine_step_record norms_go(int step, double noise)
{
    const double f = exp(-0.12 * step) * (1 + 0.05 * noise);
    return hinge(0.5, 1, 5 * f + 1e-6, 3.5 * f + 1e-6, 7 * f);
}
/* Distances shrink, norms do not. */
static trine_step_record one_point(int step, double noise)
{
    const double f = exp(-0.1 * step) * (1 + 0.05 * noise);
    return hinge(0.5, 1, 5 * f + 1e-6, 3.5 * f + 1e-6, 7 + 0.02 * step);
}
static trine_step_record one_point_soft(int step, double noise)
{
    const double f = 0.12 + 0.88 * exp(-0.1 * step);
    return record(log1p(exp(0.1 * f * (1 + 0.5 * noise))), 1, 1.2 * f, 1.1 * f, 7);
}
/* Distances shrink to a seventh and stay: never a twentieth, but the loss is at the margin. */
static trine_step_record at_margin(int step, double noise)
{
    const double f = 0.14 + 0.86 * exp(-0.1 * step);
    return hinge(0.2, 1, 0.8 * f + 0.004 * noise, 0.79 * f, 7);
}
/* The loss at the margin from the beginning, distances as large as ever. */
static trine_step_record stuck(int step, double noise)
{
    (void)step;
    return hinge(0.2, 1, 0.8, 0.801 + 0.002 * noise, 7);
}
static trine_step_record stuck_soft(int step, double noise)
{
    (void)step;
    return record(0.5 * log(2) + 0.002 * noise, 1, 0.8, 0.8 + 0.002 * noise, 7);
}
/* Nothing is learned, above the margin. */
static trine_step_record no_progress(int step, double noise)
{
    (void)step;
    return hinge(0.2, 1, 0.8 + 0.05 * noise, 0.55, 7);
}
static trine_step_record no_margin(int step, double noise)
{
    (void)step;
    return record(1e-9, 0, 0.80, 0.81 + 0.005 * noise, 7);
}

/* Healthy: the task is learned, the loss and active fraction fall to 0 while negatives stay away. */
static trine_step_record learned(int step, double noise)
{
    const double f = exp(-0.02 * step);
    const double d_ap = 0.05 + 0.75 * f * (1 + 0.1 * noise), d_an = 1.2 - 0.7 * f;
    return hinge(0.2, fmin(1, fmax(0, 1.3 * f - 0.1)), d_ap, d_an, 7);
}
/* Its positives fall on one point each. */
static trine_step_record learned_to_a_point(int step, double noise)
{
    const double f = exp(-0.05 * step);
    return hinge(0.2, f > 0.1 ? f : 0, 1e-4 + 0.8 * f * (1 + 0.1 * noise), 1.2 - 0.7 * f, 7);
}
/* Unnormalised distances come down to the margin's size and are apart there. */
static trine_step_record learned_small(int step, double noise)
{
    const double f = exp(-0.03 * step);
    return hinge(0.2, f, 0.4 + 300 * f * (1 + 0.05 * noise), 4 + 280 * f, 2 + 300 * f);
}
/* As resnet20 at a learning rate of 1e-4: every term active, hardly a fall in sight. */
static trine_step_record slow(int step, double noise)
{
    return hinge(0.2, 1, 0.8 - 1e-4 * step + 0.04 * noise, 0.54 + 5e-5 * step, 7);
}
/* The loss goes through the margin on its way. */
static trine_step_record passing(int step, double noise)
{
    return hinge(0.2, fmax(0, 1 - 0.001 * step), 0.8 - 0.0005 * step + 0.02 * noise, 0.6 + 0.0003 * step, 7);
}
/* Semi-hard mining: the negatives chosen are only just farther than the positives, the loss close to the margin. */
static trine_step_record semi_hard(int step, double noise)
{
    return hinge(0.2, 1, 0.6 - 1e-4 * step + 0.02 * noise, 0.603 - 1e-4 * step + 0.02 * noise, 7);
}
/* Batches without any triplet. */
static trine_step_record no_terms(int step, double noise)
{
    return step % 3 == 0 ? hinge(0.2, 0.5, 0.5 + 0.02 * noise, 0.6, 7) : record(0, 0, 0, 0, 7);
}
static trine_step_record never_terms(int step, double noise)
{
    (void)step, (void)noise;
    return record(0, 0, 0, 0, 7);
}

/* ---- classification of 10 even classes ---- */

static trine_step_record classified(double loss, double accuracy)
{
    return (trine_step_record){.loss = (float)loss, .accuracy = (float)accuracy, .embedding_norm = 5};
}
static trine_step_record guessing(int step, double noise)
{
    return classified(log(10) + 0.6 * exp(-0.1 * step) + 0.02 * noise, 0.1 + 0.05 * noise);
}
static trine_step_record no_steps(int step, double noise)
{
    (void)step;
    return classified(2.6 + 0.1 * noise, 0.1 + 0.08 * noise);
}
static trine_step_record explodes(int step, double noise)
{
    return classified(2.4 * exp(0.2 * step) * (1 + 0.1 * noise), 0.1);
}
static trine_step_record classes_learned(int step, double noise)
{
    const double f = exp(-0.005 * step);
    return classified(2.5 * f * (1 + 0.2 * noise), 1 - 0.9 * f);
}
/* As with many classes and a low rate: the loss hardly falls. */
static trine_step_record classes_slow(int step, double noise)
{
    return classified(2.32 - 1e-4 * step + 0.02 * noise, 0.1 + 2e-5 * step + 0.05 * noise);
}
/* The loss stays where it is, but most answers are right: labels that are wrong here and there. */
static trine_step_record noisy_labels(int step, double noise)
{
    (void)step;
    return classified(2.3 + 0.1 * noise, 0.5 + 0.1 * noise);
}
/* Spikes of the first steps, as at a large rate without a warm-up. */
static trine_step_record spikes(int step, double noise)
{
    const trine_step_record r = classes_learned(step, noise);
    return step > 2 && step < 9 ? classified(40, 0.1) : r;
}
/* A network that has learned already. */
static trine_step_record continued(int step, double noise)
{
    (void)step;
    return classified(0.01 + 0.005 * noise, 0.99 + 0.01 * noise);
}

static const trine_triplet_desc hard2 = {.margin = 0.2f}, hard5 = {.margin = 0.5f}, none = {.margin = 0.0f},
                                soft = {.soft = 1}, soft5 = {.soft = 1, .temperature = 0.5f},
                                semi = {.mining = TRINE_SEMI_HARD, .margin = 0.2f},
                                cosine = {.margin = 0.5f, .distance = TRINE_COSINE},
                                xent = {.loss = TRINE_LOSS_NT_XENT,
                                        .distance = TRINE_COSINE,
                                        .temperature = 0.1f},
                                softmax = {.margin = -1}; /* stands for the other objective */

static const sequence sequences[] = {
    {"norms go", &hard5, 0, norms_go, TRINE_COLLAPSE_NORM, 30, 50, "normalize"},
    {"norms go, normalised", &hard5, 1, norms_go, TRINE_COLLAPSE_NORM, 30, 60, "margin"},
    {"one point", &hard5, 0, one_point, TRINE_COLLAPSE_DISTANCE, 28, 45, "normalize"},
    {"one point, semi-hard", &semi, 0, one_point, TRINE_COLLAPSE_DISTANCE, 28, 45, "learning rate"},
    {"one point, cosine", &cosine, 0, one_point, TRINE_COLLAPSE_MARGIN, 28, 60, "semi-hard"},
    {"one point, nt-xent", &xent, 1, one_point, TRINE_COLLAPSE_DISTANCE, 50, 80, "learning rate"},
    {"one point, soft", &soft, 0, one_point_soft, TRINE_COLLAPSE_LN2, 20, 60, "semi-hard"},
    {"at the margin", &hard2, 1, at_margin, TRINE_COLLAPSE_MARGIN, 20, 60, "another margin (0.2 now)"},
    {"stuck at the margin", &hard2, 1, stuck, TRINE_COLLAPSE_MARGIN, 100, 115, "learning rate (0.01 now)"},
    {"stuck at half of ln 2", &soft5, 1, stuck_soft, TRINE_COLLAPSE_LN2, 100, 115, "learning rate"},
    {"no progress", &hard2, 1, no_progress, TRINE_COLLAPSE_ALL_ACTIVE, 200, 500, "labels"},
    {"margin 0", &none, 1, no_margin, TRINE_COLLAPSE_NONE_ACTIVE, 50, 60, "larger margin"},
    {"learned", &hard2, 1, learned, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"learned, soft", &soft, 1, learned, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"learned to a point", &hard2, 1, learned_to_a_point, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"learned to a point, not normalised", &hard2, 0, learned_to_a_point, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"learned, nt-xent", &xent, 1, learned, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"learned, smaller", &hard2, 0, learned_small, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"slow", &hard2, 1, slow, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"passing the margin", &hard2, 1, passing, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"semi-hard", &semi, 1, semi_hard, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"some batches without terms", &hard2, 1, no_terms, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"no terms ever", &hard2, 1, never_terms, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"guessing", &softmax, 0, guessing, TRINE_COLLAPSE_GUESSING, 216, 330, "ln 10, which it is where every"},
    {"no steps", &softmax, 0, no_steps, TRINE_COLLAPSE_NO_PROGRESS, 216, 700, "learning rate (0.01 now)"},
    {"explodes", &softmax, 0, explodes, TRINE_COLLAPSE_DIVERGED, 15, 30, "a warm-up"},
    {"classes learned", &softmax, 0, classes_learned, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"classes learned slowly", &softmax, 0, classes_slow, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"noisy labels", &softmax, 0, noisy_labels, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"spikes", &softmax, 0, spikes, TRINE_COLLAPSE_NONE, 0, 0, NULL},
    {"continued", &softmax, 0, continued, TRINE_COLLAPSE_NONE, 0, 0, NULL},
};

static trine_dataset *even, *uneven; /* 10 classes of 1 image each; 9 images and 1 */

static char root[PATH_BYTES];

/* A data set of so many images (empty files, which nobody decodes) of each class. */
static trine_dataset *make_classes(const char *name, const int *images, int classes)
{
    char path[PATH_BYTES], file[PATH_BYTES];
    trine_dataset *data;
    make_folder(root, name);
    for (int k = 0; k < classes; k++) {
        snprintf(path, sizeof path, "%s/c%d", name, k);
        make_folder(root, path);
        for (int i = 0; i < images[k]; i++) {
            snprintf(file, sizeof file, "%.60s/%d.ppm", path, i);
            write_bytes(root, file, "", 0);
        }
    }
    in_root(path, root, name);
    ASSERT_OK(trine_dataset_open(path, NULL, &data));
    return data;
}

static void setup(void)
{
    static const int one[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, nine[] = {9, 1};
    make_root(root);
    even = make_classes("even", one, 10);
    uneven = make_classes("uneven", nine, 2);
}

static void teardown(void)
{
    trine_dataset_destroy(&even);
    trine_dataset_destroy(&uneven);
    remove_root(root);
}

static double next_noise(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / (1 << 23) - 1;
}

static void run(const sequence *s, uint32_t seed)
{
    trine_trainer_options options = {.triplet = *s->loss, .normalize = s->normalize, .lr = 0.01};
    if (s->loss == &softmax) options.objective = TRINE_OBJECTIVE_CLASSIFY;
    trine_collapse_guard *guard = NULL;
    trine_collapse found = {0};
    int told = 0;
    ASSERT_OK(trine_collapse_guard_create(&options, NULL, &guard));
    if (s->loss == &softmax) trine_collapse_guard_set_classes(guard, even);
    for (int step = 1; step <= STEPS; step++) {
        trine_step_record r = s->at(step, next_noise(&seed));
        r.step = step;
        told += trine_collapse_guard_step(guard, &r, &found);
    }
    trine_collapse_guard_destroy(&guard);
    ck_assert_ptr_null(guard);
    ck_assert_msg(found.sign == s->want, "%s: %s, want %s: %s", s->name, trine_collapse_sign_name(found.sign),
                  trine_collapse_sign_name(s->want), found.text);
    ck_assert_int_eq(told, s->want != TRINE_COLLAPSE_NONE);
    if (s->want == TRINE_COLLAPSE_NONE) return;
    ck_assert_msg(found.record.step >= s->from && found.record.step <= s->to, "%s: step %d, want %d to %d",
                  s->name, found.record.step, s->from, s->to);
    char at[32];
    snprintf(at, sizeof at, "collapse at step %d: ", found.record.step);
    ck_assert_msg(strncmp(found.text, at, strlen(at)) == 0, "%s", found.text);
    ck_assert_msg(strstr(found.text, s->advice) != NULL, "%s: no '%s' in: %s", s->name, s->advice,
                  found.text);
    ck_assert(strlen(found.text) < sizeof found.text - 1);
}

START_TEST(every_sequence)
{
    for (size_t i = 0; i < TRINE_COUNTOF(sequences); i++)
        for (uint32_t seed = 1; seed <= 20; seed++) run(&sequences[i], seed);
}
END_TEST

/* The loss of guessing is that of the classes' shares, 0.325 for 9 : 1, and of one class alone there is none. */
START_TEST(shares)
{
    static const struct {
        double loss, accuracy;
        trine_collapse_sign want;
    } runs[] = {{0.325, 0.9, TRINE_COLLAPSE_GUESSING},
                {0.325, 0.97, TRINE_COLLAPSE_NONE},
                {0.20, 0.9, TRINE_COLLAPSE_NONE}};
    const trine_trainer_options options = {.objective = TRINE_OBJECTIVE_CLASSIFY, .lr = 0.1, .warmup = 100};
    for (size_t k = 0; k < TRINE_COUNTOF(runs); k++) {
        trine_collapse_guard *guard = NULL;
        trine_collapse found = {0};
        uint32_t seed = 5;
        ASSERT_OK(trine_collapse_guard_create(&options, NULL, &guard));
        trine_collapse_guard_set_classes(guard, uneven);
        for (int step = 1; step <= 400; step++) {
            const double noise = 0.01 * next_noise(&seed), first = step < 16 ? 0.4 : 0;
            trine_step_record r = classified(runs[k].loss + first + noise, runs[k].accuracy);
            r.step = step;
            trine_collapse_guard_step(guard, &r, &found);
        }
        ck_assert_msg(found.sign == runs[k].want, "%zu: %s", k, found.text);
        if (found.sign == TRINE_COLLAPSE_GUESSING) {
            ck_assert_int_ge(found.record.step, 300); /* not before the warm-up is over for long */
            ck_assert_ptr_nonnull(strstr(found.text, "by the shares of the 2 classes"));
        }
        trine_collapse_guard_destroy(&guard);
    }
}
END_TEST

START_TEST(refusals)
{
    const trine_trainer_options classify = {.objective = (trine_objective)2};
    trine_collapse_guard *guard = NULL;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_collapse_guard_create(&classify, NULL, &guard));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_collapse_guard_create(NULL, NULL, &guard));
    ck_assert_ptr_null(guard);
    trine_collapse_guard_destroy(&guard);
    ck_assert_ptr_null(trine_collapse_sign_name((trine_collapse_sign)10));
    ck_assert_str_eq(trine_collapse_sign_name(TRINE_COLLAPSE_DIVERGED), "diverged");
    ck_assert_str_eq(trine_collapse_sign_name(TRINE_COLLAPSE_LN2), "ln2");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("learn/collapse");
    TCase *tests = tcase_create("all");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, every_sequence);
    tcase_add_test(tests, shares);
    tcase_add_test(tests, refusals);
    suite_add_tcase(suite, tests);
    return check_main(suite);
}
