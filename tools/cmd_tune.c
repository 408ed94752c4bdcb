/* SPDX-License-Identifier: MIT */
/* trine tune: every implementation of every convolution of a network and of its fully connected layer, each in a process of its own that is ended when its time is over.
 * What one gives is kept before the next begins, so that a run that is broken off loses one candidate at most. */
#include "cli_child.h"
#include "cli_network.h"
#include "tune.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_option own_options[] = {
    {"arch", CLI_TEXT, CLI_AT(arch), "A", "resnet50", 0, 0, "variant"},
    {"batch", CLI_INT, CLI_AT(batch), "B", "8", 1, 65536, "images at a time"},
    {"size", CLI_INT, CLI_AT(size), "N", NULL, 1, 16384,
     "rows and columns of an image [224, or 32 for *_cifar]"},
    {"mode", CLI_CHOICE, CLI_AT(mode), "infer|train", "train", 0, 0, "train: both gradients, too"},
    {"limit", CLI_REAL, CLI_AT(limit), "S", "60", 0.1, 86400,
     "seconds that a candidate may take, its compilation included"},
    {"again", CLI_FLAG, CLI_AT(again), NULL, NULL, 0, 0, "measure also what has been measured before"},
    {"export", CLI_TEXT, CLI_AT(export_file), "FILE", NULL, 0, 0,
     "then write all that is known of the device as a .tune file, as cl/tune has them"},
};
static const cli_section own_section = CLI_SECTION("Tuning", own_options);
static const cli_section *const sections[] = {&own_section, &cli_precision_section};

/* A measurement that is kept. */
typedef struct kept {
    char problem[TRINE_CONV2D_PROBLEM], algorithm[64];
    int batch;
    double ms;
} kept;

typedef struct tuning {
    cli_run *run;
    char scope[512];
    kept *rows;
    size_t count, capacity;
    int failed; /* out of memory */
} tuning;

static void keep(void *user, const trine_tuning_row *row)
{
    tuning *t = user;
    if (t->count == t->capacity) {
        const size_t more = 2 * t->capacity + 256;
        kept *rows = realloc(t->rows, more * sizeof *rows);
        t->failed |= rows == NULL;
        if (rows == NULL) return;
        t->rows = rows;
        t->capacity = more;
    }
    kept *k = &t->rows[t->count++];
    snprintf(k->problem, sizeof k->problem, "%s", row->problem);
    snprintf(k->algorithm, sizeof k->algorithm, "%s", row->algorithm);
    k->batch = row->batch;
    k->ms = row->ms;
}

static double known_ms(const tuning *t, const char *problem, const char *algorithm)
{
    for (size_t i = t->count; i-- > 0;) { /* the latest counts */
        const kept *k = &t->rows[i];
        if (k->batch == t->run->v.batch && strcmp(k->problem, problem) == 0 &&
            strcmp(k->algorithm, algorithm) == 0)
            return k->ms;
    }
    return 0;
}

/* One candidate, in a child; its result is kept. */
static int measure(tuning *t, const cJSON *row, const char *algorithm)
{
    cli_run *run = t->run;
    const tune_problem problem = tune_read(row);
    const char *text = cJSON_GetObjectItem(row, "problem")->valuestring;
    tune_candidate candidate = {&problem, algorithm, run->v.mode == 1};
    cli_outcome outcome;
    char end[128];
    const int code = cli_in_child(run, run->v.device, run->v.limit, tune_measure, &candidate, &outcome);
    if (code != CLI_OK) return code;
    const cJSON *ms = cJSON_GetObjectItem(outcome.json, "ms"),
                *error = cJSON_GetObjectItem(outcome.json, "error");
    trine_tuning_row result = {text, run->v.batch, algorithm, -1};
    cli_child_end(&outcome, run->v.limit, end, sizeof end);
    if (end[0] == '\0' && outcome.code == CLI_OK && cJSON_IsNumber(ms) && ms->valuedouble > 0)
        result.ms = ms->valuedouble;
    else
        cli_talk(run, "%s: %s loses: %s", text, algorithm,
                 end[0] != '\0'                                   ? end
                 : cJSON_IsString(error) && error->valuestring[0] ? error->valuestring
                                                                  : "it failed");
    cJSON_Delete(outcome.json);
    const trine_status status = trine_tuning_record(t->scope, &result);
    if (status != TRINE_OK) return cli_fail(status);
    keep(t, &result);
    return t->failed ? cli_error(CLI_FAILED, "out of memory") : CLI_OK;
}

