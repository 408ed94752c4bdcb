/* SPDX-License-Identifier: MIT */
/* trine eval: how well embeddings retrieve, or logits classify. */
#include "cli_data.h"
#include "cli_network.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static const cli_option own_options[] = {
    {"task", CLI_CHOICE, CLI_AT(task), "retrieval|classify", "retrieval", 0, 0,
     "retrieval: each image against all others; classify: largest output of fc against the class number"},
    {"distance", CLI_CHOICE, CLI_AT(distance), "euclidean|squared|cosine|dot", "euclidean", 0, 0,
     "of retrieval; dot: largest inner product first"},
    {"k", CLI_TEXT, CLI_AT(ks), "LIST", NULL, 0, 0, "also recall at these numbers, such as 1,2,4,8"},
    {"nmi", CLI_FLAG, CLI_AT(nmi), NULL, NULL, 0, 0,
     "also normalised mutual information of the classes and as many clusters (k-means with --seed; by "
     "cosine: of vectors at "
     "length 1)"},
    {"clusters", CLI_TEXT, CLI_AT(clusters_file), "C.npy", NULL, 0, 0,
     "write the cluster of every vector: int32; implies --nmi"},
    {"per-class", CLI_FLAG, CLI_AT(per_class), NULL, NULL, 0, 0, "also the figures of every class"},
    {"vectors", CLI_TEXT, CLI_AT(vectors), "E.npy", NULL, 0, 0,
     "measure these vectors (.npy of float32, or .fvecs) instead of a network; with --labels"},
    {"labels", CLI_TEXT, CLI_AT(labels), "Y.npy", NULL, 0, 0,
     "class numbers of --input or --vectors: int32 or int64"},
    {"batch", CLI_INT, CLI_AT(batch), "B", "32", 1, 65536, "images at a time"},
};
static const cli_section own_section = CLI_SECTION("Task", own_options);
static const cli_section *const sections[] = {&own_section,        &cli_network_section,
                                              &cli_bn_section,     &cli_precision_section,
                                              &cli_source_section, &cli_preprocess_section};

static int classify(cli_run *run, const trine_vectors *vectors)
{
    double accuracy;
    int code = CLI_OK;
    for (size_t i = 0; i < vectors->count; i++)
        if (vectors->labels[i] >= vectors->dim)
            return cli_error(CLI_BAD_INPUT, "there is a class %d, but the network has only %d outputs",
                             vectors->labels[i], vectors->dim);
    CLI_TRY(trine_classify_accuracy(vectors->data, vectors->labels, vectors->count, vectors->dim, &accuracy));
    cli_set(run->json, "count", (double)vectors->count);
    cli_set(run->json, "accuracy", accuracy);
    cli_print(run, "images    %zu\naccuracy  %.4f (%.0f right)\n", vectors->count, accuracy,
              accuracy * (double)vectors->count);
cleanup:
    return code;
}

/* "1,2,4" */
static int parse_ks(const cli_run *run, int *ks, int *count)
{
    const char *at = run->v.ks;
    *count = 0;
    while (at != NULL && *at != '\0') {
        char *end;
        const long value = strtol(at, &end, 10);
        if (end == at || value < 1 || value > INT_MAX || (*end != ',' && *end != '\0') ||
            (*end == ',' && end[1] == '\0'))
            return cli_usage(&run->command->syntax,
                             "--k %s: expected numbers from 1 on with commas between them", run->v.ks);
        if (*count == TRINE_RECALLS)
            return cli_usage(&run->command->syntax, "--k %s: more than %d numbers", run->v.ks, TRINE_RECALLS);
        ks[(*count)++] = (int)value;
        at = *end == ',' ? end + 1 : end;
    }
    return CLI_OK;
}

