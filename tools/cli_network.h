/* SPDX-License-Identifier: MIT */
/* Options of the commands that train nothing: which weights, which images, which embedding. */
#ifndef TRINE_TOOLS_CLI_NETWORK_H
#define TRINE_TOOLS_CLI_NETWORK_H

#include "cli_options.h"

extern const cli_section cli_network_section;   /* --weights --arch --embedding --normalize --no-normalize */
extern const cli_section cli_embedding_section; /* --weights --arch --embedding */
extern const cli_section cli_bn_section;        /* --bn */
extern const cli_section cli_precision_section; /* --precision */
extern const cli_section cli_training_data_section; /* --min-per-class --max-per-class --data-report */
extern const cli_section cli_source_section;        /* --data --classes --image --input */

#endif
