/* SPDX-License-Identifier: MIT */
/* trine recalibrate: BatchNorm's running statistics from a whole data set. */
#include "cli_network.h"
#include "cli_train.h"

#include <stdlib.h>

enum { LAYERS_SHOWN = 10 };

static const char methods[] = "batch|sequential";

static const cli_option own_options[] = {
    {"out", CLI_TEXT, CLI_AT(out), "FILE", NULL, 0, 0,
     "weights to write (.safetensors or .pth); may be the file of --weights"},
    {"layers", CLI_TEXT, CLI_AT(layer_globs), "GLOBS", NULL, 0, 0,
     "BatchNorm layers to recalibrate: GLOB,!GLOB,... in order, the last match wins; a list that begins with "
     "! takes from all; not given: all"},
    {"method", CLI_CHOICE, CLI_AT(method), methods, "batch", 0, 0,
     "batch: one pass, in which the layers normalise with their batch's statistics, as in training; "
     "sequential: a pass a layer, in which the layers before it have their new statistics, as evaluation "
     "will see it, whatever the batches"},
    {"batch", CLI_INT, CLI_AT(batch), "B", "64", 1, 65536,
     "most images of a batch; the batches are of nearly equal size"},
    {"names", CLI_CHOICE, CLI_AT(names), "source|torchvision", "source", 0, 0,
     "tensor names in FILE: those that the weights came with, or torchvision's"},
};
static const cli_section own_section = CLI_SECTION("Recalibration", own_options);
static const cli_section *const sections[] = {&own_section, &cli_embedding_section, &cli_bn_section,
                                              &cli_source_section, &cli_preprocess_section};

static double moved(const trine_recalibrated_layer *layer)
{
    return layer->mean_moved > layer->var_moved ? layer->mean_moved : layer->var_moved;
}

static int by_moved(const void *a, const void *b)
{
    const trine_recalibrated_layer *x = *(const trine_recalibrated_layer *const *)a,
                                   *y = *(const trine_recalibrated_layer *const *)b;
    if (moved(x) != moved(y)) return moved(x) < moved(y) ? 1 : -1;
    return x < y ? -1 : x > y;
}

static int print_layers(cli_run *run, const trine_recalibration_report *report)
{
    const size_t count = (size_t)report->layer_count;
    const trine_recalibrated_layer **order = malloc(count * sizeof *order);
    if (order == NULL) return cli_error(CLI_FAILED, "out of memory");
    cJSON *array = cJSON_AddArrayToObject(run->json, "layers");
    for (size_t i = 0; i < count; i++) {
        const trine_recalibrated_layer *layer = order[i] = &report->layers[i];
        cJSON *object = cJSON_CreateObject();
        cli_set_text(object, "name", layer->name);
        cli_set(object, "mean_moved", layer->mean_moved);
        cli_set(object, "var_moved", layer->var_moved);
        cJSON_AddItemToArray(array, object);
    }
    qsort(order, count, sizeof *order, by_moved);
    cli_print(run, "%-36s %10s %10s\n", "layer, by how far it moved", "mean moved", "var moved");
    for (size_t i = 0; i < count && i < LAYERS_SHOWN; i++)
        cli_print(run, "%-36s %10.4f %10.4f\n", order[i]->name, order[i]->mean_moved, order[i]->var_moved);
    if (count > LAYERS_SHOWN) cli_print(run, "and %zu more that moved less\n", count - (size_t)LAYERS_SHOWN);
    free(order);
    return CLI_OK;
}

static int report_result(cli_run *run, const trine_recalibration_report *report)
{
    const char *method = cli_choice_name(methods, run->v.method);
    cli_set(run->json, "count", (double)report->images);
    cli_set(run->json, "bad_images", (double)report->bad);
    cli_set(run->json, "batches", (double)report->batches);
    cli_set_text(run->json, "method", method);
    cli_set(run->json, "embedding_norm_before", report->norm_before);
    cli_set(run->json, "embedding_norm_after", report->norm_after);
    if (report->bad > 0)
        cli_talk(run, "%zu unreadable image%s left out", report->bad, report->bad == 1 ? "" : "s");
    cli_print(run, "%d BatchNorm layer%s over %zu image%s in %zu batch%s, %s method\n\n", report->layer_count,
              report->layer_count == 1 ? "" : "s", report->images, report->images == 1 ? "" : "s",
              report->batches, report->batches == 1 ? "" : "es", method);
    const int code = print_layers(run, report);
    cli_print(run, "\nembedding norm, first batch: %.6f before, %.6f after\n", report->norm_before,
              report->norm_after);
    return code;
}