static void report_classes(cli_run *run, const cli_source *source, const trine_retrieval *figures)
{
    cJSON *rows = cJSON_AddArrayToObject(run->json, "classes");
    cli_print(run, "\n%-24s %8s %8s %12s %12s %9s %7s\n", "class", "count", "queries", "recall_at_1",
              "r_precision", "map_at_r", "map");
    for (size_t k = 0; k < figures->class_count; k++) {
        const trine_retrieval_class *c = &figures->classes[k];
        char number[16];
        snprintf(number, sizeof number, "%d", c->label);
        const char *name =
            source->dataset != NULL ? trine_dataset_class_name(source->dataset, c->label) : number;
        cJSON *row = cJSON_CreateObject();
        cli_set(row, "label", c->label);
        cli_set_text(row, "name", name);
        cli_set(row, "count", (double)c->count);
        cli_set(row, "queries", (double)c->queries);
        cJSON_AddItemToArray(rows, row);
        if (c->queries == 0) {
            cli_print(run, "%-24s %8zu %8d\n", name, c->count, 0);
            continue;
        }
        cli_set(row, "recall_at_1", c->recall_at_1);
        cli_set(row, "r_precision", c->r_precision);
        cli_set(row, "map_at_r", c->map_at_r);
        cli_set(row, "map", c->map);
        cli_print(run, "%-24s %8zu %8zu %12.4f %12.4f %9.4f %7.4f\n", name, c->count, c->queries,
                  c->recall_at_1, c->r_precision, c->map_at_r, c->map);
    }
}

