/* SPDX-License-Identifier: MIT */
/* trine export: a network for other engines. */
#include "cli_data.h"
#include "cli_network.h"

#include <stdlib.h>
#include <string.h>

static const cli_option own_options[] = {
    {"out", CLI_TEXT, CLI_AT(out), "F.onnx", NULL, 0, 0, "the file to write"},
    {"folded", CLI_FLAG, CLI_AT(folded), NULL, NULL, 0, 0, "fold BatchNorm into the convolutions"},
    {"batch", CLI_TEXT, CLI_AT(batch_text), "B|dynamic", "dynamic", 0, 0,
     "images at a time; dynamic: any number"},
};
static const cli_section own_section = CLI_SECTION("Export", own_options);
static const cli_section *const sections[] = {&own_section, &cli_network_section, &cli_bn_section,
                                              &cli_preprocess_section};

static int parse_batch(const cli_run *run, int *batch)
{
    char *end;
    *batch = 0;
    if (strcmp(run->v.batch_text, "dynamic") == 0) return CLI_OK;
    const long value = strtol(run->v.batch_text, &end, 10);
    if (*end != '\0' || value < 1 || value > 65536)
        return cli_usage(&run->command->syntax, "--batch '%s': expected 1 to 65536, or dynamic",
                         run->v.batch_text);
    *batch = (int)value;
    return CLI_OK;
}

static int export_onnx(cli_run *run)
{
    trine_preprocess preprocess;
    trine_onnx_options options = {.folded = run->v.folded};
    char *json = NULL;
    int code = CLI_OK;
    CLI_RUN(parse_batch(run, &options.batch));
    CLI_RUN(cli_check_writable("--out", run->v.out));
    CLI_RUN(cli_open_network(run, 0));
    CLI_RUN(cli_choose_preprocess(run, NULL, trine_resnet_arch(run->net), 0, &preprocess));
    CLI_TRY(trine_preprocess_to_json(&preprocess, &json));
    options.embedding = cli_embedding(run);
    options.normalize = cli_normalize(run);
    options.preprocess = json;
    const trine_status status = trine_onnx_write(run->net, run->stream, &options, run->v.out);
    if (status == TRINE_ERR_STATE) /* of the file, not of how the command was called */
        code = cli_error(CLI_BAD_INPUT, "%s: %s", run->v.weights, trine_last_error());
    else if (status != TRINE_OK)
        code = cli_fail(status);
    if (code != CLI_OK) goto cleanup;
    const int dim = options.embedding == TRINE_EMBED_FC ? trine_resnet_outputs(run->net)
                                                        : trine_resnet_features(run->net);
    cli_set_text(run->json, "out", run->v.out);
    cli_set_text(run->json, "arch", trine_resnet_arch(run->net));
    cli_set(run->json, "dim", dim);
    cli_print(run, "%s, images to vectors of %d values%s, in %s\n", trine_resnet_arch(run->net), dim,
              options.normalize ? " of length 1" : "", run->v.out);
cleanup:
    free(json);
    return code;
}

static int run_export(cli_run *run)
{
    if (strcmp(run->arguments[0], "onnx") != 0)
        return cli_usage(&run->command->syntax, "unknown format '%s': expected onnx", run->arguments[0]);
    if (run->v.out == NULL) return cli_usage(&run->command->syntax, "--out F.onnx is needed");
    return export_onnx(run);
}

const cli_command cmd_export = {{"export", "onnx", "write a network for other engines", 1, 1, sections,
                                 CLI_COUNTOF(sections),
                                 "An ONNX model in evaluation mode: input images, float32 "
                                 "[batch][channels][height][width] prepared as the "
                                 "metadata say; output embedding, as embed writes it."},
                                run_export};
