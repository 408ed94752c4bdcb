/* SPDX-License-Identifier: MIT */
/* Records, collapse and drift of a run. */
#include "cli_watch.h"

#include "cli_events.h"

#include <math.h>
#include <stdlib.h>

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

static int read_statistics(cli_watch *w, int layer, float *mean, float *var)
{
    return trine_resnet_bn_read(w->run->net, w->run->stream, layer, mean, var) == TRINE_OK ? 0 : -1;
}

static int channels_of(const cli_watch *w, int layer)
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
        const int channels = channels_of(w, i);
        w->means[i] = calloc((size_t)channels + 1, sizeof(float));
        w->spreads[i] = calloc((size_t)channels + 1, sizeof(float));
        if (w->means[i] == NULL || w->spreads[i] == NULL) return cli_error(CLI_FAILED, "out of memory");
        if (channels > 0 && read_statistics(w, i, w->means[i], w->spreads[i]) != 0)
            return cli_error(CLI_FAILED, "%s", trine_last_error());
        for (int c = 0; c < channels; c++) w->spreads[i][c] = sqrtf(w->spreads[i][c]);
    }
    return CLI_OK;
}

int cli_watch_open(cli_run *run, const trine_trainer_options *options, int from, cli_watch *watch)
{
    int code = CLI_OK;
    *watch = (cli_watch){.run = run, .events = watch->events};
    CLI_TRY(trine_collapse_guard_create(options, run->net, &watch->guard));
    CLI_RUN(keep_statistics(watch));
    cli_watch_drift(watch, from);
cleanup:
    return code;
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

int cli_watch_step(cli_watch *w, const trine_step_record *record)
{
    void *records = w->records;
    if (grow(&records, &w->capacity, w->count, sizeof *w->records)) {
        w->records = records;
        w->records[w->count++] = *record;
    }
    cli_events_step(w->events, record);
    if (trine_collapse_guard_step(w->guard, record, &w->collapse)) {
        w->stop = w->run->v.on_collapse == 1;
        if (!w->stop) cli_talk(w->run, "warning: %s", w->collapse.text);
    }
    return w->stop;
}

/* |now - before| / |spread before| of one layer; NaN if it cannot be read. */
static double moved(cli_watch *w, int layer)
{
    const int channels = channels_of(w, layer);
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

double cli_watch_drift(cli_watch *w, int step)
{
    if (w->row_count > 0 && w->rows[w->row_count - 1].step == step) return w->rows[w->row_count - 1].mean;
    void *rows = w->rows;
    double *values = calloc((size_t)w->layers + 1, sizeof *values), sum = 0;
    if (values == NULL || !grow(&rows, &w->row_capacity, w->row_count, sizeof *w->rows)) {
        free(values);
        return -1;
    }
    w->rows = rows;
    for (int i = 0; i < w->layers; i++) sum += values[i] = moved(w, i);
    const cli_bn_row row = {step, values, w->layers > 0 ? sum / w->layers : 0};
    w->rows[w->row_count++] = row;
    cli_events_drift(w->events, w->run, &row, w->layers);
    return row.mean;
}

void cli_watch_json(const cli_watch *w)
{
    const trine_collapse *c = &w->collapse;
    cJSON *rows = cJSON_AddArrayToObject(w->run->json, "bn_drift");
    for (size_t i = 0; i < w->row_count; i++) {
        cJSON *row = cJSON_CreateObject();
        cli_set(row, "step", w->rows[i].step);
        cli_set(row, "mean", w->rows[i].mean);
        cJSON_AddItemToObject(row, "layers", cJSON_CreateDoubleArray(w->rows[i].moved, w->layers));
        cJSON_AddItemToArray(rows, row);
    }
    if (c->sign == TRINE_COLLAPSE_NONE) {
        cJSON_AddNullToObject(w->run->json, "collapse");
        return;
    }
    cJSON *object = cJSON_AddObjectToObject(w->run->json, "collapse");
    cli_set(object, "step", c->record.step);
    cli_set_text(object, "sign", trine_collapse_sign_name(c->sign));
    cli_set(object, "loss", (double)c->record.loss);
    cli_set(object, "d_ap", (double)c->record.d_ap);
    cli_set(object, "d_an", (double)c->record.d_an);
    cli_set(object, "embedding_norm", (double)c->record.embedding_norm);
    cli_set(object, "active_fraction", (double)c->record.active_fraction);
    cli_set(object, "first_distance", (double)c->first_distance);
    cli_set(object, "first_norm", (double)c->first_norm);
    cli_set_text(object, "text", c->text);
    cJSON_AddBoolToObject(object, "stopped", w->stop);
}

int cli_watch_verdict(const cli_watch *w)
{
    return w->stop ? cli_error(CLI_CHECK, "%s", w->collapse.text) : CLI_OK;
}

void cli_watch_close(cli_watch *w)
{
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
    *w = (cli_watch){0};
}
