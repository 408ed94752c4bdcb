/* SPDX-License-Identifier: MIT */
/* Growing text. */
#include "cli_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for `more` characters and the terminator. */
static int reserve(cli_text *t, size_t more)
{
    if (t->failed) return 0;
    if (t->used + more + 1 <= t->capacity) return 1;
    const size_t capacity = 2 * (t->used + more + 1);
    char *text = realloc(t->text, capacity);
    if (text == NULL) {
        t->failed = 1;
        return 0;
    }
    t->text = text;
    t->capacity = capacity;
    return 1;
}

void cli_text_add_list(cli_text *t, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, args);
    if (length >= 0 && reserve(t, (size_t)length))
        t->used += (size_t)vsnprintf(t->text + t->used, t->capacity - t->used, format, again);
    va_end(again);
}

void cli_text_add(cli_text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    cli_text_add_list(t, format, args);
    va_end(args);
}

void cli_text_append(cli_text *t, const char *bytes, size_t size)
{
    if (!reserve(t, size)) return;
    memcpy(t->text + t->used, bytes, size);
    t->used += size;
    t->text[t->used] = '\0';
}

void cli_text_escape(cli_text *t, const char *words)
{
    for (const char *c = words; *c != '\0'; c++) {
        const char *as = *c == '&'    ? "&amp;"
                         : *c == '<'  ? "&lt;"
                         : *c == '>'  ? "&gt;"
                         : *c == '"'  ? "&quot;"
                         : *c == '\'' ? "&#39;"
                                      : NULL;
        if (as != NULL)
            cli_text_append(t, as, strlen(as));
        else
            cli_text_append(t, (unsigned char)*c < ' ' && *c != '\n' ? " " : c, 1);
    }
}

void cli_text_base64(cli_text *t, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        const unsigned long word = (unsigned long)bytes[i] << 16 |
                                   (i + 1 < size ? (unsigned long)bytes[i + 1] << 8 : 0) |
                                   (i + 2 < size ? bytes[i + 2] : 0);
        const char four[4] = {digits[word >> 18], digits[word >> 12 & 63],
                              i + 1 < size ? digits[word >> 6 & 63] : '=',
                              i + 2 < size ? digits[word & 63] : '='};
        cli_text_append(t, four, 4);
    }
}

void cli_text_free(cli_text *t)
{
    free(t->text);
    *t = (cli_text){0};
}
