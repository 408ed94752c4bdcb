/* SPDX-License-Identifier: MIT */
#include "base/glob.h"

#include <fnmatch.h>
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
