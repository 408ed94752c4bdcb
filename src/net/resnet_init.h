/* SPDX-License-Identifier: MIT */
/* Making a network: what its options may say, random initial values. */
#ifndef TRINE_NET_RESNET_INIT_H
#define TRINE_NET_RESNET_INIT_H

#include "net/resnet_private.h"

/* TRINE_ERR_ARG: negative sizes. */
trine_status trine__resnet_check_options(const trine_resnet_options *options);
/* Parameters [first, last) from the seed; each has a random stream of its own. */
trine_status trine__resnet_initialise(trine_resnet *net, trine_stream *stream, uint64_t seed, int first,
                                      int last);

#endif
