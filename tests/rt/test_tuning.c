/* SPDX-License-Identifier: MIT */
/* Measurements: kept and read back, the nearest source and batch answer, damage is no answer; and the convolution that follows them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/temp_files.h"
#include "rt/tuning.h"
#include "support/check_main.h"
#include "support/device.h"
#include "trine/cache.h"
#include "trine/linear.h"

static const char *const cache_files[] = {"trine.db", "trine.db-wal", "trine.db-shm", NULL};
static int warnings;

static void count_warnings(void *user, const char *sentence)
{
    (void)user;
    warnings++;
    printf("log: %s\n", sentence);
}

static trine_context *open_context(void)
{
    const char *selector = getenv("TRINE_TEST_DEVICE");
    trine_context *context = NULL;
    ASSERT_OK(
        trine_context_create(selector && selector[0] ? selector : "auto", count_warnings, NULL, &context));
    return context;
}

static void begin(void)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s", temp_path("trine.db"));
    *strrchr(folder, '/') = '\0';
    setenv("TRINE_CACHE_DIR", folder, 1);
    unsetenv("TRINE_CACHE");
    unsetenv("TRINE_TUNING");
    unsetenv("TRINE_ALGORITHMS");
    warnings = 0;
}

static void record(trine_context *context, const char *problem, int batch, const char *algorithm, double ms)
{
    char scope[512];
    const trine_tuning_row row = {problem, batch, algorithm, ms};
    trine_tuning_scope(context, scope, sizeof scope);
    ASSERT_OK(trine_tuning_record(scope, &row));
}

static void parse(trine_context *context, const char *text)
{
    trine__tuning_ms(context, "", 1, ""); /* loads */
    ASSERT_OK(trine__tuning_parse(context, "test.tune", text, strlen(text)));
}

START_TEST(test_order)
{
    begin();
    trine_context *context = open_context(), *other = open_context();
    const char *type = context->caps.cpu ? "cpu" : "gpu", *not_type = context->caps.cpu ? "gpu" : "cpu";
    char text[1024];
    record(context, "p", 8, "a", 3);
    record(context, "p", 8, "b", 4);
    snprintf(text, sizeof text,
             "# comment\n\nfor generic\np | 8 | a | 9\nq | 8 | a | 9\nr | 8 | a | 9\ns | 8 | a | 9\nt | 8 | "
             "a | 9\n"
             "for type %s\nq | 8 | a | 1\nr | 8 | a | 8\ns | 8 | a | 8\n"
             "for type %s\nq | 8 | a | 8\n"
             "for family *\nr | 8 | a | 7\ns | 8 | a | 7\n"
             "for device %.200s\ns | 8 | a | 6\n"
             "for device another\ns | 8 | a | 1\n",
             not_type, type, context->device.info.name);
    for (char *c = text; *c; c++)
        if (*c == '[' || *c == ']') *c = '?';
    parse(context, text);
    ck_assert_double_eq(trine__tuning_ms(context, "p", 8, "a"), 3);
    ck_assert_double_eq(trine__tuning_ms(context, "p", 8, "b"), 4);
    ck_assert_double_eq(trine__tuning_ms(context, "p", 8, "c"), 0);
    ck_assert_double_eq(trine__tuning_ms(context, "q", 8, "a"), 8);
    ck_assert_double_eq(trine__tuning_ms(context, "r", 8, "a"), 7);
    ck_assert_double_eq(trine__tuning_ms(context, "s", 8, "a"), 6);
    ck_assert_double_eq(trine__tuning_ms(context, "t", 8, "a"), 9);
    ck_assert_double_eq(trine__tuning_ms(context, "u", 8, "a"), 0);
    setenv("TRINE_TUNING", "off", 1);
    ck_assert_double_eq(trine__tuning_ms(other, "p", 8, "a"), 0);
    trine_context_destroy(&context);
    trine_context_destroy(&other);
    ck_assert_int_eq(warnings, 0);
    remove_temp(cache_files);
}
END_TEST

