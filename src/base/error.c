/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SENTENCE_BYTES = 2048, BUILD_LOG_BYTES = 65536 };

static _Thread_local char last_sentence[SENTENCE_BYTES];
static _Thread_local char last_build_log[BUILD_LOG_BYTES];

trine_status trine__fail(trine_status status, const char *format, ...)
{
    char text[SENTENCE_BYTES]; /* the arguments may point into last_sentence */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(last_sentence, text, sizeof text);
    return status;
}

trine_status trine__fail_context(trine_status status, const char *format, ...)
{
    char prefix[SENTENCE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    char text[2 * SENTENCE_BYTES + 2];
    snprintf(text, sizeof text, "%s: %s", prefix, last_sentence);
    text[SENTENCE_BYTES - 1] = '\0';
    memcpy(last_sentence, text, SENTENCE_BYTES);
    return status;
}

void trine__set_build_log(const char *log)
{
    const size_t length = strlen(log);
    const size_t skip = length >= BUILD_LOG_BYTES ? length - BUILD_LOG_BYTES + 1 : 0;
    memcpy(last_build_log, log + skip, length - skip + 1);
}

const char *trine_last_error(void)
{
    return last_sentence;
}

const char *trine_last_build_log(void)
{
    return last_build_log;
}

const char *trine_status_text(trine_status status)
{
    switch (status) {
#define STATUS_CASE(name, value, text)                                                                       \
    case TRINE_##name:                                                                                       \
        return text;
        TRINE_STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}
