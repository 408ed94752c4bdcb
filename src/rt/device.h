/* SPDX-License-Identifier: MIT */
/* The device list with the OpenCL handles that the public info leaves out, and the choice among devices. */
#ifndef TRINE_RT_DEVICE_H
#define TRINE_RT_DEVICE_H

#include "rt/opencl.h"
#include "rt/quirks.h"
#include "trine/context.h"

typedef struct trine__device {
    cl_platform_id platform;
    cl_device_id id;
    cl_device_type type;
    unsigned effects; /* trine__effect bits of its quirks, without those that the user ignores */
    trine_device_info info;
} trine__device;

struct trine_device_list {
    int count;
    trine__device *devices;
};

/* The device that a --device selector means, the best of those that fit; *rivals (may be NULL) is how many others are usable and fit
 * a selector as well as it does, 0 for "auto". TRINE_ERR_DEVICE with what there is. */
trine_status trine__device_select(const trine_device_list *list, const char *selector,
                                  const trine__device **out, int *rivals);

#endif
