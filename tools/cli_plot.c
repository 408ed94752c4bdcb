/* SPDX-License-Identifier: MIT */
/* The picture of trine drift --plot: an SVG that needs no colour. Lines differ by their dashes and have their
 * names beside them; remedies whose lines would lie on one another share one. */
#include "cli_plot.h"

#include "cli_chart.h"
#include "cli_plot_png.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDTH = 900,
    HEIGHT = 480,
    LEFT = 96,
    TOP = 58,
    RIGHT = 640,
    BOTTOM = 420,
    LINE = 15,
    AFTER = 48,
    MOST = 16
};

/* Remedies with one line, or those whose line ends in no number. */
typedef struct group {
    int members[MOST], count, lost;
    double end, label; /* y of the line's end, and of the label's middle */
} group;

typedef struct picture {
    const trine_remedies *remedies;
    group groups[MOST];
    int group_count, passes;
    double low, high;
    int scientific; /* the axis' numbers are too long otherwise */
    cli_text out;
} picture;

/* Is there a number at the end, which a name can stand beside? */
static int ends_well(const trine_remedy *remedy)
{
    return remedy->norm_count > 0 && isfinite(remedy->norms[remedy->norm_count - 1]);
}

static const trine_remedy *first_of(const picture *p, const group *g)
{
    return &p->remedies->items[g->members[0]];
}

/* What is done after the passes has a column of its own. */
static double x_of(const picture *p, int pass)
{
    if (pass > p->passes) return RIGHT;
    return LEFT + (double)(RIGHT - LEFT - AFTER) * pass / (p->passes > 0 ? p->passes : 1);
}

static double y_of(const picture *p, double norm)
{
    return BOTTOM - (BOTTOM - TOP) * (norm - p->low) / (p->high - p->low);
}

/* Would the first `count` points of the lines lie on one another? */
static int same_line(const picture *p, const trine_remedy *a, const trine_remedy *b, int count)
{
    if (a->norm_count < count || b->norm_count < count) return 0;
    for (int i = 0; i < count; i++)
        if (!(fabs(y_of(p, a->norms[i]) - y_of(p, b->norms[i])) <= 0.5)) return 0; /* NaN is on no line */
    return 1;
}

/* Room above and below what there is, more where the axis would have equal numbers otherwise. */
static void find_range(picture *p)
{
    p->low = INFINITY;
    p->high = -INFINITY;
    for (int k = 0; k < p->remedies->count; k++)
        for (int i = 0; i < p->remedies->items[k].norm_count; i++) {
            const double norm = p->remedies->items[k].norms[i];
            if (isfinite(norm) && norm < p->low) p->low = norm;
            if (isfinite(norm) && norm > p->high) p->high = norm;
        }
    if (p->low > p->high) p->low = p->high = 0;
    const double size = fmax(fabs(p->low), fabs(p->high)), range = p->high - p->low;
    p->scientific = size >= 99999.5 || (size > 0 && size < 1e-3);
    const double least =
        range > 0 && !p->scientific ? 1e-3 : 0.05; /* of the size: what the numbers can tell */
    const double room = size > 0 ? fmax(0.06 * range, least * size) : 1;
    p->low -= room;
    p->high += room;
}

static int by_end(const void *a, const void *b)
{
    const group *x = a, *y = b;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->members[0] - y->members[0];
}

/* The group whose line this remedy shares, or a new one. */
static group *group_of(picture *p, const trine_remedy *remedy)
{
    const int lost = !ends_well(remedy);
    for (int i = 0; i < p->group_count; i++) {
        group *g = &p->groups[i];
        const trine_remedy *first = first_of(p, g);
        if (lost ? g->lost
                 : !g->lost && first->norm_count == remedy->norm_count &&
                       same_line(p, first, remedy, remedy->norm_count))
            return g;
    }
    group *g = &p->groups[p->group_count++];
    g->lost = lost;
    g->end = lost ? BOTTOM + LINE : y_of(p, remedy->norms[remedy->norm_count - 1]);
    return g;
}

/* Groups from top to bottom, and places for their labels that do not touch. */
static void group_lines(picture *p)
{
    for (int k = 0; k < p->remedies->count && k < MOST; k++) {
        group *g = group_of(p, &p->remedies->items[k]);
        g->members[g->count++] = k;
    }
    qsort(p->groups, (size_t)p->group_count, sizeof *p->groups, by_end);
    double free_from = TOP - LINE;
    for (int i = 0; i < p->group_count; i++) { /* downwards from the top */
        group *g = &p->groups[i];
        const double half = g->count * LINE / 2.0;
        g->label = fmax(g->end, free_from + half);
        free_from = g->label + half + 5;
    }
    double free_to = BOTTOM + LINE;
    for (int i = p->group_count - 1; i >= 0;
         i--) { /* and back up where the last ones have left the picture */
        group *g = &p->groups[i];
        const double half = g->count * LINE / 2.0;
        g->label = fmin(g->label, free_to - half);
        free_to = g->label - half - 5;
    }
}

