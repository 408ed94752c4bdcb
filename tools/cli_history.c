/* SPDX-License-Identifier: MIT */
/* Steps, drift and the first vectors of a run, to and from its state. No times: equal runs have equal states. */
#include "cli_history.h"

#include "cli_events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_VALUES = 10, ROW_HEAD = 2, MOST_VECTORS = 1000, NAME_BYTES = 64, MARK_BYTES = 256 };

static int add(trine_weights *state, const char *name, trine_dtype dtype, int rank, const int64_t *dims,
               const void *data)
{
    char full[2 * NAME_BYTES];
    snprintf(full, sizeof full, CLI_HISTORY_PREFIX "%s", name);
    const trine_status status = trine_weights_add(state, full, dtype, rank, dims, data);
    return status == TRINE_OK ? CLI_OK : cli_fail(status);
}

static int no_memory(void)
{
    return cli_error(CLI_FAILED, "out of memory");
}

/* ---- saving ---- */

static int save_steps(const cli_watch *w, trine_weights *state)
{
    const int64_t dims[2] = {(int64_t)w->count, STEP_VALUES};
    double *values = malloc((w->count + 1) * STEP_VALUES * sizeof *values);
    if (values == NULL) return no_memory();
    for (size_t i = 0; i < w->count; i++) {
        const trine_step_record *r = &w->records[i];
        const double row[STEP_VALUES] = {r->step,
                                         r->epoch,
                                         (double)r->loss,
                                         (double)r->active_fraction,
                                         (double)r->d_ap,
                                         (double)r->d_an,
                                         (double)r->embedding_norm,
                                         (double)r->accuracy,
                                         r->lr,
                                         (double)r->temperature};
        memcpy(values + i * STEP_VALUES, row, sizeof row);
    }
    const int code = add(state, "steps", TRINE_F64, 2, dims, values);
    free(values);
    return code;
}

static int save_drift(const cli_watch *w, trine_weights *state)
{
    const size_t width = ROW_HEAD + (size_t)w->layers;
    const int64_t dims[2] = {(int64_t)w->row_count, (int64_t)width};
    double *values = malloc((w->row_count + 1) * width * sizeof *values);
    if (values == NULL) return no_memory();
    for (size_t i = 0; i < w->row_count; i++) {
        double *row = values + i * width;
        row[0] = w->rows[i].step;
        row[1] = w->rows[i].mean;
        memcpy(row + ROW_HEAD, w->rows[i].moved, (size_t)w->layers * sizeof *row);
    }
    int code = add(state, "drift", TRINE_F64, 2, dims, values);
    free(values);
    for (int i = 0; i < w->layers && code == CLI_OK; i++) {
        char name[NAME_BYTES];
        const int64_t channels = cli_watch_channels(w, i);
        snprintf(name, sizeof name, "mean.%d", i);
        code = add(state, name, TRINE_F32, 1, &channels, w->means[i]);
        snprintf(name, sizeof name, "spread.%d", i);
        if (code == CLI_OK) code = add(state, name, TRINE_F32, 1, &channels, w->spreads[i]);
    }
    return code;
}

/* As many as the report looks at, chosen as cli_view_open() does. */
static int save_before(const cli_watch *w, trine_weights *state)
{
    const trine_vectors *v = &w->before;
    const size_t count = v->count < MOST_VECTORS ? v->count : MOST_VECTORS, dim = (size_t)v->dim;
    const int64_t dims[2] = {(int64_t)count, (int64_t)dim};
    int code = CLI_OK;
    if (count == 0) return CLI_OK;
    float *rows = malloc(count * dim * sizeof *rows + 1);
    int32_t *numbers = malloc(2 * count * sizeof *numbers);
    if (rows == NULL || numbers == NULL) {
        code = no_memory();
        goto cleanup;
    }
    for (size_t i = 0; i < count; i++) {
        const size_t from = i * v->count / count;
        memcpy(rows + i * dim, v->data + from * dim, dim * sizeof *rows);
        numbers[i] = v->labels[from];
        numbers[count + i] = v->indices[from];
    }
    CLI_RUN(add(state, "before.rows", TRINE_F32, 2, dims, rows));
    CLI_RUN(add(state, "before.labels", TRINE_I32, 1, dims, numbers));
    CLI_RUN(add(state, "before.indices", TRINE_I32, 1, dims, numbers + count));
cleanup:
    free(rows);
    free(numbers);
    return code;
}

int cli_history_save(cli_watch *w, trine_weights *state)
{
    char mark[MARK_BYTES];
    int code = CLI_OK;
    CLI_RUN(save_steps(w, state));
    CLI_RUN(save_drift(w, state));
    CLI_RUN(save_before(w, state));
    if (cli_events_mark(w->events, mark, sizeof mark))
        CLI_TRY(trine_weights_set_metadata(state, CLI_HISTORY_PREFIX "events", mark));
cleanup:
    return code;
}

/* ---- and back ---- */

