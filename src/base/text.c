/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void trine__text_add_bytes(trine__text *t, const void *bytes, size_t count)
{
    if (t->failed) return;
    void *data = t->data;
    if (trine__reserve(&data, &t->capacity, t->length + count + 1, 1) != TRINE_OK) {
        t->failed = true;
        return;
    }
    t->data = data;
    if (count) memcpy(t->data + t->length, bytes, count);
    t->length += count;
    t->data[t->length] = '\0';
}

void trine__text_add(trine__text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    void *data = t->data;
    if (t->failed || need < 0 ||
        trine__reserve(&data, &t->capacity, t->length + (size_t)need + 1, 1) != TRINE_OK) {
        t->failed = true;
    } else {
        t->data = data;
        vsnprintf(t->data + t->length, (size_t)need + 1, format, again);
        t->length += (size_t)need;
    }
    va_end(again);
}

trine_status trine__text_take(trine__text *t, char **out)
{
    if (!t->data && !t->failed) trine__text_add_bytes(t, "", 0);
    const bool failed = t->failed;
    char *data = t->data;
    *t = (trine__text){0};
    if (failed) {
        free(data);
        return trine__fail(TRINE_ERR_NOMEM, "out of host memory while building a string");
    }
    *out = data;
    return TRINE_OK;
}

int trine__shortest_digits(double value, bool single)
{
    const int most = single ? 9 : 17;
    int digits = 6;
    for (; digits < most; digits++) {
        char text[40];
        snprintf(text, sizeof text, "%.*g", digits, value);
        const double decimal = strtod(text, NULL);
        if (single ? (float)decimal == (float)value : decimal == value) break;
    }
    return digits;
}

bool trine__read_number(const char *text, size_t length, double *out)
{
    char number[256], *end; /* with the decimal point of the program's locale, for strtod */
    if (length >= sizeof number) return false;
    snprintf(number, sizeof number, "%.*s", (int)length, text);
    char *point = strchr(number, '.');
    if (point) *point = localeconv()->decimal_point[0];
    *out = strtod(number, &end);
    return *end == '\0' && end != number;
}

void trine__text_free(trine__text *t)
{
    free(t->data);
    *t = (trine__text){0};
}
