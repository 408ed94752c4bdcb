/* SPDX-License-Identifier: MIT */
/* What the commands share: one run's state, exit codes, talk, opening a device and a network. */
#ifndef TRINE_TOOLS_CLI_COMMON_H
#define TRINE_TOOLS_CLI_COMMON_H

#include "cli_json.h"
#include "cli_options.h"
#include "cli_progress.h"
#include "cli_text.h"
#include "trine/trine.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_NO_DEVICE = 3, CLI_BAD_INPUT = 4, CLI_CHECK = 5 };

typedef struct cli_command cli_command;

/* One run of one command. Commands fill `json`; main writes it and releases everything. */
typedef struct cli_run {
    const cli_command *command;
    cli_values v;
    const char *arguments[2];
    int argument_count;
    cJSON *json;
    int complete; /* the JSON object is worth writing whatever the exit code */
    double start; /* cli_seconds() when the program began */
    int argc;     /* the words after the command */
    char **argv;
    cli_text *talked; /* not NULL: cli_talk()'s lines are kept there, too */
    trine_context *context;
    trine_stream *stream;
    trine_weights *weights;
    trine_resnet *net;
} cli_run;

struct cli_command {
    cli_syntax syntax;
    int (*run)(cli_run *run); /* returns the exit code */
};

extern const cli_command cmd_devices, cmd_probe, cmd_inspect, cmd_convert, cmd_train, cmd_finetune, cmd_embed,
    cmd_eval, cmd_index, cmd_export, cmd_drift, cmd_recalibrate, cmd_bench, cmd_tune, cmd_cache;

/* Exit code of a status. */
int cli_exit_code(trine_status status);
/* Print the last error's sentence (and the build log that belongs to it) on stderr; returns the exit code. */
int cli_fail(trine_status status);
/* The same for what the program itself found: one sentence, `code` returned. */
int cli_error(int code, const char *format, ...) CLI_PRINTF(2, 3);

/* Leave a function that has a `cleanup:` label and an int `code`. */
#define CLI_TRY(expr)                                                                                        \
    do {                                                                                                     \
        const trine_status try_status_ = (expr);                                                             \
        if (try_status_ != TRINE_OK) {                                                                       \
            code = cli_fail(try_status_);                                                                    \
            goto cleanup;                                                                                    \
        }                                                                                                    \
    } while (0)
#define CLI_RUN(expr)                                                                                        \
    do {                                                                                                     \
        code = (expr);                                                                                       \
        if (code != CLI_OK) goto cleanup;                                                                    \
    } while (0)

/* A line of talk on stderr; nothing with --quiet. */
void cli_talk(const cli_run *run, const char *format, ...) CLI_PRINTF(2, 3);
/* Text of the results on stdout; nothing where the JSON object goes there. */
void cli_print(const cli_run *run, const char *format, ...) CLI_PRINTF(2, 3);
/* The rest of a line of results that has come to `column`, wrapped at 80 columns and continued at `indent`. */
void cli_print_wrapped(const cli_run *run, size_t column, size_t indent, const char *text);
/* The library's warnings; `user` is the cli_run. */
void cli_log(void *user, const char *sentence);
/* "trine_embed_options.progress" for a cli_progress. */
void cli_on_progress(void *user, size_t done, size_t all);

/* Can a file be made at `path`? Found before the work, not after it. `what` names the option. */
int cli_check_writable(const char *what, const char *path);
/* Does the name end in one of ".safetensors .pth .pt .th .bin"? */
int cli_check_weights_name(const char *what, const char *path);
/* Does `path` end in `ending`? */
int cli_has_ending(const char *path, const char *ending);

/* run->context and, with profile 0 or 1, run->stream. */
int cli_open_device(cli_run *run, int profile);
/* As --precision says, where the command takes it; "precision" in the JSON. */
int cli_set_precision(cli_run *run);
/* "fp32", "fp16" or "tf32" */
const char *cli_precision_name(const cli_run *run);
/* run->weights from --weights (which must be given), then the device, then run->net, with --bn and --precision where they are given. */
int cli_open_network(cli_run *run, int embedding_dim);
/* Check that --weights is given and read it into run->weights. */
int cli_read_weights(cli_run *run);
void cli_close(cli_run *run);

/* --embedding, else the metadata's, else pool. */
trine_embedding cli_embedding(const cli_run *run);
/* --normalize or --no-normalize, else the metadata's, else 0. */
int cli_normalize(const cli_run *run);

/* "20 BatchNorm layers: 17 eval, 3 train"; says what untracked ones do under every policy. */
void cli_bn_summary(const trine_resnet *net, char *out, size_t size);
/* What a layer does in a training-mode pass: "train", "eval", "no-update" or "cumulative"; "untracked": it has no running
 * statistics, and normalises with the batch's always. */
const char *cli_bn_effect(const trine_bn_info *info);
/* Frozen layers that will move their running statistics; the trainer says so, in one sentence. */
int cli_bn_moving(const trine_resnet *net);
/* One sentence, if evaluation will normalise with batch statistics because layers have no others. */
void cli_warn_untracked(const cli_run *run);

/* Short forms of cJSON. */
void cli_set(cJSON *object, const char *key, double value);
void cli_set_text(cJSON *object, const char *key, const char *text); /* NULL: null */
/* "tuning" of run->json and a line on it: measured choices as trine_session_tuning() writes them; "": null, and no line. */
void cli_set_tuning(cli_run *run, const char *choices);

#endif
