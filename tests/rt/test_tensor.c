/* SPDX-License-Identifier: MIT */
/* Channel-block layouts: sizes, the formula, padding of zeros, round trips. */
#include <stdint.h>
#include <string.h>

#include "support/check_main.h"
#include "support/device.h"

static const trine_shape shapes[] = {{1, 1, 1, 1},  {2, 3, 4, 5},  {3, 16, 1, 7},
                                     {1, 17, 3, 2}, {2, 33, 2, 2}, {1, 5, 9, 1}};
static const int blocks[] = {1, 2, 4, 8, 16};
enum { SHAPES = sizeof shapes / sizeof shapes[0], BLOCKS = sizeof blocks / sizeof blocks[0] };

/* Every element carries its own number; the device's words are looked at through the header's formula. */
START_TEST(test_round_trip)
{
    const trine_shape s = shapes[_i / BLOCKS];
    const int cb = blocks[_i % BLOCKS], padded = (s.c + cb - 1) / cb * cb;
    const size_t count = test_dense(s), elements = (size_t)(s.n * padded * s.h * s.w);
    ck_assert_uint_eq(trine_tensor_elements(&s, cb), elements);
    ck_assert_uint_eq(trine_tensor_bytes(&(trine_tensor){.shape = s, .cb = cb}), 4 * elements);
    float *host = calloc(count, sizeof *host), *back = calloc(count + 1, sizeof *back),
          *raw = calloc(elements, sizeof *raw);
    ck_assert(host && back && raw);
    for (size_t i = 0; i < count; i++) host[i] = (float)(i + 1);
    test_tensor t = test_tensor_create(s, cb); /* NaN everywhere, padding too */
    ASSERT_OK(trine_tensor_upload(dev.stream, host, &t.t));
    ASSERT_OK(trine_buffer_read(dev.stream, t.t.buffer, 0, raw, 4 * elements));
    size_t zeros = 0;
    for (int n = 0; n < s.n; n++)
        for (int c = 0; c < padded; c++)
            for (int h = 0; h < s.h; h++)
                for (int w = 0; w < s.w; w++) {
                    const int at = (((n * (padded / cb) + c / cb) * s.h + h) * s.w + w) * cb + c % cb;
                    uint32_t word;
                    memcpy(&word, &raw[at], sizeof word);
                    if (c < s.c)
                        ck_assert_float_eq(raw[at], (float)(((n * s.c + c) * s.h + h) * s.w + w + 1));
                    else
                        zeros += word == 0;
                }
    ck_assert_uint_eq(zeros, elements - count);
    back[count] = 77;
    ASSERT_OK(trine_tensor_download(dev.stream, &t.t, back));
    ck_assert_mem_eq(back, host, count * sizeof *host);
    ck_assert_float_eq(back[count], 77);
    test_tensor_release(&t); /* and the guards */
    free(host);
    free(back);
    free(raw);
}
END_TEST

/* What lies in the padding never comes back. */
START_TEST(test_padding_ignored)
{
    const trine_shape s = {1, 3, 2, 2};
    float back[12];
    test_tensor t = test_tensor_create(s, 16);
    ASSERT_OK(trine_tensor_download(dev.stream, &t.t, back)); /* NaN, of both kinds */
    float host[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    ASSERT_OK(trine_tensor_upload(dev.stream, host, &t.t));
    const float nan_word = back[0];
    ASSERT_OK(trine_buffer_write(dev.stream, t.t.buffer, 3 * sizeof(float), &nan_word,
                                 sizeof nan_word)); /* channel 3 */
    ASSERT_OK(trine_tensor_download(dev.stream, &t.t, back));
    ck_assert_mem_eq(back, host, sizeof host);
    test_tensor_release(&t);
}
END_TEST

START_TEST(test_create)
{
    trine_tensor t = {0};
    const trine_shape good = {2, 5, 3, 3};
    ASSERT_OK(trine_tensor_create(dev.context, &good, 4, &t));
    ck_assert_uint_eq(trine_buffer_bytes(t.buffer), 2 * 8 * 9 * 4);
    ck_assert_int_eq(t.cb, 4);
    ck_assert_mem_eq(&t.shape, &good, sizeof good);
    trine_buffer_release(&t.buffer);
    static const trine_shape bad[] = {
        {0, 1, 1, 1}, {1, 0, 1, 1}, {1, 1, -1, 1}, {1, 1, 1, 0}, {1 << 16, 1, 1 << 15, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ASSERT_FAILS(TRINE_ERR_SHAPE, trine_tensor_create(dev.context, &bad[i], 1, &t));
        ck_assert_ptr_null(t.buffer);
    }
    const trine_shape padded_too_large = {1 << 14, 1, 1 << 14, 1}; /* fits as it is, not in blocks of 16 */
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_tensor_create(dev.context, &padded_too_large, 16, &t));
    static const int bad_blocks[] = {0, -1, 3, 32, 12};
    for (size_t i = 0; i < sizeof bad_blocks / sizeof bad_blocks[0]; i++)
        ASSERT_FAILS(TRINE_ERR_ARG, trine_tensor_create(dev.context, &good, bad_blocks[i], &t));
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("tensor");
    TCase *tc = tcase_create("tensor");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_round_trip, 0, SHAPES * BLOCKS);
    tcase_add_test(tc, test_padding_ignored);
    tcase_add_test(tc, test_create);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
