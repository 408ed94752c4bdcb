/* SPDX-License-Identifier: MIT */
/* Streams: copies and fills within their ranges, events across two streams, markers. */
#include <string.h>

#include "rt/stream.h"
#include "support/check_main.h"
#include "support/device.h"

enum { BYTES = 4096 };

static trine_buffer *filled(unsigned char value)
{
    trine_buffer *b = NULL;
    unsigned char bytes[BYTES];
    memset(bytes, value, BYTES);
    ASSERT_OK(trine_buffer_create(dev.context, BYTES, &b));
    ASSERT_OK(trine_buffer_write(dev.stream, b, 0, bytes, BYTES));
    return b;
}

/* Bytes [first, first + count) are `inside`, all others `outside`. */
static void assert_range(const trine_buffer *b, size_t first, size_t count, int inside, int outside)
{
    unsigned char bytes[BYTES];
    ASSERT_OK(trine_buffer_read(dev.stream, b, 0, bytes, BYTES));
    for (size_t i = 0; i < BYTES; i++)
        ck_assert_msg(bytes[i] == (i >= first && i < first + count ? inside : outside), "byte %zu is %d", i,
                      bytes[i]);
}

START_TEST(test_write_read)
{
    trine_buffer *b = filled(1);
    unsigned char bytes[100], back[102];
    memset(bytes, 2, sizeof bytes);
    ASSERT_OK(trine_buffer_write(dev.stream, b, 33, bytes, sizeof bytes));
    memset(bytes, 9, sizeof bytes); /* the pointer may be reused on return */
    assert_range(b, 33, 100, 2, 1);
    memset(back, 7, sizeof back);
    ASSERT_OK(trine_buffer_read(dev.stream, b, 132, back + 1, 100));
    ck_assert(back[0] == 7 && back[1] == 2 && back[2] == 1 && back[100] == 1 && back[101] == 7);
    trine_buffer_release(&b);
}
END_TEST

START_TEST(test_copy_zero)
{
    trine_buffer *a = filled(5), *b = filled(6);
    ASSERT_OK(trine__stream_copy(dev.stream, a, 16, b, 64, 128));
    assert_range(b, 64, 128, 5, 6);
    assert_range(a, 0, BYTES, 5, 0);
    ASSERT_OK(trine__stream_zero(dev.stream, a, 8, 20));
    assert_range(a, 8, 20, 0, 5);
    trine_buffer_release(&a);
    trine_buffer_release(&b);
}
END_TEST

/* Nothing at all is a valid amount everywhere, at the very end too. */
START_TEST(test_nothing)
{
    trine_buffer *a = filled(5), *b = filled(6);
    trine__event event = {NULL};
    ASSERT_OK(trine_buffer_write(dev.stream, a, BYTES, NULL, 0));
    ASSERT_OK(trine_buffer_read(dev.stream, a, BYTES, NULL, 0));
    ASSERT_OK(trine__stream_zero(dev.stream, a, BYTES, 0));
    ASSERT_OK(trine__stream_copy(dev.stream, a, BYTES, b, 0, 0));
    ASSERT_OK(trine__stream_write_nocopy(dev.stream, a, 0, NULL, 0, &event));
    ASSERT_OK(trine__event_wait(&event));
    ASSERT_OK(trine__stream_read_nocopy(dev.stream, a, 0, NULL, 0, &event));
    ASSERT_OK(trine__event_wait(&event));
    assert_range(a, 0, BYTES, 5, 0);
    assert_range(b, 0, BYTES, 6, 0);
    trine_buffer_release(&a);
    trine_buffer_release(&b);
}
END_TEST

