/* SPDX-License-Identifier: MIT */
/* Data sets as a list: a CSV file of paths and labels (RFC 4180: fields in double quotes may hold commas, line breaks and doubled quotes). */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/dataset_private.h"

enum { MAX_NUMBER = (1 << 20) - 1 };

typedef struct row {
    size_t path, label; /* offsets into the reader's text */
    int line;
} row;

typedef struct reader {
    const char *file, *at, *end;
    int line; /* of `at`, from 1 */
    trine__text text;
    row *rows;
    size_t count, capacity;
} reader;

/* The field at r->at, NUL-terminated, to the text; r->at is behind it. */
static trine_status read_field(reader *r, size_t *out)
{
    const int line = r->line;
    *out = r->text.length;
    if (r->at == r->end || *r->at != '"') {
        const char *begin = r->at;
        while (r->at < r->end && *r->at != ',' && *r->at != '\n' && *r->at != '\r') r->at++;
        trine__text_add_bytes(&r->text, begin, (size_t)(r->at - begin));
    } else {
        for (r->at++;; r->at++) {
            TRINE_CHECK(r->at < r->end, TRINE_ERR_FORMAT, "%s:%d: a quote is not closed", r->file, line);
            if (*r->at == '"' && (++r->at == r->end || *r->at != '"')) break; /* not a doubled one */
            r->line += *r->at == '\n';
            trine__text_add_bytes(&r->text, r->at, 1);
        }
        TRINE_CHECK(r->at == r->end || strchr(",\r\n", *r->at), TRINE_ERR_FORMAT,
                    "%s:%d: text follows a closing quote", r->file, r->line);
    }
    trine__text_add_bytes(&r->text, "", 1);
    return TRINE_OK;
}

static void end_line(reader *r)
{
    if (r->at < r->end && *r->at == '\r') r->at++;
    if (r->at < r->end && *r->at == '\n') r->at++;
    r->line++;
}

/* Which columns the first line names; the first two, and false, where it names none. */
static bool find_columns(const reader *r, const size_t *fields, int count, int *path, int *label)
{
    static const char *const paths[] = {"path", "file", "filename", "image"}, *const labels[] = {"label",
                                                                                                 "class",
                                                                                                 "category"};
    int p = -1, l = -1;
    for (int i = 0; i < count; i++) {
        const char *name = r->text.data + fields[i];
        for (size_t k = 0; k < TRINE_COUNTOF(paths); k++)
            if (p < 0 && strcmp(name, paths[k]) == 0) p = i;
        for (size_t k = 0; k < TRINE_COUNTOF(labels); k++)
            if (l < 0 && strcmp(name, labels[k]) == 0) l = i;
    }
    const bool found = p >= 0 && l >= 0;
    *path = found ? p : 0;
    *label = found ? l : 1;
    return found;
}

static trine_status add_row(reader *r, size_t path, size_t label, int line)
{
    void *rows = r->rows;
    TRINE_CHECK(!r->text.failed, TRINE_ERR_NOMEM, "out of memory for the rows of %s", r->file);
    TRINE_CHECK(r->text.data[path] && r->text.data[label], TRINE_ERR_FORMAT, "%s:%d: %s is empty", r->file,
                line, r->text.data[path] ? "the label" : "the path");
    TRINE_TRY(trine__reserve(&rows, &r->capacity, r->count + 1, sizeof *r->rows));
    r->rows = rows;
    r->rows[r->count++] = (row){path, label, line};
    return TRINE_OK;
}

static trine_status read_rows(reader *r)
{
    enum { FIELDS = 64 };
    int path = 0, label = 1;
    for (bool first = true; r->at < r->end; first = false) {
        size_t fields[FIELDS];
        const int line = r->line;
        int count = 0;
        for (;;) {
            TRINE_CHECK(count < FIELDS, TRINE_ERR_FORMAT, "%s:%d: more than %d columns", r->file, line,
                        (int)FIELDS);
            TRINE_TRY(read_field(r, &fields[count++]));
            if (r->at == r->end || *r->at != ',') break;
            r->at++;
        }
        end_line(r);
        TRINE_CHECK(!r->text.failed, TRINE_ERR_NOMEM, "out of memory for the rows of %s", r->file);
        if (count == 1 && !r->text.data[fields[0]]) continue; /* an empty line */
        if (first && find_columns(r, fields, count, &path, &label)) continue;
        TRINE_CHECK(path < count && label < count, TRINE_ERR_FORMAT,
                    "%s:%d: has %d column%s, expected path,label", r->file, line, count,
                    count == 1 ? "" : "s");
        TRINE_TRY(add_row(r, fields[path], fields[label], line));
    }
    TRINE_CHECK(r->count > 0, TRINE_ERR_DATA, "%s: lists no images", r->file);
    return TRINE_OK;
}

