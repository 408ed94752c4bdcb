/* SPDX-License-Identifier: MIT */
/* What trine drift says about the passes: what moved, where it is heading, what stops it. */
#include "cli_drift.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS_SHOWN = 10, COLUMNS = 80 };

static void print_rows(cli_run *run, const trine_drift_report *report)
{
    cJSON *array = cJSON_AddArrayToObject(run->json, "rows");
    cli_print(run, "%5s  %14s  %14s  %10s\n", "pass", "embedding norm", "logit norm", "cosine");
    for (int i = 0; i < report->row_count; i++) {
        const trine_drift_row *row = &report->rows[i];
        cli_print(run, "%5d  %14.6f  %14.6f  %10.6f\n", row->step, row->embedding_norm, row->logit_norm,
                  row->cosine);
        cJSON *object = cJSON_CreateObject();
        cli_set(object, "step", row->step);
        cli_set(object, "embedding_norm", row->embedding_norm);
        cli_set(object, "logit_norm", row->logit_norm);
        cli_set(object, "cosine", row->cosine);
        cJSON_AddItemToArray(array, object);
    }
}

static void set_layers(cli_run *run, const trine_drift_report *report)
{
    cJSON *array = cJSON_AddArrayToObject(run->json, "layers");
    for (int i = 0; i < report->layer_count; i++) {
        const trine_drift_layer *layer = &report->layers[i];
        cJSON *object = cJSON_CreateObject();
        cli_set_text(object, "name", layer->name);
        cli_set_text(object, "policy", layer->policy);
        cli_set(object, "mean_moved", layer->mean_moved);
        cli_set(object, "var_moved", layer->var_moved);
        cli_set(object, "mean_distance", layer->mean_distance);
        cli_set(object, "var_distance", layer->var_distance);
        cli_set(object, "mean_distance_before", layer->mean_distance_before);
        cli_set(object, "var_distance_before", layer->var_distance_before);
        cli_set(object, "mean_remaining", layer->mean_remaining); /* NaN becomes null */
        cli_set(object, "passes_to_1_percent", layer->passes_to_1_percent);
        cli_set(object, "share", layer->share);
        cJSON_AddItemToArray(array, object);
    }
}

/* Not by `> 0`: NaN is what a variance that overflowed leaves. */
static int has_moved(const trine_drift_layer *layer)
{
    return !(layer->mean_moved == 0) || !(layer->var_moved == 0);
}

static int by_share(const void *a, const void *b)
{
    const trine_drift_layer *x = *(const trine_drift_layer *const *)a,
                            *y = *(const trine_drift_layer *const *)b;
    if (x->share != y->share) return x->share < y->share ? 1 : -1;
    return x < y ? -1 : x > y;
}

typedef struct cell {
    char text[16];
} cell;

/* At most six characters: four places after the point, fewer as the number grows; '-' for none. */
static cell figure(double value)
{
    cell c;
    const double size = fabs(value);
    if (isnan(value))
        snprintf(c.text, sizeof c.text, "-");
    else if (size >= 99999.5)
        snprintf(c.text, sizeof c.text, "%.0e", value);
    else
        snprintf(c.text, sizeof c.text, "%.*f",
                 size < 9.9999  ? 4
                 : size < 99.99 ? 3
                 : size < 999.9 ? 2
                                : 0,
                 value);
    return c;
}

static cell percent(double share)
{
    cell c = {"-"};
    if (!isnan(share)) snprintf(c.text, sizeof c.text, share < 0.9995 ? "%.1f%%" : "%.0f%%", 100 * share);
    return c;
}

static cell passes(double count)
{
    cell c = {"-"};
    if (!isnan(count)) snprintf(c.text, sizeof c.text, count < 99999.5 ? "%.0f" : "%.0e", count);
    return c;
}

static int print_table(cli_run *run, const trine_drift_report *report)
{
    const size_t count = (size_t)report->layer_count;
    const trine_drift_layer **order = malloc((count > 0 ? count : 1) * sizeof *order);
    if (order == NULL) return cli_error(CLI_FAILED, "out of memory");
    for (size_t i = 0; i < count; i++) order[i] = &report->layers[i];
    qsort(order, count, sizeof *order, by_share);
    cli_print(run, "%-21s %-10s %13s %13s %5s %6s %6s\n", "layer, by its share", "policy",
              "moved:", "to go:", "left", "passes", "share");
    cli_print(run, "%-21s %-10s %6s %6s %6s %6s %5s %6s\n", "", "", "mean", "var", "mean", "var", "",
              "to 1%");
    for (size_t i = 0; i < count && i < LAYERS_SHOWN; i++) {
        const trine_drift_layer *l = order[i];
        cli_print(run, "%-21s %-10s %6s %6s %6s %6s %5s %6s %6s\n", l->name, l->policy,
                  figure(l->mean_moved).text, figure(l->var_moved).text, figure(l->mean_distance).text,
                  figure(l->var_distance).text, percent(l->mean_remaining).text,
                  passes(l->passes_to_1_percent).text, percent(l->share).text);
    }
    if (count > LAYERS_SHOWN)
        cli_print(run, "... and %zu more layers, all of them with --json\n", count - LAYERS_SHOWN);
    free(order);
    return CLI_OK;
}

