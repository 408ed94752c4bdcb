/* SPDX-License-Identifier: MIT */
#include "op/direction.h"

const char *trine__direction_name(trine_direction direction)
{
    static const char *const names[] = {"forward", "backward_data", "backward_weights"};
    return names[direction];
}
