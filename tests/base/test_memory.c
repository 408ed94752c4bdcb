/* SPDX-License-Identifier: MIT */
/* Checked sizes and allocation. */
#include <string.h>

#include "base/memory.h"
#include "support/check_main.h"

START_TEST(test_sizes)
{
    size_t out = 7;
    ck_assert(trine__mul_size(6, 7, &out));
    ck_assert_uint_eq(out, 42);
    ck_assert(trine__mul_size(SIZE_MAX, 1, &out));
    ck_assert_uint_eq(out, SIZE_MAX);
    ck_assert(trine__mul_size(SIZE_MAX, 0, &out));
    ck_assert_uint_eq(out, 0);
    ck_assert(trine__mul_size(0, SIZE_MAX, &out));
    out = 7;
    ck_assert(!trine__mul_size(SIZE_MAX / 2 + 1, 2, &out));
    ck_assert_uint_eq(out, 7); /* untouched on failure */
    ck_assert(trine__add_size(SIZE_MAX - 1, 1, &out));
    ck_assert_uint_eq(out, SIZE_MAX);
    out = 7;
    ck_assert(!trine__add_size(SIZE_MAX, 1, &out));
    ck_assert_uint_eq(out, 7);
}
END_TEST

START_TEST(test_rounding)
{
    ck_assert_uint_eq(trine__round_up(0, 16), 0);
    ck_assert_uint_eq(trine__round_up(1, 16), 16);
    ck_assert_uint_eq(trine__round_up(16, 16), 16);
    ck_assert_uint_eq(trine__round_up(17, 16), 32);
    ck_assert_uint_eq(trine__round_up(7, 3), 9);
    ck_assert_int_eq(trine__ceil_div(0, 4), 0);
    ck_assert_int_eq(trine__ceil_div(1, 4), 1);
    ck_assert_int_eq(trine__ceil_div(4, 4), 1);
    ck_assert_int_eq(trine__ceil_div(5, 4), 2);
}
END_TEST

START_TEST(test_calloc)
{
    void *p = NULL;
    ASSERT_OK(trine__calloc(1000, 3, &p));
    for (int i = 0; i < 3000; i++) ck_assert_int_eq(((unsigned char *)p)[i], 0);
    free(p);
    p = NULL;
    ASSERT_OK(trine__calloc(0, 8, &p));
    ck_assert_ptr_nonnull(p);
    free(p);
    p = &p;
    ASSERT_FAILS(TRINE_ERR_NOMEM, trine__calloc(SIZE_MAX / 2, 4, &p));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "address space"));
    ck_assert_ptr_eq(p, (void *)&p);
}
END_TEST

START_TEST(test_reserve)
{
    int *items = NULL;
    size_t capacity = 0, grown = 0;
    for (int i = 0; i < 1000; i++) {
        const size_t before = capacity;
        void *p = items;
        ASSERT_OK(trine__reserve(&p, &capacity, (size_t)i + 1, sizeof *items));
        items = p;
        items[i] = i;
        ck_assert_uint_gt(capacity, (size_t)i);
        grown += capacity != before;
    }
    ck_assert_uint_lt(grown, 12); /* doubles */
    for (int i = 0; i < 1000; i++) ck_assert_int_eq(items[i], i);
    void *p = items;
    const size_t before = capacity;
    ASSERT_FAILS(TRINE_ERR_NOMEM, trine__reserve(&p, &capacity, SIZE_MAX / 2, sizeof *items));
    ck_assert_ptr_eq(p, items);
    ck_assert_uint_eq(capacity, before);
    ck_assert_int_eq(items[999], 999);
    free(items);
}
END_TEST

START_TEST(test_strdup)
{
    char source[] = "text", *copy = NULL, *empty = NULL;
    ASSERT_OK(trine__strdup(source, &copy));
    source[0] = 'n';
    ck_assert_str_eq(copy, "text");
    ASSERT_OK(trine__strdup("", &empty));
    ck_assert_str_eq(empty, "");
    free(copy);
    free(empty);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *tc = tcase_create("memory");
    tcase_add_test(tc, test_sizes);
    tcase_add_test(tc, test_rounding);
    tcase_add_test(tc, test_calloc);
    tcase_add_test(tc, test_reserve);
    tcase_add_test(tc, test_strdup);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
