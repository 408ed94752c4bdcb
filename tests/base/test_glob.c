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

int main(void)
{
    Suite *suite = suite_create("glob");
    TCase *tc = tcase_create("glob");
    tcase_add_loop_test(tc, test_match, 0, (int)TRINE_COUNTOF(cases));
    tcase_add_test(tc, test_check);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
