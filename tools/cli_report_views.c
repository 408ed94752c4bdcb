/* SPDX-License-Identifier: MIT */
/* The parts of the report that are made of vectors and images. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli_chart.h"
#include "cli_report.h"
#include "cli_thumbnail.h"
#include "cli_views.h"

enum { MOST = 1000, QUERIES = 10, NEAREST = 6, SIDE = 64, LEGEND = 30 };

static void histograms(cli_text *out, const cli_view *view, const char *when)
{
    char title[160];
    cli_distances *d = malloc(sizeof *d);
    if (d == NULL) return;
    cli_view_distances(view, d);
    snprintf(title, sizeof title, "%s: means %.3f within a class, %.3f between classes", when, d->same_mean,
             d->other_mean);
    const cli_series series[] = {{"same class", d->same, NULL}, {"other class", d->other, NULL}};
    cli_chart_histogram(out, title, "distance of embeddings of length 1", 0, 2, CLI_VIEW_BINS, series, 2);
    free(d);
}

/* Colours by the rank of a class among those that are there. @return how many classes; groups [count] */
static int group_classes(const cli_view *view, int classes, int *groups, int *numbers)
{
    int count = 0;
    for (int k = 0; k < classes; k++) {
        int there = 0;
        for (size_t i = 0; i < view->count; i++)
            if (view->labels[i] == k) {
                groups[i] = count;
                there = 1;
            }
        if (there) numbers[count++] = k;
    }
    return count;
}

static void map(cli_text *out, const cli_view *view, const trine_dataset *val, const char *when,
                int with_legend)
{
    const int classes = trine_dataset_class_count(val);
    double *xy = calloc(2 * view->count + 1, sizeof *xy), share = 0;
    int *groups = calloc(view->count + (size_t)classes + 1, sizeof *groups);
    char title[160];
    if (xy != NULL && groups != NULL && cli_view_map(view, xy, &share) == 0) {
        int *numbers = groups + view->count;
        const int count = group_classes(view, classes, groups, numbers);
        snprintf(title, sizeof title, "%s: two principal components, %.0f %% of the variance", when,
                 100 * share);
        if (!with_legend) cli_chart_points(out, title, xy, groups, view->count);
        if (with_legend) {
            cli_text_add(out, "<p class=\"legend\">");
            for (int k = 0; k < count && k < LEGEND; k++) {
                cli_text_add(out, "<span>");
                cli_chart_symbol(out, k);
                cli_text_escape(out, trine_dataset_class_name(val, numbers[k]));
                cli_text_add(out, "</span> ");
            }
            if (count > LEGEND) cli_text_add(out, "and %d more", count - LEGEND);
            cli_text_add(out, "</p>\n");
        }
    }
    free(xy);
    free(groups);
}

/* One image with its class; `right` is 1, 0, or -1 for the query itself. */
static void image(cli_text *out, const trine_dataset *val, const cli_view *view, size_t row, int right)
{
    const char *class = trine_dataset_class_name(val, view->labels[row]);
    const char *mark = right < 0 ? "query" : right ? "right" : "wrong";
    cli_text uri = {0};
    cli_text_add(out, "<li class=\"%s\" title=\"", mark);
    cli_text_escape(out, trine_dataset_name(val, (size_t)view->indices[row]));
    cli_text_add(out, "\">");
    if (cli_thumbnail(&uri, val, (size_t)view->indices[row], SIDE) == 0 && !uri.failed) {
        cli_text_add(out, "<img alt=\"\" src=\"");
        cli_text_append(out, uri.text, uri.used);
        cli_text_add(out, "\">");
    } else
        cli_text_add(out, "<span class=\"none\">unreadable</span>");
    cli_text_add(out, "<b>%s</b><small>", right < 0 ? "query" : right ? "&#10003;" : "&#10007;");
    cli_text_escape(out, class);
    cli_text_add(out, "</small></li>\n");
    cli_text_free(&uri);
}

static void strip(cli_text *out, const trine_dataset *val, const cli_view *view, size_t query,
                  const char *when)
{
    size_t nearest[NEAREST];
    const int count = cli_view_nearest(view, query, NEAREST, nearest);
    int right = 0;
    for (int k = 0; k < count; k++) right += view->labels[nearest[k]] == view->labels[query];
    cli_text_add(out, "<h4>%s: %d of %d</h4><ol class=\"strip\">\n", when, right, count);
    for (int k = 0; k < count; k++)
        image(out, val, view, nearest[k], view->labels[nearest[k]] == view->labels[query]);
    cli_text_add(out, "</ol>\n");
}

static void strips(cli_text *out, const cli_report *r, const cli_view *before, const cli_view *after,
                   const char *when)
{
    const size_t queries = after->count < QUERIES ? after->count : QUERIES;
    cli_text_add(
        out,
        "<section><h2>Retrieval</h2>\n<p>For %zu images, spread over the set, the nearest of %zu others. A "
        "check mark: of the query&#39;s class.</p>\n<div class=\"queries\">\n",
        queries, after->count - 1);
    for (size_t q = 0; q < queries; q++) {
        const size_t row = q * after->count / queries + after->count / queries / 2;
        cli_text_add(out, "<article><ol class=\"strip\">\n");
        image(out, r->val, after, row, -1);
        cli_text_add(out, "</ol><div>\n");
        if (before->count == after->count && before->indices[row] == after->indices[row])
            strip(out, r->val, before, row, "before");
        strip(out, r->val, after, row, when);
        cli_text_add(out, "</div></article>\n");
    }
    cli_text_add(out, "</div></section>\n");
}

void cli_report_views(cli_text *out, const cli_watch *w, const cli_report *r)
{
    cli_view before = {0}, after = {0};
    const char *when = w->classifies ? "At the end" : "After";
    if (r->after.count < 2 || cli_view_open(&r->after, MOST, &after) != 0) return;
    if (w->before.count >= 2 && cli_view_open(&w->before, MOST, &before) != 0) before = (cli_view){0};
    cli_text_add(
        out,
        "<section><h2>Distances</h2>\n<p>Of all pairs among %zu images of the validation set%s.%s</p>\n"
        "<div class=\"charts\">\n",
        after.count, w->classifies ? ", between their pooled features" : "",
        before.count > 0 || w->classifies ? "" : " Before: not measured, the run was resumed.");
    if (before.count > 0) histograms(out, &before, "Before");
    histograms(out, &after, when);
    cli_text_add(out, "</div></section>\n<section><h2>Map of the embeddings</h2>\n");
    map(out, &after, r->val, "", 1);
    cli_text_add(out, "<div class=\"charts\">\n");
    if (before.count > 0) map(out, &before, r->val, "Before", 0);
    map(out, &after, r->val, when, 0);
    cli_text_add(out, "</div></section>\n");
    strips(out, r, &before, &after, w->classifies ? "nearest" : "after");
    cli_view_close(&before);
    cli_view_close(&after);
}
