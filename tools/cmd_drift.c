/* SPDX-License-Identifier: MIT */
/* trine drift: training-mode passes without an optimizer step, and what they did to the BatchNorm statistics. */
#include "cli_data.h"
#include "cli_drift.h"
#include "cli_network.h"
#include "cli_plot.h"
#include "cli_remedies.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_option own_options[] = {
    {"passes", CLI_INT, CLI_AT(passes), "N", "20", 0, 1000000, "training-mode passes over the same images"},
    {"bn", CLI_TEXT, CLI_AT(bn), "SPEC", "torch", 0, 0,
     "BatchNorm policies: [GLOB=]POLICY[:momentum=X][:eps=X],...; torch is what model.train() does"},
    {"freeze", CLI_TEXT, CLI_AT(freeze), "GLOBS", NULL, 0, 0,
     "parameters that would not train, for --bn auto"},
    {"batch", CLI_INT, CLI_AT(batch), "B", "64", 1, 65536, "most images that are taken"},
    {"remedies", CLI_FLAG, CLI_AT(remedies), NULL, NULL, 0, 0,
     "try everything that is said to stop the drift on the same images"},
    {"plot", CLI_TEXT, CLI_AT(plot), "FILE", NULL, 0, 0,
     "draw the norms of the embedding under each remedy, as .svg or .png (tries them, as --remedies does)"},
    {"max-drift", CLI_REAL, CLI_AT(max_drift), "X", NULL, 0, 1e9,
     "exit 5 if the norm of the embedding ever changes by more than this share of what it was"},
};
static const cli_section own_section = CLI_SECTION("Passes", own_options);
static const cli_section *const sections[] = {&own_section, &cli_network_section, &cli_source_section,
                                              &cli_preprocess_section};

/* One batch of preprocessed images of one size. */
typedef struct drift_batch {
    float *x;
    trine_shape shape;
    size_t bad;
} drift_batch;

static int add_image(cli_run *run, const trine_dataset *data, size_t i, const trine_preprocess *preprocess,
                     int most, drift_batch *batch)
{
    trine_image image = {0};
    int width, height, code = CLI_OK;
    const trine_status status = trine_dataset_image(data, i, &image);
    if (status != TRINE_OK) {
        const int unreadable =
            status == TRINE_ERR_OPEN || status == TRINE_ERR_FORMAT || status == TRINE_ERR_DATA;
        if (run->v.on_bad_image == 0 || run->v.image != NULL || !unreadable) return cli_fail(status);
        const char *name = trine_dataset_name(data, i), *reason = trine_last_error();
        const size_t length = strlen(name);
        if (strncmp(reason, name, length) == 0 && strncmp(reason + length, ": ", 2) == 0)
            reason += length + 2;
        cli_talk(run, "warning: %s: skipped: %s", name, reason);
        batch->bad++;
        return CLI_OK;
    }
    trine_preprocess_size(preprocess, image.width, image.height, &width, &height);
    if (batch->x == NULL) {
        batch->shape = (trine_shape){0, 3, height, width};
        batch->x = malloc((size_t)most * 3 * (size_t)height * (size_t)width * sizeof *batch->x);
        if (batch->x == NULL) {
            code = cli_error(CLI_FAILED, "out of memory");
            goto cleanup;
        }
    }
    if (height != batch->shape.h || width != batch->shape.w) {
        code = cli_error(CLI_BAD_INPUT,
                         "%s is %dx%d after preprocessing, the images before it %dx%d: give --crop",
                         trine_dataset_name(data, i), width, height, batch->shape.w, batch->shape.h);
        goto cleanup;
    }
    CLI_TRY(trine_preprocess_apply(preprocess, &image,
                                   batch->x + (size_t)batch->shape.n * 3 * (size_t)height * (size_t)width));
    batch->shape.n++;
cleanup:
    trine_image_free(&image);
    return code;
}

static int load(cli_run *run, const cli_source *source, const trine_preprocess *preprocess,
                drift_batch *batch)
{
    const size_t count = cli_source_count(source), limit = (size_t)run->v.batch;
    const int most = (int)(count < limit ? count : limit);
    int code = CLI_OK;
    if (source->dataset == NULL) {
        const size_t values = source->array.bytes / sizeof *batch->x;
        batch->shape = source->shape;
        batch->shape.n = most;
        batch->x = malloc(values * sizeof *batch->x);
        if (batch->x == NULL) return cli_error(CLI_FAILED, "out of memory");
        memcpy(batch->x, source->array.data, values * sizeof *batch->x);
    }
    for (size_t i = 0; source->dataset != NULL && i < count && batch->shape.n < most; i++)
        CLI_RUN(add_image(run, source->dataset, i, preprocess, most, batch));
    if (batch->shape.n == 0)
        code = cli_error(CLI_BAD_INPUT, "%s: none of the %zu images can be read", source->name, count);
    else if (count > limit)
        cli_talk(run, "the first %d of %zu images are taken (--batch)", batch->shape.n, count);
cleanup:
    return code;
}