/* The tensor, whose first dimension may be any where rows is not NULL; NULL and a sentence if it is not as expected. */
static const void *find(const trine_weights *history, const char *name, trine_dtype dtype, size_t *rows,
                        int64_t width)
{
    const trine_weights_tensor *t = trine_weights_find(history, name);
    const int rank = rows != NULL && width > 0 ? 2 : 1;
    const int good = t != NULL && t->dtype == dtype && t->rank == rank &&
                     (rows != NULL || t->dims[0] == width) && (rank == 1 || t->dims[1] == width);
    if (good && rows != NULL) *rows = (size_t)t->dims[0];
    if (!good)
        cli_error(CLI_BAD_INPUT, "--resume: the saved run's '" CLI_HISTORY_PREFIX "%s' is %s", name,
                  t == NULL ? "missing" : "of another shape or element type");
    return good ? t->data : NULL;
}

static int load_steps(cli_watch *w, const trine_weights *history)
{
    size_t count = 0;
    const double *row = find(history, "steps", TRINE_F64, &count, STEP_VALUES);
    if (row == NULL) return CLI_BAD_INPUT;
    for (size_t i = 0; i < count; i++, row += STEP_VALUES) {
        const trine_step_record r = {.step = (int)row[0],
                                     .epoch = (int)row[1],
                                     .loss = (float)row[2],
                                     .active_fraction = (float)row[3],
                                     .d_ap = (float)row[4],
                                     .d_an = (float)row[5],
                                     .embedding_norm = (float)row[6],
                                     .accuracy = (float)row[7],
                                     .lr = row[8],
                                     .temperature = (float)row[9]};
        if (cli_watch_keep(w, &r) != 0) return no_memory();
    }
    return CLI_OK;
}

static int load_drift(cli_watch *w, const trine_weights *history)
{
    const size_t width = ROW_HEAD + (size_t)w->layers;
    size_t count = 0;
    const double *values = find(history, "drift", TRINE_F64, &count, (int64_t)width);
    if (values == NULL) return CLI_BAD_INPUT;
    for (size_t i = 0; i < count; i++, values += width) {
        const cli_bn_row row = {(int)values[0], malloc((size_t)(w->layers + 1) * sizeof *row.moved),
                                values[1]};
        if (row.moved != NULL) memcpy(row.moved, values + ROW_HEAD, (size_t)w->layers * sizeof *row.moved);
        if (cli_watch_keep_row(w, &row) != 0) return no_memory();
    }
    for (int i = 0; i < w->layers; i++) {
        char name[NAME_BYTES];
        const int channels = cli_watch_channels(w, i);
        if (channels == 0) continue;
        snprintf(name, sizeof name, "mean.%d", i);
        const float *means = find(history, name, TRINE_F32, NULL, channels);
        snprintf(name, sizeof name, "spread.%d", i);
        const float *spreads = means != NULL ? find(history, name, TRINE_F32, NULL, channels) : NULL;
        if (spreads == NULL) return CLI_BAD_INPUT;
        memcpy(w->means[i], means, (size_t)channels * sizeof *means);
        memcpy(w->spreads[i], spreads, (size_t)channels * sizeof *spreads);
    }
    return CLI_OK;
}

static int load_before(cli_watch *w, const trine_weights *history)
{
    const trine_weights_tensor *t = trine_weights_find(history, "before.rows");
    trine_vectors *v = &w->before;
    if (t == NULL) return CLI_OK;
    const size_t count = t->rank == 2 ? (size_t)t->dims[0] : 0;
    const size_t dim = t->rank == 2 ? (size_t)t->dims[1] : 0;
    const int32_t *labels = find(history, "before.labels", TRINE_I32, NULL, (int64_t)count);
    const int32_t *indices =
        labels != NULL ? find(history, "before.indices", TRINE_I32, NULL, (int64_t)count) : NULL;
    if (indices == NULL) return CLI_BAD_INPUT;
    if (t->dtype != TRINE_F32 || count == 0 || dim == 0)
        return cli_error(CLI_BAD_INPUT, "--resume: the saved run's first vectors are not readable");
    *v = (trine_vectors){malloc(count * dim * sizeof *v->data),
                         malloc(count * sizeof *v->labels),
                         malloc(count * sizeof *v->indices),
                         count,
                         (int)dim,
                         0};
    if (v->data == NULL || v->labels == NULL || v->indices == NULL) return no_memory();
    memcpy(v->data, t->data, count * dim * sizeof *v->data);
    for (size_t i = 0; i < count; i++) {
        v->labels[i] = labels[i];
        v->indices[i] = indices[i];
    }
    return CLI_OK;
}

int cli_history_load(cli_watch *w, const trine_weights *history)
{
    int code = CLI_OK;
    if (trine_weights_find(history, "steps") == NULL) return CLI_OK;
    CLI_RUN(load_steps(w, history));
    CLI_RUN(load_drift(w, history));
    CLI_RUN(load_before(w, history));
cleanup:
    return code;
}
