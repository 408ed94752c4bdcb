/* SPDX-License-Identifier: MIT */
/* A test program that takes one command a line on stdin, for a script that checks what it writes: words in
 * order, sentences on stderr, the first failure ends it. */
#ifndef TRINE_TESTS_LINE_TOOL_H
#define TRINE_TESTS_LINE_TOOL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/device.h"
#include "trine/status.h"

enum { LINE_WORDS = 32, LINE_BYTES = 8192 };

typedef struct line_command {
    const char *name;
    void (*run)(void); /* takes its words with next_word() and its like, all of them */
} line_command;

static char *line_words[LINE_WORDS];
static int line_count, line_next;

static inline _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

/* The library's sentence about the running command, if it failed. */
static inline void must(trine_status status)
{
    if (status != TRINE_OK) die(line_words[0], trine_last_error());
}

static inline const char *next_word(void)
{
    if (line_next >= line_count) die(line_words[0], "too few words");
    return line_words[line_next++];
}

/* The commands on stdin, on the suite's device. Returns main()'s result.
 * @param finish before the device is closed, or NULL */
static inline int line_tool_main(const line_command *commands, size_t count, void (*finish)(void))
{
    static char line[LINE_BYTES];
    test_device_open();
    while (fgets(line, sizeof line, stdin)) {
        line_count = line_next = 0;
        for (char *w = strtok(line, " \n"); w && line_count < LINE_WORDS; w = strtok(NULL, " \n"))
            line_words[line_count++] = w;
        if (line_count == 0) continue;
        next_word();
        size_t i = 0;
        while (i < count && strcmp(commands[i].name, line_words[0]) != 0) i++;
        if (i == count) die(line_words[0], "no such command");
        commands[i].run();
        if (line_next != line_count) die(line_words[0], "too many words");
    }
    if (finish) finish();
    test_device_close();
    return EXIT_SUCCESS;
}

#endif
