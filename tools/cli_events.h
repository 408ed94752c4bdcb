/* SPDX-License-Identifier: MIT */
/* --log-dir DIR of train and finetune: event files for TensorBoard while a run goes on, and its projector's files at the end. A build without
 * protobuf-c (meson option event_files) refuses the option. */
#ifndef TRINE_TOOLS_CLI_EVENTS_H
#define TRINE_TOOLS_CLI_EVENTS_H

#include "cli_views.h"
#include "cli_watch.h"

/* An open event file; NULL where none is written, which every call accepts. */
typedef struct cli_events cli_events;

/* Makes run->v.log_dir and watch->events: a new event file in it, with what the watch knows of the run's past, or that of the saved run
 * as it was when it was saved, if it is there. NULL without --log-dir. Files of other runs stay.
 * @param history of the saved run, or NULL */
int cli_events_open(cli_watch *watch, const trine_weights *history);
/* What a resumed run needs to go on with the file, as it is now: "NAME BYTES". @return 0: there is none, or it could not be written */
int cli_events_mark(cli_events *events, char *text, size_t size);
/* The figures of a step. */
void cli_events_step(cli_events *events, const cli_watch *watch, const trine_step_record *record);
/* BatchNorm's drift by layer. */
void cli_events_drift(cli_events *events, const cli_run *run, const cli_bn_row *row, int layers);
/* A figure of its own, such as "val/accuracy". */
void cli_events_scalar(cli_events *events, int step, const char *tag, double value);
/* Histograms of the distances between vectors, and the figures `when` of run->json ("before", "after") where it has them. */
void cli_events_vectors(cli_events *events, const cli_run *run, const char *when, int step,
                        const trine_vectors *vectors);
/* The projector's files of vectors of `val`, under the name `when`. */
int cli_events_projector(cli_events *events, const char *when, const trine_dataset *val,
                         const trine_vectors *vectors);
/* Close the file; CLI_FAILED if anything could not be written. */
int cli_events_close(cli_events **events);

#endif