START_TEST(test_ranges)
{
    trine_buffer *a = filled(5), *b = filled(6);
    unsigned char bytes[8] = {0};
    static const struct {
        size_t offset, bytes;
    } bad[] = {{BYTES, 1}, {BYTES + 1, 0}, {0, BYTES + 1}, {BYTES - 4, 8}, {8, SIZE_MAX - 3}, {SIZE_MAX, 4}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const size_t o = bad[i].offset, n = bad[i].bytes;
        ASSERT_FAILS(TRINE_ERR_ARG, trine_buffer_write(dev.stream, a, o, bytes, n));
        ASSERT_FAILS(TRINE_ERR_ARG, trine_buffer_read(dev.stream, a, o, bytes, n));
        ASSERT_FAILS(TRINE_ERR_ARG, trine__stream_write_nocopy(dev.stream, a, o, bytes, n, NULL));
        ASSERT_FAILS(TRINE_ERR_ARG, trine__stream_read_nocopy(dev.stream, a, o, bytes, n, NULL));
        ASSERT_FAILS(TRINE_ERR_ARG, trine__stream_zero(dev.stream, a, o, n));
        ASSERT_FAILS(TRINE_ERR_ARG, trine__stream_copy(dev.stream, a, o, b, 0, n));
        ASSERT_FAILS(TRINE_ERR_ARG, trine__stream_copy(dev.stream, a, 0, b, o, n));
    }
    assert_range(a, 0, BYTES, 5, 0);
    assert_range(b, 0, BYTES, 6, 0);
    trine_buffer_release(&a);
    trine_buffer_release(&b);
}
END_TEST

/* One stream fills and marks, the other waits for the mark and copies on; a hundred times, all right. */
START_TEST(test_two_streams)
{
    enum { ROUNDS = 100 };
    trine_stream *other = NULL;
    trine_buffer *a = filled(0), *b = filled(0);
    static unsigned char up[ROUNDS][BYTES], down[ROUNDS][BYTES];
    ASSERT_OK(trine_stream_create(dev.context, 0, &other));
    trine__event copied = {NULL};
    for (int i = 0; i < ROUNDS; i++) {
        trine__event written = {NULL}, marked = {NULL}, read = {NULL};
        memset(up[i], i + 1, BYTES);
        ASSERT_OK(trine__stream_after(other, &copied)); /* a null event at first: already passed */
        trine__event_release(&copied);
        ASSERT_OK(trine__stream_write_nocopy(other, a, 0, up[i], BYTES, &written));
        ASSERT_OK(trine__stream_mark(other, &marked));
        ASSERT_OK(trine__stream_after(dev.stream, i % 2 ? &written : &marked));
        ASSERT_OK(trine__stream_copy(dev.stream, a, 0, b, 0, BYTES));
        ASSERT_OK(trine__stream_mark(dev.stream, &copied));
        ASSERT_OK(trine__stream_read_nocopy(dev.stream, b, 0, down[i], BYTES, &read));
        if (i % 10 == 0) {
            ASSERT_OK(trine__event_wait(&read));
            ck_assert_ptr_null(read.cl);
            ck_assert_int_eq(down[i][BYTES - 1], i + 1);
        }
        trine__event_release(&read);
        trine__event_release(&read); /* twice is harmless */
        trine__event_release(&written);
        trine__event_release(&marked);
    }
    trine__event_release(&copied);
    ASSERT_OK(trine_stream_sync(dev.stream));
    ASSERT_OK(trine_stream_sync(other));
    for (int i = 0; i < ROUNDS; i++) ck_assert_mem_eq(up[i], down[i], BYTES);
    trine__event none = {NULL};
    ASSERT_OK(trine__event_wait(&none));
    trine_stream_destroy(&other);
    ck_assert_ptr_null(other);
    trine_stream_destroy(&other);
    trine_buffer_release(&a);
    trine_buffer_release(&b);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("stream");
    TCase *tc = tcase_create("stream");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, test_write_read);
    tcase_add_test(tc, test_copy_zero);
    tcase_add_test(tc, test_nothing);
    tcase_add_test(tc, test_ranges);
    tcase_add_test(tc, test_two_streams);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
