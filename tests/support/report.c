/* SPDX-License-Identifier: MIT */
#include "support/report.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* Opened and closed for each line, so that none is lost in a crash. */
static void report(const char *kind, const char *operator_name, const char *algorithm, const char *pass,
                   const char *reason)
{
    const char *path = getenv("TRINE_TEST_REPORT");
    if (!path || !path[0]) return;
    FILE *file = fopen(path, "a");
    if (!file) ck_abort_msg("cannot write to TRINE_TEST_REPORT=%s", path);
    fprintf(file, "%s %s %s %s %s\n", kind, operator_name, algorithm ? algorithm : "-", pass, reason);
    if (fclose(file)) ck_abort_msg("cannot write to TRINE_TEST_REPORT=%s", path);
}

void test_report(const char *operator_name, const char *algorithm, const char *pass)
{
    report("case", operator_name, algorithm, pass, "");
}

void test_report_skip(const char *operator_name, const char *algorithm, const char *pass, const char *reason)
{
    report("skip", operator_name, algorithm, pass, reason);
}
