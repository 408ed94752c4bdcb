/* SPDX-License-Identifier: MIT */
/* The table of quirks, and what its matcher makes of drivers' own words. */
#include <stdio.h>
#include <string.h>

#include "rt/context.h"
#include "support/check_main.h"

/* Drivers as they name themselves, and the rows that are meant for them. */
static const struct sample {
    trine__driver driver;
    const char *rows; /* ids with a blank behind each, in the table's order */
} samples[] = {
    {{"Clover", "OpenCL 1.1 Mesa 22.3.6", "AMD", "AMD Radeon RX 6700 XT (navi22, LLVM 15.0.6)", "22.3.6"},
     "clover "},
    {{"rusticl", "OpenCL 3.0 ", "AMD", "AMD Radeon RX 6700 XT (navi22, LLVM 15.0.6)", "22.3.6"}, ""},
    {{"rusticl", "OpenCL 3.0 ", "Mesa/X.org", "llvmpipe (LLVM 15.0.6, 256 bits)", "22.3.6"}, "llvmpipe "},
    {{"Intel Gen OCL Driver", "OpenCL 2.0 beignet 1.3", "Intel", "Intel(R) HD Graphics", "1.3"}, "beignet "},
    {{"Portable Computing Language", "OpenCL 3.0 PoCL 3.1+debian  Linux, RELOC, LLVM 15.0.6, SLEEF",
      "AuthenticAMD", "pthread-haswell-AMD EPYC", "3.1+debian"},
     "pocl-local-size pocl-barriers "},
    {{"Portable Computing Language", "OpenCL 1.2 pocl 1.4, LLVM 9.0.1, RELOC", "GenuineIntel", "pthread-x",
      "1.4"},
     "pocl-before-1.5 pocl-local-size pocl-barriers "},
    {{"Portable Computing Language", "OpenCL 1.2 pocl 1.5-pre, LLVM 9.0.1", "GenuineIntel", "pthread-x",
      "1.5"},
     "pocl-before-1.5 pocl-local-size pocl-barriers "},
    {{"Portable Computing Language", "OpenCL 1.2 pocl 1.10, LLVM 8.0.1, RELOC", "GenuineIntel", "pthread-x",
      "1.10"},
     "pocl-llvm-before-9 pocl-local-size pocl-barriers "},
    {{"Portable Computing Language", "", "", "", ""}, "pocl-local-size pocl-barriers "}, /* no version told */
    {{"Oclgrind", "OpenCL 1.2 (Oclgrind 21.10)", "University of Bristol", "Oclgrind Simulator",
      "Oclgrind 21.10"},
     "oclgrind "},
    {{"NVIDIA CUDA", "OpenCL 3.0 CUDA 12.2.79", "NVIDIA Corporation", "NVIDIA H100", "535.104.05"},
     "nvidia-own-cache "},
    {{"Intel(R) OpenCL Graphics", "OpenCL 3.0 ", "Intel(R) Corporation", "Intel(R) Arc(TM) A770 Graphics",
      "32.0.101.6881"},
     "intel-windows-6881 intel-arc-a770 "},
    {{"Intel(R) OpenCL Graphics", "OpenCL 3.0 ", "Intel(R) Corporation", "Intel(R) Iris(R) Xe Graphics",
      "32.0.101.6556"},
     ""},
    {{"Intel(R) OpenCL Graphics", "OpenCL 3.0 ", "Intel(R) Corporation", "Intel(R) Iris(R) Xe Graphics",
      "32.0.101.6882"},
     ""},
    {{"Intel(R) OpenCL Graphics", "OpenCL 3.0 ", "Intel(R) Corporation", "Intel(R) Iris(R) Xe Graphics",
      "23.35.27191.9"}, /* Linux counts otherwise */
     ""},
    {{"AMD Accelerated Parallel Processing", "OpenCL 2.1 AMD-APP (3513.0)", "Advanced Micro Devices, Inc.",
      "gfx1010:xnack-", "3513.0 (HSA1.1,LC)"},
     "amd-rx5700 "},
    {{"AMD Accelerated Parallel Processing", "OpenCL 2.1 AMD-APP (3513.0)", "Advanced Micro Devices, Inc.",
      "gfx1030", "3513.0 (HSA1.1,LC)"},
     ""},
    {{"AMD Accelerated Parallel Processing", "OpenCL 1.2 AMD-APP", "Advanced Micro Devices, Inc.", "Pitcairn",
      "2906.7"},
     "amd-southern-islands "},
    {{"Another", NULL, NULL, NULL, NULL}, ""},
};

