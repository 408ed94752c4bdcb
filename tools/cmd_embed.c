/* SPDX-License-Identifier: MIT */
/* trine embed: images to vectors. */
#include "cli_data.h"
#include "cli_network.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const cli_option own_options[] = {
    {"out", CLI_TEXT, CLI_AT(out), "E.npy", NULL, 0, 0,
     "float32 [images][values] to write; a name in .fvecs: in that format"},
    {"list", CLI_TEXT, CLI_AT(list), "E.txt", NULL, 0, 0, "the image's path of every row, a line each"},
    {"layer", CLI_CHOICE, CLI_AT(layer), "embedding|logits", "embedding", 0, 0,
     "what to write; logits are the output of fc as it is"},
    {"batch", CLI_INT, CLI_AT(batch), "B", "32", 1, 65536, "images at a time"},
};
static const cli_section own_section = CLI_SECTION("Output", own_options);
static const cli_section *const sections[] = {&own_section,        &cli_network_section,
                                              &cli_bn_section,     &cli_precision_section,
                                              &cli_source_section, &cli_preprocess_section};

static int write_list(const char *path, const cli_source *source, const trine_vectors *vectors)
{
    char *text = NULL;
    size_t size = 0;
    int code = CLI_OK;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL) return cli_error(CLI_FAILED, "out of memory");
    for (size_t i = 0; i < vectors->count; i++) {
        if (source->dataset != NULL)
            fprintf(stream, "%s\n", trine_dataset_name(source->dataset, (size_t)vectors->indices[i]));
        else
            fprintf(stream, "%s#%zu\n", source->name, i);
    }
    if (fclose(stream) != 0)
        code = cli_error(CLI_FAILED, "out of memory");
    else if (cli_write_file(path, text, size) != 0)
        code = cli_error(CLI_FAILED, "--list %s: cannot be written: %s", path, strerror(errno));
    free(text);
    return code;
}

static int check_outputs(const cli_run *run)
{
    struct stat info;
    int code = CLI_OK;
    if (run->v.out == NULL) return cli_usage(&run->command->syntax, "--out E.npy is needed");
    CLI_RUN(cli_check_writable("--out", run->v.out));
    if (stat(run->v.out, &info) == 0 && !S_ISREG(info.st_mode)) /* a file takes the place of what was there */
        return cli_error(CLI_FAILED, "--out %s: is not a regular file", run->v.out);
    if (run->v.list != NULL && strcmp(run->v.list, run->v.out) == 0)
        return cli_usage(&run->command->syntax, "--out and --list are the same file");
    if (run->v.list != NULL) CLI_RUN(cli_check_writable("--list", run->v.list));
cleanup:
    return code;
}

static int embed(cli_run *run)
{
    cli_source source = {0};
    trine_preprocess preprocess;
    trine_vectors vectors = {0};
    cli_progress progress;
    int code = CLI_OK;
    cli_progress_begin(&progress, "embedding", "images", run->v.quiet);
    CLI_RUN(check_outputs(run));
    CLI_RUN(cli_read_weights(run));
    CLI_RUN(cli_open_source(run, &source));
    CLI_RUN(cli_open_network(run, 0));
    cli_warn_untracked(run);
    CLI_RUN(cli_check_channels(&source, run->net));
    CLI_RUN(cli_choose_preprocess(run, source.dataset, trine_resnet_arch(run->net), 0, &preprocess));
    trine_embed_options options = cli_embed_options(run, &preprocess, &progress);
    if (run->v.layer == 1) {
        options.embedding = TRINE_EMBED_FC;
        options.normalize = 0;
    }
    CLI_RUN(cli_embed_source(run, &source, &options, &vectors));
    cli_progress_end(&progress);
    CLI_TRY(trine_vectors_write(run->v.out, vectors.data, vectors.count, vectors.dim));
    if (run->v.list != NULL) CLI_RUN(write_list(run->v.list, &source, &vectors));
    cli_set(run->json, "count", (double)vectors.count);
    cli_set(run->json, "dim", vectors.dim);
    cli_set(run->json, "bad_images", (double)vectors.bad);
    cli_print(run, "%zu vectors of %d values in %s\n", vectors.count, vectors.dim, run->v.out);
cleanup:
    cli_progress_end(&progress);
    trine_vectors_free(&vectors);
    cli_close_source(&source);
    return code;
}

const cli_command cmd_embed = {{"embed", "", "turn images into vectors", 0, 0, sections,
                                CLI_COUNTOF(sections), "Evaluation mode: the network cannot change."},
                               embed};
