/* SPDX-License-Identifier: MIT */
/* The growing string. */
#include <string.h>

#include "base/text.h"
#include "support/check_main.h"

START_TEST(test_grow)
{
    trine__text t = {0};
    char *out = NULL;
    for (int i = 0; i < 1000; i++) trine__text_add(&t, "%03d,", i);
    ck_assert_uint_eq(t.length, 4000);
    ASSERT_OK(trine__text_take(&t, &out));
    ck_assert_uint_eq(strlen(out), 4000);
    ck_assert_int_eq(strncmp(out, "000,001,", 8), 0);
    ck_assert_str_eq(out + 3996, "999,");
    ck_assert_ptr_null(t.data);
    ck_assert_uint_eq(t.length, 0);
    free(out);
}
END_TEST

START_TEST(test_empty)
{
    trine__text t = {0};
    char *out = NULL;
    ASSERT_OK(trine__text_take(&t, &out));
    ck_assert_str_eq(out, "");
    free(out);
    trine__text_free(&t);
    trine__text_add(&t, "%s", "");
    ck_assert_str_eq(t.data, "");
    trine__text_free(&t);
    ck_assert_ptr_null(t.data);
}
END_TEST

START_TEST(test_bytes)
{
    trine__text t = {0};
    char *out = NULL;
    trine__text_add_bytes(&t, "a\0b", 3);
    trine__text_add_bytes(&t, NULL, 0);
    trine__text_add(&t, "%c", 'c');
    ck_assert_uint_eq(t.length, 4);
    ASSERT_OK(trine__text_take(&t, &out));
    ck_assert_int_eq(memcmp(out, "a\0bc", 5), 0);
    free(out);
}
END_TEST

/* One failed addition is reported at the end, whatever follows it, and the string can be used again. */
START_TEST(test_failure)
{
    trine__text t = {0};
    char untouched, *out = &untouched;
    trine__text_add(&t, "before");
    t.failed = true;
    trine__text_add(&t, "after");
    trine__text_add_bytes(&t, "x", 1);
    ck_assert_str_eq(t.data, "before");
    ASSERT_FAILS(TRINE_ERR_NOMEM, trine__text_take(&t, &out));
    ck_assert_ptr_eq(out, &untouched);
    ck_assert(!t.failed);
    trine__text_add(&t, "new");
    ASSERT_OK(trine__text_take(&t, &out));
    ck_assert_str_eq(out, "new");
    free(out);
}
END_TEST

START_TEST(test_shortest_digits)
{
    ck_assert_int_eq(trine__shortest_digits(0.1f, true), 6);
    ck_assert_int_eq(trine__shortest_digits(0.1f, false), 17);
    ck_assert_int_eq(trine__shortest_digits(0.1, false), 6);
    ck_assert_int_eq(trine__shortest_digits(0.1234567, false), 7);
    ck_assert_int_eq(trine__shortest_digits(1.0 / 3, false), 16);
    ck_assert_int_eq(trine__shortest_digits(16777217.0 / 16777216, false), 17);
    ck_assert_int_eq(trine__shortest_digits(1.0f / 3, true), 8);
}
END_TEST

START_TEST(test_read_number)
{
    double x = 7;
    ck_assert(trine__read_number("1.5e-3x", 6, &x) && x == 1.5e-3);
    ck_assert(trine__read_number("-2", 2, &x) && x == -2);
    ck_assert(!trine__read_number("", 0, &x) && !trine__read_number("1x", 2, &x));
    char long_one[400];
    memset(long_one, '1', sizeof long_one);
    ck_assert(!trine__read_number(long_one, sizeof long_one, &x));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("text");
    TCase *tc = tcase_create("text");
    tcase_add_test(tc, test_grow);
    tcase_add_test(tc, test_empty);
    tcase_add_test(tc, test_bytes);
    tcase_add_test(tc, test_failure);
    tcase_add_test(tc, test_shortest_digits);
    tcase_add_test(tc, test_read_number);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