/* What the layers that move have in common: the batch they head for. */
static void print_heading(cli_run *run, const trine_drift_report *report)
{
    double least = INFINITY, most = 0, further = 0;
    int heading = 0;
    char left[64];
    for (int i = 0; i < report->layer_count; i++) {
        const trine_drift_layer *layer = &report->layers[i];
        if (isnan(layer->passes_to_1_percent)) continue;
        least = fmin(least, layer->mean_remaining);
        most = fmax(most, layer->mean_remaining);
        further = fmax(further, layer->passes_to_1_percent);
        heading++;
    }
    if (heading == 0) return;
    const double from = least < 5e-4 ? 0 : 100 * least, to = most < 5e-4 ? 0 : 100 * most;
    const int alike = to - from <= 0.01 * to;
    if (alike)
        snprintf(left, sizeof left, "%.3g %%", to);
    else
        snprintf(left, sizeof left, "%.3g to %.3g %%", from, to);
    if (further > 0)
        cli_print(run,
                  "Each heads for the statistics of this batch: %s of the way left,\n"
                  "%s%.0f more pass%s to 1 %%.\n",
                  left, alike ? "" : "at most ", further, further > 1 ? "es" : "");
    else
        cli_print(run, "Each has come to the statistics of this batch: %s of the way left.\n", left);
}

/* Layers none of whose parameters trains, and that moved. */
static int count_frozen(const cli_run *run, const trine_drift_report *report)
{
    int count = 0;
    for (int i = 0; i < report->layer_count; i++) {
        trine_bn_info info;
        if (trine_resnet_bn(run->net, i, &info) == TRINE_OK && info.frozen)
            count += has_moved(&report->layers[i]);
    }
    return count;
}

/* Names of layers hold nothing that a shell would expand between double quotes. */
void cli_print_policy(const cli_run *run, const char *bn)
{
    if (strlen(bn) + sizeof "    trine_resnet_set_bn(net, \"\");" <= COLUMNS) {
        cli_print(run, "    --bn %s\n    trine_resnet_set_bn(net, \"%s\");\n", bn, bn);
        return;
    }
    int column = (int)strlen("--bn \"");
    cli_print(run, "--bn \"");
    for (const char *item = bn; *item != '\0';) {
        const size_t name = strcspn(item, ",");
        const int length = (int)name + (item[name] == ',');
        if (column + length + 1 > COLUMNS) { /* the last column is the backslash's or the quotation mark's */
            cli_print(run, "\\\n");
            column = 0;
        }
        cli_print(run, "%.*s", length, item);
        column += length;
        item += length;
    }
    cli_print(run, "\"\n    trine_resnet_set_bn(net, spec); with the same text\n");
}

static void print_advice(cli_run *run, int frozen)
{
    cli_print(run, "\nWhat to do\n"
                   "  Normalise with the running statistics and leave them alone, in trine finetune\n"
                   "  or from C:\n");
    cli_print_policy(run, "eval");
    if (frozen > 0) {
        cli_print(run, "  The same in the layers that are frozen, and training mode in the others:\n");
        cli_print_policy(run, "auto");
    }
    cli_print(run, "  What else is said to help, tried on these images:\n    trine drift ... --remedies\n");
}

int cli_print_drift(cli_run *run, const trine_drift_report *report, int advice)
{
    int moved = 0, code;
    const int frozen = count_frozen(run, report);
    for (int i = 0; i < report->layer_count; i++) moved += has_moved(&report->layers[i]);
    print_rows(run, report);
    set_layers(run, report);
    cli_print(run, "\n%d of %d BatchNorm layers moved their running statistics\n", moved,
              report->layer_count);
    if (moved > 0 || run->v.passes == 0) {
        code = print_table(run, report);
        if (code != CLI_OK) return code;
        print_heading(run, report);
    }
    if (frozen > 0)
        cli_print(run, "%d of them %s frozen, and moved: freezing stops optimizer steps, nothing else.\n",
                  frozen, frozen == 1 ? "is" : "are");
    if (moved > 0 && advice) print_advice(run, frozen);
    return CLI_OK;
}
