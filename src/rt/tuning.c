/* SPDX-License-Identifier: MIT */
/* The rows that answer for one device, from the cache and from shipped texts. A text's lines are
 *     # a comment
 *     for LEVEL GLOB                         LEVEL is device, family (both match the device's name), type (cpu or gpu) or generic
 *     PROBLEM | BATCH | ALGORITHM | MS       MS is a number > 0, or failed
 * and a row belongs to the last "for" before it. */
#include "rt/tuning.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/glob.h"
#include "rt/cache.h"
#include "trine/trine.h"

enum { LEVEL_MEASURED, LEVEL_DEVICE, LEVEL_FAMILY, LEVEL_TYPE, LEVEL_GENERIC, LEVELS, NOT_HERE };
static const char *const levels[LEVELS] = {"measured", "device", "family", "type", "generic"};
enum { LINE_BYTES = 512 };

typedef struct row {
    char *problem, *algorithm;
    int batch, level;
    double ms;
} row;

struct trine__tuning {
    row *rows;
    size_t count, capacity;
};

void trine_tuning_scope(const trine_context *context, char *text, size_t capacity)
{
    const trine_device_info *d = &context->device.info;
    snprintf(text, capacity, "%.160s | %.160s | trine %s", d->name, d->driver, trine_version());
}

static trine_status add(trine__tuning *t, const trine_tuning_row *from, int level)
{
    void *items = t->rows;
    row r = {.batch = from->batch, .level = level, .ms = from->ms};
    TRINE_TRY(trine__reserve(&items, &t->capacity, t->count + 1, sizeof *t->rows));
    t->rows = items;
    TRINE_TRY(trine__strdup(from->problem, &r.problem));
    const trine_status status = trine__strdup(from->algorithm, &r.algorithm);
    if (status != TRINE_OK) free(r.problem);
    if (status == TRINE_OK) t->rows[t->count++] = r;
    return status;
}

static void add_measured(void *user, const trine_tuning_row *from)
{
    add(user, from, LEVEL_MEASURED); /* without memory it is as if nobody had measured */
}

/* Cut a line at " | "; the parts keep their order. @return how many there are */
static int split(char *line, char *parts[4])
{
    int count = 0;
    for (char *next = line; next && count < 4;) {
        parts[count++] = next;
        next = strstr(next, " | ");
        if (next) {
            *next = '\0';
            next += strlen(" | ");
        }
    }
    return count;
}

/* The level that a "for" line opens for this device. @return false: it is not understood */
static bool open_level(const trine_context *context, char *words, int *level)
{
    char *glob = strchr(words, ' ');
    if (glob) *glob++ = '\0';
    for (*level = LEVEL_DEVICE; *level < LEVELS && strcmp(levels[*level], words) != 0;) ++*level;
    if (*level == LEVELS || (*level != LEVEL_GENERIC && (!glob || trine__glob_check(glob) != TRINE_OK)))
        return false;
    const char *subject =
        *level == LEVEL_TYPE ? (context->caps.cpu ? "cpu" : "gpu") : context->device.info.name;
    if (*level != LEVEL_GENERIC && !trine__glob_match(glob, subject)) *level = NOT_HERE;
    return true;
}

static bool parse_row(char *line, trine_tuning_row *out)
{
    char *parts[4], *end;
    if (split(line, parts) != 4) return false;
    const long batch = strtol(parts[1], &end, 10);
    if (*end != '\0' || batch < 1 || batch > 1 << 20) return false;
    *out = (trine_tuning_row){parts[0], (int)batch, parts[2], -1};
    if (strcmp(parts[3], "failed") == 0) return true;
    out->ms = strtod(parts[3], &end);
    return *end == '\0' && end != parts[3] && out->ms > 0;
}