START_TEST(test_batches)
{
    begin();
    trine_context *context = open_context();
    record(context, "p", 1, "a", 1);
    record(context, "p", 8, "a", 8);
    record(context, "p", 8, "b", -1);
    record(context, "p", 8, "a", 7); /* replaces */
    record(context, "p", 64, "a", 64);
    static const struct {
        int batch;
        double ms;
    } rows[] = {{0, 1}, {1, 1}, {2, 1}, {3, 7}, {8, 7}, {16, 7}, {32, 64}, {1000, 64}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        ck_assert_msg(trine__tuning_ms(context, "p", rows[i].batch, "a") == rows[i].ms, "batch %d gives %g",
                      rows[i].batch, trine__tuning_ms(context, "p", rows[i].batch, "a"));
    ck_assert_double_eq(trine__tuning_ms(context, "p", 8, "b"), -1);
    ck_assert_double_eq(trine__tuning_ms(context, "p", 1, "b"), 0);
    trine_context_destroy(&context);
    remove_temp(cache_files);
}
END_TEST

START_TEST(test_texts)
{
    static const char *const wrong[] = {"for\n",
                                        "for device\n",
                                        "for device [a\n",
                                        "for nobody x\n",
                                        "p | 8 | a\n",
                                        "p | 0 | a | 1\n",
                                        "p | x | a | 1\n",
                                        "p | 8 | a | -1\n",
                                        "p | 8 | a | x\n",
                                        "p | 8 | a | 1 ms\n",
                                        "# fine\nfor generic\nnonsense"};
    begin();
    trine_context *context = open_context();
    trine__tuning_ms(context, "", 1, "");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine__tuning_parse(context, "w.tune", wrong[i], strlen(wrong[i])));
        ck_assert_ptr_nonnull(strstr(trine_last_error(), i == 10 ? "w.tune: line 3: " : "w.tune: line 1: "));
    }
    parse(context, "for generic\np | 8 | a | failed");
    ck_assert_double_eq(trine__tuning_ms(context, "p", 8, "a"), -1);
    trine_context_destroy(&context);
    remove_temp(cache_files);
}
END_TEST

static void count_rows(void *user, const trine_tuning_row *row)
{
    *(int *)user += row->ms > 0;
}

/* Every byte of the file changed in turn, or the file cut: what is read is what was written, or nothing, and writing goes on. */
START_TEST(test_damage)
{
    static const trine_tuning_row row = {"p", 8, "algorithm", 2.5};
    int rows = 0;
    begin();
    ASSERT_OK(trine_tuning_each("device", count_rows, &rows)); /* no file */
    ck_assert_int_eq(rows, 0);
    for (int i = 0; i < 60; i++) {
        ASSERT_OK(trine_tuning_record("device", &row));
        FILE *file = fopen(temp_path("trine.db"), "r+b");
        ck_assert_ptr_nonnull(file);
        fseek(file, 0, SEEK_END);
        const long bytes = ftell(file), at = (long)i * bytes / 60;
        if (i % 2) {
            fclose(file);
            ck_assert_int_eq(truncate(temp_path("trine.db"), at), 0);
        } else {
            fseek(file, at, SEEK_SET);
            for (int k = 0; k < 200; k++) fputc(0x5a, file);
            fclose(file);
        }
        rows = 0;
        trine_tuning_each("device", count_rows, &rows);
        ck_assert_int_le(rows, 1);
        trine_cache_clear();
    }
    ASSERT_OK(trine_tuning_record("device", &row));
    rows = 0;
    ASSERT_OK(trine_tuning_each("another", count_rows, &rows));
    ck_assert_int_eq(rows, 0);
    ASSERT_OK(trine_tuning_each("device", count_rows, &rows));
    ck_assert_int_eq(rows, 1);
    trine_cache_info info;
    ASSERT_OK(trine_cache_get_info(&info));
    ck_assert_uint_eq(info.measured, 1);
    ASSERT_OK(trine_cache_clear());
    ASSERT_OK(trine_cache_get_info(&info));
    ck_assert_uint_eq(info.measured, 0);
    setenv("TRINE_CACHE", "off", 1);
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_tuning_record("device", &row));
    unsetenv("TRINE_CACHE");
    remove_temp(cache_files);
}
END_TEST

