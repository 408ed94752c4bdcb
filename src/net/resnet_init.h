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
/* Parameters 0, running means 0 and variances 1 (PyTorch's beginning), also of layers that do not use them. */
trine_status trine__resnet_blank(trine_resnet *net, trine_stream *stream);

/* How the tensors of a list make a network: the variant (the one asked for, or found), the sizes that the
 * weights decide, what its BatchNorm layers have. *spec is the caller's. @param with_fc false: fc may be missing
 * @return TRINE_ERR_WEIGHTS with what does not fit; TRINE_ERR_ARG: unknown variant */
trine_status trine__resnet_identify(const trine_weights *w, const char *arch, bool with_fc, trine__spec *spec,
                                    trine__bn_parts *parts);
/* "fc" or "linear": how the list spells fc. */
const char *trine__source_fc_name(const trine_weights *w);

#endif
