/* SPDX-License-Identifier: MIT */
/* Command line options as tables: one row an option, one struct with every option's value. A command lists
 * the sections it takes; parsing, range checks and --help follow from the rows. */
#ifndef TRINE_TOOLS_CLI_OPTIONS_H
#define TRINE_TOOLS_CLI_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

enum { CLI_UNSET = -1 }; /* an int option that was not given and has no default */

/* Every option of every command. Unset: NULL, CLI_UNSET or NaN. */
typedef struct cli_values {
    /* common */
    const char *device, *json;
    uint64_t seed;
    int threads, quiet, help;
    /* network */
    const char *weights, *arch;
    int embedding, embedding_dim, normalize;
    const char *freeze, *bn;
    int precision;
    /* data */
    const char *data, *val, *classes, *image, *input, *labels;
    int on_bad_image, batch, min_per_class, max_per_class, data_report;
    const char *preprocess;
    int resize, crop;
    float mean[3], std[3];
    /* training */
    int loss, mining, distance, classes_per_batch, images_per_class, steps, epochs;
    const char *margin, *window, *draw_range, *temperature;
    int negative, swap, memory_size, memory_start;
    double fraction, angle, alpha, beta, base, epsilon;
    int optimizer, nesterov, schedule, feature_cache, feature_memory, checkpoint_activations;
    const char *lr; /* "X", "GLOB=X,..." or both */
    const char *augment;
    int warmup, accumulate;
    double momentum, weight_decay, clip_norm, ema;
    int save_every, resume;
    int on_collapse;
    const char *report, *log_dir;
    /* results */
    const char *out, *list;
    int names, layer, task;
    /* eval, index */
    const char *vectors, *ks, *clusters_file, *index;
    int nmi, per_class, nearest;
    double threshold;
    /* export */
    int folded;
    const char *batch_text;
    /* drift, bench */
    int passes, remedies, mode, size, runs, layers;
    int clear;    /* cache */
    int all;      /* probe */
    double limit; /* tune */
    int again;
    const char *export_file;
    const char *plot;
    double max_drift;
    /* recalibrate */
    const char *layer_globs;
    int method;
} cli_values;

typedef enum cli_kind {
    CLI_FLAG,   /* int, set to 1 */
    CLI_NO,     /* int, set to 0 */
    CLI_INT,    /* int in [min, max] */
    CLI_SEED,   /* uint64_t */
    CLI_REAL,   /* double in [min, max] */
    CLI_TEXT,   /* const char * */
    CLI_CHOICE, /* int: position in `value`, a list "a|b|c" */
    CLI_RGB     /* float[3] in [min, max]: "R,G,B", or one number for all three */
} cli_kind;

typedef struct cli_option {
    const char *name; /* without dashes */
    cli_kind kind;
    size_t offset;      /* of the value in cli_values: CLI_AT(field) */
    const char *value;  /* its name in --help; the list for CLI_CHOICE; NULL for CLI_FLAG and CLI_NO */
    const char *preset; /* the default as text; NULL: unset (0 for flags) */
    double min, max;
    const char *help;
} cli_option;

#define CLI_AT(field)  offsetof(cli_values, field)
#define CLI_COUNTOF(a) (sizeof(a) / sizeof((a)[0]))
#define CLI_SECTION(t, a)                                                                                    \
    {                                                                                                        \
        (t), (a), CLI_COUNTOF(a)                                                                             \
    }

typedef struct cli_section {
    const char *title;
    const cli_option *options;
    size_t count;
} cli_section;

/* What a command takes. */
typedef struct cli_syntax {
    const char *name;
    const char *arguments; /* as in "inspect FILE [FILE2]"; "" for none */
    const char *summary;   /* one line */
    int min_arguments, max_arguments;
    const cli_section *const *sections; /* its own; the common one is added */
    size_t section_count;
    const char *notes; /* after the options in --help; NULL for none */
} cli_syntax;

/* Sections that several commands share. */
extern const cli_section cli_common_section;
extern const cli_section cli_preprocess_section;

/* Fill `values` (defaults, then what argv says) and `arguments`, which holds syntax->max_arguments.
 * Returns 0, or 2 after one sentence on stderr. With --help it sets values->help and checks nothing more. */
int cli_parse(const cli_syntax *syntax, int argc, char **argv, cli_values *values, const char **arguments,
              int *argument_count);

/* Letters that are wrong, missing or too many, and neighbours that changed places, between the first `a_length` characters of `a` and
 * `b` (optimal string alignment, Damerau 1964); a large number where a word has more than 32. */
int cli_typing_errors(const char *a, size_t a_length, const char *b);
/* Most of them with which a word may be meant. */
enum { CLI_TYPING_ERRORS = 2 };

#if defined(__GNUC__)
#define CLI_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define CLI_PRINTF(a, b)
#endif

/* One sentence about how the command was called, on stderr; returns the exit code 2. */
int cli_usage(const cli_syntax *syntax, const char *format, ...) CLI_PRINTF(2, 3);

/* Print a command's help on stdout, at most 80 columns wide. */
void cli_help(const cli_syntax *syntax);

/* Words of `text` on stdout from column `column` on, wrapped at 80 columns and continued at `indent`; ends the line. */
void cli_print_words(const char *text, size_t column, size_t indent);

/* Word number `index` of "a|b|c", in one of the calling thread's four buffers, used in turn. */
const char *cli_choice_name(const char *list, int index);

#endif
