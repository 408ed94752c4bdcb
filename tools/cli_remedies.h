/* SPDX-License-Identifier: MIT */
/* What trine drift --remedies says. */
#ifndef TRINE_TOOLS_CLI_REMEDIES_H
#define TRINE_TOOLS_CLI_REMEDIES_H

#include "cli_common.h"

/* The table, what to do, and "remedies" of the JSON object. */
int cli_print_remedies(cli_run *run, const trine_remedies *remedies);

#endif
