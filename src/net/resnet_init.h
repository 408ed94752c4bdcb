/* SPDX-License-Identifier: MIT */
/* Random initial values. */
#ifndef TRINE_NET_RESNET_INIT_H
#define TRINE_NET_RESNET_INIT_H

#include "net/resnet_private.h"

/* Parameters [first, last) from the seed; each has a random stream of its own. */
trine_status trine__resnet_initialise(trine_resnet *net, trine_stream *stream, uint64_t seed, int first,
                                      int last);

#endif