static int measure_all(tuning *t, cJSON *problems)
{
    cli_run *run = t->run;
    cli_progress progress;
    size_t all = 0, done = 0, before = 0;
    cJSON *row, *name;
    int code = CLI_OK;
    cJSON_ArrayForEach(row, problems) all +=
        (size_t)cJSON_GetArraySize(cJSON_GetObjectItem(row, "algorithms"));
    cli_progress_begin(&progress, "tuning", "candidates", run->v.quiet);
    cJSON_ArrayForEach(row, problems)
    {
        cJSON_ArrayForEach(name, cJSON_GetObjectItem(row, "algorithms"))
        {
            if (run->v.again ||
                known_ms(t, cJSON_GetObjectItem(row, "problem")->valuestring, name->valuestring) == 0) {
                CLI_RUN(measure(t, row, name->valuestring));
            } else {
                before++;
                progress.first++;
            }
            cli_progress_update(&progress, ++done, all, name->valuestring);
        }
    }
    cli_set(run->json, "measured", (double)(all - before));
    cli_set(run->json, "measured_before", (double)before);
cleanup:
    cli_progress_end(&progress);
    return code;
}

/* One problem's line: who was chosen before, who will be. */
static void report_row(tuning *t, const cJSON *row, cJSON *results, double *default_ms, double *best_ms)
{
    const char *problem = cJSON_GetObjectItem(row, "problem")->valuestring,
               *first = cJSON_GetObjectItem(row, "default")->valuestring;
    const int uses = cJSON_GetObjectItem(row, "uses")->valueint;
    cJSON *result = cJSON_CreateObject(), *times = cJSON_CreateObject(), *name;
    const char *chosen = first;
    const double margin = 0.97; /* as the operator's: what is not faster by more than noise changes nothing */
    const double own = known_ms(t, problem, first);
    double best = own > 0 ? margin * own : 1e300;
    cJSON_ArrayForEach(name, cJSON_GetObjectItem(row, "algorithms"))
    {
        const double ms = known_ms(t, problem, name->valuestring);
        if (ms > 0)
            cli_set(times, name->valuestring, ms);
        else
            cJSON_AddNullToObject(times, name->valuestring);
        if (ms <= 0 || ms >= best || own == 0) continue;
        best = ms;
        chosen = name->valuestring;
    }
    const double taken = known_ms(t, problem, chosen);
    cli_set_text(result, "problem", problem);
    cli_set(result, "uses", uses);
    cli_set_text(result, "default", first);
    cli_set_text(result, "chosen", chosen);
    cJSON_AddItemToObject(result, "ms", times);
    cJSON_AddItemToArray(results, result);
    if (own > 0 && taken > 0) {
        *default_ms += uses * own;
        *best_ms += uses * taken;
    }
    cli_print(t->run, "%dx %s\n   ", uses, problem);
    cJSON_ArrayForEach(name, cJSON_GetObjectItem(row, "algorithms"))
    {
        const double ms = known_ms(t, problem, name->valuestring);
        const char *mark = strcmp(name->valuestring, chosen) == 0 ? "*" : "";
        const char *underscore = strchr(name->valuestring, '_'),
                   *stem = underscore != NULL ? underscore + 1 : name->valuestring;
        if (ms > 0)
            cli_print(t->run, " %s%s %.3f", mark, stem, ms);
        else
            cli_print(t->run, " %s%s failed", mark, stem);
    }
    cli_print(t->run, "\n");
}

static void report(tuning *t, cJSON *problems)
{
    cJSON *results = cJSON_AddArrayToObject(t->run->json, "results"), *row;
    double default_ms = 0, best_ms = 0;
    cJSON_ArrayForEach(row, problems) report_row(t, row, results, &default_ms, &best_ms);
    cli_set(t->run->json, "default_ms", default_ms);
    cli_set(t->run->json, "chosen_ms", best_ms);
    cli_print(t->run, "ms each; * is taken from now on. All of them: %.1f ms by default, %.1f ms as tuned\n",
              default_ms, best_ms);
}

