/* SPDX-License-Identifier: MIT */
/* The profile: rows by kernel and label, counts, order, one read-out at a time. */
#include <string.h>

#include "rt/launch.h"
#include "support/check_main.h"
#include "support/device.h"

static void add(trine_stream *stream, trine__kernel *kernel, const test_buffer *b, const char *label)
{
    const trine__arg args[] = {trine__arg_buffer(b->buffer), trine__arg_buffer(b->buffer),
                               trine__arg_buffer(b->buffer), trine__arg_i32((int)b->floats),
                               trine__arg_i32((int)b->floats)};
    ASSERT_OK(trine__launch(stream, kernel, args, TRINE_COUNTOF(args), trine__grid_tiles(1, 1, 1), label));
}

static const trine_profile_row *find(const trine_profile_row *rows, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    ck_abort_msg("no row '%s'", name);
}

START_TEST(test_rows)
{
    trine_stream *stream = NULL;
    trine__kernel *one = NULL, *four = NULL;
    const trine_profile_row *rows = NULL;
    size_t count = 9;
    ASSERT_OK(trine_stream_create(dev.context, 1, &stream));
    ASSERT_OK(trine__kernel_create(dev.context, "add", "-D V=1", &one));
    ASSERT_OK(trine__kernel_create(dev.context, "add", "-D V=4", &four));
    test_buffer small = test_buffer_from(NULL, 0, 16), large = test_buffer_from(NULL, 0, 1 << 20);
    ASSERT_OK(trine_stream_profile(stream, &rows, &count));
    ck_assert_uint_eq(count, 0);
    for (int i = 0; i < 3; i++) {
        add(stream, one, &small, "first");
        add(stream, four, &small, "first"); /* the same name and label: one row */
        add(stream, one, &large, "second");
    }
    add(stream, one, &small, NULL);
    ASSERT_OK(trine_stream_profile(stream, &rows, &count));
    ck_assert_uint_eq(count, 3);
    ck_assert_int_eq(find(rows, count, "add first")->launches, 6);
    ck_assert_int_eq(find(rows, count, "add second")->launches, 3);
    ck_assert_int_eq(find(rows, count, "add")->launches, 1);
    for (size_t i = 0; i < count; i++) {
        ck_assert(rows[i].ms >= 0 && rows[i].ms < 60000);
        if (i) ck_assert(rows[i].ms <= rows[i - 1].ms); /* most expensive first */
    }
    ck_assert_str_eq(rows[0].name, "add second"); /* 65536 times as many floats */
    ck_assert(rows[0].ms > 0);
    add(stream, one, &small, "third");
    ASSERT_OK(trine_stream_profile(stream, &rows, &count)); /* since the last call */
    ck_assert_uint_eq(count, 1);
    ck_assert_str_eq(rows[0].name, "add third");
    add(stream, one, &small, "never read");
    ASSERT_OK(trine_stream_sync(stream));
    trine_stream_destroy(&stream);
    trine__kernel_destroy(&one);
    trine__kernel_destroy(&four);
    test_buffer_release(&small);
    test_buffer_release(&large);
}
END_TEST

START_TEST(test_without)
{
    const trine_profile_row *rows = NULL;
    size_t count = 9;
    ASSERT_FAILS(TRINE_ERR_STATE, trine_stream_profile(dev.stream, &rows, &count));
    ck_assert_ptr_null(rows);
    ck_assert_uint_eq(count, 9);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("profile");
    TCase *tc = tcase_create("profile");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, test_rows);
    tcase_add_test(tc, test_without);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
