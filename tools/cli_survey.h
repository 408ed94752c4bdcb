/* SPDX-License-Identifier: MIT */
/* What there is to know of the data before the first step. */
#ifndef TRINE_TOOLS_CLI_SURVEY_H
#define TRINE_TOOLS_CLI_SURVEY_H

#include "cli_data.h"

/* Look at the training and the validation images (either may be NULL), say what was found, with a warning for what spoils a run, and add
 * `data_report` to the JSON. Does nothing where --data-report off was given. */
int cli_survey_data(cli_run *run, const trine_dataset *data, const trine_dataset *val);

#endif
