/* SPDX-License-Identifier: MIT */
/* What is seen of a run while it goes on: its steps' records, the collapse guard, and BatchNorm's drift. */
#ifndef TRINE_TOOLS_CLI_WATCH_H
#define TRINE_TOOLS_CLI_WATCH_H

#include "cli_common.h"

extern const cli_section cli_watch_section;

/* How far each BatchNorm layer's running statistics are from where they were when the run began. */
typedef struct cli_bn_row {
    int step;
    double *
        moved; /* [layers]: |running_mean - before|_2 / |sqrt(running_var before)|_2, as trine_drift_layer.mean_moved */
    double mean; /* of them */
} cli_bn_row;

/* Zeroed, but for events: nothing is watched yet. */
typedef struct cli_watch {
    cli_run *run;
    struct cli_events *events; /* of --log-dir, or NULL; not owned */
    trine_collapse_guard *guard;
    trine_collapse collapse; /* its sign is TRINE_COLLAPSE_NONE unless one was found */
    int stop;                /* 1: it ends the run (--on-collapse stop) */
    trine_step_record *records;
    size_t count, capacity;
    int layers;
    float **means,
        **spreads; /* [layers][channels]: running mean and its standard deviation at the beginning */
    cli_bn_row *rows;
    size_t row_count, row_capacity;
} cli_watch;

/* @param from steps that have been taken already */
int cli_watch_open(cli_run *run, const trine_trainer_options *options, int from, cli_watch *watch);
/* The next step's record: kept, and looked at for a collapse, of which it warns once. @return 1: the run is to end */
int cli_watch_step(cli_watch *watch, const trine_step_record *record);
/* Measure BatchNorm's drift after `step` steps, as the network is now; -1: it cannot be read, and nothing is added.
 * @return the mean over the layers */
double cli_watch_drift(cli_watch *watch, int step);
/* After the run: "collapse" and "bn_drift" of the JSON object. */
void cli_watch_json(const cli_watch *watch);
/* CLI_OK, or the sentence of a collapse that ended the run and CLI_CHECK. */
int cli_watch_verdict(const cli_watch *watch);
void cli_watch_close(cli_watch *watch);

#endif
