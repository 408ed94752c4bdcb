/* SPDX-License-Identifier: MIT */
/* Runs that can be broken off: --save-every, --resume, and signals that save before they end the program.
 *
 * A saved run is two files, each written atomically, the checkpoint OUT first: whoever uses OUT never waits
 * for it, and a state at the last step means that OUT is complete. Only OUT.state is read to go on: it holds
 * the network, the trainer's state, what was seen of the run and what the command wants back, so that there are no two files that could
 * be of different steps after a kill. */
#ifndef TRINE_TOOLS_CLI_RESUME_H
#define TRINE_TOOLS_CLI_RESUME_H

#include "cli_train.h"
#include "cli_watch.h"

extern const cli_section cli_resume_section;

/* What --resume goes on from. Zeroed: nothing. */
typedef struct cli_resume {
    char *path;             /* OUT.state; NULL without --out */
    trine_weights *state;   /* of the trainer, and metadata "cli.*"; NULL without --resume */
    trine_weights *history; /* cli_history.h, without the prefix; NULL without --resume */
    int from;               /* steps of the saved run */
} cli_resume;

/* Before anything is read: the options, and with --resume the saved run, whose network becomes run->weights (and the
 * file run->v.weights), so that everything the saved run took from its weights file is taken again. */
int cli_resume_open(cli_run *run, cli_resume *resume);
/* Does --embedding-dim, which made fc when the saved run began, agree with it? */
int cli_resume_check_outputs(const cli_run *run, const cli_resume *resume);
/* With --resume: put a fresh trainer where the saved run was. Fills run->json's "resumed_from" in any case. */
int cli_resume_trainer(cli_run *run, cli_resume *resume, trine_trainer *trainer);
/* Lines on where the run goes on and what it saves. */
void cli_talk_resume(const cli_run *run, const cli_resume *resume);
/* Text that note() of the saved run left under `key`, or NULL. */
const char *cli_resume_note(const cli_resume *resume, const char *key);
void cli_resume_close(cli_resume *resume);

/* A command's training. */
typedef struct cli_training {
    trine_trainer *trainer;
    cli_checkpoint checkpoint; /* its steps are filled in */
    cli_watch *watch; /* which ends the run where it says so; a run that it stops is saved as if complete */
    trine_step_fn each_step; /* calls cli_watch_step(), and returns what that does */
    /* Leave what the command wants back with cli_resume_note(), by cli_set_note(); may be NULL. */
    int (*note)(void *user, trine_weights *state);
    void *user;
} cli_training;

/* For note(). */
int cli_set_note(trine_weights *state, const char *key, const char *text);
/* Run to the last step, saving on the way as --save-every says, and save the result. SIGINT and SIGTERM save
 * (with --out) and end with CLI_FAILED; a second one is not waited for. With --ema the network then holds the averages. */
int cli_run_training(cli_run *run, const cli_resume *resume, cli_training *training);

#endif