/* The whole scope as text. A name's characters that a glob would read otherwise match any one. */
static int export_rows(const tuning *t, const char *device)
{
    char *text = NULL, line[768];
    size_t length = 0, capacity = 0;
    int code = CLI_OK;
    for (size_t i = 0; i <= t->count; i++) {
        if (i == 0) {
            char glob[200];
            snprintf(glob, sizeof glob, "%s", device);
            for (char *c = glob; *c != '\0'; c++)
                if (strchr("*?[]", *c) != NULL) *c = '?';
            snprintf(line, sizeof line, "# Measured by trine tune: %.400s\nfor device %s\n", t->scope, glob);
        } else {
            const kept *k = &t->rows[i - 1];
            int later = 0; /* rows measured again stand twice */
            for (size_t j = i; j < t->count; j++)
                later |= t->rows[j].batch == k->batch && strcmp(t->rows[j].problem, k->problem) == 0 &&
                         strcmp(t->rows[j].algorithm, k->algorithm) == 0;
            if (later) continue;
            if (k->ms > 0)
                snprintf(line, sizeof line, "%s | %d | %s | %.6g\n", k->problem, k->batch, k->algorithm,
                         k->ms);
            else
                snprintf(line, sizeof line, "%s | %d | %s | failed\n", k->problem, k->batch, k->algorithm);
        }
        const size_t bytes = strlen(line);
        if (length + bytes > capacity) {
            char *more = realloc(text, capacity = 2 * capacity + bytes + 4096);
            if (more == NULL) {
                code = cli_error(CLI_FAILED, "out of memory");
                goto cleanup;
            }
            text = more;
        }
        memcpy(text + length, line, bytes);
        length += bytes;
    }
    if (cli_write_file(t->run->v.export_file, text, length) != 0)
        code = cli_error(CLI_FAILED, "%s: %s", t->run->v.export_file, strerror(errno));
cleanup:
    free(text);
    return code;
}

/* What the network asks for on this device. */
static int list_problems(cli_run *run, cJSON **out)
{
    cli_outcome outcome;
    char end[128];
    int code = cli_in_child(run, run->v.device, 300, tune_list, NULL, &outcome);
    if (code != CLI_OK) return code;
    cli_child_end(&outcome, 300, end, sizeof end);
    if (end[0] != '\0') code = cli_error(CLI_FAILED, "the driver %s while the network was planned", end);
    if (code == CLI_OK) code = outcome.code;
    if (code == CLI_OK && !cJSON_HasObjectItem(outcome.json, "problems"))
        code = cli_error(CLI_FAILED, "the network could not be planned");
    *out = outcome.json;
    return code;
}

static int tune(cli_run *run)
{
    tuning t = {.run = run};
    cJSON *list = NULL;
    int code = CLI_OK;
    setenv("TRINE_TUNING", "off", 1); /* what is the default does not depend on earlier runs */
    if (run->v.export_file != NULL) CLI_RUN(cli_check_writable("--export", run->v.export_file));
    CLI_RUN(list_problems(run, &list));
    cJSON *problems = cJSON_GetObjectItem(list, "problems");
    const char *device = cJSON_GetObjectItem(list, "device")->valuestring;
    snprintf(t.scope, sizeof t.scope, "%s", cJSON_GetObjectItem(list, "scope")->valuestring);
    CLI_TRY(trine_tuning_each(t.scope, keep, &t));
    cli_talk(run, "%s, batch %d, %s on %s: %d problems", run->v.arch, run->v.batch,
             run->v.mode == 1 ? "training" : "inference", device, cJSON_GetArraySize(problems));
    CLI_RUN(measure_all(&t, problems));
    report(&t, problems);
    cli_set_text(run->json, "device", device);
    cli_set_text(run->json, "arch", run->v.arch);
    cli_set(run->json, "batch", run->v.batch);
    cli_set_text(run->json, "mode", run->v.mode == 1 ? "train" : "infer");
    cli_set_text(run->json, "precision", cli_precision_name(run));
    if (run->v.export_file != NULL) CLI_RUN(export_rows(&t, device));
cleanup:
    cJSON_Delete(list);
    free(t.rows);
    return code;
}

const cli_command cmd_tune = {{"tune", "", "measure implementations on the device and keep the choice", 0, 0,
                               sections, CLI_COUNTOF(sections),
                               "Each candidate runs in a process of its own, is compared with the slow "
                               "reference before it is timed, and loses if it is wrong, "
                               "crashes or takes longer than --limit. Results are kept in the cache (see "
                               "trine cache) with the device, its driver and trine's "
                               "version as they come, so that a run that is broken off goes on where it was. "
                               "TRINE_TUNING=off does without them."},
                              tune};
