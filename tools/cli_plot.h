/* SPDX-License-Identifier: MIT */
/* The picture of trine drift --plot. */
#ifndef TRINE_TOOLS_CLI_PLOT_H
#define TRINE_TOOLS_CLI_PLOT_H

#include "cli_common.h"

/* Does the name end in .svg, or in .png where the program was built with it, and can a file be made there? */
int cli_check_plot(const char *path);
/* Norms of the embedding over passes, one line a remedy; remedies whose norms are the same share a line. */
int cli_plot_remedies(const cli_run *run, const char *path, const trine_remedies *remedies);

#endif
