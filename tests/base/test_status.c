/* SPDX-License-Identifier: MIT */
/* The status list: unique names and values, a phrase for each, and the sentence and build log that a failure
 * keeps. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "support/check_main.h"

static const struct {
    const char *name;
    int value;
    const char *text;
} rows[] = {
#define ROW(name, value, text) {#name, value, text},
    TRINE_STATUS_MAP(ROW)
#undef ROW
};

START_TEST(test_unique)
{
    for (size_t i = 0; i < TRINE_COUNTOF(rows); i++)
        for (size_t j = 0; j < i; j++) {
            ck_assert_msg(rows[i].value != rows[j].value, "%s and %s are both %d", rows[i].name, rows[j].name,
                          rows[i].value);
            ck_assert_str_ne(rows[i].name, rows[j].name);
            ck_assert_str_ne(rows[i].text, rows[j].text);
        }
    ck_assert_int_eq(TRINE_OK, 0);
}
END_TEST

START_TEST(test_texts)
{
    for (size_t i = 0; i < TRINE_COUNTOF(rows); i++) {
        ck_assert_str_eq(trine_status_text((trine_status)rows[i].value), rows[i].text);
        ck_assert_msg(rows[i].text[0] != '\0', "%s has no text", rows[i].name);
    }
    ck_assert_str_eq(trine_status_text((trine_status)9999), "unknown status");
}
END_TEST

START_TEST(test_sentence)
{
    ck_assert_str_eq(trine_last_error(), "");
    ck_assert_str_eq(trine_last_build_log(), "");
    ck_assert_int_eq(trine__fail(TRINE_ERR_SHAPE, "x has %d channels", 4), TRINE_ERR_SHAPE);
    ck_assert_str_eq(trine_last_error(), "x has 4 channels");
    ck_assert_int_eq(trine__fail_context(TRINE_ERR_DATA, "file %s", "a.png"), TRINE_ERR_DATA);
    ck_assert_str_eq(trine_last_error(), "file a.png: x has 4 channels");
    trine__fail(TRINE_ERR_ARG, "again: %s", trine_last_error()); /* an argument inside the kept sentence */
    ck_assert_str_eq(trine_last_error(), "again: file a.png: x has 4 channels");
}
END_TEST

/* Longer than what is kept: cut, still a string. */
START_TEST(test_long)
{
    char text[5001];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    trine__fail(TRINE_ERR_ARG, "%s", text);
    const size_t kept = strlen(trine_last_error());
    ck_assert_uint_ge(kept, 1000);
    ck_assert_uint_lt(kept, 5000);
    for (int i = 0; i < 3; i++) trine__fail_context(TRINE_ERR_ARG, "%s", text);
    ck_assert_uint_eq(strlen(trine_last_error()), kept);
}
END_TEST

START_TEST(test_build_log)
{
    enum { BYTES = 100000 };
    static char log[BYTES + 1];
    memset(log, 'a', BYTES);
    memcpy(log + BYTES - 4, "tail", 4);
    trine__set_build_log("short");
    ck_assert_str_eq(trine_last_build_log(), "short");
    trine__set_build_log(log);
    const size_t kept = strlen(trine_last_build_log());
    ck_assert_uint_gt(kept, 60000);
    ck_assert_uint_lt(kept, BYTES);
    ck_assert_str_eq(trine_last_build_log() + kept - 4, "tail"); /* errors stand at the end */
}
END_TEST

static void *fail_elsewhere(void *out)
{
    *(int *)out = trine_last_error()[0] == '\0';
    trine__fail(TRINE_ERR_DATA, "the other thread's");
    return NULL;
}

START_TEST(test_threads)
{
    int empty = 0;
    pthread_t thread;
    trine__fail(TRINE_ERR_ARG, "mine");
    ck_assert_int_eq(pthread_create(&thread, NULL, fail_elsewhere, &empty), 0);
    pthread_join(thread, NULL);
    ck_assert_int_eq(empty, 1);
    ck_assert_str_eq(trine_last_error(), "mine");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("status");
    TCase *tc = tcase_create("status");
    tcase_add_test(tc, test_unique);
    tcase_add_test(tc, test_texts);
    tcase_add_test(tc, test_sentence);
    tcase_add_test(tc, test_long);
    tcase_add_test(tc, test_build_log);
    tcase_add_test(tc, test_threads);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
