/* SPDX-License-Identifier: MIT */
/* Option rows that embed, eval, drift and recalibrate share. */
#include "cli_network.h"

static const cli_option network_options[] = {
    {"weights", CLI_TEXT, CLI_AT(weights), "FILE", NULL, 0, 0, "safetensors or a PyTorch checkpoint"},
    {"arch", CLI_TEXT, CLI_AT(arch), "A", NULL, 0, 0, "variant; not given: found from the weights"},
    {"embedding", CLI_CHOICE, CLI_AT(embedding), "pool|fc", NULL, 0, 0,
     "globally pooled features, or the output of fc; not given: what the weights file says, else pool"},
    {"normalize", CLI_FLAG, CLI_AT(normalize), NULL, "-1", 0, 0, "scale embeddings to length 1"},
    {"no-normalize", CLI_NO, CLI_AT(normalize), NULL, NULL, 0, 0,
     "leave them as they are; neither given: what the weights file says, else as they are"},
};
const cli_section cli_network_section = CLI_SECTION("Network", network_options);
const cli_section cli_embedding_section = {"Network", network_options, 3};

static const cli_option bn_options[] = {
    {"bn", CLI_TEXT, CLI_AT(bn), "SPEC", NULL, 0, 0,
     "BatchNorm settings that the weights file does not hold: [GLOB=]POLICY[:momentum=X][:eps=X],...; "
     "evaluation "
     "takes eps, such as eval:eps=1e-3 for a network from Keras"},
};
const cli_section cli_bn_section = CLI_SECTION("BatchNorm", bn_options);

static const cli_option precision_options[] = {
    {"precision", CLI_CHOICE, CLI_AT(precision), "fp32|fp16", "fp32", 0, 0,
     "how activations and their gradients are stored; all arithmetic, weights and statistics are single "
     "precision"},
};
const cli_section cli_precision_section = CLI_SECTION("Precision", precision_options);

#define MIN_PER_CLASS                                                                                        \
    {                                                                                                        \
        "min-per-class", CLI_INT, CLI_AT(min_per_class), "N", NULL, 1, 1000000000,                           \
            "leave classes of fewer images out of --data"                                                    \
    }
#define MAX_PER_CLASS                                                                                        \
    {                                                                                                        \
        "max-per-class", CLI_INT, CLI_AT(max_per_class), "N", NULL, 1, 1000000000,                           \
            "take the first N images of a class of --data"                                                   \
    }
static const cli_option training_data_options[] = {
    MIN_PER_CLASS,
    MAX_PER_CLASS,
    {"data-report", CLI_FLAG, CLI_AT(data_report), NULL, "1", 0, 0,
     "look at the images first: sizes, unreadable ones, uneven classes, images that are there twice (the "
     "default)"},
    {"no-data-report", CLI_NO, CLI_AT(data_report), NULL, NULL, 0, 0, "begin without a look"},
};
const cli_section cli_training_data_section = CLI_SECTION("A look at the data", training_data_options);

static const cli_option source_options[] = {
    {"data", CLI_TEXT, CLI_AT(data), "D", NULL, 0, 0,
     "a folder of one folder per class, LIST.csv of path,label, idx:IMAGES,LABELS or npy:IMAGES,LABELS"},
    {"classes", CLI_TEXT, CLI_AT(classes), "LIST", NULL, 0, 0,
     "class numbers and names to take, such as 0-4 or 1,cat*"},
    MIN_PER_CLASS,
    MAX_PER_CLASS,
    {"image", CLI_TEXT, CLI_AT(image), "FILE", NULL, 0, 0, "instead of --data: one image"},
    {"input", CLI_TEXT, CLI_AT(input), "X.npy", NULL, 0, 0,
     "instead of --data: float32 [n][c][h][w], normalised already"},
};
const cli_section cli_source_section = CLI_SECTION("Data", source_options);
