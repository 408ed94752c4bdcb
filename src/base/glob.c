/* SPDX-License-Identifier: MIT */
#include "base/glob.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

bool trine__glob_match(const char *glob, const char *name)
{
    return fnmatch(glob, name, 0) == 0;
}

trine_status trine__glob_check(const char *glob)
{
    TRINE_CHECK(glob[0], TRINE_ERR_ARG, "bad glob: empty");
    for (const char *p = glob; *p; p++) {
        if (*p == '\\' && p[1]) {
            p++;
        } else if (*p == '[') {
            const char *end = p + 1;
            if (*end == '!' || *end == '^') end++;
            if (*end == ']') end++;
            end = strchr(end, ']');
            TRINE_CHECK(end, TRINE_ERR_ARG, "bad glob '%s': '[' without ']'", glob);
            p = end;
        }
    }
    return TRINE_OK;
}

trine_status trine__list_check(const char *what, const char *list)
{
    for (const char *p = list; p && *p; p += strspn(p, ",")) {
        const size_t length = strcspn(p, ",");
        TRINE_CHECK(length < TRINE__ITEM_BYTES, TRINE_ERR_ARG,
                    "%s: an item of %zu characters ('%.40s...'): at most %d", what, length, p,
                    TRINE__ITEM_BYTES - 1);
        p += length;
    }
    return TRINE_OK;
}

bool trine__list_next(const char **list, char item[TRINE__ITEM_BYTES])
{
    while (**list == ',') (*list)++;
    if (!**list) return false;
    const size_t length = strcspn(*list, ",");
    snprintf(item, TRINE__ITEM_BYTES, "%.*s", (int)length, *list);
    *list += length;
    return true;
}

trine_status trine__glob_list(const char *what, const char *list, const trine__glob_items *items,
                              bool *chosen)
{
    char item[TRINE__ITEM_BYTES];
    TRINE_TRY(trine__list_check(what, list));
    for (const char *text = list ? list : ""; trine__list_next(&text, item);) {
        const bool back = item[0] == '!';
        const char *glob = item + back;
        TRINE_TRY(trine__glob_check(glob));
        bool any = false;
        for (int i = 0; i < items->count; i++) {
            if (!items->matches(items->user, glob, i)) continue;
            chosen[i] = !back;
            any = true;
        }
        TRINE_CHECK(any, TRINE_ERR_ARG, "%s: '%s' matches no %s", what, glob, items->kind);
    }
    return TRINE_OK;
}
