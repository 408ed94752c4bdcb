/* SPDX-License-Identifier: MIT */
/* The device list with the OpenCL handles that the public info leaves out, and the choice among devices. */
#ifndef TRINE_RT_DEVICE_H
#define TRINE_RT_DEVICE_H

#include "rt/opencl.h"
#include "trine/context.h"

typedef struct trine__device {
    cl_platform_id platform;
    cl_device_id id;
    cl_device_type type;
    trine_device_info info;
} trine__device;

struct trine_device_list {
    int count;
    trine__device *devices;
};

/* The device that a --device selector means. TRINE_ERR_DEVICE with what there is. */
trine_status trine__device_select(const trine_device_list *list, const char *selector,
                                  const trine__device **out);

#endif