trine_status trine__tuning_parse(trine_context *context, const char *name, const char *text, size_t bytes)
{
    int level = NOT_HERE, number = 0;
    for (const char *at = text, *end = text + bytes; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline ? newline : end;
        char line[LINE_BYTES];
        const size_t length = (size_t)(stop - at);
        trine_tuning_row r;
        number++;
        TRINE_CHECK(length < sizeof line, TRINE_ERR_FORMAT, "%s: line %d is longer than %zu characters", name,
                    number, sizeof line - 1);
        memcpy(line, at, length);
        line[length] = '\0';
        at = stop + 1;
        if (line[0] == '#' || line[0] == '\0') continue;
        if (strncmp(line, "for ", 4) == 0) {
            TRINE_CHECK(open_level(context, line + 4, &level), TRINE_ERR_FORMAT,
                        "%s: line %d: expected 'for device|family|type GLOB' or 'for generic'", name, number);
            continue;
        }
        TRINE_CHECK(parse_row(line, &r), TRINE_ERR_FORMAT,
                    "%s: line %d: expected 'PROBLEM | BATCH | ALGORITHM | MS'", name, number);
        if (level < LEVELS) TRINE_TRY(add(context->tuning, &r, level));
    }
    return TRINE_OK;
}

/* Once for a context, under its lock. Whatever cannot be had is left out. */
static void load(trine_context *context)
{
    const char *mode = getenv("TRINE_TUNING"), *cache = getenv("TRINE_CACHE");
    const bool kept = !cache || strcmp(cache, "off") != 0;
    char scope[512];
    context->tuning = calloc(1, sizeof *context->tuning);
    if (!context->tuning || (mode && strcmp(mode, "off") == 0)) return;
    trine_tuning_scope(context, scope, sizeof scope);
    if (kept && trine_tuning_each(scope, add_measured, context->tuning) != TRINE_OK)
        trine__log(context, "tuning: %s", trine_last_error());
    for (size_t i = 0; i < trine__shipped_count; i++) {
        const trine__shipped *s = &trine__shipped_tunings[i];
        if (trine__tuning_parse(context, s->name, (const char *)s->text, s->bytes) != TRINE_OK)
            trine__log(context, "tuning: %s", trine_last_error());
    }
}

/* How far a row's batch is from the one that is asked for. */
static double distance(int batch, int wanted)
{
    if (wanted < 1) return batch;
    return batch > wanted ? (double)batch / wanted : (double)wanted / batch;
}

static double find(const trine__tuning *t, const char *problem, int batch, const char *algorithm)
{
    const row *nearest = NULL;
    for (size_t i = 0; i < t->count; i++) {
        const row *r = &t->rows[i];
        if (nearest &&
            (r->level > nearest->level ||
             (r->level == nearest->level && distance(r->batch, batch) >= distance(nearest->batch, batch))))
            continue;
        if (strcmp(r->problem, problem) == 0) nearest = r;
    }
    for (size_t i = 0; nearest && i < t->count; i++) {
        const row *r = &t->rows[i];
        if (r->level == nearest->level && r->batch == nearest->batch &&
            strcmp(r->algorithm, algorithm) == 0 && strcmp(r->problem, problem) == 0)
            return r->ms;
    }
    return 0;
}

double trine__tuning_ms(trine_context *context, const char *problem, int batch, const char *algorithm)
{
    pthread_mutex_lock(&context->lock);
    if (!context->tuning) load(context);
    const double ms = context->tuning ? find(context->tuning, problem, batch, algorithm) : 0;
    pthread_mutex_unlock(&context->lock);
    return ms;
}

int trine__tuning_pick(trine_context *context, const char *problem, int batch, const char *const *names,
                       size_t count, int first)
{
    const double margin = 0.97;
    const double first_ms = trine__tuning_ms(context, problem, batch, names[first]);
    double best_ms = first_ms < 0 ? HUGE_VAL : margin * first_ms;
    int best = first;
    for (size_t i = 0; first_ms != 0 && i < count; i++) {
        const double ms = names[i] ? trine__tuning_ms(context, problem, batch, names[i]) : 0;
        if ((int)i == first || ms <= 0 || ms >= best_ms) continue;
        best_ms = ms;
        best = (int)i;
    }
    return best;
}

void trine__tuning_free(trine_context *context)
{
    trine__tuning *t = context->tuning;
    for (size_t i = 0; t && i < t->count; i++) {
        free(t->rows[i].problem);
        free(t->rows[i].algorithm);
    }
    if (t) free(t->rows);
    free(t);
    context->tuning = NULL;
}
