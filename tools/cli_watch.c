/* SPDX-License-Identifier: MIT */
/* Figures, collapse and drift of a run. */
#include "cli_watch.h"

#include "cli_events.h"
#include "cli_history.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINES = 20 }; /* of figures in a run */

static const cli_option watch_options[] = {
    {"on-collapse", CLI_CHOICE, CLI_AT(on_collapse), "warn|stop", "warn", 0, 0,
     "when embeddings fall together or the loss stands where nothing is learned: say why and what to change; "
     "stop also "
     "saves, ends the run, and exits with 5"},
    {"report", CLI_TEXT, CLI_AT(report), "FILE.html", NULL, 0, 0,
     "a page on the run that holds all it shows: curves, distances and retrieval before and after, a map of "
     "the "
     "embeddings, BatchNorm, settings, times"},
    {"log-dir", CLI_TEXT, CLI_AT(log_dir), "DIR", NULL, 0, 0,
     "event files for TensorBoard: the figures of steps and BatchNorm, histograms of distances, embeddings "
     "for its "
     "projector"},
};
const cli_section cli_watch_section = CLI_SECTION("Seeing", watch_options);

/* ---- BatchNorm ---- */

static int read_statistics(cli_watch *w, int layer, float *mean, float *var)
{
    return trine_resnet_bn_read(w->run->net, w->run->stream, layer, mean, var) == TRINE_OK ? 0 : -1;
}

int cli_watch_channels(const cli_watch *w, int layer)
{
    trine_bn_info info;
    return trine_resnet_bn(w->run->net, layer, &info) == TRINE_OK && info.tracked ? info.channels : 0;
}

/* Where the statistics are when the run begins. */
static int keep_statistics(cli_watch *w)
{
    w->layers = trine_resnet_bn_count(w->run->net);
    w->means = calloc((size_t)w->layers + 1, sizeof *w->means);
    w->spreads = calloc((size_t)w->layers + 1, sizeof *w->spreads);
    if (w->means == NULL || w->spreads == NULL) return cli_error(CLI_FAILED, "out of memory");
    for (int i = 0; i < w->layers; i++) {
        const int channels = cli_watch_channels(w, i);
        w->means[i] = calloc((size_t)channels + 1, sizeof(float));
        w->spreads[i] = calloc((size_t)channels + 1, sizeof(float));
        if (w->means[i] == NULL || w->spreads[i] == NULL) return cli_error(CLI_FAILED, "out of memory");
        if (channels > 0 && read_statistics(w, i, w->means[i], w->spreads[i]) != 0)
            return cli_error(CLI_FAILED, "%s", trine_last_error());
        for (int c = 0; c < channels; c++) w->spreads[i][c] = sqrtf(w->spreads[i][c]);
    }
    return CLI_OK;
}

/* Room for one more; 0 if there is no memory, and the row is then not kept. */
static int grow(void **items, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity) return 1;
    const size_t wanted = *capacity > 0 ? 2 * *capacity : 256;
    void *more = realloc(*items, wanted * size);
    if (more == NULL) return 0;
    *items = more;
    *capacity = wanted;
    return 1;
}

/* |now - before| / |spread before| of one layer; NaN if it cannot be read. */
static double moved(cli_watch *w, int layer)
{
    const int channels = cli_watch_channels(w, layer);
    if (channels == 0) return 0;
    float *now = calloc(2 * (size_t)channels, sizeof *now);
    double way = 0, size = 0;
    if (now == NULL || read_statistics(w, layer, now, now + channels) != 0) {
        free(now);
        return NAN;
    }
    for (int c = 0; c < channels; c++) {
        const double difference = (double)now[c] - (double)w->means[layer][c];
        way += difference * difference;
        size += (double)w->spreads[layer][c] * (double)w->spreads[layer][c];
    }
    free(now);
    return way > 0 ? sqrt(way / size) : 0;
}