static int compare_ints(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* Mutual information of the classes and as many clusters. */
static int cluster(cli_run *run, const trine_vectors *vectors)
{
    int code = CLI_OK;
    int *found = malloc(vectors->count * sizeof *found);
    double information;
    trine_cluster_options options = {.clusters = 1,
                                     .seed = run->v.seed,
                                     .normalize = run->v.distance == TRINE_COSINE,
                                     .threads = run->v.threads};
    if (found == NULL) return cli_error(CLI_FAILED, "out of memory");
    for (size_t i = 0; i < vectors->count; i++) found[i] = vectors->labels[i];
    qsort(found, vectors->count, sizeof *found, compare_ints);
    for (size_t i = 1; i < vectors->count; i++) options.clusters += found[i] != found[i - 1];
    CLI_TRY(trine_cluster(run->stream, vectors->data, vectors->count, vectors->dim, &options, found));
    CLI_TRY(trine_mutual_information(vectors->labels, found, vectors->count, &information));
    cli_set(run->json, "nmi", information);
    cli_set(run->json, "clusters", options.clusters);
    cli_print(run, "nmi          %.4f (%d clusters)\n", information, options.clusters);
    if (run->v.clusters_file != NULL) {
        const int64_t dims[1] = {(int64_t)vectors->count};
        CLI_TRY(trine_npy_write(run->v.clusters_file, TRINE_I32, 1, dims, found));
    }
cleanup:
    free(found);
    return code;
}

static int retrieve(cli_run *run, const cli_source *source, const trine_vectors *vectors)
{
    trine_retrieval figures = {0};
    int ks[TRINE_RECALLS], code = CLI_OK;
    trine_retrieval_options options = {.distance = (trine_distance)run->v.distance,
                                       .threads = run->v.threads,
                                       .ks = ks,
                                       .per_class = run->v.per_class,
                                       .progress = cli_on_progress};
    cli_progress progress;
    cli_progress_begin(&progress, "ranking", "vectors", run->v.quiet);
    options.progress_user = &progress;
    CLI_RUN(parse_ks(run, ks, &options.k_count));
    CLI_TRY(trine_retrieval_measure(run->stream, vectors->data, vectors->labels, vectors->count, vectors->dim,
                                    &options, &figures));
    cli_progress_end(&progress);
    cli_set_retrieval(run->json, &figures);
    cli_print(run, "%-12s %zu (%zu queries have another of their class)\n",
              run->v.vectors != NULL ? "vectors" : "images", figures.count, figures.queries);
    cli_print(run, "recall_at_1  %.4f\nrecall_at_5  %.4f\n", figures.recall_at_1, figures.recall_at_5);
    for (int k = 0; k < options.k_count; k++) {
        char key[32];
        snprintf(key, sizeof key, "recall_at_%d", ks[k]);
        if (ks[k] == 1 || ks[k] == 5 || cJSON_HasObjectItem(run->json, key)) continue;
        cli_set(run->json, key, figures.recall[k]);
        cli_print(run, "%-12s %.4f\n", key, figures.recall[k]);
    }
    cli_print(run, "r_precision  %.4f\nmap_at_r     %.4f\nmap          %.4f\n", figures.r_precision,
              figures.map_at_r, figures.map);
    if (run->v.nmi || run->v.clusters_file != NULL) CLI_RUN(cluster(run, vectors));
    if (run->v.per_class) report_classes(run, source, &figures);
cleanup:
    cli_progress_end(&progress);
    trine_retrieval_free(&figures);
    return code;
}

/* Options that go together, before anything is read. */
static int check_options(const cli_run *run)
{
    const cli_syntax *syntax = &run->command->syntax;
    int ks[TRINE_RECALLS], count, code = CLI_OK;
    CLI_RUN(parse_ks(run, ks, &count));
    if (run->v.task == 1 &&
        (run->v.ks != NULL || run->v.nmi || run->v.per_class || run->v.clusters_file != NULL))
        return cli_usage(syntax, "--k, --nmi, --clusters and --per-class belong to --task retrieval");
    if (run->v.clusters_file != NULL) CLI_RUN(cli_check_writable("--clusters", run->v.clusters_file));
    if (run->v.vectors == NULL) return CLI_OK;
    if (run->v.weights != NULL || run->v.data != NULL || run->v.image != NULL || run->v.input != NULL)
        return cli_usage(syntax, "--vectors takes the place of a network and its images");
    if (run->v.task == 1) return cli_usage(syntax, "--vectors cannot be classified");
    if (run->v.labels == NULL) return cli_usage(syntax, "--vectors needs --labels");
cleanup:
    return code;
}

/* Figures of vectors that are there already. */
static int eval_vectors(cli_run *run)
{
    const cli_source none = {0};
    trine_vectors vectors = {0};
    int code = CLI_OK;
    CLI_TRY(trine_vectors_read(run->v.vectors, &vectors));
    CLI_RUN(cli_read_labels(run->v.labels, vectors.count, "vectors", &vectors.labels));
    if (run->v.normalize == 1) trine_vectors_normalize(vectors.data, vectors.count, vectors.dim);
    CLI_RUN(cli_open_device(run, 0));
    CLI_RUN(retrieve(run, &none, &vectors));
cleanup:
    trine_vectors_free(&vectors);
    return code;
}

/* Figures of a network's vectors or logits. */
static int eval_network(cli_run *run)
{
    cli_source source = {0};
    trine_preprocess preprocess;
    trine_vectors vectors = {0};
    cli_progress progress;
    const int logits = run->v.task == 1;
    int code = CLI_OK;
    cli_progress_begin(&progress, "evaluating", "images", run->v.quiet);
    CLI_RUN(cli_read_weights(run));
    CLI_RUN(cli_open_source(run, &source));
    if (source.dataset == NULL && source.labels == NULL) {
        code = cli_usage(&run->command->syntax, "--input needs --labels");
        goto cleanup;
    }
    CLI_RUN(cli_open_network(run, 0));
    cli_warn_untracked(run);
    CLI_RUN(cli_check_channels(&source, run->net));
    CLI_RUN(cli_choose_preprocess(run, source.dataset, trine_resnet_arch(run->net), 0, &preprocess));
    trine_embed_options options = cli_embed_options(run, &preprocess, &progress);
    if (logits) {
        options.embedding = TRINE_EMBED_FC;
        options.normalize = 0;
    }
    CLI_RUN(cli_embed_source(run, &source, &options, &vectors));
    cli_progress_end(&progress);
    cli_set(run->json, "bad_images", (double)vectors.bad);
    CLI_RUN(logits ? classify(run, &vectors) : retrieve(run, &source, &vectors));
cleanup:
    cli_progress_end(&progress);
    trine_vectors_free(&vectors);
    cli_close_source(&source);
    return code;
}

static int eval(cli_run *run)
{
    const int code = check_options(run);
    if (code != CLI_OK) return code;
    return run->v.vectors != NULL ? eval_vectors(run) : eval_network(run);
}

const cli_command cmd_eval = {{"eval", "", "measure retrieval or classification", 0, 0, sections,
                               CLI_COUNTOF(sections),
                               "Evaluation mode: the network cannot change. Queries without another image of "
                               "their class are left out and "
                               "counted; ties go to the lowest index."},
                              eval};