/* Who serves the forward pass of a convolution in a context of its own. */
static void expect(const trine_conv2d_desc *desc, int batch, const char *want)
{
    trine_context *context = open_context();
    trine_conv2d_desc d = *desc;
    trine_conv2d *op = NULL;
    d.batch = batch;
    ASSERT_OK(trine_conv2d_create(context, &d, 9, 9, 1u << TRINE_FORWARD, &op));
    ck_assert_str_eq(trine_conv2d_algorithm(op, TRINE_FORWARD), want);
    trine_conv2d_destroy(&op);
    trine_context_destroy(&context);
}

START_TEST(test_choice)
{
    begin();
    trine_context *context = open_context();
    trine_conv2d_desc d = trine_conv2d_desc_default(8, 8, 3);
    trine_conv2d *op = NULL;
    char problem[TRINE_CONV2D_PROBLEM], first[64];
    d.pad_h = d.pad_w = 1;
    d.in_cb = d.out_cb = 8;
    trine_conv2d_problem(&d, 9, 9, TRINE_FORWARD, problem);
    ASSERT_OK(trine_conv2d_create(context, &d, 9, 9, 1u << TRINE_FORWARD, &op));
    snprintf(first, sizeof first, "%s", trine_conv2d_algorithm(op, TRINE_FORWARD));
    trine_conv2d_destroy(&op);
    ck_assert_str_ne(first, "conv2d_plain");
    record(context, problem, 8, "conv2d_plain", 1.0);
    expect(&d, 8, first); /* nobody knows what it would be faster than */
    record(context, problem, 8, first, 1.01);
    expect(&d, 8, first); /* not by more than noise */
    record(context, problem, 8, first, 2.0);
    expect(&d, 8, "conv2d_plain");
    expect(&d, 0, "conv2d_plain");
    record(context, problem, 1, first, 0.5);
    record(context, problem, 1, "conv2d_plain", 1.0);
    expect(&d, 1, first); /* another batch, another choice */
    record(context, problem, 8, "conv2d_of_the_future", 0.1);
    expect(&d, 8, "conv2d_plain");
    setenv("TRINE_ALGORITHMS", first, 1);
    expect(&d, 8, first);
    unsetenv("TRINE_ALGORITHMS");
    setenv("TRINE_TUNING", "off", 1);
    expect(&d, 8, first);
    unsetenv("TRINE_TUNING");
    record(context, problem, 8, first, -1); /* it was wrong on this device */
    record(context, problem, 8, "conv2d_plain", 1000);
    expect(&d, 8, "conv2d_plain");
    trine_context_destroy(&context);
    remove_temp(cache_files);
}
END_TEST

