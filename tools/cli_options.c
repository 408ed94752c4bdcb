/* SPDX-License-Identifier: MIT */
/* Parsing of option tables, and their --help. */
#include "cli_options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_WIDTH = 80, HELP_INDENT = 26 };

static const cli_option common_options[] = {
    {"device", CLI_TEXT, CLI_AT(device), "D", "auto", 0, 0,
     "auto, an index of `trine devices`, cpu, gpu, accelerator, or a part of a device's name"},
    {"json", CLI_TEXT, CLI_AT(json), "FILE", NULL, 0, 0, "write the results as one JSON object; - is stdout"},
    {"seed", CLI_SEED, CLI_AT(seed), "N", "0", 0, 0, "seed of everything that is drawn at random"},
    {"threads", CLI_INT, CLI_AT(threads), "N", "0", 0, 1024,
     "threads that decode images; 0: one a processor"},
    {"quiet", CLI_FLAG, CLI_AT(quiet), NULL, NULL, 0, 0, "print results and errors only"},
    {"help", CLI_FLAG, CLI_AT(help), NULL, NULL, 0, 0, "print this text"},
};
const cli_section cli_common_section = CLI_SECTION("Common", common_options);

static const cli_option preprocess_options[] = {
    {"preprocess", CLI_TEXT, CLI_AT(preprocess), "NAME", NULL, 0, 0,
     "imagenet (shorter side to 256, centre crop 224), cifar (no resizing) or idx (padded to 32, mean and "
     "std of "
     "the training data); not given: what the weights file says, else what suits the network"},
    {"resize", CLI_INT, CLI_AT(resize), "N", NULL, 0, 16384, "shorter side in pixels; 0: no resizing"},
    {"crop", CLI_INT, CLI_AT(crop), "N", NULL, 0, 16384, "side of the centre crop in pixels; 0: none"},
    {"mean", CLI_RGB, CLI_AT(mean), "R,G,B", NULL, -1e6, 1e6, "mean per channel, on the scale from 0 to 1"},
    {"std", CLI_RGB, CLI_AT(std), "R,G,B", NULL, 1e-6, 1e6, "standard deviation per channel"},
    {"on-bad-image", CLI_CHOICE, CLI_AT(on_bad_image), "fail|skip", "skip", 0, 0,
     "what an unreadable image does: fail the run, or be named, counted and left out (in training: another "
     "of its "
     "class takes its place)"},
};
const cli_section cli_preprocess_section = CLI_SECTION("Images", preprocess_options);

int cli_usage(const cli_syntax *syntax, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "trine %s: ", syntax->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, " (see trine %s --help)\n", syntax->name);
    va_end(args);
    return 2;
}

const char *cli_choice_name(const char *list, int index)
{
    static _Thread_local char words[4][32];
    static _Thread_local unsigned turn;
    char *word = words[turn++ % CLI_COUNTOF(words)];
    word[0] = '\0';
    for (; index > 0 && list != NULL; index--) {
        list = strchr(list, '|');
        if (list != NULL) list++;
    }
    if (list != NULL) {
        const size_t length = strcspn(list, "|");
        snprintf(word, sizeof words[0], "%.*s", (int)length, list);
    }
    return word;
}

static int choice_index(const char *list, const char *text)
{
    const size_t length = strlen(text);
    int index = 0;
    for (const char *at = list;; index++) {
        const size_t word = strcspn(at, "|");
        if (word == length && strncmp(at, text, length) == 0) return index;
        if (at[word] == '\0') return -1;
        at += word + 1;
    }
}

static bool parse_real(const char *text, double *out, const char **end)
{
    char *stop;
    errno = 0;
    *out = strtod(text, &stop);
    *end = stop;
    return stop != text && !isnan(*out);
}

static bool parse_rgb(const cli_option *option, const char *text, float out[3])
{
    double value[3];
    int count = 0;
    for (const char *at = text;;) {
        const char *end;
        if (count == 3 || !parse_real(at, &value[count], &end)) return false;
        if (value[count] < option->min || value[count] > option->max) return false;
        count++;
        if (*end == '\0') break;
        if (*end != ',') return false;
        at = end + 1;
    }
    if (count == 2) return false;
    for (int i = 0; i < 3; i++) out[i] = (float)value[count == 1 ? 0 : i];
    return true;
}

static bool parse_seed(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || errno == ERANGE || text[strspn(text, "0123456789")] != '\0')
        return false;
    *out = value;
    return true;
}

