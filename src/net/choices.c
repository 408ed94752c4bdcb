/* SPDX-License-Identifier: MIT */
#include "net/choices.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "op/choice.h"

static trine_status add_text(trine__choices *c, const char *text)
{
    void *items = c->texts;
    TRINE_TRY(trine__reserve(&items, &c->capacity, c->count + 1, sizeof *c->texts));
    c->texts = items;
    TRINE_TRY(trine__strdup(text, &c->texts[c->count]));
    c->count++;
    return TRINE_OK;
}

trine_status trine__choices_add(trine__choices *c, const trine_session *s)
{
    char text[TRINE__CHOICE];
    for (int i = 0; s && i < s->net->spec.unit_count; i++)
        for (int d = TRINE_FORWARD; s->units[i].planned && d <= TRINE_BACKWARD_WEIGHTS; d++)
            if (trine__conv2d_choice(s->units[i].conv, (trine_direction)d, text))
                TRINE_TRY(add_text(c, text));
    /* the layer's operator has all directions, whether they run or not */
    for (size_t i = 0; s && i < s->node_count; i++) {
        const trine__node_kind kind = s->nodes[i].kind;
        const trine_direction d = kind == TRINE__NODE_FC_WEIGHTS ? TRINE_BACKWARD_WEIGHTS
                                  : kind == TRINE__NODE_FC_DATA  ? TRINE_BACKWARD_DATA
                                                                 : TRINE_FORWARD;
        if ((kind == TRINE__NODE_FC || d != TRINE_FORWARD) && trine__linear_choice(s->fc, d, text))
            TRINE_TRY(add_text(c, text));
    }
    return TRINE_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void trine__choices_text(trine__choices *c, char text[TRINE_SESSION_TUNING])
{
    uint64_t hash = 0;
    size_t distinct = 0;
    if (c->count > 0) qsort(c->texts, c->count, sizeof *c->texts, by_text);
    for (size_t i = 0; i < c->count; i++) {
        if (i > 0 && strcmp(c->texts[i], c->texts[i - 1]) == 0) continue;
        hash = trine__hash(c->texts[i], strlen(c->texts[i]), hash);
        distinct++;
    }
    text[0] = '\0';
    if (distinct > 0) snprintf(text, TRINE_SESSION_TUNING, "%zu choices, %016" PRIx64, distinct, hash);
}

void trine__choices_free(trine__choices *c)
{
    for (size_t i = 0; i < c->count; i++) free(c->texts[i]);
    free(c->texts);
    *c = (trine__choices){0};
}