START_TEST(test_samples)
{
    for (size_t i = 0; i < TRINE_COUNTOF(samples); i++) {
        char rows[512] = "";
        for (size_t k = 0; k < trine__quirk_count; k++) {
            if (!trine__quirk_applies(&trine__quirk_table[k], &samples[i].driver)) continue;
            strcat(strcat(rows, trine__quirk_table[k].id), " ");
        }
        ck_assert_msg(strcmp(rows, samples[i].rows) == 0, "%s, %s: got '%s', want '%s'",
                      samples[i].driver.platform, samples[i].driver.device, rows, samples[i].rows);
    }
}
END_TEST

/* Every row is complete, has a name of its own and a sample. */
START_TEST(test_rows)
{
    for (size_t k = 0; k < trine__quirk_count; k++) {
        const trine__quirk *row = &trine__quirk_table[k];
        bool sampled = false;
        ck_assert_msg(row->id && row->id[0] &&
                          row->id[strspn(row->id, "abcdefghijklmnopqrstuvwxyz0123456789.-")] == '\0',
                      "row %zu: id", k);
        ck_assert_msg(row->reason && strlen(row->reason) > 20 && row->reason[strlen(row->reason) - 1] != '.',
                      "%s: reason", row->id);
        ck_assert_msg(row->source && row->source[0], "%s: source", row->id);
        ck_assert_msg(strcmp(trine__effect_name(row->effect), "?") != 0, "%s: effect", row->id);
        ck_assert_msg(!row->after || row->from || row->below, "%s: no version to look for", row->id);
        for (size_t i = 0; i < k; i++) ck_assert_str_ne(row->id, trine__quirk_table[i].id);
        for (size_t i = 0; i < TRINE_COUNTOF(samples); i++)
            sampled |= trine__quirk_applies(row, &samples[i].driver);
        ck_assert_msg(sampled, "%s: no sample of a driver that it is about", row->id);
    }
}
END_TEST

/* All rows that can meet on one device fit into its info. */
START_TEST(test_room)
{
    const trine_device_info info = {0};
    for (size_t i = 0; i < TRINE_COUNTOF(samples); i++) {
        size_t rows = 0, bytes = 0;
        for (size_t k = 0; k < trine__quirk_count; k++) {
            if (!trine__quirk_applies(&trine__quirk_table[k], &samples[i].driver)) continue;
            rows++;
            bytes += strlen(trine__quirk_table[k].reason) + 2;
        }
        ck_assert_uint_le(rows, TRINE_DEVICE_QUIRKS);
        ck_assert_uint_lt(bytes, sizeof info.quirks);
    }
}
END_TEST

