/* SPDX-License-Identifier: MIT */
/* What a recipe adds to plain steps: rates by name, warm-up, clipping. Each against the plain steps that it is made of, to the last bit. */
#include <math.h>

#include "learn/learn_data.h"
#include "op/gradient_norm.h"

enum { BATCH = 12, MAX_FLOATS = 1 << 16 };

static trine_trainer_options options_for(int steps)
{
    trine_trainer_options o = triplet_run(steps);
    o.lr = 0.02;
    return o;
}

static trine_status open_array(trine_resnet *net, const trine_trainer_options *o, trine_trainer **out)
{
    int labels[BATCH];
    float *x = make_images(BATCH, SIDE, labels);
    const trine_shape shape = {BATCH, 3, SIDE, SIDE};
    const trine_status status = trine_trainer_create_array(net, dev.stream, o, x, &shape, labels, out);
    free(x);
    return status;
}

static int keep_rate(void *user, const trine_step_record *record, int steps)
{
    (void)steps;
    ((double *)user)[record->step - 1] = record->lr;
    return 0;
}

static trine_resnet *train(const trine_trainer_options *o, double *rates)
{
    trine_resnet *net = make_network(CLASSES);
    trine_trainer *t = NULL;
    ASSERT_OK(open_array(net, o, &t));
    ASSERT_OK(trine_trainer_run(t, rates ? keep_rate : NULL, rates));
    trine_trainer_destroy(&t);
    return net;
}

static bool same_parameter(const trine_resnet *a, const trine_resnet *b, int i)
{
    static float x[MAX_FLOATS], y[MAX_FLOATS];
    trine_parameter_info info;
    size_t floats = 1;
    ASSERT_OK(trine_resnet_parameter(a, i, &info));
    for (int d = 0; d < info.rank; d++) floats *= (size_t)info.dims[d];
    ck_assert_uint_le(floats, MAX_FLOATS);
    ASSERT_OK(trine_resnet_parameter_read(a, dev.stream, i, x));
    ASSERT_OK(trine_resnet_parameter_read(b, dev.stream, i, y));
    return memcmp(x, y, floats * sizeof *x) == 0;
}

static bool starts(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

/* After one step a parameter is where a run of its rate alone has taken it. */
START_TEST(rates_by_name)
{
    trine_trainer_options o = options_for(1);
    trine_resnet *at[3] = {make_network(CLASSES)}; /* rates 0, 0.02, 0.05 */
    at[1] = train(&o, NULL);
    o.lr = 0.05;
    at[2] = train(&o, NULL);
    o.lr = 0.02;
    o.lr_globs = "layer*=0.5,layer3.*=0.05,layer1.*=0.02,layer2.*=0.02,bn1.*=0";
    trine_resnet *net = train(&o, NULL);
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        trine_parameter_info info;
        ASSERT_OK(trine_resnet_parameter(net, i, &info));
        const int own = starts(info.name, "layer3") ? 2 : starts(info.name, "bn1") ? 0 : 1;
        const bool reached = !starts(info.name, "fc.");
        for (int k = 0; k < 3; k++)
            ck_assert_msg(same_parameter(net, at[k], i) == (k == own || !reached), "%s, rate %d", info.name,
                          k);
    }
    trine_resnet_destroy(&net);
    for (int k = 0; k < 3; k++) trine_resnet_destroy(&at[k]);
}
END_TEST

/* A glob that names everything is a rate of everything: with every schedule, and a plateau that begins at it. */
START_TEST(rates_by_name_follow_the_schedule)
{
    for (int s = TRINE_SCHEDULE_CONSTANT; s <= TRINE_SCHEDULE_PLATEAU; s++) {
        trine_trainer_options o = options_for(6);
        double rates[2][6];
        o.schedule = (trine_schedule)s;
        o.warmup = 2;
        trine_resnet *plain = train(&o, rates[0]);
        o.lr = 0.01;
        o.lr_globs = "*=0.02";
        trine_resnet *named = train(&o, rates[1]);
        ck_assert_uint_eq(parameters_hash(plain), parameters_hash(named));
        for (int i = 0; i < 6; i++) {
            ck_assert_double_eq_tol(rates[0][i], trine_schedule_lr_warmed(o.schedule, 0.02, i, 6, 2), 1e-15);
            ck_assert_double_eq_tol(rates[1][i], rates[0][i] / 2, 1e-15);
        }
        trine_resnet_destroy(&plain);
        trine_resnet_destroy(&named);
    }
}
END_TEST

/* The norm's stages against double, over ranges that are no multiples of anything, and the clipped step against a step with gradients
 * that were multiplied on the host. Bound: eps * (additions of one work-item and of the last stage). */
