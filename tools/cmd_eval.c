/* SPDX-License-Identifier: MIT */
/* trine eval: how well embeddings retrieve, or logits classify. */
#include "cli_data.h"
#include "cli_network.h"

static const cli_option own_options[] = {
    {"task", CLI_CHOICE, CLI_AT(task), "retrieval|classify", "retrieval", 0, 0,
     "retrieval: each image against all others; classify: largest output of fc against the class number"},
    {"distance", CLI_CHOICE, CLI_AT(distance), "euclidean|squared|cosine", "euclidean", 0, 0, "of retrieval"},
    {"labels", CLI_TEXT, CLI_AT(labels), "Y.npy", NULL, 0, 0, "class numbers of --input: int32 or int64"},
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

static int retrieve(cli_run *run, const trine_vectors *vectors)
{
    trine_retrieval figures;
    int code = CLI_OK;
    CLI_TRY(trine_retrieval_measure(vectors->data, vectors->labels, vectors->count, vectors->dim,
                                    (trine_distance)run->v.distance, run->v.threads, &figures));
    cli_set_retrieval(run->json, &figures);
    cli_print(run, "images       %zu (%zu queries have another image of their class)\n", figures.count,
              figures.queries);
    cli_print(run, "recall_at_1  %.4f\nrecall_at_5  %.4f\nr_precision  %.4f\nmap_at_r     %.4f\n",
              figures.recall_at_1, figures.recall_at_5, figures.r_precision, figures.map_at_r);
cleanup:
    return code;
}

static int eval(cli_run *run)
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
    CLI_RUN(logits ? classify(run, &vectors) : retrieve(run, &vectors));
cleanup:
    cli_progress_end(&progress);
    trine_vectors_free(&vectors);
    cli_close_source(&source);
    return code;
}

const cli_command cmd_eval = {{"eval", "", "measure retrieval or classification", 0, 0, sections,
                               CLI_COUNTOF(sections),
                               "Evaluation mode: the network cannot change. Queries without another image of "
                               "their class are left out and "
                               "counted; ties go to the lowest index."},
                              eval};