START_TEST(test_versions)
{
    static const struct {
        const char *a, *b;
        int order;
    } pairs[] = {
        {"1.4", "1.5", -1},
        {"1.10", "1.9", 1},
        {"1.4", "1.4.0", 0},
        {"1.4", "1.4.1", -1},
        {"2", "1.9.9", 1},
        {"22.3.6", "22.3.6", 0},
        {"22.3.6", "22.10.1", -1},
        {"32.0.101.6881", "32.0.101.6556", 1},
        {"32.0.101.6881", "32.0.1010.1", -1},
        {"535.104.05", "535.104.5", 0},
        {"535.104.05", "535.104.12", -1},
        {"535.54.03", "535.104.05", -1},
        {"3.1+debian", "3.1", 0},
        {"3.1+debian", "3.1.1", -1},
        {"1.5-pre", "1.5", -1},
        {"1.5-pre", "1.4.9", 1},
        {"3.0~rc1", "3.0", -1},
        {"3.0-RC2", "3.0-rc1", 0}, /* which of them came first is not told apart */
        {"6.0-beta, LLVM 19", "6.0", -1},
        {"9.0.1, RELOC", "9", 1},
        {"3513.0 (HSA1.1,LC)", "3513", 0},
        {"0", "0.0", 0},
        {"99999999999999999999999999", "100000000000000000000000000", -1},
        {"0000000000000000000000000001", "1", 0},
    };
    for (size_t i = 0; i < TRINE_COUNTOF(pairs); i++) {
        const int there = trine__version_compare(pairs[i].a, pairs[i].b),
                  back = trine__version_compare(pairs[i].b, pairs[i].a);
        ck_assert_msg((there > 0) - (there < 0) == pairs[i].order &&
                          (back > 0) - (back < 0) == -pairs[i].order,
                      "%s and %s: %d, %d", pairs[i].a, pairs[i].b, there, back);
    }
}
END_TEST

/* What a row may ask for, one thing after the other. */
START_TEST(test_matcher)
{
    const trine__driver driver = {"Some Platform", "OpenCL 3.0 words 2.5", "Maker", "Thing 100", "10.2"};
    const struct {
        trine__quirk row;
        bool applies;
    } cases[] = {
        {{.id = "all"}, true},
        {{.id = "any case", .pattern = {.platform = "SOME platform"}}, true},
        {{.id = "the whole text", .pattern = {.platform = "Some"}}, false},
        {{.id = "glob", .pattern = {.device = "thing 1*"}}, true},
        {{.id = "another", .pattern = {.device = "thing 2*"}}, false},
        {{.id = "alternatives", .pattern = {.device = "other|thing 1??"}}, true},
        {{.id = "no alternative", .pattern = {.device = "other|thing 1?"}}, false},
        {{.id = "vendor", .pattern = {.vendor = "m*"}}, true},
        {{.id = "one of two", .pattern = {.vendor = "m*", .platform = "x"}}, false},
        {{.id = "driver", .pattern = {.version = "10.*"}}, true},
        {{.id = "at", .from = "10.2"}, true},
        {{.id = "above", .from = "10.3"}, false},
        {{.id = "not below itself", .below = "10.2"}, false},
        {{.id = "below", .below = "10.10"}, true},
        {{.id = "between", .from = "9", .below = "11"}, true},
        {{.id = "words", .after = "WORDS ", .from = "2.5", .below = "2.6"}, true},
        {{.id = "words below", .after = "words ", .below = "2.5"}, false},
        {{.id = "no such words", .after = "llvm ", .below = "99"}, false},
        {{.id = "no number there", .after = "OpenCL", .below = "99"}, false},
    };
    for (size_t i = 0; i < TRINE_COUNTOF(cases); i++)
        ck_assert_msg(trine__quirk_applies(&cases[i].row, &driver) == cases[i].applies, "%s",
                      cases[i].row.id);
}
END_TEST

START_TEST(test_registers)
{
    ck_assert_int_eq(trine__vector_registers("x86_64", 16), 32); /* AVX-512 */
    ck_assert_int_eq(trine__vector_registers("x86_64", 8), 16);
    ck_assert_int_eq(trine__vector_registers("x86_64", 4), 16);
    ck_assert_int_eq(trine__vector_registers("i386", 4), 8);
    ck_assert_int_eq(trine__vector_registers("aarch64", 4), 32);
    ck_assert_int_eq(trine__vector_registers("aarch64", 8), 32); /* SVE */
    ck_assert_int_eq(trine__vector_registers("arm", 4), 16);
    ck_assert_int_eq(trine__vector_registers("ppc64", 4), 32);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quirks");
    TCase *tc = tcase_create("quirks");
    tcase_add_test(tc, test_samples);
    tcase_add_test(tc, test_rows);
    tcase_add_test(tc, test_room);
    tcase_add_test(tc, test_versions);
    tcase_add_test(tc, test_matcher);
    tcase_add_test(tc, test_registers);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
