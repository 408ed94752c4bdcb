/* SPDX-License-Identifier: MIT */
/* Sub-groups as kernels ask for them. */
#ifndef TRINE_RT_SUB_GROUPS_H
#define TRINE_RT_SUB_GROUPS_H

#include "rt/program.h"

/* Work-items that hold the weights of a place together: SUB_LANES of cl/conv2d_gemm_subgroups.cl */
enum { TRINE__SUB_LANES = 16 };

/* What a device has whose driver tells of these extensions and sizes of sub-groups. */
trine__sub_groups trine__sub_groups_of(const char *extensions, const size_t *sizes, size_t count);
/* The same, asked of the driver. */
trine__sub_groups trine__sub_groups_find(cl_device_id id);
/* Whether every sub-group of a work-group of `local` work-items has whole multiples of TRINE__SUB_LANES of them, asked of the driver.
 * TRINE_ERR_BUILD with the sizes where not, or where the driver does not tell. */
trine_status trine__sub_groups_check(const trine__kernel *kernel, const size_t local[3]);

#endif
