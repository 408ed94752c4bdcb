/* SPDX-License-Identifier: MIT */
/* Work in a process of its own, with a limit on its time: what a driver does there ends nothing but the child. */
#ifndef TRINE_TOOLS_CLI_CHILD_H
#define TRINE_TOOLS_CLI_CHILD_H

#include "cli_common.h"

/* What became of a child. */
typedef struct cli_outcome {
    int code;      /* its exit code; CLI_FAILED if it did not end by itself */
    int signal;    /* that ended it, or 0 */
    int timed_out; /* it was ended because its time was over */
    cJSON *json;   /* the object that it filled, or NULL; the caller's */
} cli_outcome;

/* `work` in a child, on a run of its own, for at most `limit_s` seconds. The caller must not have called OpenCL, so that each child begins
 * with drivers that nobody has touched. The child's stderr is the caller's. Returns CLI_OK unless there can be no child. */
int cli_in_child(const cli_run *run, const char *device, double limit_s,
                 int (*work)(cli_run *run, void *user), void *user, cli_outcome *out);
/* What ended a child that did not end by itself: "crashed (signal 11, Segmentation fault)", "took longer than 20 s"; else "". */
void cli_child_end(const cli_outcome *outcome, double limit_s, char *text, size_t size);

#endif
