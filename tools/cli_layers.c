/* SPDX-License-Identifier: MIT */
#include "cli_layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIRECTIONS = 3 };

static const char *const direction_names[DIRECTIONS] = {"forward", "backward_data", "backward_weights"};

/* Convolutions of one shape, algorithm for algorithm. */
typedef struct shape_row {
    trine_session_conv conv; /* the first one */
    int count;
    double ms[DIRECTIONS], prepare_ms;
} shape_row;

typedef struct report {
    cli_run *run;
    shape_row *shapes;
    size_t shape_count;
    const trine_profile_row *rows;
    size_t row_count;
    int batch, runs;
    trine_device_speed speed;
} report;

static int same_algorithm(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static int same_shape(const trine_session_conv *a, const trine_session_conv *b)
{
    int same = a->in_channels == b->in_channels && a->out_channels == b->out_channels &&
               a->kernel == b->kernel && a->stride == b->stride && a->groups == b->groups && a->h == b->h &&
               a->w == b->w;
    for (int d = 0; d < DIRECTIONS; d++) same = same && same_algorithm(a->algorithm[d], b->algorithm[d]);
    return same;
}

/* "... forward" of a row's name; -1: none of the directions, -2: "prepare". */
static int direction_of(const trine_profile_row *row)
{
    const char *space = strchr(row->name, ' ');
    if (strncmp(row->name, "conv2d_", 7) != 0 || space == NULL) return -1;
    for (int d = 0; d < DIRECTIONS; d++)
        if (strcmp(space + 1, direction_names[d]) == 0) return d;
    return strcmp(space + 1, "prepare") == 0 ? -2 : -1;
}

static void add_convolution(report *r, const trine_session_conv *conv)
{
    size_t at = 0;
    while (at < r->shape_count && !same_shape(&r->shapes[at].conv, conv)) at++;
    if (at == r->shape_count) r->shapes[r->shape_count++] = (shape_row){.conv = *conv};
    shape_row *row = &r->shapes[at];
    row->count++;
    for (size_t i = 0; i < r->row_count; i++) {
        const int direction = direction_of(&r->rows[i]);
        if (direction == -1 || strcmp(r->rows[i].scope, conv->name) != 0) continue;
        if (direction == -2)
            row->prepare_ms += r->rows[i].ms / r->runs;
        else
            row->ms[direction] += r->rows[i].ms / r->runs;
    }
}

static void print_direction(const report *r, const shape_row *row, int d, double *flops, double *weighted)
{
    const trine_session_conv *c = &row->conv;
    const double work = 2 * c->macs * r->batch * row->count,
                 rate = row->ms[d] > 0 ? work / row->ms[d] * 1e-6 : 0;
    const char *algorithm =
        strncmp(c->algorithm[d], "conv2d_", 7) == 0 ? c->algorithm[d] + 7 : c->algorithm[d];
    char size[40], groups[16] = "";
    if (c->groups > 1) snprintf(groups, sizeof groups, "/%d", c->groups);
    snprintf(size, sizeof size, "%dx %d>%d%s %dx%d%s @%dx%d", row->count, c->in_channels, c->out_channels,
             groups, c->kernel, c->kernel, c->stride > 1 ? " s2" : "", c->w, c->h);
    cli_print(r->run, "%-29s %-9s %-9s %8.3f %7.1f %5.0f%%\n", size,
              d == 0   ? "forward"
              : d == 1 ? "data"
                       : "weights",
              algorithm, row->ms[d], rate, 100 * rate / r->speed.gflops);
    *flops += work;
    *weighted += row->ms[d];
    cJSON *object = cJSON_CreateObject();
    cli_set_text(object, "name", c->name);
    cli_set(object, "count", row->count);
    cli_set_text(object, "direction", direction_names[d]);
    cli_set_text(object, "algorithm", c->algorithm[d]);
    cli_set(object, "in_channels", c->in_channels);
    cli_set(object, "out_channels", c->out_channels);
    cli_set(object, "kernel", c->kernel);
    cli_set(object, "stride", c->stride);
    cli_set(object, "groups", c->groups);
    cli_set(object, "h", c->h);
    cli_set(object, "w", c->w);
    cli_set(object, "ms", row->ms[d]);
    cli_set(object, "gflops", rate);
    cli_set(object, "share_of_peak", rate / r->speed.gflops);
    cJSON_AddItemToArray(cJSON_GetObjectItem(r->run->json, "convolutions"), object);
}

static void print_convolutions(report *r)
{
    cJSON *totals = cJSON_AddObjectToObject(r->run->json, "convolution_share_of_peak");
    double prepare = 0;
    cJSON_AddArrayToObject(r->run->json, "convolutions");
    cli_print(r->run, "\n%-29s %-9s %-9s %8s %7s %6s\n", "convolutions", "direction", "algorithm", "ms",
              "GFLOP/s", "peak");
    for (int d = 0; d < DIRECTIONS; d++) {
        double flops = 0, ms = 0;
        for (size_t i = 0; i < r->shape_count; i++)
            if (r->shapes[i].conv.algorithm[d] != NULL) print_direction(r, &r->shapes[i], d, &flops, &ms);
        if (ms == 0) continue;
        const double share = flops / ms * 1e-6 / r->speed.gflops;
        cli_print(r->run, "%-29s %-9s %-9s %8.3f %7.1f %5.0f%%\n", "all",
                  d == 0   ? "forward"
                  : d == 1 ? "data"
                           : "weights",
                  "", ms, flops / ms * 1e-6, 100 * share);
        cli_set(totals, direction_names[d], share);
    }
    for (size_t i = 0; i < r->shape_count; i++) prepare += r->shapes[i].prepare_ms;
    cli_print(r->run, "%-29s %-9s %-9s %8.3f\n", "weights packed, transformed", "", "", prepare);
    cli_set(r->run->json, "prepare_ms", prepare);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const trine_profile_row *)a)->name, ((const trine_profile_row *)b)->name);
}

