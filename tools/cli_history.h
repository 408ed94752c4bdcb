/* SPDX-License-Identifier: MIT */
/* What a run has shown so far, as part of its state file (cli_resume.h), so that guard, report and event files of a resumed run go on
 * with it. Tensors under the prefix "history."; a state without them is that of a run whose past is not known. */
#ifndef TRINE_TOOLS_CLI_HISTORY_H
#define TRINE_TOOLS_CLI_HISTORY_H

#include "cli_watch.h"

#define CLI_HISTORY_PREFIX "history."

/* Add what `watch` knows to a state. */
int cli_history_save(cli_watch *watch, trine_weights *state);
/* Bring it back. @param history tensors and metadata without the prefix  @return CLI_BAD_INPUT: it is no such history */
int cli_history_load(cli_watch *watch, const trine_weights *history);
/* Channels of a layer with running statistics, else 0. cli_watch.c */
int cli_watch_channels(const cli_watch *watch, int layer);

#endif
