/* SPDX-License-Identifier: MIT */
/* --report FILE.html of train and finetune: one page that says what a run did. It holds everything it shows, asks no network for anything and
 * runs no script. */
#ifndef TRINE_TOOLS_CLI_REPORT_H
#define TRINE_TOOLS_CLI_REPORT_H

#include "cli_text.h"
#include "cli_watch.h"

/* What the page is made of beside the watch and run->json. */
typedef struct cli_report {
    const trine_dataset *val; /* NULL: not given */
    trine_vectors after;      /* of val; count 0: not measured; those before are the watch's */
    int batch;                /* images of a step; 0: not known */
} cli_report;

/* Before the work: can --report be written? */
int cli_report_check(const cli_run *run);
/* Write it to run->v.report; CLI_OK without one. */
int cli_report_write(cli_run *run, const cli_watch *watch, const cli_report *report);

/* The parts that show images: histograms, maps, retrieval. cli_report_views.c */
void cli_report_views(cli_text *out, const cli_watch *watch, const cli_report *report);

#endif
