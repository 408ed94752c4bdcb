/* SPDX-License-Identifier: MIT */
/* What goes into an index or is looked for in one: vectors of images or of a file, with their names. */
#ifndef TRINE_TOOLS_CLI_INDEX_H
#define TRINE_TOOLS_CLI_INDEX_H

#include "cli_common.h"

typedef struct cli_items {
    trine_vectors vectors;
    const char **paths;   /* [count] an image's path, or FILE#row; a line of --list */
    const char **classes; /* [count] or NULL */
    char *text;           /* that paths point to */
    trine_dataset *dataset;
    trine_preprocess preprocess;
    int from_images;
} cli_items;

/* Does the name of an index end as one does? */
int cli_check_index_name(const cli_run *run, const char *what, const char *path);
/* Vectors of --vectors, or of the images that the command's source names, by the network of --weights. With an index they are made as
 * its own were, by the same network, and their length is its own. */
int cli_items_read(cli_run *run, const trine_index *index, cli_items *items);
/* Into the metadata: how the items' vectors were made. */
int cli_items_describe(cli_run *run, const cli_items *items, trine_index *index);
void cli_items_free(cli_items *items);

#endif
