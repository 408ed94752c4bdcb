/* SPDX-License-Identifier: MIT */
/* Data sets: a folder per class, one folder, one file, or IDX. Names lie in one arena; nothing changes after
 * opening. */
#include "trine/image.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/text.h"
#include "io/idx.h"
#include "io/image_private.h"

struct item {
    size_t name;   /* offset into names */
    size_t number; /* IDX: index in the file */
    int label;
};

struct trine_dataset {
    bool is_idx;
    struct item *items;
    size_t count, capacity;
    trine__text names;   /* NUL-terminated, one after the other */
    size_t *class_names; /* [class_count] offsets into names */
    int class_count;
    trine__idx pixels; /* IDX only */
};

struct list {
    char **names;
    size_t count, capacity;
};

static void list_free(struct list *l)
{
    for (size_t i = 0; i < l->count; i++) free(l->names[i]);
    free(l->names);
}

static trine_status list_add(struct list *l, const char *name)
{
    void *names = l->names;
    TRINE_TRY(trine__reserve(&names, &l->capacity, l->count + 1, sizeof *l->names));
    l->names = names;
    TRINE_TRY(trine__strdup(name, &l->names[l->count]));
    l->count++;
    return TRINE_OK;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_image_name(const char *name)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".pbm", ".pnm"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < TRINE_COUNTOF(endings); i++) {
        if (strcasecmp(dot, endings[i]) == 0) return true;
    }
    return false;
}

/* Sorted names of the sub-folders or of the image files; hidden ones (.git, ._0001.jpg) are not listed. */
static trine_status list_folder(const char *path, bool folders, struct list *out)
{
    trine_status status = TRINE_OK;
    struct list l = {0};
    DIR *dir = opendir(path);
    TRINE_CHECK(dir, TRINE_ERR_OPEN,
                errno == ENOTDIR ? "%s: is a file, expected a folder of images (%s)"
                                 : "%s: folder cannot be opened: %s",
                path, strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            TRINE_CHECK_GOTO(errno == 0, TRINE_ERR_OPEN, "%s: folder cannot be read: %s", path,
                             strerror(errno));
            break;
        }
        if (entry->d_name[0] == '.' || (!folders && !is_image_name(entry->d_name))) continue;
        struct stat st; /* follows links; a dangling one is a file that cannot be read */
        const bool known = fstatat(dirfd(dir), entry->d_name, &st, 0) == 0;
        if ((known && S_ISDIR(st.st_mode)) == folders) TRINE_TRY_GOTO(list_add(&l, entry->d_name));
    }
    if (l.count) qsort(l.names, l.count, sizeof *l.names, by_bytes);
    *out = l;
    l = (struct list){0};
cleanup:
    list_free(&l);
    closedir(dir);
    return status;
}

static trine_status add_item(trine_dataset *ds, int label, size_t number)
{
    void *items = ds->items;
    TRINE_CHECK(ds->count < INT_MAX, TRINE_ERR_DATA, "more than %d images in one data set", INT_MAX);
    TRINE_TRY(trine__reserve(&items, &ds->capacity, ds->count + 1, sizeof *ds->items));
    ds->items = items;
    ds->items[ds->count++] = (struct item){ds->names.length, number, label};
    return TRINE_OK;
}

static trine_status set_class_count(trine_dataset *ds, size_t count)
{
    void *memory;
    TRINE_CHECK(count <= INT_MAX, TRINE_ERR_DATA, "%zu classes in one data set", count);
    TRINE_TRY(trine__calloc(count, sizeof *ds->class_names, &memory));
    ds->class_names = memory;
    ds->class_count = (int)count;
    return TRINE_OK;
}

static void name_class(trine_dataset *ds, int c, const char *name, size_t length)
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

/* Mark keep[0..class_count) from numbers and ranges; NULL keeps all. keep NULL: check the syntax alone. */
static trine_status select_classes(const char *source, const char *classes, int class_count, bool *keep)
{
    const char *p = classes;
    do {
        long low, high;
        bool ok = take_number(&p, &low);
        high = low;
        if (ok && *p == '-') {
            p++;
            ok = take_number(&p, &high) && high >= low;
        }
        TRINE_CHECK(ok && (*p == ',' || *p == '\0'), TRINE_ERR_ARG,
                    "classes: '%s' is malformed, expected numbers and ranges such as 0-4 or 1,3,5-9",
                    classes);
        TRINE_CHECK(!keep || high < class_count, TRINE_ERR_DATA, "%s: has no class %ld, classes are 0 to %d",
                    source, high, class_count - 1);
        for (long c = low; keep && c <= high; c++) keep[c] = true;
    } while (*p++ == ',');
    return TRINE_OK;
}

static trine_status add_folder(trine_dataset *ds, const char *path, int label)
{
    struct list files = {0};
    trine_status status = list_folder(path, false, &files);
    const size_t length = strlen(path);
    const char *slash = length && path[length - 1] == '/' ? "" : "/";
    for (size_t i = 0; status == TRINE_OK && i < files.count; i++) {
        status = add_item(ds, label, i);
        trine__text_add(&ds->names, "%s%s%s", path, slash, files.names[i]);
        trine__text_add_bytes(&ds->names, "", 1);
    }
    list_free(&files);
    return status;
}

/* Last part of the path, without closing slashes. */
static void name_single_class(trine_dataset *ds, const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    name_class(ds, 0, path + begin, end - begin);
}

