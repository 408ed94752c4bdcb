/* SPDX-License-Identifier: MIT */
/* Small charts. */
#include "cli_chart.h"

#include <math.h>
#include <stdio.h>

enum {
    WIDTH = 380,
    HEIGHT = 220,
    LEFT = 52,
    RIGHT = 360,
    TOP = 12,
    BOTTOM = 184,
    MAP = 380,
    ROW = 17,
    NAMES = 150
};

typedef struct frame {
    double x_low, x_high, low, high;
} frame;

double cli_tick_step(double range, int parts)
{
    const double power = pow(10, floor(log10(range / parts))), share = range / parts / power;
    return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
}

static double x_of(const frame *f, double x)
{
    return f->x_high > f->x_low ? LEFT + (RIGHT - LEFT) * (x - f->x_low) / (f->x_high - f->x_low) : LEFT;
}

static double y_of(const frame *f, double y)
{
    return BOTTOM - (BOTTOM - TOP) * (y - f->low) / (f->high - f->low);
}

static void begin(cli_text *out, const char *title, int height)
{
    cli_text_add(out, "<figure><figcaption>");
    cli_text_escape(out, title);
    cli_text_add(out, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, height);
    cli_text_escape(out, title);
    cli_text_add(out, "\">\n");
}

static void finish(cli_text *out, const cli_series *series, size_t count)
{
    cli_text_add(out, "</svg>\n");
    if (count > 1) {
        cli_text_add(out, "<p class=\"legend\">");
        for (size_t i = 0; i < count; i++) {
            cli_text_add(out, "<span><i class=\"k%d\"></i>", (int)i);
            cli_text_escape(out, series[i].name);
            cli_text_add(out, "</span> ");
        }
        cli_text_add(out, "</p>\n");
    }
    cli_text_add(out, "</figure>\n");
}

/* The range of all series, with room; from 0 where that is not far. */
static void find_range(frame *f, const cli_series *series, size_t series_count, size_t count)
{
    f->low = INFINITY;
    f->high = -INFINITY;
    for (size_t s = 0; s < series_count; s++)
        for (size_t i = 0; i < count; i++)
            if (isfinite(series[s].y[i])) {
                f->low = fmin(f->low, series[s].y[i]);
                f->high = fmax(f->high, series[s].y[i]);
            }
    if (f->low > f->high) f->low = f->high = 0;
    if (f->low > 0 && f->low < 0.7 * f->high) f->low = 0;
    double range = f->high - f->low;
    if (range <= 1e-6 * fabs(f->high)) range = fabs(f->high) > 0 ? 0.1 * fabs(f->high) : 1;
    if (f->low != 0) f->low -= 0.06 * range;
    f->high += 0.06 * range;
}

