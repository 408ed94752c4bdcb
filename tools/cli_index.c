/* SPDX-License-Identifier: MIT */
#include "cli_index.h"

#include "cli_data.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_check_index_name(const cli_run *run, const char *what, const char *path)
{
    if (cli_has_ending(path, ".index") || cli_has_ending(path, ".safetensors")) return CLI_OK;
    return cli_usage(&run->command->syntax, "%s '%s': an index is named .index or .safetensors", what, path);
}

static int allocate_names(cli_items *items, int classes)
{
    const size_t count = items->vectors.count;
    items->paths = calloc(count, sizeof *items->paths);
    if (classes) items->classes = calloc(count, sizeof *items->classes);
    if (items->paths == NULL || (classes && items->classes == NULL))
        return cli_error(CLI_FAILED, "out of memory");
    return CLI_OK;
}

/* The lines of --list into items->text; a path each. */
static int read_list(const cli_run *run, cli_items *items)
{
    size_t size = 0, lines = 0;
    char buffer[1 << 14];
    FILE *in = fopen(run->v.list, "rb"), *out = in != NULL ? open_memstream(&items->text, &size) : NULL;
    if (in == NULL)
        return cli_error(CLI_BAD_INPUT, "--list %s: cannot be read: %s", run->v.list, strerror(errno));
    for (size_t got; out != NULL && (got = fread(buffer, 1, sizeof buffer, in)) > 0;)
        fwrite(buffer, 1, got, out);
    const int failed = ferror(in);
    fclose(in);
    if (failed) return cli_error(CLI_BAD_INPUT, "--list %s: cannot be read", run->v.list);
    if (out == NULL || fclose(out) != 0) return cli_error(CLI_FAILED, "out of memory");
    for (char *line = items->text; (size_t)(line - items->text) < size; lines++) {
        char *end = strchr(line, '\n');
        if (end == NULL) end = items->text + size; /* where open_memstream() puts a NUL */
        *end = '\0';
        if (lines < items->vectors.count) items->paths[lines] = line;
        line = end + 1;
    }
    if (lines == items->vectors.count) return CLI_OK;
    return cli_error(CLI_BAD_INPUT, "--list %s: %zu lines for %zu vectors", run->v.list, lines,
                     items->vectors.count);
}

/* "NAME#row" for every row, into items->text. */
static int number_rows(const char *name, cli_items *items)
{
    size_t size = 0;
    FILE *out = open_memstream(&items->text, &size);
    if (out == NULL) return cli_error(CLI_FAILED, "out of memory");
    for (size_t i = 0; i < items->vectors.count; i++) fprintf(out, "%s#%zu%c", name, i, 0);
    if (fclose(out) != 0) return cli_error(CLI_FAILED, "out of memory");
    const char *at = items->text;
    for (size_t i = 0; i < items->vectors.count; i++, at += strlen(at) + 1) items->paths[i] = at;
    return CLI_OK;
}

static int read_vectors(cli_run *run, cli_items *items)
{
    const cli_values *v = &run->v;
    int code = CLI_OK;
    if (v->weights != NULL || v->data != NULL || v->image != NULL || v->input != NULL)
        return cli_usage(&run->command->syntax, "--vectors takes the place of a network and its images");
    CLI_TRY(trine_vectors_read(v->vectors, &items->vectors));
    if (v->normalize == 1)
        trine_vectors_normalize(items->vectors.data, items->vectors.count, items->vectors.dim);
    CLI_RUN(allocate_names(items, 0));
    code = v->list != NULL ? read_list(run, items) : number_rows(v->vectors, items);
cleanup:
    return code;
}

/* Parameters and statistics as text: what network it is. */
static int network_hash(cli_run *run, char *out, size_t size)
{
    uint64_t parameters, statistics;
    int code = CLI_OK;
    CLI_TRY(trine_resnet_state_hash(run->net, run->stream, &parameters, &statistics, NULL));
    snprintf(out, size, "%016" PRIx64 "%016" PRIx64, parameters, statistics);
cleanup:
    return code;
}

