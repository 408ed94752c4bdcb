/* SPDX-License-Identifier: MIT */
/* What trine drift says about the passes. */
#ifndef TRINE_TOOLS_CLI_DRIFT_H
#define TRINE_TOOLS_CLI_DRIFT_H

#include "cli_common.h"

/* The table of passes, the table of layers with where they head for, and "rows" and "layers" of the JSON object.
 * @param advice 1: also what to do where something moved (the remedies say it otherwise) */
int cli_print_drift(cli_run *run, const trine_drift_report *report, int advice);
/* A policy as it is typed: the option, at most 80 columns wide, and the C call. */
void cli_print_policy(const cli_run *run, const char *bn);

#endif
