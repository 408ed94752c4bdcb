/* SPDX-License-Identifier: MIT */
/* Content hashes: XXH3's own test values, every bit counts, pieces chain. */
#include <string.h>

#include "base/hash.h"
#include "support/check_main.h"

START_TEST(test_known)
{
    ck_assert_uint_eq(trine__hash("", 0, 0), 0x2d06800538d394c2u);
    ck_assert_uint_eq(trine__hash("abc", 3, 0), 0x78af5f94892f3950u);
}
END_TEST

START_TEST(test_sensitive)
{
    unsigned char data[300] = {0};
    for (size_t length = 1; length <= sizeof data; length += 23) {
        const uint64_t base = trine__hash(data, length, 0);
        ck_assert(trine__hash(data, length, 0) == base);
        ck_assert(trine__hash(data, length - 1, 0) != base);
        ck_assert(trine__hash(data, length, 1) != base);
        for (size_t bit = 0; bit < 8 * length; bit++) {
            data[bit / 8] ^= (unsigned char)(1u << bit % 8);
            ck_assert_msg(trine__hash(data, length, 0) != base, "bit %zu of %zu bytes", bit, length);
            data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
    }
}
END_TEST

/* Equal pieces in another order, and a boundary elsewhere, are other contents. */
START_TEST(test_chain)
{
    const uint64_t ab = trine__hash("b", 1, trine__hash("a", 1, 0)),
                   ba = trine__hash("a", 1, trine__hash("b", 1, 0));
    ck_assert(ab != ba);
    ck_assert(trine__hash("bc", 2, trine__hash("a", 1, 0)) != trine__hash("c", 1, trine__hash("ab", 2, 0)));
    ck_assert(trine__hash("b", 1, trine__hash("a", 1, 0)) == ab);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hash");
    TCase *tc = tcase_create("hash");
    tcase_add_test(tc, test_known);
    tcase_add_test(tc, test_sensitive);
    tcase_add_test(tc, test_chain);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
