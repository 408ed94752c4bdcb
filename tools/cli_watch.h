/* SPDX-License-Identifier: MIT */
/* What is seen of train and finetune while they run: the steps' figures, on the terminal and in JSON, the collapse guard, BatchNorm's
 * drift, event files. All of it is kept with a run's state (cli_history.c), and a resumed run goes on with it. */
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

typedef struct cli_watch {
    cli_run *run;
    int classifies, learns_temperature; /* which figures there are */
    struct cli_events *events;          /* of --log-dir, or NULL */
    trine_collapse_guard *guard;
    trine_collapse collapse;    /* its sign is TRINE_COLLAPSE_NONE unless one was found */
    int stop;                   /* 1: it ends the run (--on-collapse stop) */
    int failed_step;            /* where the loss was not finite; 0: nowhere */
    trine_step_record *records; /* of the whole run, as far as they are known */
    size_t count, capacity;
    size_t first; /* of them: the first that this process took */
    int layers;
    float **means,
        **spreads; /* [layers][channels]: running mean and its standard deviation at the beginning */
    cli_bn_row *rows;
    size_t row_count, row_capacity;
    trine_vectors before; /* of --val; count 0: not kept */
    double steps_seconds,
        evaluate_seconds; /* of this process: a state has no times, so that equal runs keep equal bytes */
    double began;         /* cli_seconds() when the steps did */
    cli_progress progress;
    cJSON *steps; /* "steps" of run->json */
} cli_watch;

/* @param options of the trainer  @param data training images, or NULL (an array)
 * @param history of the saved run (cli_history.h), or NULL  @param from steps that have been taken already */
int cli_watch_open(cli_run *run, const trine_trainer_options *options, const trine_dataset *data,
                   const trine_weights *history, int from, cli_watch *watch);
/* The steps begin. @param label "training" */
void cli_watch_begin(cli_watch *watch, const char *label);
/* At which steps a line is printed and BatchNorm's drift measured: where `step` is one, the network must be that of `step` when
 * cli_watch_step() is told of it. */
int cli_watch_is_due(int step, int steps);
/* The next step's record: told, kept, and looked at for a collapse, of which it warns once. @return 1: the run is to end */
int cli_watch_step(cli_watch *watch, const trine_step_record *record, int steps);
/* The steps are over: "collapse" and "bn_drift" of the JSON object. */
void cli_watch_end(cli_watch *watch);
/* CLI_OK, or the sentence of a collapse that ended the run and CLI_CHECK. */
int cli_watch_verdict(const cli_watch *watch);
void cli_watch_close(cli_watch *watch);

/* For what brings a watch back: add what was seen before. 0, or -1: out of memory */
int cli_watch_keep(cli_watch *watch, const trine_step_record *record);
int cli_watch_keep_row(cli_watch *watch, const cli_bn_row *row); /* takes row->moved */

#endif
