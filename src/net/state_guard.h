/* SPDX-License-Identifier: MIT */
/* State assertion: a call says what it may change in a network, and fails if it changed anything else. A call
 * is guarded where it enters the library:
 *
 *     trine__guard guard;
 *     TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_session_forward", TRINE__MAY_UPDATE));
 *     return trine__guard_end(&guard, forward(session, x));
 *
 * Nothing may return between begin and end: end frees what begin took. Guards nest; the innermost call at
 * fault is the one that is named. While the network asserts nothing (the default) both are one test of a
 * bool; while it does, each waits for the stream and reads the whole state back. */
#ifndef TRINE_NET_STATE_GUARD_H
#define TRINE_NET_STATE_GUARD_H

#include "net/resnet_private.h"

/* What a call may change, to be combined. Policies, momentum, eps and which parameters train are never among it:
 * the calls that set those enqueue nothing and take no stream. */
enum {
    TRINE__MAY_NOTHING = 0,
    TRINE__MAY_TRAIN = 1,     /* parameters that train */
    TRINE__MAY_UPDATE = 2,    /* statistics and counters of layers whose policy updates them */
    TRINE__MAY_STATISTICS = 4 /* statistics and counters of all layers */
};

typedef struct trine__guarded trine__guarded;

typedef struct trine__guard {
    trine__guarded *state; /* NULL: off */
} trine__guard;

/* The parts of the functions below that run while the network asserts its state. */
trine_status trine__guard_open(trine__guard *guard, const trine_resnet *net, trine_stream *stream,
                               const char *call, unsigned may);
trine_status trine__guard_close(trine__guard *guard, trine_status status);

/* @param call its public name; kept, not copied   @param may TRINE__MAY_*, by the policies of this moment */
static inline trine_status trine__guard_begin(trine__guard *guard, const trine_resnet *net,
                                              trine_stream *stream, const char *call, unsigned may)
{
    guard->state = NULL;
    return net->assert_state ? trine__guard_open(guard, net, stream, call, may) : TRINE_OK;
}

/* Parameter i, or layer i's statistics, too. */
void trine__guard_allow_parameter(trine__guard *guard, int i);
void trine__guard_allow_layer(trine__guard *guard, int i);
/* Of the parameters only those with reached[i]. */
void trine__guard_allow_reached(trine__guard *guard, const bool *reached);

/* @param status what the call came to   @return TRINE_ERR_CHECK if anything else moved, also after a failure, whose sentence then
 * follows; else `status` */
static inline trine_status trine__guard_end(trine__guard *guard, trine_status status)
{
    return guard->state ? trine__guard_close(guard, status) : status;
}

/* What $TRINE_ASSERT_STATE says: "1" on; "0", empty or unset off. @return TRINE_ERR_ARG: anything else */
trine_status trine__guard_default(bool *on);

#endif
