/* SPDX-License-Identifier: MIT */
/* Device memory: views, lifetimes, limits, the account. */
#include <string.h>

#include "rt/buffer.h"
#include "support/check_main.h"
#include "support/device.h"

static uint64_t now(void)
{
    uint64_t bytes = 0;
    trine_context_memory(dev.context, &bytes, NULL);
    return bytes;
}

START_TEST(test_views)
{
    const size_t a = trine_buffer_alignment(dev.context);
    ck_assert_uint_ge(a, 64);
    ck_assert_uint_eq(a & (a - 1), 0);
    trine_buffer *parent = NULL, *view = NULL, *inner = NULL;
    ASSERT_OK(trine_buffer_create(dev.context, 4 * a, &parent));
    unsigned char *bytes = calloc(4, a), *back = calloc(4, a);
    ck_assert(bytes && back);
    for (size_t i = 0; i < 4 * a; i++) bytes[i] = (unsigned char)(i * 7 + i / a);
    ASSERT_OK(trine_buffer_write(dev.stream, parent, 0, bytes, 4 * a));
    ASSERT_OK(trine_buffer_view(parent, a, 2 * a + 5, &view));
    ck_assert_uint_eq(trine_buffer_bytes(view), 2 * a + 5);
    ASSERT_OK(trine_buffer_read(dev.stream, view, 0, back, 2 * a + 5));
    ck_assert_mem_eq(back, bytes + a, 2 * a + 5);
    ASSERT_OK(trine_buffer_view(view, a, 10, &inner)); /* a view of a view: offsets add up */
    ASSERT_OK(trine_buffer_write(dev.stream, inner, 3, "xyz", 3));
    memcpy(bytes + 2 * a + 3, "xyz", 3);
    ASSERT_OK(trine_buffer_read(dev.stream, parent, 0, back, 4 * a));
    ck_assert_mem_eq(back, bytes, 4 * a);
    trine_buffer_release(&inner);
    trine_buffer_release(&view);
    trine_buffer_release(&parent);
    ck_assert_ptr_null(parent);
    trine_buffer_release(&parent);
    free(bytes);
    free(back);
}
END_TEST

START_TEST(test_view_bounds)
{
    const size_t a = trine_buffer_alignment(dev.context);
    trine_buffer *parent = NULL, *view = NULL, *inner = NULL;
    ASSERT_OK(trine_buffer_create(dev.context, 4 * a, &parent));
    const uint64_t before = now();
    static const struct {
        size_t offset_units, offset, bytes_units, bytes;
    } bad[] = {{4, 0, 0, 1}, {0, 0, 4, 1}, {3, 0, 1, 1}, {5, 0, 0, 1},
               {0, 0, 0, 0}, {0, 4, 0, 4}, {1, 1, 0, 4}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ASSERT_FAILS(TRINE_ERR_ARG, trine_buffer_view(parent, bad[i].offset_units * a + bad[i].offset,
                                                      bad[i].bytes_units * a + bad[i].bytes, &view));
        ck_assert_ptr_null(view);
    }
    ASSERT_FAILS(TRINE_ERR_ARG, trine_buffer_view(parent, a, SIZE_MAX, &view)); /* no wrap round */
    ASSERT_OK(trine_buffer_view(parent, a, a, &view));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_buffer_view(view, 0, a + 1, &inner)); /* its own bounds, not its parent's */
    ASSERT_FAILS(TRINE_ERR_ARG, trine_buffer_view(view, a, 1, &inner));
    ck_assert_uint_eq(now(), before); /* views cost nothing */
    trine_buffer_release(&view);
    trine_buffer_release(&parent);
}
END_TEST

START_TEST(test_lifetime)
{
    const size_t a = trine_buffer_alignment(dev.context);
    const uint64_t before = now();
    trine_buffer *parent = NULL, *view = NULL, *inner = NULL;
    char back[4] = "";
    ASSERT_OK(trine_buffer_create(dev.context, 2 * a, &parent));
    ASSERT_OK(trine_buffer_view(parent, a, a, &view));
    ASSERT_OK(trine_buffer_view(view, 0, 4, &inner));
    ASSERT_OK(trine_buffer_write(dev.stream, parent, a, "abcd", 4));
    trine_buffer_release(&parent);
    trine_buffer_release(&view);
    ck_assert_uint_eq(now(), before + 2 * a); /* the innermost view keeps all of it */
    ASSERT_OK(trine_buffer_read(dev.stream, inner, 0, back, 4));
    ck_assert_mem_eq(back, "abcd", 4);
    trine_buffer_release(&inner);
    ck_assert_uint_eq(now(), before);
}
END_TEST

START_TEST(test_account)
{
    const uint64_t before = now();
    uint64_t peak = 0, later = 0;
    trine_buffer *a = NULL, *b = NULL, *empty = NULL;
    trine_context_memory(dev.context, NULL, NULL);
    ASSERT_OK(trine_buffer_create(dev.context, 100000, &a));
    ASSERT_OK(trine_buffer_create(dev.context, 50000, &b));
    ck_assert_uint_eq(now(), before + 150000);
    trine_context_memory(dev.context, NULL, &peak);
    ck_assert_uint_ge(peak, before + 150000);
    trine_buffer_release(&a);
    trine_buffer_release(&b);
    ck_assert_uint_eq(now(), before);
    trine_context_memory(dev.context, NULL, &later);
    ck_assert_uint_eq(later, peak);
    ASSERT_OK(trine_buffer_create(dev.context, 0, &empty)); /* nothing, but an object */
    ck_assert_uint_eq(trine_buffer_bytes(empty), 0);
    trine_buffer_release(&empty);
    trine__buffer_set set = {0};
    trine_buffer *view;
    ASSERT_OK(trine__buffer_set_create(&set, dev.context, 1000, &a));
    ASSERT_OK(trine__buffer_set_view(&set, a, 0, 10, &view));
    ASSERT_FAILS(TRINE_ERR_ARG, trine__buffer_set_view(&set, a, 0, 1001, &view));
    ck_assert_uint_eq(set.count, 2);
    trine__buffer_set_release(&set);
    trine__buffer_set_release(&set);
    ck_assert_uint_eq(now(), before);
}
END_TEST

START_TEST(test_too_large)
{
    const uint64_t before = now();
    trine_buffer *b = NULL;
    const uint64_t most = trine_context_device(dev.context)->allocation_bytes;
    if (most < SIZE_MAX)
        ASSERT_FAILS(TRINE_ERR_NOMEM, trine_buffer_create(dev.context, (size_t)most + 1, &b));
    ASSERT_FAILS(TRINE_ERR_NOMEM, trine_buffer_create(dev.context, SIZE_MAX, &b));
    ck_assert_ptr_null(b);
    ck_assert_uint_eq(now(), before);
}
END_TEST

START_TEST(test_from_host)
{
    trine_buffer *b = NULL;
    char host[] = "content", back[sizeof host];
    ASSERT_OK(trine__buffer_from_host(dev.context, host, sizeof host, &b));
    memset(host, 0, sizeof host); /* copied */
    ASSERT_OK(trine_buffer_read(dev.stream, b, 0, back, sizeof back));
    ck_assert_str_eq(back, "content");
    trine_buffer_release(&b);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("buffer");
    TCase *tc = tcase_create("buffer");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, test_views);
    tcase_add_test(tc, test_view_bounds);
    tcase_add_test(tc, test_lifetime);
    tcase_add_test(tc, test_account);
    tcase_add_test(tc, test_too_large);
    tcase_add_test(tc, test_from_host);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
