/* SPDX-License-Identifier: MIT */
/* Exit codes, talk, opening of devices and networks. */
#include "cli_common.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int cli_exit_code(trine_status status)
{
    switch (status) {
    case TRINE_OK:
        return CLI_OK;
    case TRINE_ERR_ARG:
    case TRINE_ERR_STATE:
    case TRINE_ERR_UNSUPPORTED:
        return CLI_USAGE;
    case TRINE_ERR_DEVICE:
        return CLI_NO_DEVICE;
    case TRINE_ERR_SHAPE:
    case TRINE_ERR_OPEN:
    case TRINE_ERR_FORMAT:
    case TRINE_ERR_DATA:
    case TRINE_ERR_WEIGHTS:
        return CLI_BAD_INPUT;
    case TRINE_ERR_CHECK:
        return CLI_CHECK;
    case TRINE_ERR_WORKSPACE:
    case TRINE_ERR_BUILD:
    case TRINE_ERR_OPENCL:
    case TRINE_ERR_NOMEM:
    case TRINE_ERR_WRITE:
        return CLI_FAILED;
    }
    return CLI_FAILED;
}

int cli_fail(trine_status status)
{
    const char *sentence = trine_last_error();
    cli_progress_interrupt();
    fprintf(stderr, "trine: %s\n", sentence[0] != '\0' ? sentence : trine_status_text(status));
    if (status == TRINE_ERR_BUILD && trine_last_build_log()[0] != '\0')
        fprintf(stderr, "%s\n", trine_last_build_log());
    return cli_exit_code(status);
}

