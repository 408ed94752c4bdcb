/* SPDX-License-Identifier: MIT */
/* Sub-groups as kernels ask for them. */
#ifndef TRINE_RT_SUB_GROUPS_H
#define TRINE_RT_SUB_GROUPS_H

#include "rt/context.h"

/* What a device has whose driver tells of these extensions and sizes of sub-groups. */
trine__sub_groups trine__sub_groups_of(const char *extensions, const size_t *sizes, size_t count);
/* The same, asked of the driver. */
trine__sub_groups trine__sub_groups_find(cl_device_id id);

#endif
