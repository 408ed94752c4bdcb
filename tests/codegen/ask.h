/* SPDX-License-Identifier: MIT */
/* Everything that the library does on a device, asked of a context that rehearses. */
#ifndef TRINE_TESTS_CODEGEN_ASK_H
#define TRINE_TESTS_CODEGEN_ASK_H

#include <stdbool.h>

#include "rt/context.h"
#include "rt/stream.h"

typedef struct asker {
    trine_context *context;
    trine_stream *stream;
    bool chosen;     /* what runs when nobody names an implementation */
    char what[160];  /* who asks: a network and what it does, or an operator */
    char scope[160]; /* which part of it, where the stream has no scope */
} asker;

/* Whatever fails ends the program with its sentence. */
void must(trine_status status);

/* Networks for inference and training, with what they choose, then each of their layers by every implementation. */
void ask_networks(asker *a);
/* Losses, optimizers, element by element, pooling, measuring: each by every implementation. */
void ask_operators(asker *a);

#endif
