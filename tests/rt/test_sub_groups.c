/* SPDX-License-Identifier: MIT */
/* Which devices have sub-groups as kernels ask for them, by what drivers tell. */
#include "rt/sub_groups.h"
#include "support/check_main.h"

START_TEST(test_found)
{
    static const size_t sizes[] = {8, 16, 32}, wide[] = {32};
    static const struct {
        const char *extensions;
        const size_t *sizes;
        size_t count;
        trine__sub_groups want;
    } rows[] = {
        {"cl_khr_icd cl_intel_subgroups cl_intel_required_subgroup_size cl_khr_fp16", sizes, 3,
         TRINE__SUB_GROUPS},
        {"cl_intel_required_subgroup_size cl_intel_subgroups", sizes, 2, TRINE__SUB_GROUPS},
        {"cl_intel_subgroups cl_intel_required_subgroup_size", wide, 1, TRINE__SUB_GROUPS_KHR},
        {"cl_intel_subgroups cl_intel_required_subgroup_size", sizes, 1, TRINE__SUB_GROUPS_KHR},
        {"cl_intel_subgroups cl_intel_required_subgroup_size", NULL, 0, TRINE__SUB_GROUPS_KHR},
        {"cl_intel_subgroups_short cl_intel_required_subgroup_size", sizes, 3, TRINE__NO_SUB_GROUPS},
        {"cl_intel_subgroups", sizes, 3, TRINE__SUB_GROUPS_KHR},
        {"cl_khr_subgroups cl_khr_subgroup_shuffle", NULL, 0, TRINE__SUB_GROUPS_KHR},
        {"cl_khr_subgroup_shuffle cl_khr_subgroups_of_another_kind", sizes, 3, TRINE__NO_SUB_GROUPS},
        {"", sizes, 3, TRINE__NO_SUB_GROUPS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        ck_assert_msg(trine__sub_groups_of(rows[i].extensions, rows[i].sizes, rows[i].count) == rows[i].want,
                      "row %zu", i);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sub_groups");
    TCase *tc = tcase_create("sub_groups");
    tcase_add_test(tc, test_found);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