/* The index's network, embedding and preprocessing are those of what comes now. */
static int follow_index(cli_run *run, const trine_index *index, cli_items *items)
{
    const cli_values *v = &run->v;
    const char *network = trine_index_metadata(index, "network"),
               *json = trine_index_metadata(index, "preprocess"),
               *embedding = trine_index_metadata(index, "embedding"),
               *normalize = trine_index_metadata(index, "normalize");
    char hash[40];
    int code = CLI_OK;
    if (network == NULL || json == NULL || embedding == NULL || normalize == NULL)
        return cli_error(CLI_BAD_INPUT, "%s: was built of vectors, not with a network: take --vectors",
                         v->index);
    CLI_RUN(network_hash(run, hash, sizeof hash));
    if (strcmp(hash, network) != 0)
        return cli_error(CLI_BAD_INPUT,
                         "%s: is another network than the one that %s was built with (state %s, expected %s)",
                         v->weights, v->index, hash, network);
    if (v->embedding != CLI_UNSET || v->normalize != CLI_UNSET || v->preprocess != NULL ||
        v->resize != CLI_UNSET || v->crop != CLI_UNSET || v->mean[0] == v->mean[0] || v->std[0] == v->std[0])
        return cli_usage(&run->command->syntax,
                         "the index says which embedding and preprocessing: give neither");
    run->v.embedding = strcmp(embedding, "fc") == 0;
    run->v.normalize = strcmp(normalize, "true") == 0;
    CLI_TRY(trine_preprocess_from_json(json, &items->preprocess));
cleanup:
    return code;
}

static int name_images(const cli_source *source, cli_items *items)
{
    int code = CLI_OK;
    if (source->dataset == NULL) {
        CLI_RUN(allocate_names(items, 0));
        return number_rows(source->name, items);
    }
    const int single =
        trine_dataset_class_count(source->dataset) <= 1; /* a folder of images, or one image: no class */
    CLI_RUN(allocate_names(items, !single));
    for (size_t i = 0; i < items->vectors.count; i++) {
        const size_t image = (size_t)items->vectors.indices[i];
        items->paths[i] = trine_dataset_name(source->dataset, image);
        if (!single)
            items->classes[i] =
                trine_dataset_class_name(source->dataset, trine_dataset_label(source->dataset, image));
    }
cleanup:
    return code;
}

static int read_images(cli_run *run, const trine_index *index, cli_items *items)
{
    cli_source source = {0};
    cli_progress progress;
    int code = CLI_OK;
    cli_progress_begin(&progress, "embedding", "images", run->v.quiet);
    CLI_RUN(cli_read_weights(run));
    CLI_RUN(cli_open_source(run, &source));
    CLI_RUN(cli_open_network(run, 0));
    cli_warn_untracked(run);
    CLI_RUN(cli_check_channels(&source, run->net));
    if (index != NULL)
        CLI_RUN(follow_index(run, index, items));
    else
        CLI_RUN(
            cli_choose_preprocess(run, source.dataset, trine_resnet_arch(run->net), 0, &items->preprocess));
    const trine_embed_options options = cli_embed_options(run, &items->preprocess, &progress);
    CLI_RUN(cli_embed_source(run, &source, &options, &items->vectors));
    items->from_images = 1;
    code = name_images(&source, items);
cleanup:
    items->dataset = source.dataset; /* the names are its own */
    source.dataset = NULL;
    cli_close_source(&source);
    cli_progress_end(&progress);
    return code;
}

int cli_items_read(cli_run *run, const trine_index *index, cli_items *items)
{
    int code = CLI_OK;
    if (run->v.list != NULL && run->v.vectors == NULL)
        return cli_usage(&run->command->syntax, "--list belongs to --vectors here");
    CLI_RUN(run->v.vectors != NULL ? read_vectors(run, items) : read_images(run, index, items));
    if (index != NULL && items->vectors.dim != trine_index_dim(index))
        code = cli_error(CLI_BAD_INPUT, "%s: vectors of %d values, those of %s have %d",
                         run->v.vectors != NULL ? run->v.vectors : run->v.weights, items->vectors.dim,
                         run->v.index, trine_index_dim(index));
cleanup:
    return code;
}

int cli_items_describe(cli_run *run, const cli_items *items, trine_index *index)
{
    char hash[40], *json = NULL;
    int code = CLI_OK;
    if (!items->from_images) return CLI_OK;
    CLI_RUN(network_hash(run, hash, sizeof hash));
    CLI_TRY(trine_preprocess_to_json(&items->preprocess, &json));
    CLI_TRY(trine_index_set_metadata(index, "network", hash));
    CLI_TRY(trine_index_set_metadata(index, "arch", trine_resnet_arch(run->net)));
    CLI_TRY(trine_index_set_metadata(index, "preprocess", json));
    CLI_TRY(
        trine_index_set_metadata(index, "embedding", cli_embedding(run) == TRINE_EMBED_FC ? "fc" : "pool"));
    CLI_TRY(trine_index_set_metadata(index, "normalize", cli_normalize(run) ? "true" : "false"));
cleanup:
    free(json);
    return code;
}

void cli_items_free(cli_items *items)
{
    trine_vectors_free(&items->vectors);
    free(items->paths);
    free(items->classes);
    free(items->text);
    trine_dataset_destroy(&items->dataset);
    *items = (cli_items){0};
}
