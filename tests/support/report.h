/* SPDX-License-Identifier: MIT */
/* What a device suite ran, a line a case, appended to the file that $TRINE_TEST_REPORT names; nothing without it.
 * tests/portability makes its matrix from these lines. */
#ifndef TRINE_TESTS_REPORT_H
#define TRINE_TESTS_REPORT_H

/* A case that is about to run.
 * @param algorithm the implementation or form that is forced; NULL: the operator has only one */
void test_report(const char *operator_name, const char *algorithm, const char *pass);

/* Cases that this run leaves out. */
void test_report_skip(const char *operator_name, const char *algorithm, const char *pass, const char *reason);

#endif