/* A tile of the implicit matrix product, on devices that have them: by measurement and by name, never by itself. */
START_TEST(test_variant_choice)
{
    begin();
    trine_context *context = open_context();
    trine_conv2d_desc d = trine_conv2d_desc_default(8, 8, 3);
    char problem[TRINE_CONV2D_PROBLEM];
    trine_conv2d_problem(&d, 9, 9, TRINE_FORWARD, problem);
    record(context, problem, 8, "conv2d_gemm", 2.0);
    record(context, problem, 8, "conv2d_gemm:16x4x8", 1.0);
    record(context, problem, 8, "conv2d_gemm:8x4x4", -1);
    trine_context_destroy(&context);
    static const struct {
        const char *tuning, *algorithms, *forced, *want;
    } rows[] = {{"on", NULL, NULL, "conv2d_gemm:16x4x8"},
                {"off", NULL, NULL, "conv2d_gemm"},
                {"on", "conv2d_gemm:8*,*", NULL, "conv2d_gemm:8x4x4"},
                {"on", "conv2d_gemm,*", NULL, "conv2d_gemm"},
                {"on", NULL, "conv2d_gemm:16x4x4", "conv2d_gemm:16x4x4"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        trine_conv2d *op = NULL;
        setenv("TRINE_TUNING", rows[i].tuning, 1);
        if (rows[i].algorithms) setenv("TRINE_ALGORITHMS", rows[i].algorithms, 1);
        context = open_context();
        test_imitate(context, "gpu");
        d.algorithm = rows[i].forced;
        ASSERT_OK(trine_conv2d_create(context, &d, 9, 9, 1u << TRINE_FORWARD, &op));
        ck_assert_str_eq(trine_conv2d_algorithm(op, TRINE_FORWARD), rows[i].want);
        trine_conv2d_destroy(&op);
        d.algorithm = "conv2d_gemm:1x1x1";
        ASSERT_FAILS(TRINE_ERR_UNSUPPORTED, trine_conv2d_create(context, &d, 9, 9, 1u << TRINE_FORWARD, &op));
        trine_context_destroy(&context);
        unsetenv("TRINE_ALGORITHMS");
    }
    unsetenv("TRINE_TUNING");
    remove_temp(cache_files);
}
END_TEST

/* The fully connected layer, a direction at a time. */
START_TEST(test_linear_choice)
{
    begin();
    trine_context *context = open_context();
    char forward[TRINE_LINEAR_PROBLEM], weights[TRINE_LINEAR_PROBLEM];
    trine_linear_problem(64, 10, TRINE_FORWARD, forward);
    trine_linear_problem(64, 10, TRINE_BACKWARD_WEIGHTS, weights);
    record(context, forward, 8, "linear_plain", 2.0);
    record(context, forward, 8, "linear_clblast", 1.0);
    record(context, weights, 8, "linear_clblast", 1.0);
    trine_context_destroy(&context);
    for (int forced = 0; forced < 3; forced++) {
        trine_linear *op = NULL;
        if (forced == 2) setenv("TRINE_ALGORITHMS", "linear_clblast,*", 1);
        context = open_context();
        ASSERT_OK(trine_linear_create(context, 64, 10, 8, forced == 1 ? "linear_plain" : NULL, &op));
        ck_assert_str_eq(trine_linear_algorithm(op, TRINE_FORWARD),
                         forced == 1 ? "linear_plain" : "linear_clblast");
        ck_assert_str_eq(trine_linear_algorithm(op, TRINE_BACKWARD_DATA),
                         forced == 2 ? "linear_clblast" : "linear_plain");
        ck_assert_str_eq(trine_linear_algorithm(op, TRINE_BACKWARD_WEIGHTS),
                         forced == 2 ? "linear_clblast" : "linear_plain");
        trine_linear_destroy(&op);
        trine_context_destroy(&context);
    }
    unsetenv("TRINE_ALGORITHMS");
    remove_temp(cache_files);
}
END_TEST

int main(void)
{
    const char *selector = getenv("TRINE_TEST_DEVICE");
    trine_context *context = NULL;
    if (trine_context_create(selector && selector[0] ? selector : "auto", NULL, NULL, &context) ==
        TRINE_ERR_DEVICE) {
        printf("SKIP: no OpenCL device (%s)\n", trine_last_error());
        return 77;
    }
    trine_context_destroy(&context);
    Suite *suite = suite_create("tuning");
    TCase *tc = tcase_create("tuning");
    tcase_add_test(tc, test_order);
    tcase_add_test(tc, test_batches);
    tcase_add_test(tc, test_texts);
    tcase_add_test(tc, test_damage);
    tcase_add_test(tc, test_choice);
    tcase_add_test(tc, test_linear_choice);
    tcase_add_test(tc, test_variant_choice);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
