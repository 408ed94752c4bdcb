/* SPDX-License-Identifier: MIT */
/* The losses of trine finetune as options. */
#ifndef TRINE_TOOLS_CLI_LOSS_H
#define TRINE_TOOLS_CLI_LOSS_H

#include "cli_common.h"

extern const cli_section cli_loss_section;

/* What the options say about the loss, into options->triplet and its memory. Returns an exit code. */
int cli_choose_loss(cli_run *run, trine_trainer_options *options);
/* The loss in words, on stderr. */
void cli_talk_loss(const cli_run *run, const trine_trainer_options *options);

#endif