static trine_status open_folders(trine_dataset *ds, const char *source, const char *classes)
{
    trine_status status = TRINE_OK;
    struct list folders = {0};
    char *path = NULL;
    void *keep = NULL;
    TRINE_TRY(list_folder(source, true, &folders));
    const size_t count = folders.count ? folders.count : 1, length = strlen(source);
    TRINE_TRY_GOTO(set_class_count(ds, count));
    TRINE_TRY_GOTO(trine__calloc(count, sizeof(bool), &keep));
    if (classes) TRINE_TRY_GOTO(select_classes(source, classes, ds->class_count, keep));
    if (!folders.count) {
        name_single_class(ds, source);
        TRINE_TRY_GOTO(add_folder(ds, source, 0));
    }
    for (size_t c = 0; c < folders.count; c++) {
        const char *name = folders.names[c];
        name_class(ds, (int)c, name, strlen(name));
        if (classes && !((bool *)keep)[c]) continue;
        trine__text t = {0};
        trine__text_add(&t, "%s%s%s", source, length && source[length - 1] == '/' ? "" : "/", name);
        TRINE_TRY_GOTO(trine__text_take(&t, &path));
        TRINE_TRY_GOTO(add_folder(ds, path, (int)c));
        free(path);
        path = NULL;
    }
    TRINE_CHECK_GOTO(ds->count > 0, TRINE_ERR_DATA,
                     "%s: holds no images (.jpg .jpeg .png .ppm .pgm .pbm .pnm)%s", source,
                     classes ? " of the selected classes" : "");
cleanup:
    list_free(&folders);
    free(path);
    free(keep);
    return status;
}

static trine_status add_idx_items(trine_dataset *ds, const char *images, const char *classes,
                                  const trine__idx *labels)
{
    bool keep[256] = {false};
    int largest = -1;
    for (size_t i = 0; i < labels->size[0]; i++)
        largest = labels->items[i] > largest ? labels->items[i] : largest;
    TRINE_CHECK(largest >= 0, TRINE_ERR_DATA, "%s: holds no images", images);
    TRINE_TRY(set_class_count(ds, (size_t)largest + 1));
    for (int c = 0; c <= largest; c++) {
        ds->class_names[c] = ds->names.length;
        trine__text_add(&ds->names, "%d", c);
        trine__text_add_bytes(&ds->names, "", 1);
    }
    if (classes) TRINE_TRY(select_classes(images, classes, ds->class_count, keep));
    for (size_t i = 0; i < labels->size[0]; i++) {
        if (classes && !keep[labels->items[i]]) continue;
        TRINE_TRY(add_item(ds, labels->items[i], i));
        trine__text_add(&ds->names, "%s#%zu", images, i);
        trine__text_add_bytes(&ds->names, "", 1);
    }
    TRINE_CHECK(ds->count > 0, TRINE_ERR_DATA, "%s: holds no images of the selected classes", images);
    return TRINE_OK;
}

static trine_status open_idx(trine_dataset *ds, const char *source, const char *files, const char *classes)
{
    trine_status status = TRINE_OK;
    trine__idx labels = {0};
    char *images;
    const char *comma = strrchr(files, ',');
    TRINE_CHECK(comma && comma > files && comma[1], TRINE_ERR_ARG, "%s: expected idx:IMAGES,LABELS", source);
    TRINE_TRY(trine__strdup(files, &images));
    images[comma - files] = '\0';
    TRINE_TRY_GOTO(trine__idx_read(images, 3, &ds->pixels));
    TRINE_TRY_GOTO(trine__idx_read(comma + 1, 1, &labels));
    const uint32_t *size = ds->pixels.size;
    TRINE_CHECK_GOTO(size[0] == labels.size[0], TRINE_ERR_DATA, "%s: holds %u images, but %s holds %u labels",
                     images, (unsigned)size[0], comma + 1, (unsigned)labels.size[0]);
    TRINE_CHECK_GOTO(size[0] == 0 ||
                         (size[1] >= 1 && size[2] >= 1 && size[2] <= TRINE__IMAGE_PIXELS_MAX / size[1]),
                     TRINE_ERR_FORMAT, "%s: images of %ux%u pixels, expected 1 to %d pixels", images,
                     (unsigned)size[2], (unsigned)size[1], (int)TRINE__IMAGE_PIXELS_MAX);
    ds->is_idx = true;
    TRINE_TRY_GOTO(add_idx_items(ds, images, classes, &labels));
cleanup:
    free(labels.items);
    free(images);
    return status;
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

trine_status trine_dataset_open(const char *source, const char *classes, trine_dataset **out)
{
    void *memory;
    if (classes) TRINE_TRY(select_classes(source, classes, 0, NULL));
    TRINE_TRY(trine__calloc(1, sizeof(trine_dataset), &memory));
    trine_dataset *ds = memory;
    const bool idx = strncmp(source, "idx:", 4) == 0;
    return finish(ds, idx ? open_idx(ds, source, source + 4, classes) : open_folders(ds, source, classes),
                  out);
}

trine_status trine_dataset_single(const char *path, trine_dataset **out)
{
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_dataset), &memory));
    trine_dataset *ds = memory;
    trine_status status = set_class_count(ds, 1);
    if (status == TRINE_OK) {
        name_class(ds, 0, "0", 1);
        status = add_item(ds, 0, 0);
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
    if (!ds->is_idx) return trine_image_read(trine_dataset_name(ds, i), out);
    const uint32_t *size = ds->pixels.size;
    trine_image image;
    TRINE_TRY(trine__image_new(trine_dataset_name(ds, i), size[2], size[1], &image));
    const size_t pixels = (size_t)size[1] * size[2];
    const unsigned char *in = ds->pixels.items + ds->items[i].number * pixels;
    for (size_t p = 0; p < pixels; p++)
        image.rgb[3 * p] = image.rgb[3 * p + 1] = image.rgb[3 * p + 2] = in[p];
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
    free((*ds)->items);
    free((*ds)->class_names);
    free((*ds)->pixels.items);
    trine__text_free(&(*ds)->names);
    free(*ds);
    *ds = NULL;
}