static void talk(const cli_run *run, const cli_source *source, const trine_preprocess *preprocess)
{
    char text[200];
    const size_t count = cli_source_count(source);
    cli_talk(run, "%s from %s, %zu image%s of %s, %s method", trine_resnet_arch(run->net), run->v.weights,
             count, count == 1 ? "" : "s", source->name, cli_choice_name(methods, run->v.method));
    if (source->dataset == NULL) return;
    cli_preprocess_text(preprocess, text, sizeof text);
    cli_talk(run, "images: %s", text);
}

static int run_over(cli_run *run, const cli_source *source, const trine_preprocess *preprocess,
                    trine_recalibration_report *report)
{
    cli_progress progress;
    int code = CLI_OK;
    cli_progress_begin(&progress, "recalibrating", "images", run->v.quiet);
    const trine_recalibrate_options options = {
        .preprocess = *preprocess,
        .layers = run->v.layer_globs,
        .method = (trine_recalibration_method)run->v.method,
        .embedding = cli_embedding(run),
        .batch = run->v.batch,
        .threads = run->v.threads,
        .skip_bad = run->v.on_bad_image == 1 && run->v.image == NULL, /* one image: its own reason */
        .log = cli_log,
        .log_user = run,
        .progress = cli_on_progress,
        .progress_user = &progress,
    };
    if (source->dataset != NULL)
        CLI_TRY(trine_recalibrate_dataset(run->net, run->stream, source->dataset, &options, report));
    else
        CLI_TRY(trine_recalibrate_array(run->net, run->stream, source->array.data, &source->shape, &options,
                                        report));
cleanup:
    cli_progress_end(&progress);
    return code;
}

/* A file holds the running statistics of all layers or of none. */
static int check_layers(const cli_run *run)
{
    trine_bn_info info;
    if (run->v.layer_globs == NULL || trine_resnet_bn(run->net, 0, &info) != TRINE_OK || info.tracked)
        return CLI_OK;
    return cli_usage(&run->command->syntax,
                     "%s has no running statistics: all of its layers get some, without --layers",
                     run->v.weights);
}

static int recalibrate(cli_run *run)
{
    cli_source source = {0};
    trine_preprocess preprocess;
    trine_recalibration_report report = {0};
    int code = CLI_OK;
    if (run->v.out == NULL) return cli_usage(&run->command->syntax, "--out FILE is needed");
    CLI_RUN(cli_check_out(run));
    CLI_RUN(cli_read_weights(run));
    CLI_RUN(cli_open_source(run, &source));
    CLI_RUN(cli_open_network(run, 0));
    CLI_RUN(check_layers(run));
    CLI_RUN(cli_check_channels(&source, run->net));
    CLI_RUN(cli_choose_preprocess(run, source.dataset, trine_resnet_arch(run->net), 0, &preprocess));
    talk(run, &source, &preprocess);
    CLI_RUN(run_over(run, &source, &preprocess, &report));
    CLI_RUN(report_result(run, &report));
    const cli_checkpoint checkpoint = {.preprocess = source.dataset != NULL ? &preprocess : NULL,
                                       .source = run->weights,
                                       .torchvision_names = run->v.names == 1};
    CLI_RUN(cli_save(run, &checkpoint));
cleanup:
    trine_recalibration_report_free(&report);
    cli_close_source(&source);
    return code;
}

const cli_command cmd_recalibrate = {
    {"recalibrate", "", "set BatchNorm's running statistics to those of a data set", 0, 0, sections,
     CLI_COUNTOF(sections),
     "Every batch runs in training mode, without a step. The running mean and the unbiased running variance "
     "of "
     "a layer become those of all values that it saw over all images, merged in double precision, not "
     "averaged by momentum; num_batches_tracked becomes the number of batches. Layers that are not chosen "
     "keep their statistics and normalise with them. Parameters never change."},
    recalibrate};
