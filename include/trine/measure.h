/* SPDX-License-Identifier: MIT */
/** What a device reaches: bounds that kernels can be compared with. */
#ifndef TRINE_MEASURE_H
#define TRINE_MEASURE_H

#include "trine/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct trine_device_speed {
    double gflops;    /**< fused multiply-adds on registers, two operations each, float32 */
    double gbps;      /**< bytes read and written by y = y + x over tensors of 32 MiB */
    double launch_us; /**< a launch with next to nothing to do, among many */
} trine_device_speed;

/** Measure for about half a second; the best of several runs counts. Waits. */
TRINE_API trine_status trine_device_measure(trine_context *context, trine_stream *stream,
                                            trine_device_speed *out);

#ifdef __cplusplus
}
#endif
#endif
