/* SPDX-License-Identifier: MIT */
/* Data sets: a folder per class, one folder, one file, a list, or arrays. */
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/glob.h"
#include "io/dataset_private.h"
#include "io/image_private.h"

trine_status trine__dataset_add(trine_dataset *ds, int label, size_t number)
{
    void *items = ds->items;
    TRINE_CHECK(ds->count < INT_MAX, TRINE_ERR_DATA, "more than %d images in one data set", INT_MAX);
    TRINE_TRY(trine__reserve(&items, &ds->capacity, ds->count + 1, sizeof *ds->items));
    ds->items = items;
    ds->items[ds->count++] = (struct trine__item){ds->names.length, number, label};
    return TRINE_OK;
}

trine_status trine__dataset_set_classes(trine_dataset *ds, size_t count)
{
    void *memory;
    TRINE_CHECK(count <= INT_MAX, TRINE_ERR_DATA, "%zu classes in one data set", count);
    TRINE_TRY(trine__calloc(count, sizeof *ds->class_names, &memory));
    ds->class_names = memory;
    ds->class_count = (int)count;
    return TRINE_OK;
}

void trine__dataset_name_class(trine_dataset *ds, int c, const char *name, size_t length)
{
    ds->class_names[c] = ds->names.length;
    trine__text_add_bytes(&ds->names, name, length);
    trine__text_add_bytes(&ds->names, "", 1);
}

/* One number of `classes`, at least one digit. */
static bool take_number(const char **text, long *out)
{
    const char *p = *text;
    long value = 0;
    for (; *p >= '0' && *p <= '9' && value < 100000000; p++) value = value * 10 + (*p - '0');
    const bool ok = p > *text && !(*p >= '0' && *p <= '9');
    *text = p;
    *out = value;
    return ok;
}

/* An item of `classes` that is a glob of names: it begins neither with a digit nor with what looks like a slip of one. */
static bool is_name(const char *item)
{
    return isalpha((unsigned char)*item) || *item == '*' || *item == '?' || *item == '[' || *item == '_' ||
           (unsigned char)*item >= 0x80;
}

/* Mark the classes whose names match the glob at *text, which ends at a comma. */
static trine_status select_names(const trine_dataset *ds, const char *source, const char **text, bool *keep)
{
    const size_t length = strcspn(*text, ",");
    char glob[TRINE__ITEM_BYTES];
    bool found = false;
    TRINE_CHECK(length < sizeof glob, TRINE_ERR_ARG, "classes: a name of %zu bytes, at most %zu", length,
                sizeof glob - 1);
    memcpy(glob, *text, length);
    glob[length] = '\0';
    *text += length;
    TRINE_TRY(trine__glob_check(glob));
    for (int c = 0; keep && c < ds->class_count; c++) {
        if (!trine__glob_match(glob, ds->names.data + ds->class_names[c])) continue;
        keep[c] = true;
        found = true;
    }
    TRINE_CHECK(!keep || found, TRINE_ERR_DATA, "%s: has no class called '%s'", source, glob);
    return TRINE_OK;
}

/* Mark keep[0..class_count) from numbers, ranges and globs of names. keep NULL: check the syntax alone. */
static trine_status select_classes(const trine_dataset *ds, const char *source, const char *classes,
                                   bool *keep)
{
    const char *p = classes;
    do {
        long low, high;
        if (is_name(p)) {
            TRINE_TRY(select_names(ds, source, &p, keep));
            continue;
        }
        bool ok = take_number(&p, &low);
        high = low;
        if (ok && *p == '-') {
            p++;
            ok = take_number(&p, &high) && high >= low;
        }
        TRINE_CHECK(ok && (*p == ',' || *p == '\0'), TRINE_ERR_ARG,
                    "classes: '%s' is malformed, expected numbers, ranges and names such as 0-4 or 1,3,cat*",
                    classes);
        TRINE_CHECK(!keep || high < ds->class_count, TRINE_ERR_DATA,
                    "%s: has no class %ld, classes are 0 to %d", source, high, ds->class_count - 1);
        for (long c = low; keep && c <= high; c++) keep[c] = true;
    } while (*p++ == ',');
    return TRINE_OK;
}

trine_status trine__dataset_select(const trine_dataset *ds, const char *source, const char *classes,
                                   bool *keep)
{
    if (classes) return select_classes(ds, source, classes, keep);
    for (int c = 0; c < ds->class_count; c++) keep[c] = true;
    return TRINE_OK;
}

/* Leave out classes of fewer than `fewest` images, and of the others all but the first `most` (0: all). */
static trine_status limit_counts(trine_dataset *ds, const char *source, size_t fewest, size_t most)
{
    void *memory;
    size_t kept = 0;
    TRINE_TRY(trine__calloc(2 * (size_t)ds->class_count, sizeof(size_t), &memory));
    size_t *have = memory, *taken = have + ds->class_count;
    for (size_t i = 0; i < ds->count; i++) have[ds->items[i].label]++;
    for (size_t i = 0; i < ds->count; i++) {
        const int label = ds->items[i].label;
        if (have[label] < fewest || (most && taken[label] >= most)) continue;
        taken[label]++;
        ds->items[kept++] = ds->items[i];
    }
    free(memory);
    TRINE_CHECK(kept > 0, TRINE_ERR_DATA, "%s: no class has %zu images", source, fewest);
    ds->count = kept;
    return TRINE_OK;
}

static trine_status create(void **out)
{
    void *memory, *known;
    TRINE_TRY(trine__calloc(1, sizeof(trine_dataset), &memory));
    trine_status status = trine__calloc(1, sizeof(atomic_ullong), &known);
    if (status != TRINE_OK) {
        free(memory);
        return status;
    }
    ((trine_dataset *)memory)->one_size = known;
    *out = memory;
    return TRINE_OK;
}