START_TEST(clipping)
{
    enum { COUNT = 70001, RANGES = 2 };
    static const size_t first[RANGES] = {0, 5003}, count[RANGES] = {4999, COUNT - 5003};
    static float g[COUNT];
    trine__random r = trine__random_stream(1, 2, 3);
    double sum = 0;
    for (int i = 0; i < COUNT; i++) g[i] = (float)trine__random_normal(&r);
    for (int k = 0; k < RANGES; k++)
        for (size_t i = first[k]; i < first[k] + count[k]; i++) sum += (double)g[i] * g[i];
    trine__gradient_norm *norm = NULL;
    trine_buffer *gradients = NULL;
    ASSERT_OK(trine_buffer_create(dev.context, sizeof g, &gradients));
    ASSERT_OK(trine_buffer_write(dev.stream, gradients, 0, g, sizeof g));
    ASSERT_OK(trine__gradient_norm_create(dev.context, RANGES, &norm));
    for (int limit = 0; limit <= 1; limit++) {
        trine__gradient_factor got;
        const double want = 0.5 * sqrt(sum), most = limit ? 3 : 2 * want;
        trine__gradient_norm_clear(norm);
        for (int k = 0; k < RANGES; k++)
            ASSERT_OK(trine__gradient_norm_add(norm, dev.stream, gradients, first[k], count[k]));
        ASSERT_OK(trine__gradient_norm_clip(norm, dev.stream, NULL, 0.5f, (float)most));
        ASSERT_OK(trine_buffer_read(dev.stream, trine__gradient_norm_buffer(norm), 0, &got, sizeof got));
        const double bound = 6e-8 * 4200;
        ck_assert_double_eq_tol(got.norm, want, bound * want);
        ck_assert_double_eq_tol(got.factor, 0.5 * (limit ? most / (want + 1e-6) : 1), bound);
        ck_assert_float_eq(got.overflow, 0);
    }
    trine__gradient_norm_destroy(&norm);
    trine_buffer_release(&gradients);
}
END_TEST

/* SGD's step is linear in the gradient: clipped to half and a quarter of a small norm, a parameter moves half as far. A large limit
 * changes no bit. */
START_TEST(clipped_steps)
{
    static float start[MAX_FLOATS], moved[2][MAX_FLOATS];
    trine_trainer_options o = options_for(1);
    o.lr = 1;
    trine_resnet *net = train(&o, NULL);
    o.clip_norm = 1e6;
    trine_resnet *loose = train(&o, NULL);
    ck_assert_uint_eq(parameters_hash(net), parameters_hash(loose));
    trine_resnet_destroy(&net);
    trine_resnet_destroy(&loose);
    net = make_network(CLASSES);
    trine_parameter_info info = {0};
    int at = -1;
    do ASSERT_OK(trine_resnet_parameter(net, ++at, &info));
    while (strcmp(info.name, "conv1.weight") != 0);
    ASSERT_OK(trine_resnet_parameter_read(net, dev.stream, at, start));
    trine_resnet_destroy(&net);
    const int floats = info.dims[0] * info.dims[1] * info.dims[2] * info.dims[3];
    for (int k = 0; k < 2; k++) {
        o.clip_norm = k ? 1e-2 : 2e-2;
        net = train(&o, NULL);
        ASSERT_OK(trine_resnet_parameter_read(net, dev.stream, at, moved[k]));
        trine_resnet_destroy(&net);
    }
    double most = 0;
    for (int i = 0; i < floats; i++) most = fmax(most, fabs((double)moved[0][i] - start[i]));
    ck_assert_double_gt(most, 0);
    for (int i = 0; i < floats; i++)
        ck_assert_double_eq_tol((double)moved[0][i] - start[i], 2 * ((double)moved[1][i] - start[i]),
                                1e-5 * most + 4 * 6e-8 * fabs(start[i]));
}
END_TEST

START_TEST(bad_recipes_are_refused)
{
    static const struct {
        const char *globs;
        int warmup;
        const char *sentence;
    } rows[] = {{"layer9.*=1", 0, "lr: 'layer9.*' matches no parameter of resnet20_cifar"},
                {"layer1.*", 0, "lr: 'layer1.*', expected GLOB=X"},
                {"layer1.*=x", 0, "lr: 'layer1.*=x', expected GLOB=X"},
                {"layer1.*=-1", 0, "lr: 'layer1.*=-1', expected GLOB=X"},
                {"[=1", 0, "["},
                {NULL, 4, "a warm-up of 4 steps in a run of 4"},
                {NULL, -1, "a warm-up of -1 steps"}};
    trine_resnet *net = make_network(CLASSES);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        trine_trainer *t = NULL;
        trine_trainer_options o = options_for(4);
        o.lr_globs = rows[i].globs;
        o.warmup = rows[i].warmup;
        ASSERT_FAILS(TRINE_ERR_ARG, open_array(net, &o, &t));
        ck_assert_msg(strstr(trine_last_error(), rows[i].sentence) != NULL, "%s", trine_last_error());
    }
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("recipes");
    TCase *tc = tcase_create("recipes");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, rates_by_name);
    tcase_add_test(tc, rates_by_name_follow_the_schedule);
    tcase_add_test(tc, clipping);
    tcase_add_test(tc, clipped_steps);
    tcase_add_test(tc, bad_recipes_are_refused);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