/* The rest by kernel, whatever the layer. */
static void print_others(report *r, trine_profile_row *rows)
{
    size_t count = 0;
    cJSON *array = cJSON_AddArrayToObject(r->run->json, "others");
    for (size_t i = 0; i < r->row_count; i++)
        if (direction_of(&r->rows[i]) == -1) rows[count++] = r->rows[i];
    qsort(rows, count, sizeof *rows, by_name);
    cli_print(r->run, "\n%-39s %8s %8s %7s %6s\n", "other launches", "a step", "ms", "GB/s", "stream");
    for (size_t i = 0; i < count;) {
        trine_profile_row sum = rows[i++];
        for (; i < count && by_name(&sum, &rows[i]) == 0; i++) {
            sum.launches += rows[i].launches;
            sum.ms += rows[i].ms;
            sum.bytes += rows[i].bytes;
        }
        const double rate = sum.ms > 0 ? sum.bytes / sum.ms * 1e-6 : 0;
        cli_print(r->run, "%-39s %8.0f %8.3f %7.1f %5.0f%%\n", sum.name, (double)sum.launches / r->runs,
                  sum.ms / r->runs, rate, 100 * rate / r->speed.gbps);
        cJSON *object = cJSON_CreateObject();
        cli_set_text(object, "name", sum.name);
        cli_set(object, "launches", (double)sum.launches / r->runs);
        cli_set(object, "ms", sum.ms / r->runs);
        cli_set(object, "gbps", rate);
        cJSON_AddItemToArray(array, object);
    }
}

/* The plain profile, for scripts. */
static double set_rows(const report *r)
{
    cJSON *array = cJSON_AddArrayToObject(r->run->json, "layers");
    double all = 0;
    for (size_t i = 0; i < r->row_count; i++) {
        const trine_profile_row *row = &r->rows[i];
        cJSON *object = cJSON_CreateObject();
        cli_set_text(object, "name", row->name);
        cli_set_text(object, "scope", row->scope);
        cli_set(object, "launches", (double)row->launches / r->runs);
        cli_set(object, "ms", row->ms / r->runs);
        cJSON_AddItemToArray(array, object);
        all += row->ms / r->runs;
    }
    return all;
}

int cli_print_layers(cli_run *run, const trine_session *session, int batch, const trine_profile_row *rows,
                     size_t count, int runs, double step_ms)
{
    const int units = trine_resnet_bn_count(run->net); /* one convolution each */
    report r = {.run = run, .rows = rows, .row_count = count, .batch = batch, .runs = runs};
    trine_profile_row *scratch = NULL;
    trine_session_conv conv;
    int code = CLI_OK;
    CLI_TRY(trine_device_measure(run->context, run->stream, &r.speed));
    r.shapes = calloc((size_t)units, sizeof *r.shapes);
    scratch = malloc((count > 0 ? count : 1) * sizeof *scratch);
    if (r.shapes == NULL || scratch == NULL) {
        code = cli_error(CLI_FAILED, "out of memory");
        goto cleanup;
    }
    for (int i = 0; i < units; i++)
        if (trine_session_convolution(session, i, &conv)) add_convolution(&r, &conv);
    print_convolutions(&r);
    print_others(&r, scratch);
    const double all = set_rows(&r), outside = step_ms - all;
    cli_print(run, "\ndevice: %.1f GFLOP/s of multiply-adds, %.1f GB/s of y + x, %.1f us a launch\n",
              r.speed.gflops, r.speed.gbps, r.speed.launch_us);
    cli_print(run, "step: %.3f ms, %.3f ms in kernels, %.3f ms (%.1f %%) outside\n", step_ms, all, outside,
              100 * outside / step_ms);
    cJSON *speed = cJSON_AddObjectToObject(run->json, "device_speed");
    cli_set(speed, "gflops", r.speed.gflops);
    cli_set(speed, "gbps", r.speed.gbps);
    cli_set(speed, "launch_us", r.speed.launch_us);
    cli_set(run->json, "outside_kernels_ms", outside);
cleanup:
    free(r.shapes);
    free(scratch);
    return code;
}
