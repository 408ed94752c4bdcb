/* SPDX-License-Identifier: MIT */
/* Globs over layer names. */
#include "base/glob.h"
#include "support/check_main.h"

static const struct {
    const char *glob, *name;
    bool match;
} cases[] = {
    {"*", "layer1.0.bn1", true},
    {"*", "", true},
    {"layer1*", "layer1.0.bn1", true}, /* '*' crosses dots */
    {"layer1*", "layer10.0", true},
    {"layer1.*", "layer10.0", false},
    {"layer1", "layer1.0", false},
    {"layer?.0.bn1", "layer4.0.bn1", true},
    {"layer?.0.bn1", "layer.0.bn1", false},
    {"layer[12].*", "layer2.1.bn2", true},
    {"layer[12].*", "layer3.1.bn2", false},
    {"layer[1-3].*", "layer3.1.bn2", true},
    {"layer[1-3].*", "layer4.1.bn2", false},
    {"layer[!4].*", "layer3.1.bn2", true},
    {"layer[!4].*", "layer4.1.bn2", false},
    {"*.bn?", "layer1.0.bn2", true},
    {"*.bn?", "bn1", false},
    {"*.downsample.1", "layer2.0.downsample.1", true},
    {"bn1", "bn1", true},
    {"BN1", "bn1", false},
    {"*.0.*", "layer1.0.bn1", true},
    {"a\\*b", "a*b", true},
    {"a\\*b", "axb", false},
    {"[]]", "]", true},
};

START_TEST(test_match)
{
    ck_assert_msg(trine__glob_match(cases[_i].glob, cases[_i].name) == cases[_i].match, "'%s' over '%s'",
                  cases[_i].glob, cases[_i].name);
    ASSERT_OK(trine__glob_check(cases[_i].glob));
}
END_TEST

START_TEST(test_check)
{
    static const char *const bad[] = {"", "[", "layer[12", "a[!", "x[]", "[!]", "ok[a]then[b"};
    for (size_t i = 0; i < TRINE_COUNTOF(bad); i++) ASSERT_FAILS(TRINE_ERR_ARG, trine__glob_check(bad[i]));
    static const char *const good[] = {"a", "]", "[]]", "[!]]", "\\[", "[[]", "[a]]"};
    for (size_t i = 0; i < TRINE_COUNTOF(good); i++) ASSERT_OK(trine__glob_check(good[i]));
}
END_TEST

static const char *const names[] = {"bn1", "layer1.0.bn1", "layer1.0.bn2", "layer2.0.bn1"};

static bool name_matches(const void *user, const char *glob, int i)
{
    return trine__glob_match(glob, ((const char *const *)user)[i]);
}

static const trine__glob_items items = {TRINE_COUNTOF(names), name_matches, names, "layer of the test"};

/* Bits of the names that a list leaves chosen, from none and from all. */
static const struct {
    const char *list;
    unsigned from_none, from_all;
} lists[] = {
    {NULL, 0, 15},
    {"", 0, 15},
    {",,", 0, 15},
    {"*", 15, 15},
    {"!*", 0, 0},
    {"*,!layer1.*", 9, 9},
    {"!layer1.*,*", 15, 15},
    {"bn1", 1, 15},
    {"!bn1", 0, 14},
    {"*,!*.bn1,layer2.*", 13, 13},
};

START_TEST(test_list)
{
    bool none[TRINE_COUNTOF(names)] = {false}, all[TRINE_COUNTOF(names)];
    for (size_t i = 0; i < TRINE_COUNTOF(names); i++) all[i] = true;
    ASSERT_OK(trine__glob_list("test", lists[_i].list, &items, none));
    ASSERT_OK(trine__glob_list("test", lists[_i].list, &items, all));
    for (size_t i = 0; i < TRINE_COUNTOF(names); i++)
        ck_assert_msg(none[i] == (lists[_i].from_none >> i & 1) && all[i] == (lists[_i].from_all >> i & 1),
                      "'%s': %s", lists[_i].list, names[i]);
}
END_TEST

START_TEST(test_list_refuses)
{
    char longest[TRINE__ITEM_BYTES + 8];
    bool chosen[TRINE_COUNTOF(names)] = {false};
    ASSERT_FAILS(TRINE_ERR_ARG, trine__glob_list("test", "*,layer3.*", &items, chosen));
    ck_assert_str_eq(trine_last_error(), "test: 'layer3.*' matches no layer of the test");
    ASSERT_FAILS(TRINE_ERR_ARG, trine__glob_list("test", "[a", &items, chosen));
    ASSERT_FAILS(TRINE_ERR_ARG, trine__glob_list("test", "!", &items, chosen));
    memset(longest, '*', sizeof longest);
    longest[TRINE__ITEM_BYTES] = '\0';
    ASSERT_FAILS(TRINE_ERR_ARG, trine__glob_list("test", longest, &items, chosen));
    longest[TRINE__ITEM_BYTES - 1] = '\0';
    ASSERT_OK(trine__glob_list("test", longest, &items, chosen));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("glob");
    TCase *tc = tcase_create("glob");
    tcase_add_loop_test(tc, test_match, 0, (int)TRINE_COUNTOF(cases));
    tcase_add_test(tc, test_check);
    tcase_add_loop_test(tc, test_list, 0, (int)TRINE_COUNTOF(lists));
    tcase_add_test(tc, test_list_refuses);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
