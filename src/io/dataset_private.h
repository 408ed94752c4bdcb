/* SPDX-License-Identifier: MIT */
/* A data set while it is made: dataset.c opens and answers, and a file for each kind of source fills it. Names lie in one arena;
 * nothing changes after opening, but for what a question about its files has found out. */
#ifndef TRINE_IO_DATASET_PRIVATE_H
#define TRINE_IO_DATASET_PRIVATE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/text.h"
#include "trine/image.h"

struct trine__item {
    size_t name;   /* offset into names */
    size_t number; /* index in `pixels` */
    int label;
};

/* Images that are in memory already: [count][height][width][channels], owned. */
typedef struct trine__pixels {
    unsigned char *items;
    uint32_t count, height, width;
    int channels; /* 1 or 3; 0: images are files */
} trine__pixels;

struct trine_dataset {
    bool is_idx;
    struct trine__item *items;
    size_t count, capacity;
    trine__text names;   /* NUL-terminated, one after the other */
    size_t *class_names; /* [class_count] offsets into names */
    int class_count;
    trine__pixels pixels;
    atomic_ullong *
        one_size; /* width << 32 | height of all images, once trine_dataset_one_size() has found them; 0: not known */
};

/* The next image; its name is what is added to ds->names next, with a closing NUL. */
trine_status trine__dataset_add(trine_dataset *ds, int label, size_t number);
/* Room for the classes; each must be named. */
trine_status trine__dataset_set_classes(trine_dataset *ds, size_t count);
void trine__dataset_name_class(trine_dataset *ds, int class_number, const char *name, size_t length);
/* Mark those of the named classes that `classes` (NULL: all) takes in keep[0..class_count). */
trine_status trine__dataset_select(const trine_dataset *ds, const char *source, const char *classes,
                                   bool *keep);

/* Sources. `classes` is well-formed, or NULL. */
trine_status trine__dataset_open_folders(trine_dataset *ds, const char *source, const char *classes);
trine_status trine__dataset_open_csv(trine_dataset *ds, const char *path, const char *classes);
/* `files`: what follows idx: or npy: in `source` */
trine_status trine__dataset_open_idx(trine_dataset *ds, const char *source, const char *files,
                                     const char *classes);
trine_status trine__dataset_open_npy(trine_dataset *ds, const char *source, const char *files,
                                     const char *classes);

#endif