/* Labels that are numbers, as they are; -1 where one is not. */
static int number_of(const char *label)
{
    long value = 0;
    const char *p = label;
    for (; *p >= '0' && *p <= '9' && value <= MAX_NUMBER; p++) value = value * 10 + (*p - '0');
    return *p || value > MAX_NUMBER ? -1 : (int)value;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Classes that are called by numbers keep them; others are ranked by their names in byte order. labels: [r->count], filled */
static trine_status number_classes(trine_dataset *ds, const reader *r, int *labels)
{
    int largest = -1;
    for (size_t i = 0; i < r->count; i++) {
        labels[i] = number_of(r->text.data + r->rows[i].label);
        if (labels[i] < 0) largest = INT_MAX;
        if (labels[i] > largest) largest = labels[i];
    }
    if (largest < INT_MAX) {
        char name[16];
        TRINE_TRY(trine__dataset_set_classes(ds, (size_t)largest + 1));
        for (int c = 0; c <= largest; c++)
            trine__dataset_name_class(ds, c, name, (size_t)snprintf(name, sizeof name, "%d", c));
        return TRINE_OK;
    }
    void *memory;
    TRINE_TRY(trine__calloc(r->count, sizeof(char *), &memory));
    const char **names = memory;
    for (size_t i = 0; i < r->count; i++) names[i] = r->text.data + r->rows[i].label;
    qsort(names, r->count, sizeof *names, by_text);
    size_t count = 0;
    for (size_t i = 0; i < r->count; i++)
        if (i == 0 || strcmp(names[i], names[count - 1]) != 0) names[count++] = names[i];
    trine_status status = trine__dataset_set_classes(ds, count);
    for (size_t c = 0; status == TRINE_OK && c < count; c++)
        trine__dataset_name_class(ds, (int)c, names[c], strlen(names[c]));
    for (size_t i = 0; i < r->count; i++) {
        const char *label = r->text.data + r->rows[i].label;
        labels[i] = (int)((const char **)bsearch(&label, names, count, sizeof *names, by_text) - names);
    }
    free(memory);
    return status;
}

/* Paths are relative to the list's folder. */
static void name_image(trine_dataset *ds, const char *list, const char *path)
{
    const char *slash = strrchr(list, '/');
    if (path[0] != '/' && slash) trine__text_add_bytes(&ds->names, list, (size_t)(slash + 1 - list));
    trine__text_add_bytes(&ds->names, path, strlen(path) + 1);
}

static trine_status take_rows(trine_dataset *ds, const reader *r, const char *classes)
{
    trine_status status = TRINE_OK;
    void *labels = NULL, *keep = NULL;
    TRINE_TRY_GOTO(trine__calloc(r->count, sizeof(int), &labels));
    TRINE_TRY_GOTO(number_classes(ds, r, labels));
    TRINE_TRY_GOTO(trine__calloc((size_t)ds->class_count, sizeof(bool), &keep));
    TRINE_TRY_GOTO(trine__dataset_select(ds, r->file, classes, keep));
    for (size_t i = 0; i < r->count; i++) {
        const int label = ((const int *)labels)[i];
        if (!((const bool *)keep)[label]) continue;
        TRINE_TRY_GOTO(trine__dataset_add(ds, label, i));
        name_image(ds, r->file, r->text.data + r->rows[i].path);
    }
    TRINE_CHECK_GOTO(ds->count > 0, TRINE_ERR_DATA, "%s: lists no images of the selected classes", r->file);
cleanup:
    free(labels);
    free(keep);
    return status;
}

trine_status trine__dataset_open_csv(trine_dataset *ds, const char *path, const char *classes)
{
    trine__map map;
    TRINE_TRY(trine__map_open(path, &map));
    const char *text = (const char *)map.data, *end = text + map.bytes;
    static const char mark[] = "\xEF\xBB\xBF"; /* of UTF-8, as spreadsheets write it */
    if (map.bytes >= 3 && memcmp(text, mark, 3) == 0) text += 3;
    reader r = {.file = path, .at = text, .end = end, .line = 1};
    trine_status status = map.bytes && memchr(map.data, 0, map.bytes)
                              ? trine__fail(TRINE_ERR_FORMAT, "%s: is not text", path)
                              : read_rows(&r);
    if (status == TRINE_OK) status = take_rows(ds, &r, classes);
    trine__text_free(&r.text);
    free(r.rows);
    trine__map_close(&map);
    return status;
}
