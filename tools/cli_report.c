/* SPDX-License-Identifier: MIT */
/* The report: page, figures, curves, BatchNorm, settings. */
#include "cli_report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli_chart.h"

enum { MOST_POINTS = 400 };

/* Colours after Okabe and Ito (2008), which people with any colour vision tell apart. */
/* clang-format off */
static const char style[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1c1e21;--soft:#5f6670;--line:#d9dde2;--card:#f6f7f9;--good:#00734f;--bad:#c03a00;\n"
    "--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;--c4:#a68a00;--c5:#56b4e9;--c6:#e69f00;--c7:#6a51a3;--c8:#7f7f7f;--c9:#8c2d04}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#15171a;--fg:#e6e8eb;--soft:#9aa3ad;--line:#363b42;--card:#1e2125;--good:#3ecf9a;\n"
    "--bad:#ff8a5c;--c0:#4aa8e0;--c1:#ff8a4c;--c2:#2fc99a;--c3:#e39bc4;--c4:#e3cf4a;--c5:#8fd0f7;--c6:#f3b94a;--c7:#a894e0;--c8:#a9a9a9;\n"
    "--c9:#d9784a}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:1240px;padding:16px;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.5em;margin:.2em 0}\n"
    "h2{font-size:1.15em;margin:1.6em 0 .4em}\n"
    "h4{font-size:.85em;font-weight:normal;color:var(--soft);margin:0}\n"
    "p{margin:.3em 0}\n"
    "header p{color:var(--soft);overflow-wrap:anywhere}\n"
    ".warn{border-left:4px solid var(--bad);background:var(--card);padding:8px 12px;overflow-wrap:anywhere}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(340px,100%),1fr));gap:12px;justify-items:stretch}\n"
    "figure{margin:0;padding:8px;background:var(--card);border-radius:6px;min-width:0}\n"
    "figcaption{font-size:.85em}\n"
    "svg{display:block;width:100%;height:auto}\n"
    "svg text{font:11px system-ui,sans-serif;fill:var(--soft)}\n"
    "svg .bad{fill:var(--bad)}\n"
    ".grid,.axis{fill:none;stroke:var(--line)}\n"
    ".mark{fill:none;stroke:var(--bad);stroke-dasharray:4 3}\n"
    ".line{fill:none;stroke-width:1.6;stroke-linejoin:round}\n"
    ".faint{opacity:.32;stroke-width:1}\n"
    ".area{stroke-width:1.2;fill-opacity:.25}\n"
    "svg.symbol{display:inline-block;width:10px;height:10px;margin-right:4px}\n"
    ".legend{font-size:.85em}\n"
    ".legend span{display:inline-block;margin-right:12px}\n"
    ".legend i{display:inline-block;width:10px;height:10px;margin-right:4px}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(150px,100%),1fr));gap:12px;max-width:800px}\n"
    ".tile{background:var(--card);border-radius:6px;padding:8px 12px}\n"
    ".tile b{display:block;font-size:1.7em;line-height:1.3;font-variant-numeric:tabular-nums}\n"
    ".tile small{color:var(--soft);font-size:.8em}\n"
    ".better{color:var(--good)}\n"
    ".worse{color:var(--bad)}\n"
    ".table{overflow-x:auto}\n"
    "table{border-collapse:collapse}\n"
    "td,th{padding:3px 12px 3px 0;text-align:right;border-bottom:1px solid var(--line)}\n"
    "td:first-child,th:first-child{text-align:left}\n"
    ".queries{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:12px}\n"
    "article{display:flex;gap:10px;background:var(--card);border-radius:6px;padding:8px;min-width:0}\n"
    "article>div{min-width:0;flex:1}\n"
    ".strip{display:grid;grid-template-columns:repeat(6,minmax(0,1fr));gap:4px;margin:0 0 4px;padding:0;list-style:none}\n"
    "article>.strip{grid-template-columns:72px;align-content:center}\n"
    ".strip li{position:relative;border:3px solid var(--line);border-radius:4px;min-width:0}\n"
    ".strip img{display:block;width:100%;aspect-ratio:1;object-fit:contain}\n"
    ".strip .none{display:block;aspect-ratio:1;font-size:.6em}\n"
    ".strip b{position:absolute;top:0;right:0;padding:0 3px;font-size:.75em;background:var(--bg)}\n"
    ".strip small{display:block;font-size:.7em;line-height:1.25;overflow-wrap:anywhere;padding:0 2px}\n"
    ".strip .right{border-color:var(--good)}\n"
    ".right b{color:var(--good)}\n"
    ".strip .wrong{border-color:var(--bad);border-style:dashed}\n"
    ".wrong b{color:var(--bad)}\n"
    ".query b{display:none}\n"
    "pre{background:var(--card);padding:8px 12px;border-radius:6px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85em}\n"
    "@media(max-width:520px){article{flex-direction:column}article>.strip{justify-content:start}.strip small{font-size:.62em}}\n";
/* clang-format on */

int cli_report_check(const cli_run *run)
{
    return run->v.report != NULL ? cli_check_writable("--report", run->v.report) : CLI_OK;
}

/* ---- the head ---- */

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

/* A large number and what it is, with `was` (NAN: nothing) and the change since under it. */
static void tile(cli_text *out, const char *name, const char *format, double value, double was)
{
    char text[48], before[48];
    snprintf(text, sizeof text, format, value);
    cli_text_add(out, "<div class=\"tile\"><h4>%s</h4><b>%s</b>", name, text);
    if (isfinite(was)) {
        snprintf(before, sizeof before, format, was);
        cli_text_add(out, "<small>before: %s <span class=\"%s\">%+.4f</span></small>", before,
                     value > was   ? "better"
                     : value < was ? "worse"
                                   : "same",
                     value - was);
    }
    cli_text_add(out, "</div>\n");
}

/* Of what was measured on the validation images. */
static void figures(cli_text *out, const cli_run *run, const cli_watch *w)
{
    static const char *const keys[] = {"recall_at_1", "recall_at_5", "r_precision", "map_at_r"};
    static const char *const names[] = {"Recall@1", "Recall@5", "R-precision", "MAP@R"};
    const cJSON *before = cJSON_GetObjectItemCaseSensitive(run->json, "before");
    const cJSON *after = cJSON_GetObjectItemCaseSensitive(run->json, "after");
    const double accuracy = number_of(run->json, "accuracy");
    if (isfinite(accuracy)) {
        cli_text_add(
            out,
            "<section><h2>Accuracy</h2>\n<p>The share of %.0f validation images that are given their "
            "own class.</p>\n<div class=\"tiles\">",
            number_of(run->json, "count"));
        tile(out, "Accuracy", "%.4f", accuracy, NAN);
        cli_text_add(out, "</div></section>\n");
    } else if (after != NULL) {
        cli_text_add(
            out,
            "<section><h2>Retrieval figures</h2>\n<p>On %.0f images of the validation set, by cosine "
            "distance.</p>\n<div class=\"tiles\">",
            number_of(after, "count"));
        for (size_t i = 0; i < CLI_COUNTOF(keys); i++)
            tile(out, names[i], "%.4f", number_of(after, keys[i]), number_of(before, keys[i]));
        cli_text_add(out, "</div></section>\n");
    } else {
        cli_text_add(out, "<p>No --val was given: %s.</p>\n",
                     w->classifies ? "accuracy, distances and maps were not measured"
                                   : "retrieval, distances and maps were not measured");
    }
}

static void head(cli_text *out, const cli_run *run, const cli_watch *w)
{
    const time_t now = time(NULL);
    struct tm local;
    char when[64] = "";
    if (localtime_r(&now, &local) != NULL) strftime(when, sizeof when, "%Y-%m-%d %H:%M", &local);
    cli_text_add(out,
                 "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                 "content=\"width=device-width,initial-scale=1\"><title>trine %s: ",
                 run->command->syntax.name);
    cli_text_escape(out, trine_resnet_arch(run->net));
    cli_text_add(out, "</title>\n<link rel=\"icon\" href=\"data:,\"><style>");
    cli_text_append(out, style, sizeof style - 1);
    for (int i = 0; i < CLI_CHART_COLOURS; i++)
        cli_text_add(out,
                     ".s%d{stroke:var(--c%d)}.area.s%d,.f%d{fill:var(--c%d)}.k%d{background:var(--c%d)}\n", i,
                     i, i, i, i, i, i);
    cli_text_add(out, "</style></head><body>\n<header><h1>%s ", w->classifies ? "Training" : "Fine-tuning");
    cli_text_escape(out, trine_resnet_arch(run->net));
    cli_text_add(out, "</h1><p>%s, trine %s, %zu step%s</p></header>\n", when, trine_version(), w->count,
                 w->count == 1 ? "" : "s");
    if (w->collapse.sign != TRINE_COLLAPSE_NONE) {
        cli_text_add(out, "<p class=\"warn\">");
        cli_text_escape(out, w->collapse.text);
        cli_text_add(out, "%s</p>\n", w->stop ? ". The run was stopped." : "");
    }
}

/* ---- curves ---- */

static double loss_of(const trine_step_record *r)
{
    return (double)r->loss;
}
static double active_of(const trine_step_record *r)
{
    return (double)r->active_fraction;
}
static double ap_of(const trine_step_record *r)
{
    return (double)r->d_ap;
}
static double an_of(const trine_step_record *r)
{
    return (double)r->d_an;
}
static double norm_of(const trine_step_record *r)
{
    return (double)r->embedding_norm;
}
static double accuracy_of(const trine_step_record *r)
{
    return (double)r->accuracy;
}
static double temperature_of(const trine_step_record *r)
{
    return (double)r->temperature;
}
static double lr_of(const trine_step_record *r)
{
    return r->lr;
}

/* Means over `bucket` steps, so that long runs give pages of the same size. */
static size_t reduce(const cli_watch *w, size_t bucket, double (*value)(const trine_step_record *), double *y)
{
    size_t points = 0;
    for (size_t from = 0; from < w->count; from += bucket) {
        const size_t to = from + bucket < w->count ? from + bucket : w->count;
        double sum = 0;
        for (size_t i = from; i < to; i++) sum += value(&w->records[i]);
        y[points++] = sum / (double)(to - from);
    }
    return points;
}

/* Means over the neighbours, a tenth of the run in all, fewer towards its ends. */
static void smooth(const double *y, size_t count, double *out)
{
    const size_t reach = count / 20;
    for (size_t i = 0; i < count; i++) {
        const size_t from = i > reach ? i - reach : 0, to = i + reach < count ? i + reach : count - 1;
        double sum = 0;
        for (size_t k = from; k <= to; k++) sum += y[k];
        out[i] = sum / (double)(to - from + 1);
    }
}

static double step_of(const trine_step_record *r)
{
    return r->step;
}

/* Which runs a chart is of. */
enum { MINED = 1, CLASSES = 2, LEARNT_TEMPERATURE = 4 };
static const struct chart {
    const char *title, *names[2];
    double (*value[2])(const trine_step_record *);
    int of;
    int steady; /* 1: does not scatter */
} charts[] = {{"Loss", {"loss"}, {loss_of}, MINED | CLASSES, 0},
              {"Accuracy on the batches", {"accuracy"}, {accuracy_of}, CLASSES, 0},
              {"Distances to positives and negatives", {"d_ap", "d_an"}, {ap_of, an_of}, MINED, 0},
              {"Active fraction", {"active"}, {active_of}, MINED, 0},
              {"Norm of the embeddings, before normalisation", {"norm"}, {norm_of}, MINED, 0},
              {"Norm of the logits", {"norm"}, {norm_of}, CLASSES, 0},
              {"Temperature", {"temperature"}, {temperature_of}, LEARNT_TEMPERATURE, 1},
              {"Learning rate", {"lr"}, {lr_of}, MINED | CLASSES, 1}};

static void curves(cli_text *out, const cli_watch *w)
{
    const int kinds = (w->classifies ? CLASSES : MINED) | (w->learns_temperature ? LEARNT_TEMPERATURE : 0);
    const size_t bucket = (w->count + MOST_POINTS - 1) / MOST_POINTS;
    const double mark = w->collapse.sign != TRINE_COLLAPSE_NONE ? w->collapse.record.step : NAN;
    double *memory = malloc(5 * MOST_POINTS * sizeof *memory);
    if (memory == NULL || w->count == 0) {
        free(memory);
        return;
    }
    cli_text_add(out, "<section><h2>Steps</h2>\n");
    cli_text_add(out, "<p>Strong lines are means over a tenth of the run.");
    if (bucket > 1) cli_text_add(out, " Each point is the mean of %zu steps.", bucket);
    cli_text_add(out, "</p>\n");
    cli_text_add(out, "<div class=\"charts\">\n");
    for (size_t c = 0; c < CLI_COUNTOF(charts); c++) {
        cli_series series[2];
        size_t lines = 0;
        if ((charts[c].of & kinds) == 0) continue;
        const size_t points = reduce(w, bucket, step_of, memory);
        for (; lines < 2 && charts[c].value[lines] != NULL; lines++) {
            double *y = memory + (lines + 1) * MOST_POINTS, *mean = y + 2 * MOST_POINTS;
            reduce(w, bucket, charts[c].value[lines], y);
            smooth(y, points, mean);
            series[lines] = (cli_series){charts[c].names[lines], y, charts[c].steady ? NULL : mean};
        }
        cli_chart_lines(out, charts[c].title, "step", memory, points, series, lines, mark, "collapse");
    }
    cli_text_add(out, "</div></section>\n");
    free(memory);
}

static void batchnorm(cli_text *out, const cli_run *run, const cli_watch *w)
{
    if (w->layers == 0 || w->row_count == 0) return;
    double *memory = malloc(2 * w->row_count * sizeof *memory);
    const char **names = malloc((size_t)w->layers * sizeof *names);
    if (memory != NULL && names != NULL) {
        for (size_t i = 0; i < w->row_count; i++) {
            memory[i] = w->rows[i].step;
            memory[w->row_count + i] = w->rows[i].mean;
        }
        for (int i = 0; i < w->layers; i++) {
            trine_bn_info info;
            names[i] = trine_resnet_bn(run->net, i, &info) == TRINE_OK ? info.name : "";
        }
        const cli_series series = {"mean over the layers", memory + w->row_count, NULL};
        cli_text_add(
            out,
            "<section><h2>BatchNorm</h2>\n<p>How far the running means have moved since the first step, as "
            "a share of the running standard deviation then.</p>\n<div class=\"charts\">\n");
        cli_chart_lines(out, "Mean over the layers", "step", memory, w->row_count, &series, 1, NAN, NULL);
        cli_chart_bars(out, "At the end, by layer", names, w->rows[w->row_count - 1].moved, w->layers);
        cli_text_add(out, "</div></section>\n");
    }
    free(memory);
    free(names);
}

/* ---- settings and times ---- */

static void settings(cli_text *out, const cli_run *run, const cli_watch *w, const cli_report *r)
{
    cli_text_add(out, "<section><h2>Settings</h2>\n<pre>trine %s", run->command->syntax.name);
    for (int i = 0; i < run->argc; i++) {
        const int quote = run->argv[i][0] == '\0' || strpbrk(run->argv[i], " \t\n*?!$&|;<>()\"\\`") != NULL;
        cli_text_add(out, quote ? " &#39;" : " ");
        cli_text_escape(out, run->argv[i]);
        cli_text_add(out, quote ? "&#39;" : "");
    }
    cli_text_add(out, "</pre>\n<pre>");
    if (run->talked != NULL && run->talked->text != NULL) cli_text_escape(out, run->talked->text);
    cli_text_add(out, "</pre></section>\n<section><h2>Times</h2>\n<div class=\"table\"><table>\n");
    cli_text_add(out, "<tr><td>steps</td><td>%.2f s</td></tr>\n", w->steps_seconds);
    if (w->steps_seconds > 0)
        cli_text_add(out, "<tr><td>steps a second</td><td>%.2f</td></tr>\n",
                     (double)(w->count - w->first) / w->steps_seconds);
    if (w->steps_seconds > 0 && r->batch > 0)
        cli_text_add(out, "<tr><td>images a second</td><td>%.1f</td></tr>\n",
                     (double)(w->count - w->first) * r->batch / w->steps_seconds);
    cli_text_add(out, "<tr><td>evaluation</td><td>%.2f s</td></tr>\n<tr><td>", w->evaluate_seconds);
    if (w->first > 0)
        cli_text_add(out, "since it was resumed after step %zu", w->first);
    else
        cli_text_add(out, "whole run");
    cli_text_add(out, "</td><td>%.2f s</td></tr>\n</table></div></section>\n", cli_seconds() - run->start);
}

int cli_report_write(cli_run *run, const cli_watch *watch, const cli_report *report)
{
    const char *path = run->v.report;
    cli_text out = {0};
    int code = CLI_OK;
    if (path == NULL) return CLI_OK;
    head(&out, run, watch);
    figures(&out, run, watch);
    curves(&out, watch);
    cli_report_views(&out, watch, report);
    batchnorm(&out, run, watch);
    settings(&out, run, watch, report);
    cli_text_add(&out, "</body></html>\n");
    if (out.failed)
        code = cli_error(CLI_FAILED, "--report %s: out of memory", path);
    else if (cli_write_file(path, out.text, out.used) != 0)
        code = cli_error(CLI_FAILED, "--report %s: cannot be written: %s", path, strerror(errno));
    else
        cli_print(run, "report %s\n", path);
    cli_text_free(&out);
    return code;
}
