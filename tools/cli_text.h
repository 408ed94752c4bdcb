/* SPDX-License-Identifier: MIT */
/* Text that grows: SVG and HTML are written into it. */
#ifndef TRINE_TOOLS_CLI_TEXT_H
#define TRINE_TOOLS_CLI_TEXT_H

#include <stdarg.h>

#include "cli_options.h"

/* Zeroed: empty. After a lack of memory `failed` is 1, and what is added from then on is lost. */
typedef struct cli_text {
    char *text; /* NULL or terminated by 0 */
    size_t used, capacity;
    int failed;
} cli_text;

void cli_text_add(cli_text *text, const char *format, ...) CLI_PRINTF(2, 3);
void cli_text_add_list(cli_text *text, const char *format, va_list args);
/* `size` bytes as they are. */
void cli_text_append(cli_text *text, const char *bytes, size_t size);
/* With & < > " ' as HTML and XML want them, and control characters as spaces. */
void cli_text_escape(cli_text *text, const char *words);
/* In base 64, as data URIs have it. */
void cli_text_base64(cli_text *text, const unsigned char *bytes, size_t size);
void cli_text_free(cli_text *text);

#endif