static void draw_axes(cli_text *out, const frame *f, const char *x_label, int with_y)
{
    const double step = cli_tick_step(f->high - f->low, 4);
    for (double k = ceil(f->low / step - 1e-9); with_y && k * step <= f->high; k++) {
        cli_text_add(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, y_of(f, k * step), RIGHT);
        cli_text_add(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n", LEFT - 6,
                     y_of(f, k * step) + 4, k == 0 ? 0 : k * step);
    }
    const double x_step = f->x_high > f->x_low ? cli_tick_step(f->x_high - f->x_low, 5) : 1;
    for (double k = ceil(f->x_low / x_step - 1e-9); k * x_step <= f->x_high + 1e-9 * x_step; k++)
        cli_text_add(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n",
                     x_of(f, k * x_step), BOTTOM + 16, k == 0 ? 0 : k * x_step);
    cli_text_add(out, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>\n", LEFT, TOP, BOTTOM, RIGHT);
    cli_text_add(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (LEFT + RIGHT) / 2, BOTTOM + 32);
    cli_text_escape(out, x_label);
    cli_text_add(out, "</text>\n");
}

static void draw_line(cli_text *out, const frame *f, const double *x, const double *y, size_t count,
                      int colour, int faint)
{
    int open = 0;
    cli_text_add(out, "<path class=\"line s%d%s\" d=\"", colour, faint ? " faint" : "");
    for (size_t i = 0; i < count; i++) {
        const int seen = isfinite(y[i]);
        if (seen) cli_text_add(out, "%c%.1f %.1f", open ? 'L' : 'M', x_of(f, x[i]), y_of(f, y[i]));
        if (seen && !open && (i + 1 == count || !isfinite(y[i + 1]))) cli_text_add(out, "h.1");
        open = seen;
    }
    cli_text_add(out, "\"/>\n");
}

void cli_chart_lines(cli_text *out, const char *title, const char *x_label, const double *x, size_t count,
                     const cli_series *series, size_t series_count, double mark, const char *mark_name)
{
    if (count == 0) return;
    frame f = {.x_low = x[0], .x_high = x[count - 1]};
    find_range(&f, series, series_count, count);
    begin(out, title, HEIGHT);
    draw_axes(out, &f, x_label, 1);
    if (mark >= f.x_low && mark <= f.x_high) {
        const int left = x_of(&f, mark) > (LEFT + RIGHT) / 2.0;
        cli_text_add(out, "<path class=\"mark\" d=\"M%.1f %dV%d\"/>", x_of(&f, mark), TOP, BOTTOM);
        cli_text_add(out, "<text class=\"bad\" x=\"%.1f\" y=\"%d\"%s>", x_of(&f, mark) + (left ? -4 : 4),
                     TOP + 10, left ? " text-anchor=\"end\"" : "");
        cli_text_escape(out, mark_name);
        cli_text_add(out, "</text>\n");
    }
    for (size_t s = 0; s < series_count; s++) {
        draw_line(out, &f, x, series[s].y, count, (int)s, series[s].mean != NULL);
        if (series[s].mean != NULL) draw_line(out, &f, x, series[s].mean, count, (int)s, 0);
    }
    finish(out, series, series_count);
}

void cli_chart_histogram(cli_text *out, const char *title, const char *x_label, double low, double high,
                         int bins, const cli_series *series, size_t series_count)
{
    frame f = {.x_low = low, .x_high = high, .high = 1e-9};
    for (size_t s = 0; s < series_count; s++)
        for (int i = 0; i < bins; i++) f.high = fmax(f.high, 1.06 * series[s].y[i]);
    begin(out, title, HEIGHT);
    draw_axes(out, &f, x_label, 0);
    for (size_t s = 0; s < series_count; s++) {
        cli_text_add(out, "<path class=\"area s%d\" d=\"M%d %d", (int)s, LEFT, BOTTOM);
        for (int i = 0; i < bins; i++)
            cli_text_add(out, "V%.1fH%.1f", y_of(&f, series[s].y[i]),
                         x_of(&f, low + (high - low) * (i + 1) / bins));
        cli_text_add(out, "V%d\"/>\n", BOTTOM);
    }
    finish(out, series, series_count);
}

void cli_chart_bars(cli_text *out, const char *title, const char *const *names, const double *values,
                    int count)
{
    double most = 0;
    for (int i = 0; i < count; i++) most = isfinite(values[i]) ? fmax(most, values[i]) : most;
    begin(out, title, count * ROW + 8);
    for (int i = 0; i < count; i++) {
        const double length = most > 0 && isfinite(values[i]) ? (RIGHT - NAMES - 56) * values[i] / most : 0;
        const int y = i * ROW + 4;
        cli_text_add(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", NAMES - 6, y + 12);
        cli_text_escape(out, names[i]);
        cli_text_add(out, "</text><rect class=\"f0\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>", NAMES,
                     y + 2, length, ROW - 5);
        cli_text_add(out, "<text x=\"%.1f\" y=\"%d\">%.3g</text>\n", NAMES + length + 5, y + 12, values[i]);
    }
    finish(out, NULL, 0);
}

/* A dot, and for the groups after the first ten other shapes. */
static void draw_symbol(cli_text *out, int group, double x, double y)
{
    static const char *const shapes[] = {"m-3 -3h6v6h-6z", "m0 -4l4 7h-8z", "m0 -4l4 4l-4 4l-4 -4z"};
    const int colour = group % CLI_CHART_COLOURS, shape = group / CLI_CHART_COLOURS % 4;
    if (shape == 0)
        cli_text_add(out, "<circle class=\"f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", colour, x, y);
    else
        cli_text_add(out, "<path class=\"f%d\" d=\"M%.1f %.1f%s\"/>", colour, x, y, shapes[shape - 1]);
}

void cli_chart_symbol(cli_text *out, int group)
{
    cli_text_add(out, "<svg class=\"symbol\" viewBox=\"-5 -5 10 10\" aria-hidden=\"true\">");
    draw_symbol(out, group, 0, 0);
    cli_text_add(out, "</svg>");
}

void cli_chart_points(cli_text *out, const char *title, const double *xy, const int *groups, size_t count)
{
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < 2; k++) {
            low[k] = fmin(low[k], xy[2 * i + (size_t)k]);
            high[k] = fmax(high[k], xy[2 * i + (size_t)k]);
        }
    const double range = fmax(fmax(high[0] - low[0], high[1] - low[1]), 1e-12), scale = (MAP - 24) / range;
    const int tall = (int)(scale * (high[1] - low[1])) + 24;
    begin(out, title, tall);
    cli_text_add(out, "<rect class=\"axis\" x=\".5\" y=\".5\" width=\"%d\" height=\"%d\"/>\n", WIDTH - 1,
                 tall - 1);
    for (size_t i = 0; i < count; i++) {
        draw_symbol(out, groups[i], WIDTH / 2.0 + scale * (xy[2 * i] - (low[0] + high[0]) / 2),
                    tall / 2.0 - scale * (xy[2 * i + 1] - (low[1] + high[1]) / 2));
        if (i % 8 == 7) cli_text_append(out, "\n", 1);
    }
    finish(out, NULL, 0);
}
