/* SPDX-License-Identifier: MIT */
/* Data sets in folders: a folder per class, or one folder. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "io/dataset_private.h"

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

static trine_status add_folder(trine_dataset *ds, const char *path, int label)
{
    struct list files = {0};
    trine_status status = list_folder(path, false, &files);
    const size_t length = strlen(path);
    const char *slash = length && path[length - 1] == '/' ? "" : "/";
    for (size_t i = 0; status == TRINE_OK && i < files.count; i++) {
        status = trine__dataset_add(ds, label, i);
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
    trine__dataset_name_class(ds, 0, path + begin, end - begin);
}

/* There are no images in `source`: are they a folder deeper than classes lie? */
static trine_status fail_empty(const char *source, const struct list *folders, const char *classes)
{
    for (size_t c = 0; c < folders->count; c++) {
        struct list inner = {0};
        char *path = NULL;
        trine__text t = {0};
        trine__text_add(&t, "%s/%s", source, folders->names[c]);
        TRINE_TRY(trine__text_take(&t, &path));
        const bool deeper = list_folder(path, true, &inner) == TRINE_OK && inner.count > 0;
        const trine_status status =
            !deeper
                ? TRINE_OK
                : trine__fail(TRINE_ERR_DATA,
                              "%s: holds no images in its folders, but folders, such as %s in %s: expected a "
                              "folder of one folder of images per class",
                              source, inner.names[0], folders->names[c]);
        list_free(&inner);
        free(path);
        if (status != TRINE_OK) return status;
    }
    return trine__fail(TRINE_ERR_DATA, "%s: holds no images (.jpg .jpeg .png .ppm .pgm .pbm .pnm)%s", source,
                       classes ? " of the selected classes" : "");
}

trine_status trine__dataset_open_folders(trine_dataset *ds, const char *source, const char *classes)
{
    trine_status status = TRINE_OK;
    struct list folders = {0};
    char *path = NULL;
    void *keep = NULL;
    TRINE_TRY(list_folder(source, true, &folders));
    const size_t count = folders.count ? folders.count : 1, length = strlen(source);
    TRINE_TRY_GOTO(trine__dataset_set_classes(ds, count));
    TRINE_TRY_GOTO(trine__calloc(count, sizeof(bool), &keep));
    if (!folders.count) name_single_class(ds, source);
    for (size_t c = 0; c < folders.count; c++)
        trine__dataset_name_class(ds, (int)c, folders.names[c], strlen(folders.names[c]));
    TRINE_TRY_GOTO(trine__dataset_select(ds, source, classes, keep));
    if (!folders.count) TRINE_TRY_GOTO(add_folder(ds, source, 0));
    for (size_t c = 0; c < folders.count; c++) {
        const char *name = folders.names[c];
        if (!((bool *)keep)[c]) continue;
        trine__text t = {0};
        trine__text_add(&t, "%s%s%s", source, length && source[length - 1] == '/' ? "" : "/", name);
        TRINE_TRY_GOTO(trine__text_take(&t, &path));
        TRINE_TRY_GOTO(add_folder(ds, path, (int)c));
        free(path);
        path = NULL;
    }
    if (ds->count == 0) status = fail_empty(source, &folders, classes);
cleanup:
    list_free(&folders);
    free(path);
    free(keep);
    return status;
}