static trine_status finish(trine_dataset *ds, trine_status status, trine_dataset **out)
{
    if (status == TRINE_OK && ds->names.failed)
        status = trine__fail(TRINE_ERR_NOMEM, "out of memory for image names");
    if (status == TRINE_OK)
        *out = ds;
    else
        trine_dataset_destroy(&ds);
    return status;
}

static bool ends_in_csv(const char *source)
{
    const size_t length = strlen(source);
    return length > 4 && strcmp(source + length - 4, ".csv") == 0;
}

static trine_status fill(trine_dataset *ds, const char *source, const char *classes)
{
    if (strncmp(source, "idx:", 4) == 0) return trine__dataset_open_idx(ds, source, source + 4, classes);
    if (strncmp(source, "npy:", 4) == 0) return trine__dataset_open_npy(ds, source, source + 4, classes);
    if (strncmp(source, "csv:", 4) == 0) return trine__dataset_open_csv(ds, source + 4, classes);
    if (ends_in_csv(source)) return trine__dataset_open_csv(ds, source, classes);
    return trine__dataset_open_folders(ds, source, classes);
}

trine_status trine_dataset_open_with(const char *source, const trine_dataset_options *options,
                                     trine_dataset **out)
{
    void *memory;
    const char *classes = options->classes;
    if (classes) TRINE_TRY(select_classes(NULL, source, classes, NULL));
    TRINE_TRY(create(&memory));
    trine_dataset *ds = memory;
    trine_status status = fill(ds, source, classes);
    if (status == TRINE_OK && (options->min_per_class > 1 || options->max_per_class))
        status = limit_counts(ds, source, options->min_per_class, options->max_per_class);
    return finish(ds, status, out);
}

trine_status trine_dataset_open(const char *source, const char *classes, trine_dataset **out)
{
    const trine_dataset_options options = {.classes = classes};
    return trine_dataset_open_with(source, &options, out);
}

trine_status trine_dataset_single(const char *path, trine_dataset **out)
{
    void *memory;
    TRINE_TRY(create(&memory));
    trine_dataset *ds = memory;
    trine_status status = trine__dataset_set_classes(ds, 1);
    if (status == TRINE_OK) {
        trine__dataset_name_class(ds, 0, "0", 1);
        status = trine__dataset_add(ds, 0, 0);
        trine__text_add_bytes(&ds->names, path, strlen(path) + 1);
    }
    return finish(ds, status, out);
}

size_t trine_dataset_count(const trine_dataset *ds)
{
    return ds->count;
}

int trine_dataset_label(const trine_dataset *ds, size_t i)
{
    return ds->items[i].label;
}

const char *trine_dataset_name(const trine_dataset *ds, size_t i)
{
    return ds->names.data + ds->items[i].name;
}

int trine_dataset_class_count(const trine_dataset *ds)
{
    return ds->class_count;
}

const char *trine_dataset_class_name(const trine_dataset *ds, int class_number)
{
    return ds->names.data + ds->class_names[class_number];
}

int trine_dataset_is_idx(const trine_dataset *ds)
{
    return ds->is_idx;
}

trine_status trine_dataset_image(const trine_dataset *ds, size_t i, trine_image *out)
{
    TRINE_CHECK(i < ds->count, TRINE_ERR_ARG, "image %zu is out of range, the data set has %zu", i,
                ds->count);
    const trine__pixels *p = &ds->pixels;
    if (!p->channels) return trine_image_read(trine_dataset_name(ds, i), out);
    trine_image image;
    TRINE_TRY(trine__image_new(trine_dataset_name(ds, i), p->width, p->height, &image));
    const size_t pixels = (size_t)p->height * p->width, values = pixels * (size_t)p->channels;
    const unsigned char *in = p->items + ds->items[i].number * values;
    if (p->channels == 3) memcpy(image.rgb, in, values);
    for (size_t k = 0; p->channels == 1 && k < pixels; k++)
        image.rgb[3 * k] = image.rgb[3 * k + 1] = image.rgb[3 * k + 2] = in[k];
    *out = image;
    return TRINE_OK;
}

trine_status trine_dataset_statistics(const trine_dataset *ds, float mean[3], float std[3])
{
    uint64_t histogram[3][256] = {{0}}; /* exact whatever the order and number of pixels */
    for (size_t i = 0; i < ds->count; i++) {
        trine_image image;
        TRINE_TRY(trine_dataset_image(ds, i, &image));
        const size_t pixels = (size_t)image.width * (size_t)image.height;
        for (size_t p = 0; p < pixels; p++) {
            for (int c = 0; c < 3; c++) histogram[c][image.rgb[3 * p + (size_t)c]]++;
        }
        trine_image_free(&image);
    }
    for (int c = 0; c < 3; c++) {
        double count = 0, sum = 0, squares = 0;
        for (int v = 0; v < 256; v++) {
            count += (double)histogram[c][v];
            sum += (double)histogram[c][v] * v;
        }
        const double center = sum / count;
        for (int v = 0; v < 256; v++) squares += (double)histogram[c][v] * (v - center) * (v - center);
        mean[c] = (float)(center / 255.0);
        std[c] = (float)(sqrt(squares / count) / 255.0);
    }
    return TRINE_OK;
}

void trine_dataset_destroy(trine_dataset **ds)
{
    if (!ds || !*ds) return;
    free((void *)(*ds)->one_size);
    free((*ds)->items);
    free((*ds)->class_names);
    free((*ds)->pixels.items);
    trine__text_free(&(*ds)->names);
    free(*ds);
    *ds = NULL;
}
