/* SPDX-License-Identifier: MIT */
/* What train and finetune share: optimizer options, what is said before the first step; saving, which
 * recalibrate does too. */
#ifndef TRINE_TOOLS_CLI_TRAIN_H
#define TRINE_TOOLS_CLI_TRAIN_H

#include "cli_data.h"

extern const cli_section cli_optimizer_section;

/* What a command takes where the options say nothing. */
typedef struct cli_train_defaults {
    trine_optimizer_kind optimizer;
    double sgd_lr, adam_lr, sgd_weight_decay;
    trine_schedule schedule;
    int flip, crop;
} cli_train_defaults;

/* Optimizer, schedule, augmentation, seed, threads and log of the options. */
int cli_train_options(cli_run *run, const cli_train_defaults *defaults, trine_trainer_options *out);
/* Does --lr give the rate of parameters that no glob names? */
int cli_rate_given(const cli_run *run);
/* Lines on optimizer, schedule, augmentation, accumulation, average and device memory: "planned_bytes" of run->json, all that training takes. */
void cli_talk_optimizer(const cli_run *run, const trine_trainer_options *options, int steps);
/* Lines on device, network, parameters that train and BatchNorm; fills run->json's "batchnorm". */
void cli_talk_network(const cli_run *run, const char *origin, trine_embedding embedding);
/* Lines on the data. */
void cli_talk_data(const cli_run *run, const char *what, const char *name, const trine_dataset *data);
/* Lines on preprocessing and unreadable images. */
void cli_talk_images(const cli_run *run, const trine_preprocess *preprocess);
/* A line on the file to write. */
void cli_talk_out(const cli_run *run, const char *names);

/* Before the work: the name of --out and its folder. */
int cli_check_out(const cli_run *run);

/* What goes into a checkpoint beside the network. NULL: not known. */
typedef struct cli_checkpoint {
    const trine_preprocess *preprocess;
    const trine_weights *source; /* not NULL: nothing was trained, and what this file's metadata say stays */
    /* of training */
    const trine_dataset *classes;
    trine_embedding embedding;
    int normalize;
    const trine_trainer *trainer; /* whose measured choices are told */
    int steps;
    int torchvision_names;
} cli_checkpoint;
/* run->net and what the checkpoint says, as a list. */
int cli_make_checkpoint(cli_run *run, const cli_checkpoint *checkpoint, trine_weights **out);
/* Write it to --out, which must be given. */
int cli_write_checkpoint(cli_run *run, const cli_checkpoint *checkpoint);
/* The result of a run: to --out, if it is given, and said so. */
int cli_save(cli_run *run, const cli_checkpoint *checkpoint);

#endif