static int check_drift(cli_run *run, const trine_drift_report *report)
{
    const double before = report->rows[0].embedding_norm;
    double largest = 0;
    for (int i = 1; i < report->row_count; i++) {
        const double change = fabs(report->rows[i].embedding_norm - before) / before;
        if (!(change <= largest)) largest = change;
    }
    cli_set(run->json, "drift", largest);
    if (isnan(largest))
        cli_print(run, "\nthe norm of the embedding is no longer a number: running statistics overflowed\n");
    else
        cli_print(run, "\nlargest change of the embedding norm: %.4g %%\n", 100 * largest);
    if (isnan(run->v.max_drift) || largest <= run->v.max_drift) return CLI_OK;
    return cli_error(CLI_CHECK,
                     "the norm of the embedding changed by %.4g of what it was, more than --max-drift %g",
                     largest, run->v.max_drift);
}

/* Does every layer do in a pass what the policy "train" says? */
static int trains_everywhere(const trine_resnet *net)
{
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        if (trine_resnet_bn(net, i, &info) != TRINE_OK || strcmp(cli_bn_effect(&info), "train") != 0)
            return 0;
    }
    return 1;
}

static int drift(cli_run *run)
{
    cli_source source = {0};
    trine_preprocess preprocess;
    drift_batch batch = {0};
    trine_drift_report own = {0};
    trine_remedies remedies = {0};
    const trine_drift_report *report = &remedies.drift;
    char summary[160];
    int code = CLI_OK;
    if (run->v.plot != NULL) CLI_RUN(cli_check_plot(run->v.plot));
    CLI_RUN(cli_read_weights(run));
    CLI_RUN(cli_open_source(run, &source));
    CLI_RUN(cli_open_network(run, 0));
    cli_warn_untracked(run);
    CLI_RUN(cli_check_channels(&source, run->net));
    if (run->v.freeze != NULL) CLI_TRY(trine_resnet_freeze(run->net, run->v.freeze));
    CLI_RUN(cli_choose_preprocess(run, source.dataset, trine_resnet_arch(run->net), 0, &preprocess));
    CLI_RUN(load(run, &source, &preprocess, &batch));
    cli_bn_summary(run->net, summary, sizeof summary);
    cli_talk(run, "%s, %d image%s of %dx%d, %d training-mode passes without an optimizer step",
             trine_resnet_arch(run->net), batch.shape.n, batch.shape.n == 1 ? "" : "s", batch.shape.w,
             batch.shape.h, run->v.passes);
    cli_talk(run, "%s", summary);
    if (run->v.remedies || run->v.plot != NULL) /* first: they leave the network as it is */
        CLI_TRY(trine_remedies_run(run->net, run->stream, batch.x, &batch.shape, cli_embedding(run),
                                   run->v.passes, &remedies));
    if (remedies.count == 0 || !trains_everywhere(run->net)) {
        CLI_TRY(trine_drift_run(run->net, run->stream, batch.x, &batch.shape, cli_embedding(run),
                                run->v.passes, &own));
        report = &own;
    }
    CLI_RUN(cli_print_drift(run, report, remedies.count == 0));
    cli_set_text(run->json, "batchnorm", summary);
    cli_set(run->json, "count", batch.shape.n);
    cli_set(run->json, "bad_images", (double)batch.bad);
    if (remedies.count > 0) CLI_RUN(cli_print_remedies(run, &remedies));
    if (run->v.plot != NULL) CLI_RUN(cli_plot_remedies(run, run->v.plot, &remedies));
    CLI_RUN(check_drift(run, report));
cleanup:
    trine_remedies_free(&remedies);
    trine_drift_report_free(&own);
    free(batch.x);
    cli_close_source(&source);
    return code;
}

const cli_command cmd_drift = {
    {"drift", "", "show what training-mode passes do to BatchNorm statistics", 0, 0, sections,
     CLI_COUNTOF(sections),
     "The same images go through at every pass; after each one they are looked at "
     "in evaluation mode. The weights file is not changed. Running statistics approach "
     "those of the batch: a pass leaves 1 - momentum of the way, or n/(n+1) of it "
     "after n batches where the policy is cumulative."},
    drift};