int cli_error(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    cli_progress_interrupt();
    fputs("trine: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

void cli_talk(const cli_run *run, const char *format, ...)
{
    va_list args;
    if (run->talked != NULL) {
        va_start(args, format);
        cli_text_add_list(run->talked, format, args);
        cli_text_append(run->talked, "\n", 1);
        va_end(args);
    }
    if (run->v.quiet) return;
    va_start(args, format);
    cli_progress_interrupt();
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

void cli_print(const cli_run *run, const char *format, ...)
{
    if (run->v.json != NULL && strcmp(run->v.json, "-") == 0) return;
    va_list args;
    va_start(args, format);
    cli_progress_interrupt();
    vprintf(format, args);
    va_end(args);
}

void cli_print_wrapped(const cli_run *run, size_t column, size_t indent, const char *text)
{
    if (run->v.json != NULL && strcmp(run->v.json, "-") == 0) return;
    cli_progress_interrupt();
    cli_print_words(text, column, indent);
}

void cli_log(void *user, const char *sentence)
{
    const cli_run *run = user;
    cli_talk(run, "warning: %s", sentence);
}

void cli_on_progress(void *user, size_t done, size_t all)
{
    if (user != NULL) cli_progress_update(user, done, all, NULL);
}

int cli_check_writable(const char *what, const char *path)
{
    struct stat info;
    char *folder = malloc(strlen(path) + 2);
    if (folder == NULL) return cli_error(CLI_FAILED, "out of memory");
    strcpy(folder, path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        strcpy(folder, ".");
    else
        slash[slash == folder ? 1 : 0] = '\0';
    int code = CLI_OK;
    if (path[0] == '\0')
        code = cli_error(CLI_USAGE, "%s: the file's name is empty", what);
    else if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        code = cli_error(CLI_FAILED, "%s %s: is a directory", what, path);
    else if (stat(folder, &info) == 0 && !S_ISDIR(info.st_mode))
        code = cli_error(CLI_FAILED, "%s %s: no file can be written in %s: it is no directory", what, path,
                         folder);
    else if (access(folder, W_OK | X_OK) != 0)
        code = cli_error(CLI_FAILED, "%s %s: no file can be written in %s: %s", what, path, folder,
                         strerror(errno));
    free(folder);
    return code;
}

int cli_has_ending(const char *path, const char *ending)
{
    const size_t length = strlen(path), tail = strlen(ending);
    return length > tail && strcmp(path + length - tail, ending) == 0;
}

int cli_check_weights_name(const char *what, const char *path)
{
    static const char *const endings[] = {".safetensors", ".pth", ".pt", ".th", ".bin"};
    for (size_t i = 0; i < CLI_COUNTOF(endings); i++)
        if (cli_has_ending(path, endings[i])) return CLI_OK;
    return cli_error(CLI_USAGE, "%s '%s': a weights file is named .safetensors, .pth, .pt, .th or .bin", what,
                     path);
}

int cli_open_device(cli_run *run, int profile)
{
    int code = CLI_OK;
    if (run->context == NULL) CLI_TRY(trine_context_create(run->v.device, cli_log, run, &run->context));
    if (run->stream == NULL) CLI_TRY(trine_stream_create(run->context, profile, &run->stream));
cleanup:
    return code;
}

static int is_variant(const char *arch)
{
    for (int i = 0; i < trine_resnet_variant_count(); i++)
        if (strcmp(trine_resnet_variant_name(i), arch) == 0) return 1;
    return 0;
}

int cli_read_weights(cli_run *run)
{
    if (run->v.weights == NULL) return cli_usage(&run->command->syntax, "--weights FILE is needed");
    if (run->v.arch != NULL && !is_variant(run->v.arch)) {
        char names[512];
        int used = 0;
        for (int i = 0; i < trine_resnet_variant_count() && (size_t)used < sizeof names; i++)
            used += snprintf(names + used, sizeof names - (size_t)used, "%s%s", i > 0 ? ", " : "",
                             trine_resnet_variant_name(i));
        return cli_error(CLI_USAGE, "unknown variant '%s': expected one of %s", run->v.arch, names);
    }
    const trine_status status = trine_weights_read(run->v.weights, &run->weights);
    return status == TRINE_OK ? CLI_OK : cli_fail(status);
}

/* What does not fit is told with the file's name. */
static int fail_network(const cli_run *run, trine_status status)
{
    if (cli_exit_code(status) != CLI_BAD_INPUT) return cli_fail(status);
    return cli_error(CLI_BAD_INPUT, "%s: %s", run->v.weights, trine_last_error());
}

/* Metadata that is one of two words, where it is there. */
static int check_choice(const cli_run *run, const char *key, const char *a, const char *b)
{
    const char *said = trine_weights_metadata(run->weights, key);
    if (said == NULL || strcmp(said, a) == 0 || strcmp(said, b) == 0) return CLI_OK;
    return cli_error(CLI_BAD_INPUT, "%s: metadata '%s' is '%s', expected %s or %s", run->v.weights, key, said,
                     a, b);
}

const char *cli_precision_name(const cli_run *run)
{
    static const char *const names[] = {"fp32", "fp16", "tf32"}; /* as cli_precision_section has them */
    return names[run->v.precision];
}

int cli_set_precision(cli_run *run)
{
    int code = CLI_OK;
    CLI_TRY(trine_resnet_set_precision(run->net, run->v.precision == 1 ? TRINE_F16 : TRINE_F32));
    CLI_TRY(trine_resnet_allow_tf32(run->net, run->v.precision == 2));
    cli_set_text(run->json, "precision", cli_precision_name(run));
cleanup:
    return code;
}

int cli_open_network(cli_run *run, int embedding_dim)
{
    int code = CLI_OK;
    const trine_resnet_options options = {
        .arch = run->v.arch, .embedding_dim = embedding_dim, .seed = run->v.seed};
    if (run->weights == NULL) CLI_RUN(cli_read_weights(run));
    CLI_RUN(check_choice(run, "embedding", "pool", "fc"));
    CLI_RUN(check_choice(run, "normalize", "true", "false"));
    CLI_RUN(cli_open_device(run, 0));
    const trine_status status = trine_resnet_from_weights(run->context, run->weights, &options, &run->net);
    if (status != TRINE_OK) return fail_network(run, status);
    if (run->v.bn != NULL) CLI_TRY(trine_resnet_set_bn(run->net, run->v.bn));
    CLI_RUN(cli_set_precision(run));
cleanup:
    return code;
}

void cli_close(cli_run *run)
{
    trine_resnet_destroy(&run->net);
    trine_weights_destroy(&run->weights);
    trine_stream_destroy(&run->stream);
    trine_context_destroy(&run->context);
    cJSON_Delete(run->json);
    run->json = NULL;
}

trine_embedding cli_embedding(const cli_run *run)
{
    if (run->v.embedding != CLI_UNSET) return run->v.embedding == 1 ? TRINE_EMBED_FC : TRINE_EMBED_POOL;
    const char *said = run->weights != NULL ? trine_weights_metadata(run->weights, "embedding") : NULL;
    return said != NULL && strcmp(said, "fc") == 0 ? TRINE_EMBED_FC : TRINE_EMBED_POOL;
}

int cli_normalize(const cli_run *run)
{
    if (run->v.normalize != CLI_UNSET) return run->v.normalize;
    const char *said = run->weights != NULL ? trine_weights_metadata(run->weights, "normalize") : NULL;
    return said != NULL && strcmp(said, "true") == 0;
}

const char *cli_bn_effect(const trine_bn_info *info)
{
    if (!info->tracked) return "untracked";
    if (!info->batch_statistics) return "eval";
    if (!info->updates) return "no-update";
    return info->policy == TRINE_BN_CUMULATIVE ? "cumulative" : "train";
}

void cli_bn_summary(const trine_resnet *net, char *out, size_t size)
{
    static const struct {
        const char *name, *more;
    } effects[] = {{"eval", ""},
                   {"train", ""},
                   {"no-update", ""},
                   {"cumulative", ""},
                   {"untracked", " (batch statistics under every policy, in evaluation too)"}};
    int counts[CLI_COUNTOF(effects)] = {0};
    const int layers = trine_resnet_bn_count(net);
    for (int i = 0; i < layers; i++) {
        trine_bn_info info;
        if (trine_resnet_bn(net, i, &info) != TRINE_OK) continue;
        for (size_t k = 0; k < CLI_COUNTOF(effects); k++)
            if (strcmp(effects[k].name, cli_bn_effect(&info)) == 0) counts[k]++;
    }
    int used = snprintf(out, size, "%d BatchNorm layers:", layers);
    const char *separator = " ";
    for (size_t k = 0; k < CLI_COUNTOF(effects) && used > 0 && (size_t)used < size; k++) {
        if (counts[k] == 0) continue;
        used += snprintf(out + used, size - (size_t)used, "%s%d %s%s", separator, counts[k], effects[k].name,
                         effects[k].more);
        separator = ", ";
    }
}

void cli_warn_untracked(const cli_run *run)
{
    int untracked = 0;
    const char *first = "";
    for (int i = trine_resnet_bn_count(run->net) - 1; i >= 0; i--) {
        trine_bn_info info;
        if (trine_resnet_bn(run->net, i, &info) != TRINE_OK || info.tracked) continue;
        untracked++;
        first = info.name;
    }
    if (untracked > 0)
        cli_talk(
            run,
            "warning: %d BatchNorm layer%s (%s first) without running statistics normalise with the batch's "
            "in evaluation too: an image's vector depends on its batch mates (trine recalibrate gives such "
            "layers running statistics)",
            untracked, untracked == 1 ? "" : "s", first);
}

int cli_bn_moving(const trine_resnet *net)
{
    int moving = 0;
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        if (trine_resnet_bn(net, i, &info) == TRINE_OK && info.frozen && info.updates) moving++;
    }
    return moving;
}

void cli_set(cJSON *object, const char *key, double value)
{
    cJSON_AddNumberToObject(object, key, value);
}

void cli_set_text(cJSON *object, const char *key, const char *text)
{
    if (text == NULL)
        cJSON_AddNullToObject(object, key);
    else
        cJSON_AddItemToObject(object, key, cli_json_text(text));
}

void cli_set_tuning(cli_run *run, const char *choices)
{
    cli_set_text(run->json, "tuning", choices[0] != '\0' ? choices : NULL);
    if (choices[0] != '\0') cli_talk(run, "tuning       %s, as trine tune measured", choices);
}