int cli_watch_keep_row(cli_watch *w, const cli_bn_row *row)
{
    void *rows = w->rows;
    if (row->moved == NULL || !grow(&rows, &w->row_capacity, w->row_count, sizeof *w->rows)) {
        free(row->moved);
        return -1;
    }
    w->rows = rows;
    w->rows[w->row_count++] = *row;
    return 0;
}

/* Measure the drift after `step` steps, as the network is now; NAN: it cannot be. @return the mean over the layers */
static double measure_drift(cli_watch *w, int step)
{
    if (w->row_count > 0 && w->rows[w->row_count - 1].step == step) return w->rows[w->row_count - 1].mean;
    cli_bn_row row = {step, calloc((size_t)w->layers + 1, sizeof *row.moved), 0};
    for (int i = 0; i < w->layers && row.moved != NULL; i++) row.mean += row.moved[i] = moved(w, i);
    if (w->layers > 0) row.mean /= w->layers;
    if (cli_watch_keep_row(w, &row) != 0) return NAN;
    cli_events_drift(w->events, w->run, &row, w->layers);
    return row.mean;
}

/* ---- the run ---- */

int cli_watch_open(cli_run *run, const trine_trainer_options *options, const trine_dataset *data,
                   const trine_weights *history, int from, cli_watch *watch)
{
    int code = CLI_OK;
    *watch = (cli_watch){.run = run,
                         .classifies = options->objective == TRINE_OBJECTIVE_CLASSIFY,
                         .learns_temperature = options->triplet.learn_temperature};
    CLI_TRY(trine_collapse_guard_create(options, run->net, &watch->guard));
    if (watch->classifies && data != NULL) trine_collapse_guard_set_classes(watch->guard, data);
    CLI_RUN(keep_statistics(watch));
    if (history != NULL) CLI_RUN(cli_history_load(watch, history));
    for (size_t i = 0; i < watch->count; i++) /* what it found has been told */
        trine_collapse_guard_step(watch->guard, &watch->records[i], &watch->collapse);
    watch->first = watch->count;
    CLI_RUN(cli_events_open(watch, history));
    measure_drift(watch, from);
cleanup:
    return code;
}

void cli_watch_begin(cli_watch *w, const char *label)
{
    w->steps = cJSON_AddArrayToObject(w->run->json, "steps");
    w->began = cli_seconds();
    cli_progress_begin(&w->progress, label, "steps", w->run->v.quiet);
}

int cli_watch_is_due(int step, int steps)
{
    const int every = steps >= LINES ? steps / LINES : 1;
    return step == 1 || step == steps || step % every == 0;
}

int cli_watch_keep(cli_watch *w, const trine_step_record *record)
{
    void *records = w->records;
    if (!grow(&records, &w->capacity, w->count, sizeof *w->records)) return -1;
    w->records = records;
    w->records[w->count++] = *record;
    return 0;
}

static void add_json(const cli_watch *w, const trine_step_record *r)
{
    cJSON *row = cJSON_CreateObject();
    cli_set(row, "step", r->step);
    cli_set(row, "loss", (double)r->loss);
    if (w->classifies) {
        cli_set(row, "accuracy", (double)r->accuracy);
    } else {
        cli_set(row, "active_fraction", (double)r->active_fraction);
        cli_set(row, "d_ap", (double)r->d_ap);
        cli_set(row, "d_an", (double)r->d_an);
    }
    cli_set(row, "embedding_norm", (double)r->embedding_norm);
    cli_set(row, "lr", r->lr);
    if (w->learns_temperature) cli_set(row, "temperature", (double)r->temperature);
    cJSON_AddItemToArray(w->steps, row);
}

static void print_step(cli_watch *w, const trine_step_record *r)
{
    const double drift = measure_drift(w, r->step);
    char temperature[32] = "";
    if (w->learns_temperature)
        snprintf(temperature, sizeof temperature, "temperature %.4f  ", (double)r->temperature);
    if (w->classifies)
        cli_print(w->run, "step %d  loss %.4f  accuracy %.4f  norm %.3f  bn %.4f\n", r->step, (double)r->loss,
                  (double)r->accuracy, (double)r->embedding_norm, drift);
    else
        cli_print(w->run, "step %d  loss %.4f  active %.2f  d_ap %.4f  d_an %.4f  norm %.3f  %sbn %.4f\n",
                  r->step, (double)r->loss, (double)r->active_fraction, (double)r->d_ap, (double)r->d_an,
                  (double)r->embedding_norm, temperature, drift);
}

