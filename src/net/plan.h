/* SPDX-License-Identifier: MIT */
/* The parts of a plan: plan.c has the forward pass, plan_backward.c the backward pass, plan_join.c what nodes take off each other,
 * plan_memory.c the memory. */
#ifndef TRINE_NET_PLAN_H
#define TRINE_NET_PLAN_H

#include "net/session_private.h"

/* A new value of the plan; like another one. */
trine_status trine__plan_value(trine_session *s, trine_shape shape, int cb, trine_dtype dtype, int *out);
trine_status trine__plan_like(trine_session *s, int value, int *out);
/* The next node; what it reads and writes lives at least until now. */
trine_status trine__plan_node(trine_session *s, trine__node node);

static inline bool trine__requires_grad(const trine_session *s, int value)
{
    return value >= 0 && s->values[value].requires_grad;
}

/* What a unit's convolution reads. */
static inline int trine__unit_input(const trine_session *s, const trine__session_unit *u)
{
    return u->source >= 0 ? s->units[u->source].z : u->x;
}

/* The nodes of the backward pass, after those of the forward pass. */
trine_status trine__plan_backward(trine_session *s);

/* Nodes that take work off each other, in a whole plan whose operators are there. */
trine_status trine__plan_join(trine_session *s);

/* Memory for all values, for what nodes need while they run, and for weights that stay prepared; s->bytes. The operators are there. */
trine_status trine__plan_memory(trine_session *s);

#endif
