/* SPDX-License-Identifier: MIT */
/* The arena: values that live at the same time never share a byte; others do. No device is needed. */
#include <limits.h>

#include "base/random.h"
#include "net/arena.h"
#include "support/check_main.h"

static bool together(const trine__value *a, const trine__value *b)
{
    return a->first <= b->last && b->first <= a->last;
}

static bool placed(const trine__value *v)
{
    return !v->external && v->last >= 0;
}

/* Returns the most bytes alive at once: no placement can need less. */
static size_t check(const trine__value *v, size_t count, size_t alignment, size_t bytes, int nodes)
{
    size_t most = 0;
    for (size_t i = 0; i < count; i++) {
        if (!placed(&v[i])) continue;
        ck_assert_uint_eq(v[i].offset % alignment, 0);
        ck_assert_uint_le(v[i].offset + v[i].bytes, bytes);
        for (size_t j = 0; j < i; j++) {
            if (!placed(&v[j]) || !together(&v[i], &v[j])) continue;
            ck_assert_msg(v[i].offset + v[i].bytes <= v[j].offset || v[j].offset + v[j].bytes <= v[i].offset,
                          "[%zu,+%zu) of nodes %d to %d and [%zu,+%zu) of %d to %d overlap", v[i].offset,
                          v[i].bytes, v[i].first, v[i].last, v[j].offset, v[j].bytes, v[j].first, v[j].last);
        }
    }
    for (int t = 0; t < nodes; t++) {
        size_t alive = 0;
        for (size_t i = 0; i < count; i++)
            if (placed(&v[i]) && v[i].first <= t && t <= v[i].last) alive += v[i].bytes;
        if (alive > most) most = alive;
    }
    return most;
}

START_TEST(test_random_lifetimes)
{
    enum { COUNT = 60, NODES = 40 };
    trine__random r = trine__random_stream(1, 0, (uint64_t)_i);
    trine__value v[COUNT] = {0};
    const size_t alignment = (size_t)64 << trine__random_below(&r, 4), unused = (size_t)-1;
    size_t bytes = 0, sum = 0;
    for (int i = 0; i < COUNT; i++) {
        const int a = (int)trine__random_below(&r, NODES),
                  length = (int)trine__random_below(&r, _i % 2 ? 6 : NODES);
        v[i].first = a;
        v[i].last = a + length < NODES ? a + length : INT_MAX; /* some are results: they live for ever */
        v[i].bytes = 4 * (1 + (size_t)trine__random_below(&r, 5000));
        v[i].offset = unused;
        v[i].external = i % 13 == 5;
        if (i % 17 == 3) {
            v[i].first = INT_MAX;
            v[i].last = -1; /* never used */
        }
        if (placed(&v[i])) sum += trine__round_up(v[i].bytes, alignment);
    }
    ASSERT_OK(trine__arena_place(v, COUNT, alignment, SIZE_MAX, &bytes));
    const size_t most = check(v, COUNT, alignment, bytes, NODES);
    ck_assert_uint_ge(bytes, most);
    ck_assert_uint_le(bytes, sum);
    ck_assert_uint_lt(bytes, 2 * most + COUNT * alignment); /* largest first is within a factor of two here */
    for (int i = 0; i < COUNT; i++)
        if (!placed(&v[i])) ck_assert_uint_eq(v[i].offset, unused);
    const size_t limit =
        trine__round_up(20000, alignment); /* the largest value fits; the arena takes several */
    ASSERT_OK(trine__arena_place(v, COUNT, alignment, limit, &bytes));
    check(v, COUNT, alignment, bytes, NODES);
    for (int i = 0; i < COUNT; i++)
        if (placed(&v[i])) ck_assert_uint_eq(v[i].offset / limit, (v[i].offset + v[i].bytes - 1) / limit);
}
END_TEST

START_TEST(test_too_large)
{
    trine__value v[2] = {{.first = 0, .last = 1, .bytes = 1000}, {.first = 1, .last = 2, .bytes = 300}};
    size_t bytes = 7;
    ASSERT_FAILS(TRINE_ERR_NOMEM, trine__arena_place(v, 2, 128, 512, &bytes));
    ck_assert_uint_eq(bytes, 7);
}
END_TEST

/* A chain in which each value lives while the next is made needs two places, whatever its length. */
START_TEST(test_chain)
{
    enum { COUNT = 50 };
    trine__value v[COUNT] = {0};
    size_t bytes = 0;
    for (int i = 0; i < COUNT; i++) v[i] = (trine__value){.first = i, .last = i + 1, .bytes = 1024};
    ASSERT_OK(trine__arena_place(v, COUNT, 128, SIZE_MAX, &bytes));
    check(v, COUNT, 128, bytes, COUNT + 1);
    ck_assert_uint_eq(bytes, 2048);
}
END_TEST

START_TEST(test_edges)
{
    trine__value v[3] = {{.first = 0, .last = 5, .bytes = 100},
                         {.first = 5, .last = 9, .bytes = 100},
                         {.first = 6, .last = 9, .bytes = 100}};
    size_t bytes = 0;
    ASSERT_OK(trine__arena_place(v, 0, 128, SIZE_MAX, &bytes));
    ck_assert_uint_eq(bytes, 128); /* a buffer of 0 bytes is not to be had */
    ASSERT_OK(trine__arena_place(v, 3, 128, SIZE_MAX, &bytes));
    check(v, 3, 128, bytes, 10);
    ck_assert_uint_ne(v[0].offset, v[1].offset); /* both alive at node 5 */
    ck_assert_uint_eq(bytes, 256);
    v[1].bytes = 1000; /* one that fits no gap goes behind */
    ASSERT_OK(trine__arena_place(v, 3, 128, SIZE_MAX, &bytes));
    check(v, 3, 128, bytes, 10);
    ck_assert_uint_eq(bytes, 1024 + 128);
}
END_TEST

/* Values that take over the bytes of one before them keep them from everybody else until the last of them ends. */
START_TEST(test_taken_over)
{
    trine__value v[5] = {{.first = 0, .last = 1, .bytes = 512},
                         {.first = 1, .last = 4, .bytes = 512},
                         {.first = 4, .last = 7, .bytes = 512},
                         {.first = 6, .last = 7, .bytes = 512},  /* beside the third */
                         {.first = 8, .last = 9, .bytes = 512}}; /* after it */
    size_t bytes = 0;
    v[1].over = &v[0];
    v[2].over = &v[1];
    ASSERT_OK(trine__arena_place(v, 5, 128, SIZE_MAX, &bytes));
    ck_assert_uint_eq(v[1].offset, v[0].offset);
    ck_assert_uint_eq(v[2].offset, v[0].offset);
    ck_assert_uint_ne(v[3].offset, v[0].offset);
    ck_assert_uint_eq(bytes, 1024);
    ASSERT_OK(trine__arena_place(v, 5, 128, SIZE_MAX, &bytes)); /* planning again */
    ck_assert_uint_eq(bytes, 1024);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena");
    TCase *tc = tcase_create("arena");
    tcase_add_loop_test(tc, test_random_lifetimes, 0, 300);
    tcase_add_test(tc, test_too_large);
    tcase_add_test(tc, test_chain);
    tcase_add_test(tc, test_edges);
    tcase_add_test(tc, test_taken_over);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