static void draw_axes(picture *p)
{
    const double step = cli_tick_step(p->high - p->low, 6);
    int pass_step = (int)cli_tick_step(p->passes > 0 ? p->passes : 1, 10);
    if (pass_step < 1) pass_step = 1;
    const double digits = -floor(log10(step) + 1e-9); /* after the point */
    const int decimals =
        (int)fmax(0, p->scientific ? digits + floor(log10(fmax(fabs(p->low), fabs(p->high)))) : digits);
    for (double tick = ceil(p->low / step) * step; tick <= p->high; tick += step) {
        const double y = y_of(p, tick);
        cli_text_add(&p->out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n", LEFT, y, RIGHT);
        cli_text_add(&p->out,
                     p->scientific ? "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*e</text>\n"
                                   : "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f</text>\n",
                     LEFT - 8, y + 4, decimals, fabs(tick) < step / 2 ? 0 : tick);
    }
    for (int pass = 0; pass <= p->passes; pass += pass_step) {
        cli_text_add(&p->out, "<path class=\"axis\" d=\"M%.1f %dv5\"/>\n", x_of(p, pass), BOTTOM);
        cli_text_add(&p->out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", x_of(p, pass),
                     BOTTOM + 19, pass);
    }
    cli_text_add(&p->out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">after</text>\n",
                 x_of(p, p->passes + 1), BOTTOM + 19);
    cli_text_add(&p->out, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>\n", LEFT, TOP, BOTTOM, RIGHT);
    cli_text_add(&p->out,
                 "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">training-mode passes without an optimizer "
                 "step</text>\n",
                 (LEFT + RIGHT) / 2, BOTTOM + 42);
    cli_text_add(
        &p->out,
        "<text transform=\"translate(20 %d) rotate(-90)\" text-anchor=\"middle\">norm of the embedding, in "
        "evaluation</text>\n",
        (TOP + BOTTOM) / 2);
}

/* A line that acts after the passes, and until then lies on another, begins where it leaves that one. */
static int first_point(const picture *p, const trine_remedy *remedy)
{
    for (int k = 0; k < p->remedies->count && remedy->norm_count > p->passes + 1; k++) {
        const trine_remedy *other = &p->remedies->items[k];
        if (other->norm_count == p->passes + 1 && same_line(p, other, remedy, other->norm_count))
            return p->passes;
    }
    return 0;
}

static void draw_line(picture *p, int member)
{
    static const char *const dashes[] = {"none",     "9 4",  "9 4", "9 4", "2 3",
                                         "12 3 2 3", "14 5", "6 2", "3 3", "8 2 2 2"};
    const trine_remedy *remedy = &p->remedies->items[member];
    cli_text_add(&p->out, "<path class=\"line\" stroke-dasharray=\"%s\" d=\"",
                 dashes[member % (int)CLI_COUNTOF(dashes)]);
    int pen = 0; /* lifted over what is not a number */
    for (int i = first_point(p, remedy); i < remedy->norm_count; i++) {
        const int good = isfinite(remedy->norms[i]);
        if (good)
            cli_text_add(&p->out, "%c%.1f %.1f", pen ? 'L' : 'M', x_of(p, i), y_of(p, remedy->norms[i]));
        pen = good;
    }
    cli_text_add(&p->out, "\"/>\n");
}

static void draw_group(picture *p, int index)
{
    const group *g = &p->groups[index];
    const double top = g->label - g->count * LINE / 2.0, x = x_of(p, first_of(p, g)->norm_count - 1);
    for (int k = 0; k < (g->lost ? g->count : 1); k++) draw_line(p, g->members[k]);
    if (!g->lost)
        cli_text_add(&p->out,
                     "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n"
                     "<path class=\"lead\" d=\"M%.1f %.1fL%d %.1fL%d %.1f\"/>\n",
                     x, g->end, x + 5, g->end, RIGHT + 6, g->end, RIGHT + 30, g->label);
    for (int k = 0; k < g->count; k++) {
        const trine_remedy *remedy = &p->remedies->items[g->members[k]];
        cli_text_add(&p->out, "<text class=\"name\" x=\"%d\" y=\"%.1f\">%s%s</text>\n", RIGHT + 35,
                     top + k * LINE + 11.5, remedy->name,
                     !g->lost           ? ""
                     : remedy->possible ? ": not a number"
                                        : ": not possible");
    }
}

int cli_check_plot(const char *path)
{
    const int png = cli_has_ending(path, ".png");
    if (!png && !cli_has_ending(path, ".svg"))
        return cli_error(CLI_USAGE, "--plot '%s': a picture is named .svg or .png", path);
    if (png && !cli_has_png())
        return cli_error(CLI_USAGE, "--plot '%s': this build has no PNG plots: name it .svg", path);
    return cli_check_writable("--plot", path);
}

/* The picture's file, as its name says. */
static int write_picture(const picture *p, const char *path)
{
    void *png = NULL;
    const void *content = p->out.text;
    size_t size = p->out.used;
    int code = CLI_OK;
    if (p->out.failed) return cli_error(CLI_FAILED, "--plot %s: out of memory", path);
    if (cli_has_ending(path, ".png")) {
        CLI_RUN(cli_draw_png(path, p->out.text, p->out.used, WIDTH, HEIGHT, &png, &size));
        content = png;
    }
    if (cli_write_file(path, content, size) != 0)
        code = cli_error(CLI_FAILED, "--plot %s: cannot be written: %s", path, strerror(errno));
cleanup:
    free(png);
    return code;
}

int cli_plot_remedies(const cli_run *run, const char *path, const trine_remedies *remedies)
{
    picture p = {.remedies = remedies, .passes = run->v.passes};
    find_range(&p);
    group_lines(&p);
    cli_text_add(
        &p.out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n"
        "<style>text{font:12px sans-serif;fill:#000}.title{font-size:15px;font-weight:bold}"
        "path{fill:none;stroke:#000}.grid{stroke:#ddd}.line{stroke-width:2}.lead{stroke:#888;"
        "stroke-width:.8}</style>\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT);
    cli_text_add(&p.out, "<text class=\"title\" x=\"%d\" y=\"30\">%s: what stops BatchNorm's drift</text>\n",
                 LEFT, trine_resnet_arch(run->net));
    draw_axes(&p);
    for (int i = 0; i < p.group_count; i++) draw_group(&p, i);
    cli_text_add(&p.out, "</svg>\n");
    const int code = write_picture(&p, path);
    cli_text_free(&p.out);
    return code;
}