int cli_watch_step(cli_watch *w, const trine_step_record *r, int steps)
{
    char note[48];
    add_json(w, r);
    if (!isfinite(r->loss)) {
        if (w->failed_step == 0) w->failed_step = r->step;
        return 1;
    }
    cli_watch_keep(w, r);
    cli_events_step(w->events, w, r);
    if (cli_watch_is_due(r->step, steps)) print_step(w, r);
    if (w->classifies)
        snprintf(note, sizeof note, "loss %.4f  accuracy %.2f", (double)r->loss, (double)r->accuracy);
    else
        snprintf(note, sizeof note, "loss %.4f  active %.2f", (double)r->loss, (double)r->active_fraction);
    cli_progress_update(&w->progress, (size_t)r->step, (size_t)steps, note);
    if (trine_collapse_guard_step(w->guard, r, &w->collapse)) {
        w->stop = w->run->v.on_collapse == 1;
        if (!w->stop) cli_talk(w->run, "warning: %s", w->collapse.text);
    }
    return w->stop;
}

static void add_collapse(const cli_watch *w)
{
    const trine_collapse *c = &w->collapse;
    if (c->sign == TRINE_COLLAPSE_NONE) {
        cJSON_AddNullToObject(w->run->json, "collapse");
        return;
    }
    cJSON *object = cJSON_AddObjectToObject(w->run->json, "collapse");
    cli_set(object, "step", c->record.step);
    cli_set_text(object, "sign", trine_collapse_sign_name(c->sign));
    cli_set(object, "loss", (double)c->record.loss);
    if (w->classifies) {
        cli_set(object, "accuracy", (double)c->record.accuracy);
    } else {
        cli_set(object, "d_ap", (double)c->record.d_ap);
        cli_set(object, "d_an", (double)c->record.d_an);
        cli_set(object, "active_fraction", (double)c->record.active_fraction);
        cli_set(object, "first_distance", (double)c->first_distance);
    }
    cli_set(object, "embedding_norm", (double)c->record.embedding_norm);
    cli_set(object, "first_norm", (double)c->first_norm);
    cli_set_text(object, "text", c->text);
    cJSON_AddBoolToObject(object, "stopped", w->stop);
}

void cli_watch_end(cli_watch *w)
{
    cli_progress_end(&w->progress);
    w->steps_seconds += cli_seconds() - w->began;
    w->began = cli_seconds();
    cJSON *rows = cJSON_AddArrayToObject(w->run->json, "bn_drift");
    for (size_t i = 0; i < w->row_count; i++) {
        cJSON *row = cJSON_CreateObject();
        cli_set(row, "step", w->rows[i].step);
        cli_set(row, "mean", w->rows[i].mean);
        cJSON_AddItemToObject(row, "layers", cJSON_CreateDoubleArray(w->rows[i].moved, w->layers));
        cJSON_AddItemToArray(rows, row);
    }
    add_collapse(w);
}

int cli_watch_verdict(const cli_watch *w)
{
    return w->stop ? cli_error(CLI_CHECK, "%s", w->collapse.text) : CLI_OK;
}

void cli_watch_close(cli_watch *w)
{
    cli_progress_end(&w->progress);
    cli_events_close(&w->events);
    trine_collapse_guard_destroy(&w->guard);
    for (int i = 0; i < w->layers; i++) {
        if (w->means != NULL) free(w->means[i]);
        if (w->spreads != NULL) free(w->spreads[i]);
    }
    for (size_t i = 0; i < w->row_count; i++) free(w->rows[i].moved);
    free(w->means);
    free(w->spreads);
    free(w->rows);
    free(w->records);
    trine_vectors_free(&w->before);
    *w = (cli_watch){0};
}
