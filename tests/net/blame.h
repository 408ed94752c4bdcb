/* SPDX-License-Identifier: MIT */
/* What the tests of the state assertion share: a change behind a network's back, and the sentence that must
 * follow. */
#ifndef TRINE_TESTS_NET_BLAME_H
#define TRINE_TESTS_NET_BLAME_H

#include <math.h>
#include <stdio.h>

#include "net/networks.h"
#include "net/state_guard.h"

/* Fails as an assertion, with all of these words in the sentence (NULL: no more). */
static inline void check_blames(trine_status status, const char *call, const char *what, const char *why)
{
    const char *text = trine_last_error();
    ck_assert_msg(status == TRINE_ERR_CHECK, "%s: got '%s' (%s)", call, trine_status_text(status), text);
    ck_assert_msg(strncmp(text, call, strlen(call)) == 0 && text[strlen(call)] == ':', "%s: %s", call, text);
    ck_assert_msg(strstr(text, what) && strstr(text, "(state assertion"), "%s: %s", what, text);
    if (why) ck_assert_msg(strstr(text, why) != NULL, "%s: %s", why, text);
}

static inline void nudge(trine_buffer *buffer)
{
    float value;
    ASSERT_OK(trine_buffer_read(dev.stream, buffer, 0, &value, sizeof value));
    value = nextafterf(value, 1e9f);
    ASSERT_OK(trine_buffer_write(dev.stream, buffer, 0, &value, sizeof value));
}

#endif
