/* SPDX-License-Identifier: MIT */
/* The random numbers: SplitMix64's published sequence, ranges, independence of streams. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "support/check_main.h"

/* Output of Vigna's splitmix64.c for seeds 0 and 1234567. */
START_TEST(test_known)
{
    static const uint64_t zero[] = {0xe220a8397b1dcdafu, 0x6e789e6aa1b965f4u, 0x06c45d188009454fu,
                                    0xf88bb8a8724c81ecu};
    static const uint64_t other[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                     4593380528125082431u, 16408922859458223821u};
    trine__random r = {0}, s = {1234567};
    for (size_t i = 0; i < TRINE_COUNTOF(zero); i++) ck_assert_uint_eq(trine__random_u64(&r), zero[i]);
    for (size_t i = 0; i < TRINE_COUNTOF(other); i++) ck_assert_uint_eq(trine__random_u64(&s), other[i]);
}
END_TEST

START_TEST(test_streams)
{
    enum { SEEDS = 4, PURPOSES = 4, INDICES = 64, COUNT = SEEDS * PURPOSES * INDICES };
    static uint64_t first[COUNT];
    for (int i = 0; i < COUNT; i++) {
        const uint64_t seed = (uint64_t)(i / (PURPOSES * INDICES)),
                       purpose = (uint64_t)(i / INDICES % PURPOSES);
        trine__random r = trine__random_stream(seed, purpose, (uint64_t)(i % INDICES)), again = r;
        first[i] = trine__random_u64(&r);
        ck_assert_uint_eq(trine__random_u64(&again), first[i]);
        for (int j = 0; j < i; j++) ck_assert_msg(first[i] != first[j], "streams %d and %d agree", i, j);
    }
    /* neighbouring streams are not shifted copies of each other */
    trine__random a = trine__random_stream(1, 2, 3), b = trine__random_stream(1, 2, 4);
    uint64_t next[16];
    for (int i = 0; i < 16; i++) next[i] = trine__random_u64(&a);
    for (int i = 0; i < 16; i++) {
        const uint64_t x = trine__random_u64(&b);
        for (int j = 0; j < 16; j++) ck_assert(x != next[j]);
    }
}
END_TEST

START_TEST(test_below)
{
    enum { BINS = 6, DRAWS = 60000 };
    trine__random r = trine__random_stream(7, 0, 0);
    int count[BINS] = {0};
    for (int i = 0; i < DRAWS; i++) {
        const uint64_t x = trine__random_below(&r, BINS);
        ck_assert_uint_lt(x, BINS);
        count[x]++;
    }
    for (int i = 0; i < BINS; i++) /* 5 standard deviations: sqrt(60000 * 5 / 36) = 91 */
        ck_assert_msg(abs(count[i] - DRAWS / BINS) < 460, "%d drawn %d times", i, count[i]);
    for (int i = 0; i < 10; i++) ck_assert_uint_eq(trine__random_below(&r, 1), 0);
    int high = 0; /* a modulo of 64 bits by 3 * 2^62 would give the lower third twice as often */
    const uint64_t n = UINT64_C(3) << 62;
    for (int i = 0; i < 3000; i++) high += trine__random_below(&r, n) >= UINT64_C(1) << 62;
    ck_assert_int_ge(high, 1850);
    ck_assert_int_le(high, 2150);
}
END_TEST

START_TEST(test_unit_and_normal)
{
    enum { DRAWS = 100000 };
    trine__random r = trine__random_stream(9, 1, 0);
    double sum = 0, mean = 0, square = 0, fourth = 0;
    for (int i = 0; i < DRAWS; i++) {
        const double u = trine__random_unit(&r);
        ck_assert(u >= 0 && u < 1);
        sum += u;
    }
    ck_assert_double_eq_tol(sum / DRAWS, 0.5, 0.005);
    for (int i = 0; i < DRAWS; i++) {
        const double x = trine__random_normal(&r);
        ck_assert(isfinite(x));
        mean += x / DRAWS;
        square += x * x / DRAWS;
        fourth += x * x * x * x / DRAWS;
    }
    ck_assert_double_eq_tol(mean, 0, 0.016);
    ck_assert_double_eq_tol(square, 1, 0.023);
    ck_assert_double_eq_tol(fourth, 3, 0.16);
}
END_TEST

START_TEST(test_shuffle)
{
    enum { N = 50 };
    int a[N], b[N], seen[N] = {0}, moved = 0;
    for (int i = 0; i < N; i++) a[i] = b[i] = i;
    trine__random r = trine__random_stream(3, 0, 0), s = r;
    trine__random_shuffle(&r, a, N);
    trine__random_shuffle(&s, b, N);
    ck_assert_mem_eq(a, b, sizeof a);
    for (int i = 0; i < N; i++) {
        seen[a[i]]++;
        moved += a[i] != i;
    }
    for (int i = 0; i < N; i++) ck_assert_int_eq(seen[i], 1);
    ck_assert_int_gt(moved, N / 2);
    trine__random_shuffle(&r, a, 0);
    trine__random_shuffle(&r, a, 1);
    ck_assert_mem_eq(a, b, sizeof a);
    int orders[6] = {0}; /* each order of three equally often */
    for (int i = 0; i < 6000; i++) {
        int t[3] = {0, 1, 2};
        trine__random_shuffle(&r, t, 3);
        orders[t[0] * 2 + (t[1] > t[2])]++;
    }
    for (int i = 0; i < 6; i++)
        ck_assert_msg(abs(orders[i] - 1000) < 150, "order %d: %d times", i, orders[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("random");
    TCase *tc = tcase_create("random");
    tcase_add_test(tc, test_known);
    tcase_add_test(tc, test_streams);
    tcase_add_test(tc, test_below);
    tcase_add_test(tc, test_unit_and_normal);
    tcase_add_test(tc, test_shuffle);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