static bool parse_int(const cli_option *option, const char *text, int *out)
{
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno == ERANGE || (double)value < option->min ||
        (double)value > option->max)
        return false;
    *out = (int)value;
    return true;
}

/* Store the text of a value. False if it is not one. */
static bool store(const cli_option *option, const char *text, cli_values *values)
{
    void *const at = (char *)values + option->offset;
    const char *end;
    double number;
    switch (option->kind) {
    case CLI_FLAG:
        *(int *)at = text == NULL ? 1 : atoi(text);
        return true;
    case CLI_NO:
        *(int *)at = 0;
        return true;
    case CLI_INT:
        return parse_int(option, text, at);
    case CLI_SEED:
        return parse_seed(text, at);
    case CLI_REAL:
        if (!parse_real(text, &number, &end) || *end != '\0' || number < option->min || number > option->max)
            return false;
        *(double *)at = number;
        return true;
    case CLI_TEXT:
        *(const char **)at = text;
        return true;
    case CLI_CHOICE:
        *(int *)at = choice_index(option->value, text);
        return *(int *)at >= 0;
    case CLI_RGB:
        return parse_rgb(option, text, at);
    }
    return false;
}

static void store_default(const cli_option *option, cli_values *values)
{
    void *const at = (char *)values + option->offset;
    if (option->preset != NULL) {
        store(option, option->preset, values);
        return;
    }
    switch (option->kind) {
    case CLI_FLAG:
        *(int *)at = 0;
        break;
    case CLI_NO: /* shares the field of a CLI_FLAG */
        break;
    case CLI_INT:
    case CLI_CHOICE:
        *(int *)at = CLI_UNSET;
        break;
    case CLI_SEED:
        *(uint64_t *)at = 0;
        break;
    case CLI_REAL:
        *(double *)at = NAN;
        break;
    case CLI_TEXT:
        *(const char **)at = NULL;
        break;
    case CLI_RGB:
        for (int i = 0; i < 3; i++) ((float *)at)[i] = NAN;
        break;
    }
}

static const cli_section *section_at(const cli_syntax *syntax, size_t i)
{
    return i < syntax->section_count ? syntax->sections[i] : &cli_common_section;
}

static const cli_option *find(const cli_syntax *syntax, const char *name, size_t length)
{
    for (size_t s = 0; s <= syntax->section_count; s++) {
        const cli_section *section = section_at(syntax, s);
        for (size_t i = 0; i < section->count; i++) {
            const cli_option *option = &section->options[i];
            if (strlen(option->name) == length && strncmp(option->name, name, length) == 0) return option;
        }
    }
    return NULL;
}

static int complain(const cli_syntax *syntax, const cli_option *option, const char *text)
{
    char want[160];
    if (option->kind == CLI_CHOICE)
        snprintf(want, sizeof want, "one of %s", option->value);
    else if (option->kind == CLI_INT)
        snprintf(want, sizeof want, "a whole number from %.0f to %.0f", option->min, option->max);
    else if (option->kind == CLI_REAL)
        snprintf(want, sizeof want, "a number from %g to %g", option->min, option->max);
    else if (option->kind == CLI_RGB)
        snprintf(want, sizeof want, "one number or three (R,G,B) from %g to %g", option->min, option->max);
    else
        snprintf(want, sizeof want, "a whole number of at most 64 bits");
    return cli_usage(syntax, "--%s wants %s, not '%s'", option->name, want, text);
}

