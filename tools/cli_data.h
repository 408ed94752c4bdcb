/* SPDX-License-Identifier: MIT */
/* Data for the commands: images from --data, --image or --input, and the preprocessing that they get. */
#ifndef TRINE_TOOLS_CLI_DATA_H
#define TRINE_TOOLS_CLI_DATA_H

#include "cli_common.h"

/* What the images come from: a data set, or an array that is preprocessed already. */
typedef struct cli_source {
    trine_dataset *dataset; /* NULL with --input */
    trine_array array;      /* float32 [n][c][h][w] with --input */
    trine_shape shape;      /* of the array */
    int *labels;            /* [n] of --labels, or NULL */
    const char *name;       /* as given */
} cli_source;

/* --data with --classes, --min-per-class and --max-per-class, or --val, which takes --classes only. */
int cli_open_data(const cli_run *run, trine_dataset **out);
int cli_open_val(const cli_run *run, trine_dataset **out);

/* Open the one of --data, --image and --input that is given, and --labels. */
int cli_open_source(cli_run *run, cli_source *source);
void cli_close_source(cli_source *source);
/* Labels of a .npy file: `count` class numbers of what `things` are. The caller frees them. */
int cli_read_labels(const char *path, size_t count, const char *things, int **out);
/* Images of the source. */
size_t cli_source_count(const cli_source *source);
/* Do the channels of --input fit the network? */
int cli_check_channels(const cli_source *source, const trine_resnet *net);

/* Preprocessing by options, else metadata, else what suits the network and the data.
 * `training`: IDX data may be measured for its mean and std. */
int cli_choose_preprocess(cli_run *run, const trine_dataset *data, const char *arch, int training,
                          trine_preprocess *out);
/* "resize 256, crop 224, mean 0.485 0.456 0.406, std 0.229 0.224 0.225" */
void cli_preprocess_text(const trine_preprocess *preprocess, char *out, size_t size);

/* Options of trine_embed_dataset() from the command line. */
trine_embed_options cli_embed_options(cli_run *run, const trine_preprocess *preprocess,
                                      cli_progress *progress);
/* Vectors of a source; labels are filled for both kinds where there are any. */
int cli_embed_source(cli_run *run, const cli_source *source, const trine_embed_options *options,
                     trine_vectors *out);

/* Number of classes that have images, and {"number": "name"} of them. */
int cli_classes_present(const trine_dataset *data, int *out);
cJSON *cli_class_names(const trine_dataset *data);

/* The figures of a retrieval as keys of an object, and as a line. */
void cli_set_retrieval(cJSON *object, const trine_retrieval *figures);

#endif
