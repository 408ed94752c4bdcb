/* SPDX-License-Identifier: MIT */
/* Drawing of progress. */
#include "cli_progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_WIDTH = 79, BAR_WIDTH = 20, LEAST_BAR = 5 };
static const double redraw_seconds = 0.1, plain_seconds = 10.0;

/* The progress that stands on the terminal; the program shows one at a time. */
static cli_progress *shown;

double cli_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void cli_progress_begin(cli_progress *progress, const char *label, const char *unit, int silent)
{
    *progress = (cli_progress){.label = label,
                               .unit = unit,
                               .silent = silent,
                               .terminal = isatty(STDERR_FILENO),
                               .last = cli_seconds()};
}

void cli_progress_clear(cli_progress *progress)
{
    if (progress->drawn) fprintf(stderr, "\r%*s\r", LINE_WIDTH, "");
    progress->drawn = 0;
    if (shown == progress) shown = NULL;
}

void cli_progress_interrupt(void)
{
    if (shown != NULL) cli_progress_clear(shown);
}

static void time_left(char *out, size_t size, double seconds)
{
    const long whole = (long)(seconds + 0.5);
    if (whole < 3600)
        snprintf(out, size, "%ld:%02ld", whole / 60, whole % 60);
    else
        snprintf(out, size, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
}

/* The bar gives way to the note, down to LEAST_BAR; a note that has no room then is left out, not cut. */
static void draw_line(char line[LINE_WIDTH + 1], const char *label, double share, const char *tail,
                      int tail_length, const char *note)
{
    const int fixed = (int)strlen(label) + 4 + tail_length; /* "LABEL [] TAIL" */
    int note_length = note != NULL && note[0] != '\0' ? (int)strlen(note) + 2 : 0;
    if (fixed + note_length + LEAST_BAR > LINE_WIDTH) note_length = 0;
    const int room = LINE_WIDTH - fixed - note_length;
    const int width = room > BAR_WIDTH ? BAR_WIDTH : room > 0 ? room : 0;
    char bar[BAR_WIDTH + 1];
    memset(bar, '.', (size_t)width);
    memset(bar, '#', (size_t)(share < 1 ? share * width : width));
    bar[width] = '\0';
    const int length = snprintf(line, LINE_WIDTH + 1, "%s [%s] %s%s%s", label, bar, tail,
                                note_length > 0 ? "  " : "", note_length > 0 ? note : "");
    if (length > LINE_WIDTH) line[LINE_WIDTH - 1] = '>'; /* cut */
}

/* "done/all", and how fast it goes on and how long, where that can be told. */
static int describe(const cli_progress *progress, size_t done, size_t all, double now,
                    char out[LINE_WIDTH + 1])
{
    if (done <= progress->first) return snprintf(out, LINE_WIDTH + 1, "%zu/%zu", done, all);
    const double rate = (double)(done - progress->first) / (now - progress->start);
    char left[32];
    time_left(left, sizeof left, (double)(all - done) / rate);
    return snprintf(out, LINE_WIDTH + 1, "%zu/%zu  %.1f %s/s  %s left", done, all, rate, progress->unit,
                    left);
}

void cli_progress_update(cli_progress *progress, size_t done, size_t all, const char *note)
{
    if (progress->silent || all == 0) return;
    const double now = cli_seconds();
    if (!progress->begun) progress->begun = 1, progress->start = now, progress->first = done;
    if (now - progress->last < (progress->terminal ? redraw_seconds : plain_seconds)) return;
    progress->last = now;
    char tail[LINE_WIDTH + 1];
    const int needed = describe(progress, done, all, now, tail);
    if (progress->terminal) {
        char line[LINE_WIDTH + 1];
        draw_line(line, progress->label, (double)done / (double)all, tail, needed, note);
        fprintf(stderr, "\r%-*s", LINE_WIDTH, line);
        fflush(stderr);
        progress->drawn = 1;
        shown = progress;
    } else {
        const int noted = note != NULL && note[0] != '\0';
        fprintf(stderr, "%s %s%s%s\n", progress->label, tail, noted ? "  " : "", noted ? note : "");
    }
}

void cli_progress_end(cli_progress *progress)
{
    cli_progress_clear(progress);
}