int cli_typing_errors(const char *a, size_t a_length, const char *b)
{
    enum { LONGEST = 32 };
    const size_t b_length = strlen(b);
    int rows[3][LONGEST + 1]; /* of the table: two before, one before, this one */
    if (a_length > LONGEST || b_length > LONGEST) return LONGEST;
    for (size_t j = 0; j <= b_length; j++) rows[0][j] = (int)j;
    for (size_t i = 1; i <= a_length; i++) {
        int *row = rows[i % 3], *above = rows[(i + 2) % 3], *higher = rows[(i + 1) % 3];
        row[0] = (int)i;
        for (size_t j = 1; j <= b_length; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) best = above[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && higher[j - 2] + 1 < best)
                best = higher[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[a_length % 3][b_length];
}

/* An option that there is not, and the one that may be meant. */
static int unknown_option(const cli_syntax *syntax, const char *word, size_t length)
{
    const char *nearest = NULL;
    int errors = CLI_TYPING_ERRORS + 1;
    for (size_t s = 0; s <= syntax->section_count; s++) {
        const cli_section *section = section_at(syntax, s);
        for (size_t i = 0; i < section->count; i++) {
            const int found = cli_typing_errors(word + 2, length, section->options[i].name);
            if (found < errors && found < (int)length) {
                nearest = section->options[i].name;
                errors = found;
            }
        }
    }
    return cli_usage(syntax, nearest != NULL ? "unknown option '%s': is --%s meant?" : "unknown option '%s'",
                     word, nearest);
}

int cli_parse(const cli_syntax *syntax, int argc, char **argv, cli_values *values, const char **arguments,
              int *argument_count)
{
    *values = (cli_values){.embedding = CLI_UNSET,
                           .normalize = CLI_UNSET,
                           .batch = CLI_UNSET,
                           .resize = CLI_UNSET,
                           .crop = CLI_UNSET,
                           .mean = {NAN, NAN, NAN},
                           .std = {NAN, NAN, NAN}};
    for (size_t s = 0; s <= syntax->section_count; s++) {
        const cli_section *section = section_at(syntax, s);
        for (size_t i = 0; i < section->count; i++) store_default(&section->options[i], values);
    }
    *argument_count = 0;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (strcmp(word, "-h") == 0) word = "--help";
        if (strncmp(word, "--", 2) != 0 || word[2] == '\0') {
            if (*argument_count == syntax->max_arguments)
                return cli_usage(syntax, "unexpected argument '%s'", word);
            arguments[(*argument_count)++] = word;
            continue;
        }
        const size_t length = strcspn(word + 2, "=");
        const char *text = word[2 + length] == '=' ? word + 2 + length + 1 : NULL;
        const cli_option *option = find(syntax, word + 2, length);
        if (option == NULL) return unknown_option(syntax, word, length);
        const bool is_flag = option->kind == CLI_FLAG || option->kind == CLI_NO;
        if (is_flag && text != NULL) return cli_usage(syntax, "--%s takes no value", option->name);
        if (!is_flag && text == NULL) {
            if (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0)
                return cli_usage(syntax, "--%s needs a value (%s)", option->name, option->value);
            text = argv[++i];
        }
        if (!store(option, text, values)) return complain(syntax, option, text);
        if (values->help) return 0;
    }
    if (*argument_count < syntax->min_arguments) return cli_usage(syntax, "needs %s", syntax->arguments);
    return 0;
}

void cli_print_words(const char *text, size_t column, size_t indent)
{
    bool first = true;
    while (*text != '\0') {
        const size_t length = strcspn(text, " \n");
        if (!first && column + 1 + length > HELP_WIDTH) {
            printf("\n%*s", (int)indent, "");
            column = indent;
            first = true;
        }
        if (!first) {
            putchar(' ');
            column++;
        }
        fwrite(text, 1, length, stdout);
        column += length;
        first = false;
        text += length;
        if (*text == '\n') {
            printf("\n%*s", (int)indent, "");
            column = indent;
            first = true;
        }
        if (*text != '\0') text++;
    }
    putchar('\n');
}

static void print_option(const cli_option *option)
{
    char head[128], help[512];
    const int length = snprintf(head, sizeof head, "  --%s%s%s", option->name,
                                option->value != NULL ? " " : "", option->value != NULL ? option->value : "");
    const bool shown = option->preset != NULL && option->kind != CLI_FLAG && option->preset[0] != '\0';
    snprintf(help, sizeof help, "%s%s%s%s", option->help, shown ? " [" : "", shown ? option->preset : "",
             shown ? "]" : "");
    int line = 0; /* where a long list of choices goes on */
    for (int i = 0; length > HELP_WIDTH && i < HELP_WIDTH; i++)
        if (head[i] == '|') line = i + 1;
    if (line > 0) printf("%.*s\n%*s", line, head, HELP_INDENT, "");
    fputs(head + line, stdout);
    if (length + 2 > HELP_INDENT)
        printf("\n%*s", HELP_INDENT, "");
    else
        printf("%*s", HELP_INDENT - length, "");
    cli_print_words(help, HELP_INDENT, HELP_INDENT);
}

void cli_help(const cli_syntax *syntax)
{
    printf("Usage: trine %s%s%s [options]\n\n", syntax->name, syntax->arguments[0] != '\0' ? " " : "",
           syntax->arguments);
    cli_print_words(syntax->summary, 0, 0);
    for (size_t s = 0; s <= syntax->section_count; s++) {
        const cli_section *section = section_at(syntax, s);
        printf("\n%s:\n", section->title);
        for (size_t i = 0; i < section->count; i++) print_option(&section->options[i]);
    }
    if (syntax->notes != NULL) {
        putchar('\n');
        cli_print_words(syntax->notes, 0, 0);
    }
}
