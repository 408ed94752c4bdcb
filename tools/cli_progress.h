/* SPDX-License-Identifier: MIT */
/* Progress on stderr: one line redrawn in place on a terminal, plain lines now and then elsewhere. */
#ifndef TRINE_TOOLS_CLI_PROGRESS_H
#define TRINE_TOOLS_CLI_PROGRESS_H

#include <stddef.h>

typedef struct cli_progress {
    const char *label; /* "evaluating" */
    const char *unit;  /* "images" */
    int silent;        /* --quiet */
    int terminal;
    int drawn;          /* a line stands on the terminal */
    int begun;          /* there has been an update */
    double start, last; /* seconds: of the first update, of the last that was shown */
    size_t first;       /* done at the first update, which built kernels and tells nothing about the speed */
} cli_progress;

/* Seconds on a clock that only goes forward. */
double cli_seconds(void);

void cli_progress_begin(cli_progress *progress, const char *label, const char *unit, int silent);
/* `note` (may be NULL) stands at the end of the line if there is room. */
void cli_progress_update(cli_progress *progress, size_t done, size_t all, const char *note);
/* Take the line off the terminal, so that other text can be printed. */
void cli_progress_clear(cli_progress *progress);
void cli_progress_end(cli_progress *progress);

/* Clear the line of whatever progress stands on the terminal, for messages that come in between. */
void cli_progress_interrupt(void);

#endif
