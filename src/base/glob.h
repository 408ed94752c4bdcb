/* SPDX-License-Identifier: MIT */
/* Shell globs over layer and parameter names: * ? [abc] [a-z] [!x]; '*' crosses dots. */
#ifndef TRINE_BASE_GLOB_H
#define TRINE_BASE_GLOB_H

#include "base/memory.h"

bool trine__glob_match(const char *glob, const char *name);
/* TRINE_ERR_ARG if the glob is empty or has an unclosed '['. */
trine_status trine__glob_check(const char *glob);

/* Lists of items separated by commas, as options take them. */
enum { TRINE__ITEM_BYTES = 256 };
/* TRINE_ERR_ARG, in a sentence that begins with `what`, if an item does not fit into TRINE__ITEM_BYTES: half
 * an item would mean something else. */
trine_status trine__list_check(const char *what, const char *list);
/* Copy the next item and go past it; false at the end. */
bool trine__list_next(const char **list, char item[TRINE__ITEM_BYTES]);

/* What the globs of a list are matched with. */
typedef struct trine__glob_items {
    int count;
    bool (*matches)(const void *user, const char *glob, int i);
    const void *user;
    const char *kind; /* for "'GLOB' matches no <kind>" */
} trine__glob_items;
/* "GLOB,!GLOB,...": in order, the last match wins, `!` takes back. chosen[i] is set where a glob matches item
 * i and stays as it is elsewhere. NULL is the empty list.
 * TRINE_ERR_ARG (a bad glob, or one that matches nothing): `chosen` is undefined. */
trine_status trine__glob_list(const char *what, const char *list, const trine__glob_items *items,
                              bool *chosen);

#endif
