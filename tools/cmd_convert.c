/* SPDX-License-Identifier: MIT */
/* trine convert: between safetensors and PyTorch checkpoints. */
#include "cli_common.h"

static int convert(cli_run *run)
{
    const char *in = run->arguments[0], *out = run->arguments[1];
    int code = CLI_OK;
    CLI_RUN(cli_check_weights_name("OUT", out));
    CLI_RUN(cli_check_writable("OUT", out));
    CLI_TRY(trine_weights_read(in, &run->weights));
    if (!cli_has_ending(out, ".safetensors") && trine_weights_metadata_count(run->weights) > 0)
        cli_talk(run, "%s: PyTorch's format holds no metadata, %zu entries are left out", out,
                 trine_weights_metadata_count(run->weights));
    CLI_TRY(trine_weights_write(run->weights, out));
    cli_set_text(run->json, "in", in);
    cli_set_text(run->json, "out", out);
    cli_set(run->json, "tensors", (double)trine_weights_count(run->weights));
    cli_print(run, "%s: %zu tensors\n", out, trine_weights_count(run->weights));
cleanup:
    return code;
}

const cli_command cmd_convert = {{"convert", "IN OUT",
                                  "convert weights between safetensors and PyTorch's files", 2, 2, NULL, 0,
                                  "IN is told by its content. OUT's kind follows its name: .safetensors, or "
                                  ".pth, .pt, .th, .bin for PyTorch."},
                                 convert};
