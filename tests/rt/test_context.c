/* SPDX-License-Identifier: MIT */
/* Which matrix unit a device may have, from what drivers tell of theirs. */
#include "rt/context.h"
#include "support/check_main.h"

static const char dpas[] = "cl_khr_fp16 cl_intel_subgroup_matrix_multiply_accumulate cl_intel_subgroups";

/* extensions, compute capability, generation and wave, least size of a sub-group */
static const struct sample {
    trine__matrix_facts facts;
    trine__matrix_unit unit;
} samples[] = {
    {{NULL, 0, 0, 0, 0}, TRINE__NO_MATRIX_UNIT},
    {{"cl_khr_fp16", 0, 0, 0, 8}, TRINE__NO_MATRIX_UNIT},   /* Xe LP */
    {{"", 7, 0, 0, 0}, TRINE__NO_MATRIX_UNIT},              /* Turing: has no m16n8k16 */
    {{"", 8, 0, 0, 0}, TRINE__MMA},                         /* Ampere */
    {{"", 9, 0, 0, 0}, TRINE__MMA},                         /* Hopper */
    {{"", 12, 0, 0, 0}, TRINE__MMA},                        /* Blackwell */
    {{"cl_khr_fp16", 0, 9, 64, 0}, TRINE__MFMA},            /* CDNA, and Vega until its compiler is asked */
    {{"cl_khr_fp16", 0, 10, 32, 0}, TRINE__NO_MATRIX_UNIT}, /* RDNA 2 */
    {{"cl_khr_fp16", 0, 11, 32, 0}, TRINE__WMMA},           /* RDNA 3 */
    {{"cl_khr_fp16", 0, 11, 64, 0}, TRINE__NO_MATRIX_UNIT}, /* in waves of 64: another layout */
    {{"cl_khr_fp16", 0, 12, 32, 0}, TRINE__NO_MATRIX_UNIT}, /* RDNA 4: another instruction */
    {{dpas, 0, 0, 0, 8}, TRINE__DPAS8},                     /* Arc A */
    {{dpas, 0, 0, 0, 16}, TRINE__DPAS16},                   /* Xe HPC, Xe2 */
    {{dpas, 0, 0, 0, 0}, TRINE__NO_MATRIX_UNIT},            /* sizes not told */
    {{dpas, 0, 0, 0, 32}, TRINE__NO_MATRIX_UNIT},
};

START_TEST(test_matrix_unit)
{
    const trine__matrix_unit got = trine__matrix_unit_of(&samples[_i].facts);
    ck_assert_msg(got == samples[_i].unit, "sample %d: unit %d, expected %d", _i, (int)got,
                  (int)samples[_i].unit);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("context");
    TCase *tc = tcase_create("context");
    tcase_add_loop_test(tc, test_matrix_unit, 0, (int)(sizeof samples / sizeof samples[0]));
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
