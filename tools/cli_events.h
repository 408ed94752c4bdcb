/* SPDX-License-Identifier: MIT */
/* finetune --log-dir DIR: event files for TensorBoard while a run goes on, and its projector's files at the end. A build without
 * protobuf-c (meson option event_files) refuses the option. */
#ifndef TRINE_TOOLS_CLI_EVENTS_H
#define TRINE_TOOLS_CLI_EVENTS_H

#include "cli_views.h"
#include "cli_watch.h"

/* An open event file; NULL where none is written, which every call accepts. */
typedef struct cli_events cli_events;

/* Makes run->v.log_dir and a new event file in it; *out is NULL without --log-dir. Files of earlier runs stay. */
int cli_events_open(cli_run *run, cli_events **out);
/* The figures of a step. */
void cli_events_step(cli_events *events, const trine_step_record *record);
/* BatchNorm's drift by layer. */
void cli_events_drift(cli_events *events, const cli_run *run, const cli_bn_row *row, int layers);
/* Histograms of the distances between vectors, and the figures `when` of run->json ("before", "after"). */
void cli_events_vectors(cli_events *events, const cli_run *run, const char *when, int step,
                        const trine_vectors *vectors);
/* The projector's files of vectors of `val`, under the name `when`. */
int cli_events_projector(cli_events *events, const char *when, const trine_dataset *val,
                         const trine_vectors *vectors);
/* Close the file; CLI_FAILED if anything could not be written. */
int cli_events_close(cli_events **events);

#endif
