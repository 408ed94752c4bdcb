/* SPDX-License-Identifier: MIT */
/* Event files through protobuf-c. What cannot be written is remembered and told of at the end: a full disk must not end a run. */
#include "cli_events.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if TRINE_EVENT_FILES
#include "cli_records.h"
#include <events.pb-c.h>

enum { MOST = 1000, PROJECTOR = 10000, NAME_BYTES = 64 };

struct cli_events {
    FILE *file;
    const char *folder;
    char name[128]; /* of the file in it */
    int error;      /* the first errno; 0: none */
    cli_text config;
};

static void remember(cli_events *e)
{
    if (e->error == 0) e->error = errno != 0 ? errno : EIO;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void write_event(cli_events *e, TrineEvents__Event *event)
{
    event->wall_time = now();
    const size_t size = trine_events__event__get_packed_size(event);
    uint8_t *bytes = malloc(size + 1);
    errno = 0;
    if (bytes == NULL || trine_events__event__pack(event, bytes) != size ||
        cli_write_record(e->file, bytes, size) != 0)
        remember(e);
    free(bytes);
}

/* One event of a step with `count` values. */
static void write_values(cli_events *e, int64_t step, TrineEvents__Value **values, size_t count)
{
    TrineEvents__Summary summary = TRINE_EVENTS__SUMMARY__INIT;
    TrineEvents__Event event = TRINE_EVENTS__EVENT__INIT;
    summary.n_value = count;
    summary.value = values;
    event.step = step;
    event.what_case = TRINE_EVENTS__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    write_event(e, &event);
}

static void write_scalars(cli_events *e, int64_t step, const char *const *tags, const double *numbers,
                          size_t count)
{
    TrineEvents__Value *values = malloc((count + 1) * sizeof *values),
                       **list = malloc((count + 1) * sizeof *list);
    for (size_t i = 0; i < count && values != NULL && list != NULL; i++) {
        trine_events__value__init(&values[i]);
        values[i].tag = (char *)tags[i]; /* read only */
        values[i].value_case = TRINE_EVENTS__VALUE__VALUE_SIMPLE_VALUE;
        values[i].simple_value = (float)numbers[i];
        list[i] = &values[i];
    }
    if (values != NULL && list != NULL) write_values(e, step, list, count);
    free(values);
    free(list);
}

/* Counts in bins of equal width from 0. */
static void write_histogram(cli_events *e, int64_t step, const char *tag, double width, double *counts,
                            size_t bins, double mean, double squares)
{
    TrineEvents__Histogram h = TRINE_EVENTS__HISTOGRAM__INIT;
    TrineEvents__Value value = TRINE_EVENTS__VALUE__INIT, *list = &value;
    double *limits = malloc((bins + 1) * sizeof *limits);
    if (limits == NULL) return;
    h.min = INFINITY;
    for (size_t i = 0; i < bins; i++) {
        limits[i] = width * (double)(i + 1);
        h.num += counts[i];
        if (counts[i] > 0) h.min = fmin(h.min, width * (double)i);
        if (counts[i] > 0) h.max = limits[i];
    }
    if (h.num > 0) {
        h.sum = mean * h.num;
        h.sum_squares = squares;
        h.n_bucket_limit = h.n_bucket = bins;
        h.bucket_limit = limits;
        h.bucket = counts;
        value.tag = (char *)tag;
        value.value_case = TRINE_EVENTS__VALUE__VALUE_HISTO;
        value.histo = &h;
        write_values(e, step, &list, 1);
    }
    free(limits);
}

/* Go on in the file that a saved run wrote, from where it was then. @return 0: it is not there any more, or shorter */
static int go_on(cli_events *e, const char *mark)
{
    const char *space = mark != NULL ? strchr(mark, ' ') : NULL;
    cli_text path = {0};
    struct stat is;
    if (space == NULL || memchr(mark, '/', (size_t)(space - mark)) != NULL) return 0;
    const long long bytes = atoll(space + 1);
    cli_text_add(&path, "%s/%.*s", e->folder, (int)(space - mark), mark);
    if (!path.failed && bytes > 0 && stat(path.text, &is) == 0 && S_ISREG(is.st_mode) &&
        is.st_size >= bytes && truncate(path.text, (off_t)bytes) == 0)
        e->file = fopen(path.text, "ab");
    snprintf(e->name, sizeof e->name, "%.*s", (int)(space - mark), mark);
    cli_text_free(&path);
    return e->file != NULL;
}

/* What the projector has of the saved run: all before the vectors of its end. */
static void recall_projector(cli_events *e)
{
    cli_text path = {0};
    char text[4096];
    cli_text_add(&path, "%s/projector_config.pbtxt", e->folder);
    FILE *file = path.failed ? NULL : fopen(path.text, "rb");
    cli_text_free(&path);
    if (file == NULL) return;
    const size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = '\0';
    const char *after = strstr(text, "embeddings {\n  tensor_name: \"after\"");
    cli_text_append(&e->config, text, after != NULL ? (size_t)(after - text) : size);
}

/* The name that TensorBoard looks for; the process, so that two runs in one second have two files. */
static void begin(cli_events *e)
{
    cli_text path = {0};
    snprintf(e->name, sizeof e->name, "events.out.tfevents.%lld.trine.%ld", (long long)time(NULL),
             (long)getpid());
    cli_text_add(&path, "%s/%s", e->folder, e->name);
    if (!path.failed) e->file = fopen(path.text, "wb");
    cli_text_free(&path);
    if (e->file == NULL) return;
    TrineEvents__Event first = TRINE_EVENTS__EVENT__INIT;
    first.what_case = TRINE_EVENTS__EVENT__WHAT_FILE_VERSION;
    first.file_version = (char *)"brain.Event:2";
    write_event(e, &first);
}

int cli_events_open(cli_watch *w, const trine_weights *history)
{
    const char *folder = w->run->v.log_dir;
    if (folder == NULL) return CLI_OK;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return cli_error(CLI_FAILED, "--log-dir %s: cannot be made: %s", folder, strerror(errno));
    cli_events *e = calloc(1, sizeof *e);
    if (e == NULL) return cli_error(CLI_FAILED, "out of memory");
    e->folder = folder;
    if (history != NULL) recall_projector(e);
    const int goes_on = history != NULL && go_on(e, trine_weights_metadata(history, "events"));
    if (!goes_on) begin(e);
    if (e->file == NULL) {
        const int code =
            cli_error(CLI_FAILED, "--log-dir %s: no file can be made in it: %s", folder, strerror(errno));
        cli_text_free(&e->config);
        free(e);
        return code;
    }
    w->events = e;
    for (size_t i = 0; i < w->count && !goes_on; i++) cli_events_step(e, w, &w->records[i]);
    for (size_t i = 0; i < w->row_count && !goes_on; i++) cli_events_drift(e, w->run, &w->rows[i], w->layers);
    return CLI_OK;
}

int cli_events_mark(cli_events *e, char *text, size_t size)
{
    if (e == NULL || e->error != 0) return 0;
    if (fflush(e->file) != 0 || fsync(fileno(e->file)) != 0) {
        remember(e);
        return 0;
    }
    fseek(e->file, 0, SEEK_END);
    snprintf(text, size, "%s %lld", e->name, (long long)ftell(e->file));
    return 1;
}

void cli_events_step(cli_events *e, const cli_watch *w, const trine_step_record *r)
{
    static const char *const mined[] = {"train/loss",       "train/embedding_norm", "train/lr",
                                        "train/d_ap",       "train/d_an",           "train/active_fraction",
                                        "train/temperature"};
    static const char *const classes[] = {"train/loss", "train/embedding_norm", "train/lr", "train/accuracy"};
    if (e == NULL) return;
    const double numbers[] = {(double)r->loss,
                              (double)r->embedding_norm,
                              r->lr,
                              w->classifies ? (double)r->accuracy : (double)r->d_ap,
                              (double)r->d_an,
                              (double)r->active_fraction,
                              (double)r->temperature};
    if (w->classifies)
        write_scalars(e, r->step, classes, numbers, CLI_COUNTOF(classes));
    else
        write_scalars(e, r->step, mined, numbers, CLI_COUNTOF(mined) - !w->learns_temperature);
}

void cli_events_scalar(cli_events *e, int step, const char *tag, double value)
{
    if (e == NULL) return;
    write_scalars(e, step, &tag, &value, 1);
    if (fflush(e->file) != 0) remember(e);
}

void cli_events_drift(cli_events *e, const cli_run *run, const cli_bn_row *row, int layers)
{
    static const char *const mean = "batchnorm/mean";
    if (e == NULL) return;
    write_scalars(e, row->step, &mean, &row->mean, 1);
    for (int i = 0; i < layers; i++) {
        trine_bn_info info;
        char tag[2 * NAME_BYTES];
        if (trine_resnet_bn(run->net, i, &info) != TRINE_OK) continue;
        snprintf(tag, sizeof tag, "batchnorm/%s", info.name);
        const char *const name = tag;
        write_scalars(e, row->step, &name, &row->moved[i], 1);
    }
    if (fflush(e->file) != 0) remember(e); /* for those who look on */
}

static void write_distances(cli_events *e, const cli_view *view, int step)
{
    cli_distances *d = malloc(sizeof *d);
    if (d == NULL) return;
    cli_view_distances(view, d);
    for (int i = 0; i < CLI_VIEW_BINS; i++) {
        d->same[i] *= d->same_pairs;
        d->other[i] *= d->other_pairs;
    }
    const double width = 2.0 / CLI_VIEW_BINS;
    write_histogram(e, step, "distance/same_class", width, d->same, CLI_VIEW_BINS, d->same_mean,
                    d->same_squares);
    write_histogram(e, step, "distance/other_class", width, d->other, CLI_VIEW_BINS, d->other_mean,
                    d->other_squares);
    free(d);
}

void cli_events_vectors(cli_events *e, const cli_run *run, const char *when, int step,
                        const trine_vectors *vectors)
{
    static const char *const keys[] = {"recall_at_1", "recall_at_5", "r_precision", "map_at_r"};
    static const char *const tags[] = {"val/recall_at_1", "val/recall_at_5", "val/r_precision",
                                       "val/map_at_r"};
    double numbers[CLI_COUNTOF(keys)];
    cli_view view;
    if (e == NULL) return;
    const cJSON *figures = cJSON_GetObjectItemCaseSensitive(run->json, when);
    for (size_t i = 0; i < CLI_COUNTOF(keys); i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(figures, keys[i]);
        numbers[i] = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    }
    if (figures != NULL) write_scalars(e, step, tags, numbers, CLI_COUNTOF(tags));
    if (cli_view_open(vectors, MOST, &view) == 0) {
        write_distances(e, &view, step);
        cli_view_close(&view);
    }
    if (fflush(e->file) != 0) remember(e);
}

/* ---- projector ---- */

/* A field of a table: no tabs, no ends of lines. */
static void field(cli_text *out, const char *words)
{
    for (const char *c = words; *c != '\0'; c++) cli_text_append(out, (unsigned char)*c < ' ' ? " " : c, 1);
}

static int write_text(cli_events *e, const char *name, const cli_text *text)
{
    cli_text path = {0};
    cli_text_add(&path, "%s/%s", e->folder, name);
    const int bad = text->failed || path.failed || cli_write_file(path.text, text->text, text->used) != 0;
    const int code = bad ? cli_error(CLI_FAILED, "--log-dir %s: %s cannot be written: %s", e->folder, name,
                                     strerror(text->failed || path.failed ? ENOMEM : errno))
                         : CLI_OK;
    cli_text_free(&path);
    return code;
}

int cli_events_projector(cli_events *e, const char *when, const trine_dataset *val,
                         const trine_vectors *vectors)
{
    char vectors_name[NAME_BYTES], labels_name[NAME_BYTES];
    cli_text rows = {0}, labels = {0};
    cli_view view = {0};
    int code = CLI_OK;
    if (e == NULL || vectors->count == 0) return CLI_OK;
    if (cli_view_open(vectors, PROJECTOR, &view) != 0) return cli_error(CLI_FAILED, "out of memory");
    snprintf(vectors_name, sizeof vectors_name, "embeddings_%s.tsv", when);
    snprintf(labels_name, sizeof labels_name, "metadata_%s.tsv", when);
    cli_text_add(&labels, "class\timage\n");
    for (size_t i = 0; i < view.count; i++) {
        for (int k = 0; k < view.dim; k++)
            cli_text_add(&rows, "%s%.9g", k > 0 ? "\t" : "",
                         (double)view.rows[i * (size_t)view.dim + (size_t)k]);
        cli_text_append(&rows, "\n", 1);
        field(&labels, trine_dataset_class_name(val, view.labels[i]));
        cli_text_append(&labels, "\t", 1);
        field(&labels, trine_dataset_name(val, (size_t)view.indices[i]));
        cli_text_append(&labels, "\n", 1);
    }
    cli_text_add(&e->config,
                 "embeddings {\n  tensor_name: \"%s\"\n  tensor_shape: %zu\n  tensor_shape: %d\n  "
                 "tensor_path: \"%s\"\n"
                 "  metadata_path: \"%s\"\n}\n",
                 when, view.count, view.dim, vectors_name, labels_name);
    CLI_RUN(write_text(e, vectors_name, &rows));
    CLI_RUN(write_text(e, labels_name, &labels));
    CLI_RUN(write_text(e, "projector_config.pbtxt", &e->config));
cleanup:
    cli_view_close(&view);
    cli_text_free(&rows);
    cli_text_free(&labels);
    return code;
}

int cli_events_close(cli_events **events)
{
    cli_events *e = *events;
    if (e == NULL) return CLI_OK;
    errno = 0;
    if (fclose(e->file) != 0) remember(e);
    const int code = e->error == 0
                         ? CLI_OK
                         : cli_error(CLI_FAILED, "--log-dir %s: the event file cannot be written: %s",
                                     e->folder, strerror(e->error));
    cli_text_free(&e->config);
    free(e);
    *events = NULL;
    return code;
}

#else

int cli_events_open(cli_watch *w, const trine_weights *history)
{
    (void)history;
    if (w->run->v.log_dir == NULL) return CLI_OK;
    return cli_error(CLI_USAGE, "--log-dir: this build has no event files (protobuf-c was missing)");
}

int cli_events_mark(cli_events *e, char *text, size_t size)
{
    (void)e, (void)text, (void)size;
    return 0;
}

void cli_events_step(cli_events *e, const cli_watch *w, const trine_step_record *r)
{
    (void)e, (void)w, (void)r;
}

void cli_events_scalar(cli_events *e, int step, const char *tag, double value)
{
    (void)e, (void)step, (void)tag, (void)value;
}

void cli_events_drift(cli_events *e, const cli_run *run, const cli_bn_row *row, int layers)
{
    (void)e, (void)run, (void)row, (void)layers;
}

void cli_events_vectors(cli_events *e, const cli_run *run, const char *when, int step,
                        const trine_vectors *vectors)
{
    (void)e, (void)run, (void)when, (void)step, (void)vectors;
}

int cli_events_projector(cli_events *e, const char *when, const trine_dataset *val,
                         const trine_vectors *vectors)
{
    (void)e, (void)when, (void)val, (void)vectors;
    return CLI_OK;
}

int cli_events_close(cli_events **events)
{
    (void)events;
    return CLI_OK;
}

#endif
