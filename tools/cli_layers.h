/* SPDX-License-Identifier: MIT */
/* What trine bench --layers says: where the time of a step goes. */
#ifndef TRINE_TOOLS_CLI_LAYERS_H
#define TRINE_TOOLS_CLI_LAYERS_H

#include "cli_common.h"

/* A profile of `runs` steps of a session: each distinct convolution by direction with its rate and its share of the device's, then
 * everything else with the bytes it moves, then what is left of `step_ms`. Fills run->json's "convolutions", "others",
 * "layers", "device_speed", "outside_kernels_ms". */
int cli_print_layers(cli_run *run, const trine_session *session, int batch, const trine_profile_row *rows,
                     size_t count, int runs, double step_ms);

#endif
