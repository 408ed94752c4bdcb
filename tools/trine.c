/* SPDX-License-Identifier: MIT */
/* The command-line program: finds the command, parses its options, runs it, writes its JSON object. */
#include "cli_common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_command *const commands[] = {
    &cmd_devices,  &cmd_probe,       &cmd_inspect, &cmd_convert, &cmd_train,
    &cmd_finetune, &cmd_embed,       &cmd_eval,    &cmd_index,   &cmd_export,
    &cmd_drift,    &cmd_recalibrate, &cmd_bench,   &cmd_tune,    &cmd_cache,
};

static void print_help(void)
{
    puts("Usage: trine <command> [options]\n\n"
         "Fine-tunes and runs ResNets on any OpenCL device.\n\n"
         "Commands:");
    for (size_t i = 0; i < CLI_COUNTOF(commands); i++)
        printf("  %-11s %s\n", commands[i]->syntax.name, commands[i]->syntax.summary);
    puts("\ntrine <command> --help lists a command's options. trine --version prints the\n"
         "version.\n\n"
         "Exit codes: 0 done, 1 failed while running, 2 usage, 3 no usable device,\n"
         "4 bad input, 5 a requested check did not hold.");
}

static const cli_command *find_command(const char *name)
{
    for (size_t i = 0; i < CLI_COUNTOF(commands); i++)
        if (strcmp(commands[i]->syntax.name, name) == 0) return commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *nearest = NULL;
    int errors = CLI_TYPING_ERRORS + 1;
    for (size_t i = 0; i < CLI_COUNTOF(commands); i++) {
        const int found = cli_typing_errors(name, strlen(name), commands[i]->syntax.name);
        if (found < errors && found < (int)strlen(name)) {
            nearest = commands[i]->syntax.name;
            errors = found;
        }
    }
    fprintf(stderr, "trine: unknown command '%s'", name);
    if (nearest != NULL) fprintf(stderr, ": is %s meant?", nearest);
    fputs(" (see trine --help)\n", stderr);
    return CLI_USAGE;
}

static int finish_stdout(int code)
{
    errno = 0; /* what an earlier write set is gone by now */
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    if (code != CLI_OK && code != CLI_CHECK) return code;
    return cli_error(CLI_FAILED, "the results cannot be written to stdout%s%s", errno != 0 ? ": " : "",
                     errno != 0 ? strerror(errno) : "");
}

static int run_command(const cli_command *command, int argc, char **argv, double start)
{
    cli_run run = {.command = command, .start = start, .argc = argc, .argv = argv};
    int code = cli_parse(&command->syntax, argc, argv, &run.v, run.arguments, &run.argument_count);
    if (code != CLI_OK) return code;
    if (run.v.help) {
        cli_help(&command->syntax);
        return finish_stdout(CLI_OK);
    }
    const char *json = run.v.json;
    if (json != NULL && strcmp(json, "-") != 0) code = cli_check_writable("--json", json);
    if (code == CLI_OK) {
        run.json = cJSON_CreateObject();
        code = command->run(&run);
        const int worth = code == CLI_OK || code == CLI_CHECK || run.complete;
        if (worth && json != NULL && cli_json_write(run.json, json) != 0)
            code = cli_error(CLI_FAILED, "--json %s: cannot be written: %s", json, strerror(errno));
    }
    cli_close(&run);
    return finish_stdout(code);
}

int main(int argc, char **argv)
{
    const double start = cli_seconds();
    setvbuf(stdout, NULL, _IOLBF, 0); /* results and talk in the order they were made, in a pipe too */
    /* PoCL would compile each kernel for its launch and once more for the binary that the cache keeps. */
    setenv("POCL_WORK_GROUP_SPECIALIZATION", "0", 0);
    if (argc < 2) {
        fputs("trine: a command is needed (see trine --help)\n", stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "help") == 0 && argc > 2 && find_command(argv[2]) != NULL) {
        cli_help(&find_command(argv[2])->syntax);
        return finish_stdout(CLI_OK);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help();
        return finish_stdout(CLI_OK);
    }
    if (strcmp(name, "--version") == 0) {
        printf("trine %s\n", trine_version());
        return finish_stdout(CLI_OK);
    }
    const cli_command *command = find_command(name);
    if (command == NULL) return unknown_command(name);
    return run_command(command, argc - 2, argv + 2, start);
}
