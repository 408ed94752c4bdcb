/* SPDX-License-Identifier: MIT */
/* The measured choices that sessions run by, in short. */
#ifndef TRINE_NET_CHOICES_H
#define TRINE_NET_CHOICES_H

#include "net/session_private.h"

/* Choices as op/choice.h writes them. Zeroed: none. */
typedef struct trine__choices {
    char **texts;
    size_t count, capacity;
} trine__choices;

/* Add those of a session, NULL: none. */
trine_status trine__choices_add(trine__choices *choices, const trine_session *session);
/* "N choices, HASH", the same for the same set of them; "" where there are none. Sorts them. */
void trine__choices_text(trine__choices *choices, char text[TRINE_SESSION_TUNING]);
void trine__choices_free(trine__choices *choices);

#endif
