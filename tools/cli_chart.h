/* SPDX-License-Identifier: MIT */
/* Small charts as SVG inside HTML. Colours are the page's classes: s0, s1, ... for what is drawn, `grid`, `axis`. They scale to
 * the width that they are given, and are drawn for about 380 pixels. */
#ifndef TRINE_TOOLS_CLI_CHART_H
#define TRINE_TOOLS_CLI_CHART_H

#include "cli_text.h"

enum { CLI_CHART_COLOURS = 10 };

typedef struct cli_series {
    const char *name;   /* may be NULL if there is one series */
    const double *y;    /* [count]; what is not finite leaves a gap */
    const double *mean; /* of lines: drawn over y, which is then faint; NULL: none */
} cli_series;

/* 1, 2 or 5 times a power of ten, so that about `parts` steps fit. */
double cli_tick_step(double range, int parts);

/* Lines over the same x. @param x [count], rising  @param mark an x to mark by a vertical line with `mark_name`; NAN: none */
void cli_chart_lines(cli_text *out, const char *title, const char *x_label, const double *x, size_t count,
                     const cli_series *series, size_t series_count, double mark, const char *mark_name);
/* Two shares over bins of equal width, as areas. @param y [bins] of each series */
void cli_chart_histogram(cli_text *out, const char *title, const char *x_label, double low, double high,
                         int bins, const cli_series *series, size_t series_count);
/* A horizontal bar a row. */
void cli_chart_bars(cli_text *out, const char *title, const char *const *names, const double *values,
                    int count);
/* A map of points, classes by colour and, beyond ten, by shape. @param xy [count][2]  @param groups [count], from 0 */
void cli_chart_points(cli_text *out, const char *title, const double *xy, const int *groups, size_t count);
/* The symbol of a group in running text. */
void cli_chart_symbol(cli_text *out, int group);

#endif
